"""What a teacher says at the supervised positions of a batch, running beside the student or kept on disk."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from tasks.language_models.encoding import IGNORED
from tasks.training.teachers.divergences import narrow
from tasks.training.teachers.kept import open_kept
from tasks.training.teachers.teacher import count_tokens_known, find_hidden, find_logits, open_teacher


class Targets(Protocol):
    """A teacher's distributions at all supervised positions of a batch."""

    def part(self, logits: torch.Tensor, span: slice) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """For some neighbouring positions.

        Args:
            logits: The student's, fp32, divided by the temperature, (part, vocabulary).
            span: Which of all supervised positions.

        Returns:
            Log-probabilities of the same outcomes of student and teacher, (part, outcomes), and the token that the
            teacher finds most likely, (part,).
        """
        ...


@dataclass(frozen=True)
class LiveTargets:
    """Of a teacher that runs beside the student.

    Attributes:
        model: The teacher.
        hidden: Its last hidden states at the supervised positions.
        temperature: That its logits are divided by.
        width: Tokens of the vocabulary.
    """

    model: Any
    hidden: torch.Tensor
    temperature: float
    width: int

    def part(self, logits: torch.Tensor, span: slice) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        taught = find_logits(self.model, self.hidden[span])[:, : self.width] / self.temperature
        return logits[:, : self.width].log_softmax(-1), taught.log_softmax(-1), taught.argmax(-1)


@dataclass(frozen=True)
class KeptTargets:
    """Of a teacher whose most likely tokens are kept.

    Attributes:
        tokens: Their ids, most likely first, (positions, kept).
        logs: Their log-probabilities and that of the rest, (positions, kept + 1).
        width: Tokens of the vocabulary.
    """

    tokens: torch.Tensor
    logs: torch.Tensor
    width: int

    def part(self, logits: torch.Tensor, span: slice) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        chosen = self.tokens[span]
        return narrow(logits[:, : self.width], chosen), self.logs[span], chosen[:, 0]


def find_targets(
    inputs: Any, teacher: Path, keep: int | None, store: Path, temperature: float, dtype: str
) -> LiveTargets | KeptTargets:
    """What a teacher says of a batch.

    Args:
        inputs: The batch, with ``sequences``.
        teacher: Folder of the teacher.
        keep: Tokens kept at a position; None: the teacher runs now.
        store: Folder of what is kept.
        temperature: That its logits are divided by.
        dtype: PyTorch's name of the type in which it computes.
    """
    device, width = inputs["input_ids"].device, count_tokens_known(teacher)
    if keep is None:
        keeps = torch.nn.functional.pad(inputs["labels"][:, 1:].ne(IGNORED), (0, 1))
        positions = keeps.flatten().nonzero().squeeze(1)
        model = open_teacher(teacher, dtype, str(device))
        return LiveTargets(model, find_hidden(model, inputs, positions), temperature, width)
    kept = open_kept(store, teacher, keep, temperature, dtype, str(device))
    sequences = inputs["sequences"].flatten().cpu().numpy()
    tokens = inputs["input_ids"].flatten().cpu().numpy()
    labels = inputs["labels"].flatten().cpu().numpy()
    found = [
        kept.find(tokens[inside], labels[inside])
        for inside in (np.flatnonzero(sequences == number) for number in range(int(sequences.max()) + 1))
    ]
    chosen, logs = (np.concatenate(arrays) for arrays in zip(*found, strict=True))
    tokens_kept = torch.from_numpy(chosen.astype(np.int64)).to(device)
    return KeptTargets(tokens_kept, torch.from_numpy(logs).to(device), width)
