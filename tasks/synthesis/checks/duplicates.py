"""Prompts that exist already: among seeds, in a split, in a benchmark, or written before.

Source: Self-Instruct (Wang et al. 2023, https://arxiv.org/abs/2212.10560) keeps an instruction whose ROUGE-L to every
other is below 0.7; here it is the Jaccard similarity of character 4-grams with numbers masked, as everywhere in this
stage. Every pair is compared. A prompt similar to a held-out row is a leak and refused from a lower similarity on.

Example: ``{name: duplicates, benchmarks: [{title: gsm8k, path: data/raw/benchmarks/gsm8k.jsonl.gz}]}``
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from tasks.corpus.reading.benchmarks import Benchmark
from tasks.synthesis.checks.check import RowCheck, Step

if TYPE_CHECKING:
    from tasks.synthesis.drafts import Draft, Known


class DuplicateCheck(RowCheck):
    """Jaccard similarity of prompts."""

    name: Literal["duplicates"] = "duplicates"
    near: float = Field(
        default=0.7, gt=0.3, le=1, description="threshold from which a prompt duplicates one that may be trained on"
    )
    held_out: float = Field(
        default=0.6,
        gt=0.3,
        le=1,
        description="threshold from which a prompt leaks one of validation, test or a benchmark",
    )
    benchmarks: tuple[Benchmark, ...] = Field(
        default=(), description="benchmark files whose prompts must not be duplicated"
    )

    @property
    def steps(self) -> tuple[Step, ...]:
        return ("instructions",)

    def check(self, drafts: Sequence[Draft], step: Step, known: Known) -> list[str | None]:
        from tasks.synthesis.drafts import Group

        texts = [draft.instruction for draft in drafts]
        reasons: list[str | None] = [None] * len(texts)
        for group in (*known.groups, known.taken):
            threshold = self.held_out if group.held_out else self.near
            for index in sorted(group.find_similar(texts, threshold)):
                reasons[index] = reasons[index] or f"too similar to {group.name}"
        # Within a batch the earlier prompt is kept.
        kept: list[str] = []
        for index, text in enumerate(texts):
            if reasons[index] is not None:
                continue
            if Group(known.taken.name, kept).find_similar([text], self.near):
                reasons[index] = f"too similar to {known.taken.name}"
            else:
                kept.append(text)
        return reasons
