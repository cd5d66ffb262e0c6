"""What the weights of a loaded model take, by part: bytes as they lie in memory, with all that decodes them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

LAYERS_IN_BITS, LAYERS, EMBEDDINGS, OTHERS, TRAINED = (
    "linear layers, quantised", "linear layers", "embeddings and output layer", "norms, biases and others",
    "trained weights",
)  # fmt: skip


@dataclass(frozen=True)
class WeightPart:
    """Some of a model's weights.

    Attributes:
        name: Which.
        weights: How many, each packed one counted.
        bytes: What they and the tensors that decode them take.
    """

    name: str
    weights: int
    bytes: int

    @property
    def bits(self) -> float:
        """Bits a weight."""
        return 8 * self.bytes / max(self.weights, 1)


def measure_weights(model: Any) -> tuple[WeightPart, ...]:
    """The parts that a model has: the frozen ones, then what is trained.

    Args:
        model: A model as it is trained; tied weights count once.
    """
    import torch
    from transformers.pytorch_utils import Conv1D

    sizes = {name: [0, 0] for name in (LAYERS_IN_BITS, LAYERS, EMBEDDINGS, OTHERS, TRAINED)}
    tables = {id(table.weight) for table in (model.get_input_embeddings(), model.get_output_embeddings()) if table}
    seen: set[int] = set()
    for module in model.modules():
        for name, weights in module.named_parameters(recurse=False):
            if id(weights) in seen:
                continue
            seen.add(id(weights))
            part = OTHERS
            if weights.requires_grad:
                part = TRAINED
            elif id(weights) in tables:
                part = EMBEDDINGS
            elif name == "weight" and isinstance(module, (torch.nn.Linear, Conv1D)):
                part = LAYERS if weights.is_floating_point() else LAYERS_IN_BITS
            state = getattr(weights, "quant_state", None)
            sizes[part][0] += weights.numel() if state is None else math.prod(state.shape)
            for tensor in (weights, *_decoders(module, weights)):
                if (place := tensor.untyped_storage().data_ptr()) not in seen:
                    seen.add(place)
                    sizes[part][1] += tensor.numel() * tensor.element_size()
    return tuple(WeightPart(name, *size) for name, size in sizes.items() if size[0])


def _decoders(module: Any, weights: Any) -> Iterator[torch.Tensor]:
    """The tensors with which quantised weights are decoded."""
    state = getattr(weights, "quant_state", None)
    if state is not None:
        yield from (state.absmax, state.code)
        if state.state2 is not None:
            yield from (state.offset, state.state2.absmax, state.state2.code)
    for holder in (weights, getattr(module, "state", None)):
        if (scales := getattr(holder, "SCB", None)) is not None:
            yield scales
