"""A teacher at work: its next-token distributions where a student's tokens are supervised.

A teacher is a folder of a causal language model with the student's vocabulary. It either runs beside the student, on
the same batches, or what it says of each sequence is kept on disk (`tasks.training.teachers.kept`).
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.contracts.errors import PipelineError
from tasks.contracts.manifest import hash_file
from tasks.language_models.folder.model_folder import load_model
from tasks.language_models.folder.vocabulary import find_vocabulary_differences

if TYPE_CHECKING:
    import torch

logger = logging.getLogger(__name__)

MODEL_INPUTS = ("input_ids", "attention_mask", "position_ids")


@lru_cache(maxsize=4)
def hash_teacher(folder: Path) -> str:
    """SHA-256 over what decides about a teacher's logits, its configuration and weights, 64 hex digits.

    Raises:
        PipelineError: The folder has no model in it.
    """
    weights = sorted(folder.glob("*.safetensors"))
    if not weights or not (folder / "config.json").is_file():
        raise PipelineError(
            f"objective.teacher: {folder} has no config.json with safetensors beside it; expected a transformers folder"
        )
    digest = hashlib.sha256()
    for file in (folder / "config.json", *weights):
        digest.update(f"{file.name} {hash_file(file)}\n".encode())
    return digest.hexdigest()


def count_teacher_bytes(folder: Path, size: int) -> int:
    """Bytes of a teacher's weights in memory, from their headers; 0 without a model, which is refused elsewhere.

    Args:
        folder: Its folder.
        size: Bytes of a weight.
    """
    total = 0
    for file in folder.glob("*.safetensors"):
        with file.open("rb") as opened:
            header = json.loads(opened.read(int.from_bytes(opened.read(8), "little")))
        total += sum(math.prod(tensor["shape"]) for name, tensor in header.items() if name != "__metadata__")
    return total * size


@lru_cache(maxsize=1)
def open_tokenizer(folder: Path) -> Any:
    """The teacher's tokenizer.

    Raises:
        PipelineError: The folder has none.
    """
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise PipelineError(
            f"objective.teacher: {folder} has no tokenizer ({reason}); put that of the model there"
        ) from error


def count_tokens_known(folder: Path) -> int:
    """Tokens of the teacher's vocabulary; output layers may be padded beyond it, each differently."""
    return 1 + max(int(number) for number in open_tokenizer(folder).get_vocab().values())


def require_teacher_vocabulary(tokenizer: Any, folder: Path) -> None:
    """Hold a teacher's vocabulary against the student's.

    Raises:
        PipelineError: They differ, with what does, or the folder has no tokenizer.
    """
    if differences := find_vocabulary_differences(tokenizer, open_tokenizer(folder)):
        raise PipelineError(
            f"objective.teacher: {folder} has another vocabulary than the student ({differences}); take a teacher of "
            "the same family, or train on its answers, which `heptune synthesize` writes"
        )


@lru_cache(maxsize=1)
def open_teacher(folder: Path, dtype: str, device: str) -> Any:
    """The model, which is not trained; opened once in a process."""
    import torch

    logger.info("teacher: %s", folder)
    model = load_model(folder, getattr(torch, dtype)).to(device).eval()
    return model.requires_grad_(False)


def find_hidden(model: Any, inputs: Any, positions: torch.Tensor) -> torch.Tensor:
    """The last hidden states at some positions of a batch, flattened, without a gradient: (positions, width).

    Raises:
        PipelineError: The model does more to its logits than is known.
    """
    import torch

    found: list[torch.Tensor] = []

    def choose(_: Any, arguments: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        found.append(arguments[0].flatten(0, 1).index_select(0, positions))
        return (found[0][:1],)

    hook = model.get_output_embeddings().register_forward_pre_hook(choose)
    try:
        with torch.no_grad():
            output = model(**{name: inputs[name] for name in MODEL_INPUTS if name in inputs}, use_cache=False)
    finally:
        hook.remove()
    known = find_logits(model, found[0][:1])
    if not torch.allclose(output.logits.flatten(0, -2).float(), known, rtol=1e-3, atol=1e-3):
        raise PipelineError(
            f"objective.teacher: {type(model).__name__} changes its logits in a way that is not known; take a "
            "teacher of another architecture"
        )
    return found[0]


def find_logits(model: Any, hidden: torch.Tensor) -> torch.Tensor:
    """Logits of hidden states, fp32, (positions, width of the output layer)."""
    import torch

    from tasks.language_models.logits import scale_logits

    with torch.no_grad():
        return scale_logits(model.get_output_embeddings()(hidden).float(), model.config)
