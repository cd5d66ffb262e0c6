"""Llama Guard 2: a Llama 3 of 8 billion weights that says ``safe`` or ``unsafe`` of a request or an answer.

Source: https://github.com/meta-llama/PurpleLlama/blob/main/Llama-Guard2/MODEL_CARD.md; the format is
``PROMPT_TEMPLATE_2`` of llama-recipes, whose ``[INST]`` marks it has from Llama Guard 1. Eleven categories of
MLCommons' taxonomy; elections and defamation are not among them. Good for English. On XSTest its card states F1 0.88
with 8% false alarms.

Example: ``{name: llama_guard_2, path: models/judges/llama-guard-2-8b}``
"""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from tasks.language_models.guards.guard import AskGuard, GuardFacts, GuardPath, Share
from tasks.language_models.guards.model_section import GuardModel

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


class LlamaGuard2(GuardModel):
    """Meta's Llama Guard 2."""

    name: Literal["llama_guard_2"] = "llama_guard_2"
    path: GuardPath = Field(default="models/judges/llama-guard-2-8b", description="folder of the guard")
    categories: tuple[str, ...] = Field(
        default=(), description="own categories, as name or as name: policy; empty: the published ones"
    )
    threshold: Share = Field(default=0.5, description="probability of unsafe from which a text is unsafe")
    can: ClassVar[GuardFacts] = GuardFacts(
        "Llama Guard 2", "meta-llama/Meta-Llama-Guard-2-8B", True, False, CATEGORIES, "probability of the first token"
    )

    def open(self) -> AskGuard:
        from tasks.language_models.guards.llama_guard_format import open_llama_guard

        return open_llama_guard(self, self.categories or CATEGORIES, ("[INST] ", " [/INST]"), self.threshold)
