"""Trained weights and optimizer states where each rank holds all of them: one file each, as one process writes them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

TRAINED = "trained.safetensors"  # the weights that get gradients, by name
OPTIMIZER = "optimizer.pt"
WHOLE_FILES = [TRAINED, OPTIMIZER]


def trained_weights(model: Any) -> dict[str, Any]:
    """The weights that get gradients, by name, tied ones once; not copied."""
    return {name: weights.detach() for name, weights in model.named_parameters() if weights.requires_grad}


def gather_whole(model: Any) -> dict[str, Any]:
    """The trained weights on the CPU, on the first rank."""
    import torch

    if torch.distributed.is_initialized() and torch.distributed.get_rank():
        return {}
    return {name: weights.float().cpu() for name, weights in trained_weights(model).items()}


def save_whole(trainer: Any, folder: Path) -> None:
    import torch
    from safetensors.torch import save_file

    save_file(trained_weights(trainer.model), folder / TRAINED)
    torch.save(trainer.optimizer.state_dict(), folder / OPTIMIZER)


def load_whole(trainer: Any, folder: Path) -> None:
    """Put weights and optimizer states of a checkpoint into a trainer.

    Raises:
        RuntimeError: The checkpoint holds other weights than those that are trained.
    """
    import torch

    load_trained(trainer.model, folder)
    states = torch.load(folder / OPTIMIZER, map_location="cpu", weights_only=True)
    trainer.optimizer.load_state_dict(states)


def load_trained(model: Any, folder: Path) -> None:
    """Put the weights of a checkpoint into an adapted model.

    Raises:
        RuntimeError: The checkpoint holds other weights than those that are trained.
    """
    from safetensors.torch import load_file

    put_weights(model, load_file(folder / TRAINED), str(folder))


def put_weights(model: Any, saved: Mapping[str, Any], whence: str) -> None:
    """Put trained weights into an adapted model.

    Args:
        model: What a method's ``adapt`` returned.
        saved: Weights by name.
        whence: Where they are from, for the message.

    Raises:
        RuntimeError: They are other weights than those that are trained.
    """
    own = trained_weights(model)
    if own.keys() != saved.keys():
        raise RuntimeError(f"{whence}: holds other weights than those that are trained")
    for name, weights in own.items():
        weights.copy_(saved[name])
