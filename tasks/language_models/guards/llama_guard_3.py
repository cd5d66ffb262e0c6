"""Llama Guard 3: says ``safe`` or ``unsafe`` of a request or an answer, in eight languages.

Source: https://github.com/meta-llama/PurpleLlama/tree/main/Llama-Guard3. There are a model of 8 billion weights on
Llama 3.1, with fourteen categories, and a pruned one of 1 billion on Llama 3.2 that was distilled from it, with
thirteen: it does not know the abuse of code interpreters. Beyond Llama Guard 2 they know defamation and elections. On
XSTest the cards state F1 0.88 with 4% false alarms (8B) and 0.82 with 7% (1B).

Example: ``{name: llama_guard_3, path: models/judges/llama-guard-3-1b, size: 1b}``
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
    "Defamation",
    "Specialized Advice",
    "Privacy",
    "Intellectual Property",
    "Indiscriminate Weapons",
    "Hate",
    "Self-Harm",
    "Sexual Content",
    "Elections",
    "Code Interpreter Abuse",
)
HEAD = "<|start_header_id|>user<|end_header_id|>\n\n"
TAIL = "<|eot_id|><|start_header_id|>assistant<|end_header_id|>"


class LlamaGuard3(GuardModel):
    """Meta's Llama Guard 3."""

    name: Literal["llama_guard_3"] = "llama_guard_3"
    path: GuardPath = Field(default="models/judges/llama-guard-3-8b", description="folder of the guard")
    size: Literal["8b", "1b"] = Field(default="8b", description="8b: fourteen categories; 1b: the first thirteen")
    categories: tuple[str, ...] = Field(
        default=(), description="own categories, as name or as name: policy; empty: the published ones"
    )
    threshold: Share = Field(default=0.5, description="probability of unsafe from which a text is unsafe")
    can: ClassVar[GuardFacts] = GuardFacts(
        "Llama Guard 3", "meta-llama/Llama-Guard-3-8B", True, False, CATEGORIES, "probability of the first token"
    )

    @property
    def source(self) -> str:
        return f"meta-llama/Llama-Guard-3-{self.size.upper()}"

    def open(self) -> AskGuard:
        from tasks.language_models.guards.llama_guard_format import open_llama_guard

        categories = self.categories or (CATEGORIES if self.size == "8b" else CATEGORIES[:-1])
        return open_llama_guard(self, categories, (HEAD, TAIL), self.threshold)
