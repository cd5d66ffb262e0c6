"""What objectives with a teacher answer alike: its distributions at the supervised positions, and the divergence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from tasks.contracts.params import Reads
from tasks.language_models.encoding import IGNORED, encode_examples
from tasks.training.objectives.data import RowKind, Tokenization
from tasks.training.objectives.objective import Batch, ObjectiveLoss, Scorer
from tasks.training.objectives.plain import PlainObjective
from tasks.training.rows import TokenizedRows, keep_supervised
from tasks.training.teachers.divergences import DivergenceName, diverge
from tasks.training.teachers.teacher import count_teacher_bytes, hash_teacher, require_teacher_vocabulary

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    import torch

    from tasks.training.teachers.targets import LiveTargets, Targets

FIGURES: Mapping[str, str] = {
    "divergence": "divergence from the teacher at the temperature, nats per token",
    "cross_entropy": "cross-entropy of the right tokens, nats per token",
    "agreement": "share of the positions at which student and teacher find the same token most likely",
}


class TaughtObjective(PlainObjective):
    """A teacher beside the student, and the divergence of the one from the other."""

    rows: ClassVar[RowKind] = "conversations"
    sequences: ClassVar[int] = 1
    unit: ClassVar[str] = "token"

    teacher: Annotated[str, Reads("folder", holds="config.json")] = Field(
        default="models/teacher", description="folder of a transformers model with the base's vocabulary"
    )
    divergence: DivergenceName
    beta: float = Field(
        default=0.5, gt=0, lt=1, description="of jensen_shannon: towards 0 like forward_kl, towards 1 like reverse_kl"
    )
    temperature: float = Field(default=1.0, gt=0, description="both models' logits are divided by it")
    precision: Literal["fp32", "bf16"] = Field(default="fp32", description="in which the teacher computes")

    @property
    def dtype(self) -> str:
        """PyTorch's name of the type in which the teacher computes."""
        return "bfloat16" if self.precision == "bf16" else "float32"

    def describe_divergence(self) -> list[str]:
        """The divergence, and the temperature where it is not 1, in words."""
        if self.divergence == "jensen_shannon":
            parts = [f"Jensen-Shannon divergence, beta {self.beta:g}"]
        else:
            parts = [self.divergence.replace("_", " ").replace("kl", "KL divergence")]
        return parts if self.temperature == 1 else [*parts, f"temperature {self.temperature:g}"]

    def held_bytes(self) -> int:
        return count_teacher_bytes(Path(self.teacher), 2 if self.precision == "bf16" else 4)

    def units(self, inputs: Batch) -> int:
        return int(inputs["labels"][:, 1:].ne(IGNORED).sum())

    def tokenize_answers(
        self, examples: pa.Table, how: Tokenization, weights: np.ndarray | None, classes: np.ndarray | None
    ) -> TokenizedRows:
        """Conversations whose answers are supervised, as those of supervised fine-tuning.

        Args:
            examples: Schema `EXAMPLES`.
            how: Tokenizer and lengths.
            weights: Loss weight of each example.
            classes: Class of each example.

        Raises:
            PipelineError: The teacher has another vocabulary, or is no model.
        """
        import numpy as np

        encoded = encode_examples(examples, how.tokenizer, how.max_tokens, how.long_rows)
        rows = keep_supervised(encoded, how.max_tokens, weights, classes)
        # Part of what a run is made from: another teacher is another run.
        teacher = np.full(len(rows), int(hash_teacher(Path(self.teacher))[:12], 16), dtype=np.int64)
        require_teacher_vocabulary(how.tokenizer, Path(self.teacher))
        return replace(rows, columns={**rows.columns, "teacher": teacher})

    def find_targets(self, inputs: Batch) -> Targets:
        """The teacher's distributions at the supervised positions of a batch."""
        return self.find_live_targets(inputs)

    def find_live_targets(self, inputs: Batch) -> LiveTargets:
        """The same of the teacher as it runs now."""
        from tasks.training.teachers.targets import find_live_targets

        return find_live_targets(inputs, Path(self.teacher), self.temperature, self.dtype)

    def validation_loss(self, scorer: Scorer, inputs: Batch) -> ObjectiveLoss:
        """The cross-entropy of the right tokens, which says how much of the task is learned, not of the teacher."""
        return self.measure(scorer, inputs, 0.0)

    def measure(self, scorer: Scorer, inputs: Batch, share: float) -> ObjectiveLoss:
        """Divergence and cross-entropy, summed over the supervised positions, and the figures.

        Args:
            scorer: Of the student.
            inputs: The batch.
            share: Of the divergence, times the square of the temperature; the rest is cross-entropy.
        """
        import torch
        from torch.nn.functional import cross_entropy

        targets = self.find_targets(inputs)

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
