"""Llama Guard 2: a Llama 3 of 8 billion weights that says ``safe`` or ``unsafe`` of a request or an answer.

Source: https://github.com/meta-llama/PurpleLlama/blob/main/Llama-Guard2/MODEL_CARD.md; the format is
``PROMPT_TEMPLATE_2`` of llama-recipes, whose ``[INST]`` marks it has from Llama Guard 1. Eleven categories of
MLCommons' taxonomy; elections and defamation are not among them. Good for English. On XSTest its card states F1 0.88
with 8% false alarms.

Example: ``{name: llama_guard_2, path: models/llama-guard-2-8b}``
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

from pydantic import Field

from tasks.contracts.params import Section
from tasks.language_models.guards.guard import (
    AskGuard,
    Device,
    GuardedExchange,
    GuardFacts,
    GuardPath,
    GuardVerdict,
    Precision,
    Share,
    folder_problems,
)

CATEGORIES = (
    "Violent Crimes",
    "Non-Violent Crimes",
    "Sex Crimes",
    "Child Exploitation",
    "Specialized Advice",
    "Privacy",
    "Intellectual Property",
    "Indiscriminate Weapons",
    "Hate",
    "Self-Harm",
    "Sexual Content",
)


class LlamaGuard2(Section):
    """Meta's Llama Guard 2."""

    name: Literal["llama_guard_2"] = "llama_guard_2"
    path: GuardPath = Field(default="models/llama-guard-2-8b", description="folder of the guard")
    categories: tuple[str, ...] = Field(
        default=(), description="own categories, as name or as name: policy; empty: the published ones"
    )
    threshold: Share = Field(default=0.5, description="probability of unsafe from which a text is unsafe")
    batch_size: int = Field(default=8, ge=1, description="texts judged at once")
    precision: Precision = Field(default="bf16", description="number format of the weights")
    device: Device = Field(default="auto", description="auto uses CUDA where available")
    can: ClassVar[GuardFacts] = GuardFacts(
        "Llama Guard 2", "meta-llama/Meta-Llama-Guard-2-8B", True, False, CATEGORIES, "probability of the first token"
    )

    @property
    def facts(self) -> GuardFacts:
        return self.can

    def problems(self) -> list[str]:
        return folder_problems(self.name, self.path, self.can.source)

    def open(self) -> AskGuard:
        from tasks.language_models.guards.causal import CausalGuard
        from tasks.language_models.guards.llama_guard_format import SAFE, UNSAFE, judge_all, write_body

        model = CausalGuard(self.path, self.name, self.device, self.precision)
        model.find_ids((SAFE, UNSAFE))
        categories = self.categories or CATEGORIES

        def judge(exchanges: Sequence[GuardedExchange]) -> list[GuardVerdict]:
            prompts = [f"[INST] {write_body(categories, exchange, model.quote)} [/INST]" for exchange in exchanges]
            return judge_all(model, prompts, categories, self.threshold, self.batch_size, begins=True)

        return judge
