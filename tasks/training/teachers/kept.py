"""A teacher's most likely tokens at every supervised position, computed once and kept on disk.

Each sequence is computed by itself, so that what is kept does not depend on batches, runs or processes, and is found by
a hash of its tokens below a hash of the teacher: a run that was interrupted, a second epoch and the next run go on with
what is there. What is not among the kept tokens is one more outcome, the rest.

Bytes a supervised token: 8 for each kept one and 4 for the rest, 260 with 32.
"""

from __future__ import annotations

import atexit
import hashlib
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from tasks.contracts.manifest import replacing
from tasks.language_models.encoding import IGNORED
from tasks.training.losses.loss import MAXIMUM_LOGITS
from tasks.training.teachers.divergences import narrow
from tasks.training.teachers.teacher import count_tokens_known, find_hidden, find_logits, hash_teacher

# Sequences of a file.
KEPT_TOGETHER = 64
SUFFIX = ".safetensors"

# Ids (positions, kept), and log-probabilities (positions, kept + 1), those of the rest last.
Kept = tuple[np.ndarray, np.ndarray]


class KeptLogits:
    """What a teacher says of sequences.

    Args:
        root: Folder of all teachers' files.
        teacher: Folder of the teacher.
        count: Tokens kept at a position.
        temperature: That its logits are divided by.
        dtype: In which it computes.
        open_model: Opens it, when the first sequence is not there yet.
    """

    def __init__(
        self, root: Path, teacher: Path, count: int, temperature: float, dtype: str, open_model: Callable[[], Any]
    ) -> None:
        name = hashlib.sha256(f"{hash_teacher(teacher)} {count} {temperature!r} {dtype}".encode()).hexdigest()
        self.folder = root / name[:16]
        self.folder.mkdir(parents=True, exist_ok=True)
        self._count, self._temperature, self._open = count, temperature, open_model
        self._width = count_tokens_known(teacher)
        self._places: dict[bytes, tuple[Any, int, int]] = {}
        self._fresh: dict[bytes, Kept] = {}
        for file in sorted(self.folder.glob(f"*{SUFFIX}")):
            self._read(file)
        atexit.register(self.write)

    def find(self, tokens: np.ndarray, labels: np.ndarray) -> Kept:
        """What the teacher says at the supervised positions of one sequence.

        Args:
            tokens: Token ids, shape (tokens,).
            labels: The same where they are supervised, -100 elsewhere.
        """
        key = hashlib.sha256(tokens.astype(np.int64).tobytes() + labels.astype(np.int64).tobytes()).digest()
        if key in self._fresh:
            return self._fresh[key]
        if key not in self._places:
            self._fresh[key] = self._compute(tokens, labels)
            kept = self._fresh[key]
            if len(self._fresh) >= KEPT_TOGETHER:
                self.write()
            return kept
        handle, start, end = self._places[key]
        return handle.get_slice("tokens")[start:end], handle.get_slice("logs")[start:end]

    def write(self) -> None:
        """Put what was computed since the last call into a file."""
        from safetensors.numpy import save

        if not self._fresh:
            return
        keys = sorted(self._fresh)
        arrays = {
            "keys": np.frombuffer(b"".join(keys), np.uint8).reshape(len(keys), -1),
            "ends": np.cumsum([len(self._fresh[key][0]) for key in keys]),
            "tokens": np.concatenate([self._fresh[key][0] for key in keys]),
            "logs": np.concatenate([self._fresh[key][1] for key in keys]),
        }
        content = save(arrays)
        # Named by what is in it: processes that computed the same write the same file.
        file = self.folder / f"{hashlib.sha256(content).hexdigest()[:16]}{SUFFIX}"
        with replacing(file) as aside:
            aside.write_bytes(content)
        self._fresh = {}
        self._read(file)

    def _read(self, file: Path) -> None:
        from safetensors import safe_open

        handle: Any = safe_open(file, "numpy")
        keys, ends = handle.get_tensor("keys"), handle.get_tensor("ends").tolist()
        for key, start, end in zip(keys, [0, *ends], ends, strict=False):
            self._places[key.tobytes()] = (handle, start, end)

    def _compute(self, tokens: np.ndarray, labels: np.ndarray) -> Kept:
        import torch

        model = self._open()
        positions = torch.from_numpy(np.flatnonzero(labels[1:] != IGNORED)).to(model.device)
        inputs = {"input_ids": torch.from_numpy(tokens.astype(np.int64))[None].to(model.device)}
        hidden: Any = find_hidden(model, inputs, positions)
        size = max(1, MAXIMUM_LOGITS // self._width)
        chosen, logs = [], []
        for part in hidden.split(size):
            logits = find_logits(model, part)[:, : self._width] / self._temperature
            top = logits.topk(min(self._count, self._width - 1), dim=-1).indices
            chosen.append(top.int().cpu().numpy())
            logs.append(narrow(logits, top).cpu().numpy())
        return np.concatenate(chosen), np.concatenate(logs)


@lru_cache(maxsize=1)
def open_kept(root: Path, teacher: Path, count: int, temperature: float, dtype: str, device: str) -> KeptLogits:
    """The store of a process, opened once."""
    from tasks.training.teachers.teacher import open_teacher

    return KeptLogits(root, teacher, count, temperature, dtype, lambda: open_teacher(teacher, dtype, device))
