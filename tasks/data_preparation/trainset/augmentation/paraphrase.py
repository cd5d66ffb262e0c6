"""Prompts paraphrased by a given model.

Good for: more variety than rules produce. Numbers, addresses and placeholders must be the same in the result. A model
that answers instead of paraphrasing is detected by the length only: check some examples in the report.

Example: ``{name: paraphrase, copies: 2, writer: {name: local, path: models/teacher}}``
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from tasks.contracts.params import Section
from tasks.data_preparation.trainset.augmentation.material import LINE, Material, Variant, judge_rewriting, tidy_answer
from tasks.language_models.writers import AnyWriter

STYLES = ("in other words", "shorter and plainer", "more politely", "as a hurried person would type it", "formally")
ORDER = (
    "Rewrite the text between the lines {manner}, with the same meaning. Keep numbers, names, addresses and whatever "
    "stands in brackets as they are. Do not answer it. Write the new text and nothing else.\n{line}\n{text}\n{line}"
)


class Paraphrase(Section):
    """Paraphrases prompts with a model."""

    name: Literal["paraphrase"] = "paraphrase"
    share: float = Field(default=0.1, gt=0, le=1, description="share of the training rows that get variants")
    copies: int = Field(default=1, ge=1, le=len(STYLES), description="variants per row, each in another style")
    writer: AnyWriter = Field(description="the model that rewrites")

    def rewrite(self, chosen: Sequence[int], material: Material) -> list[Variant]:
        """Variants of each chosen row, or the reasons why there are none."""
        from tasks.language_models.writers.answers import ask

        requests = [(row, manner) for row in chosen for manner in STYLES[: self.copies]]
        prompts = [
            [{"role": "user", "content": ORDER.format(manner=manner, line=LINE, text=material.prompts[row])}]
            for row, manner in requests
        ]
        answers = [tidy_answer(answer) for answer in ask(self.writer, prompts, material.answered)]
        return [
            Variant(row, answer or "", judge_rewriting(material.prompts[row], answer))
            for (row, _), answer in zip(requests, answers, strict=True)
        ]
