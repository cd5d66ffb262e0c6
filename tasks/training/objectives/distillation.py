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
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, get_args

from pydantic import Field

from tasks.contracts.params import Reads
from tasks.language_models.encoding import IGNORED, encode_examples
from tasks.language_models.long_rows import LongRows
from tasks.language_models.shape import ModelShape
from tasks.training.objectives.data import RowKind, SplitTables, Tokenization
from tasks.training.objectives.objective import Batch, ObjectiveCan, ObjectiveLoss, Scorer
from tasks.training.objectives.plain import PlainObjective
from tasks.training.rows import TokenizedRows, keep_supervised
from tasks.training.teachers.divergences import DivergenceName, diverge
from tasks.training.teachers.teacher import count_teacher_bytes, hash_teacher, require_teacher_vocabulary

if TYPE_CHECKING:
    import torch

FIGURES = {
    "divergence": "divergence from the teacher at the temperature, nats per token",
    "cross_entropy": "cross-entropy of the right tokens, nats per token",
    "agreement": "share of the positions at which student and teacher find the same token most likely",
}


class Distillation(PlainObjective):
    """A teacher's distributions over the tokens of the assistant's turns."""

    can: ClassVar[ObjectiveCan] = ObjectiveCan(
        packing=True, token_loss=False, generates=False, shared_weights=True, keeps_state=False
    )
    rows: ClassVar[RowKind] = "conversations"
    sequences: ClassVar[int] = 1
    long_rows: ClassVar[tuple[LongRows, ...]] = get_args(LongRows)
    unit: ClassVar[str] = "token"
    figures: ClassVar[Mapping[str, str]] = FIGURES

    name: Literal["distillation"] = "distillation"
    teacher: Annotated[str, Reads("folder", holds="config.json")] = Field(
        default="models/teacher", description="folder of a transformers model with the base's vocabulary"
    )
    divergence: DivergenceName = Field(default="forward_kl", description="how far the student is from the teacher")
    beta: float = Field(
        default=0.5, gt=0, lt=1, description="of jensen_shannon: towards 0 like forward_kl, towards 1 like reverse_kl"
    )
    temperature: float = Field(default=1.0, gt=0, description="both models' logits are divided by it")
    share: float = Field(default=1.0, gt=0, le=1, description="of the divergence; the rest is cross-entropy")
    keep: int | None = Field(
        default=None, ge=1, description="most likely tokens of the teacher kept on disk; null: it runs in every step"
    )
    store: str = Field(default="models/teachers", description="folder of what is kept")
    precision: Literal["fp32", "bf16"] = Field(default="fp32", description="in which the teacher computes")

    def describe(self) -> str:
        parts = [self.divergence.replace("_", " ").replace("kl", "KL divergence")]
        if self.divergence == "jensen_shannon":
            parts[0] = f"Jensen-Shannon divergence, beta {self.beta:g}"
        if self.temperature != 1:
            parts.append(f"temperature {self.temperature:g}")
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
        """Those of supervised fine-tuning.

        Raises:
            PipelineError: The teacher has another vocabulary, or is no model.
        """
        import numpy as np

        examples = tables.examples if how.limit is None else tables.examples.slice(0, how.limit)
        encoded = encode_examples(examples, how.tokenizer, how.max_tokens, how.long_rows)
        rows = keep_supervised(encoded, how.max_tokens, how.weights, how.classes)
        # Part of what a run is made from: another teacher is another run.
        teacher = np.full(len(rows), int(hash_teacher(Path(self.teacher))[:12], 16), dtype=np.int64)
        require_teacher_vocabulary(how.tokenizer, Path(self.teacher))
        return replace(rows, columns={**rows.columns, "teacher": teacher})

    def held_bytes(self) -> int:
        size = 2 if self.precision == "bf16" else 4
        return count_teacher_bytes(Path(self.teacher), size)

    def units(self, inputs: Batch) -> int:
        return int(inputs["labels"][:, 1:].ne(IGNORED).sum())

    def loss(self, scorer: Scorer, inputs: Batch) -> ObjectiveLoss:
        return self._measure(scorer, inputs, self.share)

    def validation_loss(self, scorer: Scorer, inputs: Batch) -> ObjectiveLoss:
        return self._measure(scorer, inputs, 0.0)

    def _measure(self, scorer: Scorer, inputs: Batch, share: float) -> ObjectiveLoss:
        """The loss with a share of the divergence, and the figures."""
        import torch
        from torch.nn.functional import cross_entropy

        from tasks.training.teachers.targets import find_targets

        dtype = "bfloat16" if self.precision == "bf16" else "float32"
        targets = find_targets(inputs, Path(self.teacher), self.keep, Path(self.store), self.temperature, dtype)

        def measure(logits: torch.Tensor, tokens: torch.Tensor, span: slice) -> torch.Tensor:
            student, teacher, likeliest = targets.part(logits / self.temperature, span)
            divergences = diverge(student, teacher, self.divergence, self.beta)
            agree = (logits.argmax(-1) == likeliest).float()
            return torch.stack([divergences, cross_entropy(logits, tokens, reduction="none"), agree], dim=-1)

        found = scorer.at_tokens(inputs, measure)
        divergences, surprises, agree = found.values.unbind(-1)
        losses = share * self.temperature**2 * divergences + (1 - share) * surprises
        if "weights" in inputs:
            wanted = torch.nn.functional.pad(inputs["labels"][:, 1:].ne(IGNORED), (1, 0)).flatten()
            losses = losses * inputs["weights"].flatten()[wanted]
        count = len(losses)
        sums = (one.detach().sum() for one in (divergences, surprises, agree))
        figures = {name: (total, count) for name, total in zip(FIGURES, sums, strict=True)}
        return ObjectiveLoss(losses.sum(), figures, found.auxiliary)
