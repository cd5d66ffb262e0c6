"""What a teacher says at the supervised positions of a batch, running beside the student or kept on disk."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from tasks.language_models.encoding import IGNORED
from tasks.training.losses.loss import MAXIMUM_LOGITS
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

    def score(self, tokens: torch.Tensor) -> torch.Tensor:
        """The log-probability of a token at each position, at temperature 1, nats, (positions,)."""
        size, found = max(1, MAXIMUM_LOGITS // self.width), []
        for start in range(0, len(tokens), size):
            part = slice(start, start + size)
            logits = find_logits(self.model, self.hidden[part])[:, : self.width]
            found.append(logits.log_softmax(-1).gather(-1, tokens[part, None])[:, 0])
        return torch.cat(found)


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


def find_live_targets(inputs: Any, teacher: Path, temperature: float, dtype: str) -> LiveTargets:
    """What a teacher that runs now says of a batch.

    Args:
        inputs: The batch; ``taught`` are the teacher's last hidden states at the supervised positions, where known.
        teacher: Folder of the teacher.
        temperature: That its logits are divided by.
        dtype: PyTorch's name of the type in which it computes.
    """
    model = open_teacher(teacher, dtype, str(inputs["input_ids"].device))
    hidden = inputs.get("taught")
    if hidden is None:
        keeps = torch.nn.functional.pad(inputs["labels"][:, 1:].ne(IGNORED), (0, 1))
        hidden = find_hidden(model, inputs, keeps.flatten().nonzero().squeeze(1))
    return LiveTargets(model, hidden, temperature, count_tokens_known(teacher))


def find_kept_targets(
    inputs: Any, teacher: Path, store: Path, keep: int, temperature: float, dtype: str
) -> KeptTargets:
    """What is kept of a teacher's most likely tokens for a batch, computed where it is not there yet.

    Args:
        inputs: The batch, with ``sequences``.
        teacher: Folder of the teacher.
        store: Folder of what is kept.
        keep: Tokens kept at a position.
        temperature: That its logits are divided by.
        dtype: PyTorch's name of the type in which it computes.
    """
    device = inputs["input_ids"].device
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
    return KeptTargets(tokens_kept, torch.from_numpy(logs).to(device), count_tokens_known(teacher))
