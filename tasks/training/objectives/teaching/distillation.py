"""Distillation: a student learns a teacher's next-token distributions on the answers of the data.

Hinton et al. 2015 (arXiv:1503.02531), with the divergences of generalised knowledge distillation (Agarwal et al. 2024,
arXiv:2306.13649); the rows are those of supervised fine-tuning. A distribution says more than the one right token, so
that a smaller student learns more from as many rows. The teacher has the student's vocabulary (for another one take
its answers as data: Kim and Rush 2016, arXiv:1606.07947, `heptune synthesize`), and knows the task: tune it first.

At each supervised position, with p and q the teacher's and the student's distributions at the temperature T,

    share * T^2 * D(p, q) + (1 - share) * cross-entropy of the right token

where T^2 keeps the size of the gradient (Hinton et al., section 2). Validation loss is the cross-entropy.

Example: ``objective: {name: distillation, teacher: models/teacher, share: 0.5, keep: 32}``. Of each position the 32
most likely tokens of the teacher are kept on disk, with the probability of all the rest as one more outcome; without
``keep`` the teacher runs beside the student in every step.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, get_args

from pydantic import Field

from tasks.language_models.folder.shape import ModelShape
from tasks.language_models.long_rows import LongRows
from tasks.training.objectives.data import SplitTables, Tokenization
from tasks.training.objectives.objective import Batch, ObjectiveCan, ObjectiveLoss, Scorer
from tasks.training.objectives.teaching.taught_objective import FIGURES, TaughtObjective
from tasks.training.rows import TokenizedRows
from tasks.training.teachers.divergences import DivergenceName

if TYPE_CHECKING:
    from tasks.training.teachers.targets import Targets


class Distillation(TaughtObjective):
    """A teacher's distributions over the tokens of the assistant's turns."""

    can: ClassVar[ObjectiveCan] = ObjectiveCan(
        packing=True, token_loss=False, generates=False, shared_weights=True, keeps_state=False
    )
    long_rows: ClassVar[tuple[LongRows, ...]] = get_args(LongRows)
    figures: ClassVar[Mapping[str, str]] = FIGURES

    name: Literal["distillation"] = "distillation"
    divergence: DivergenceName = Field(default="forward_kl", description="how far the student is from the teacher")
    share: float = Field(default=1.0, gt=0, le=1, description="of the divergence; the rest is cross-entropy")
    keep: int | None = Field(
        default=None, ge=1, description="most likely tokens of the teacher kept on disk; null: it runs in every step"
    )
    store: str = Field(default="models/teachers", description="folder of what is kept")

    def describe(self) -> str:
        parts = [*self.describe_divergence()]
        if self.share < 1:
            parts.append(f"{self.share:.0%} of it and {1 - self.share:.0%} cross-entropy")
        if self.keep is not None:
            parts.append(f"the {self.keep} most likely tokens kept")
        return f"distillation from {self.teacher}: {', '.join(parts)}"

    def problems(self, shape: ModelShape) -> list[str]:
        if self.keep is not None and self.keep >= shape.vocabulary:
            return [
                f"objective.keep: {self.keep} of {shape.vocabulary} tokens are all there are; keep fewer, or leave it "
                "out, so that the teacher runs beside the student"
            ]
        return []

    def tokenize(self, tables: SplitTables, how: Tokenization) -> TokenizedRows:
        examples = tables.examples if how.limit is None else tables.examples.slice(0, how.limit)
        return self.tokenize_answers(examples, how, how.weights, how.classes)

    def loss(self, scorer: Scorer, inputs: Batch) -> ObjectiveLoss:
        return self.measure(scorer, inputs, self.share)

    def find_targets(self, inputs: Batch) -> Targets:
        from tasks.training.teachers.targets import find_kept_targets

        if self.keep is None:
            return self.find_live_targets(inputs)
        places = Path(self.teacher), Path(self.store)
        return find_kept_targets(inputs, *places, self.keep, self.temperature, self.dtype)
