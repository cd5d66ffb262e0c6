"""The weights of a method's own modules as one file, for methods whose modules PEFT does not know."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tasks.contracts.errors import PipelineError


def save_own(model: Any, file: Path, held: Mapping[str, Any] | None = None) -> None:
    """Write the weights that require gradients, by name, in fp32; the same bytes for the same weights.

    Args:
        model: An adapted model.
        file: A safetensors file to write.
        held: Tensors by other names that are to be kept with them.
    """
    from safetensors.torch import save_file

    trained = _own(model, held)
    save_file({name: weights.detach().float().cpu().contiguous() for name, weights in trained.items()}, file)


def load_own(model: Any, file: Path, held: Mapping[str, Any] | None = None) -> Any:
    """The model with the weights of a file in the modules that require gradients, and only in these.

    Args:
        model: The same base, adapted anew.
        file: What `save_own` wrote.
        held: The model's tensors that were kept with the weights, by their names there; they are overwritten.

    Raises:
        PipelineError: The file holds other weights than the method adds to this base.
    """
    import torch
    from safetensors.torch import load_file

    saved = load_file(file)
    own = _own(model, held)
    sizes = {name: tuple(weights.shape) for name, weights in own.items()}
    if sizes != {name: tuple(weights.shape) for name, weights in saved.items()}:
        raise PipelineError(f"{file}: holds other weights than the method adds to this base; run fine_tuning again")
    with torch.no_grad():
        for name, weights in own.items():
            weights.copy_(saved[name])
    return model


def _own(model: Any, held: Mapping[str, Any] | None) -> dict[str, Any]:
    trained = {name: weights for name, weights in model.named_parameters() if weights.requires_grad}
    return {**trained, **(held or {})}
