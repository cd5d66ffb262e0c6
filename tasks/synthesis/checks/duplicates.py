"""Prompts that are there already: among seeds, in a split, in a benchmark, or written before.

Source: Self-Instruct (Wang et al. 2023, https://arxiv.org/abs/2212.10560) keeps an instruction whose ROUGE-L to every
other is below 0.7; here it is the Jaccard similarity of character 4-grams, as everywhere in this stage, whatever the
numbers. Every pair is compared. What is like a held-out row is a leak and refused from a lower similarity on.

Example: ``{name: duplicates, benchmarks: [{title: gsm8k, path: data/raw/benchmarks/gsm8k.jsonl.gz}]}``
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from tasks.corpus.reading.benchmarks import Benchmark
from tasks.synthesis.checks.check import DraftCheck, Step

if TYPE_CHECKING:
    from tasks.synthesis.drafts import Draft, Known


class DuplicatesCheck(DraftCheck):
    """Jaccard similarity of prompts."""

    name: Literal["duplicates"] = "duplicates"
    near: float = Field(default=0.7, gt=0.3, le=1, description="from here on a prompt repeats one that may be learned")
    held_out: float = Field(
        default=0.6, gt=0.3, le=1, description="from here on it gives away one of validation, test or a benchmark"
    )
    benchmarks: tuple[Benchmark, ...] = Field(default=(), description="further files that no row may come near to")

    @property
    def steps(self) -> tuple[Step, ...]:
        return ("instructions",)

    def check(self, drafts: Sequence[Draft], step: Step, known: Known) -> list[str | None]:
        from tasks.synthesis.drafts import Group

        texts = [draft.instruction for draft in drafts]
        reasons: list[str | None] = [None] * len(texts)
        for group in (*known.groups, known.taken):
            threshold = self.held_out if group.held_out else self.near
            for place in sorted(group.find_like(texts, threshold)):
                reasons[place] = reasons[place] or f"too like {group.name}"
        # Within the batch the earlier one stays.
        stays: list[str] = []
        for place, text in enumerate(texts):
            if reasons[place] is not None:
                continue
            if Group(known.taken.name, stays).find_like([text], self.near):
                reasons[place] = f"too like {known.taken.name}"
            else:
                stays.append(text)
        return reasons
