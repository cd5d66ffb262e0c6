"""One hash over the values of a model's weights, whatever the file they are in."""

from __future__ import annotations

import hashlib
from pathlib import Path

from tasks.contracts.errors import PipelineError


def hash_weights(folder: Path) -> str:
    """SHA-256 over the values of all weights of a folder, 64 hex digits.

    Names, the order in the files, their number format (bf16, fp16 or fp32 of the same values) and weights that are
    written twice because they are tied have no effect, so that a pinned base and the export of it are the same.

    Args:
        folder: A transformers folder with safetensors.

    Raises:
        PipelineError: There are no safetensors in it.
    """
    import torch
    from safetensors import safe_open

    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise PipelineError(f"{folder}: no *.safetensors; expected a transformers folder with weights")
    digests = set()
    for file in files:
        with safe_open(file, framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118  # it is no mapping
                weights = tensors.get_tensor(name)
                values = weights.to(torch.float32).contiguous().numpy()
                digests.add(hashlib.sha256(str(tuple(weights.shape)).encode() + values.tobytes()).hexdigest())
    return hashlib.sha256("".join(sorted(digests)).encode()).hexdigest()
