"""The network of a bottleneck adapter, and how it is put into a block; see `tasks.training.methods.bottleneck`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

ACTIVATIONS: Mapping[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "relu": nn.functional.relu,
    "gelu": nn.functional.gelu,
    "silu": nn.functional.silu,
}


class BottleneckNetwork(nn.Module):
    """scale * up(activation(down(x))), zero at the start.

    Args:
        width: Of the model.
        size: Of the hidden layer.
        activation: A name in `ACTIVATIONS`.
        scale: Factor of the result.
    """

    def __init__(self, width: int, size: int, activation: str, scale: float) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(width, size), nn.Linear(size, width)
        for zero in (self.down.bias, self.up.weight, self.up.bias):
            nn.init.zeros_(zero)
        self.activation, self.scale = ACTIVATIONS[activation], scale

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """States of shape ``[..., width]`` to as many, in their number format."""
        hidden = self.activation(self.down(states.to(self.down.weight.dtype)))
        result: torch.Tensor = (self.scale * self.up(hidden)).to(states.dtype)
        return result


def put_on_output(layer: nn.Module, network: BottleneckNetwork) -> None:
    """Add what a network makes of a layer's output to that output."""
    layer.add_module("adapter", network)
    layer.register_forward_hook(_add_to_output)


def put_beside(part: nn.Module, network: BottleneckNetwork) -> None:
    """Add what a network makes of the input of a block's part to the part's output."""
    part.add_module("adapter", network)
    part.register_forward_hook(_add_beside, with_kwargs=True)


def _add_to_output(layer: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> torch.Tensor:
    added: torch.Tensor = layer.adapter(output)
    return output + added


def _add_beside(part: Any, inputs: tuple[Any, ...], named: Mapping[str, Any], output: Any) -> Any:
    added = part.adapter(inputs[0] if inputs else named["hidden_states"])
    # Attention gives its weights too.
    return (output[0] + added, *output[1:]) if isinstance(output, tuple) else output + added
