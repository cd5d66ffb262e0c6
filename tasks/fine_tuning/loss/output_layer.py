"""The output layer on supervised positions only, in parts where their logits would not fit.

The logits of a batch are its largest tensors: a vocabulary of 128,000 takes half a megabyte a position in fp32, and
four of five positions of a prompt carry no loss. A hook picks the positions just before the output layer, so that it
works for every model and inside whatever wraps it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint


@contextmanager
def restrict_positions(output_layer: Any, positions: torch.Tensor) -> Iterator[None]:
    """Run the output layer on some positions of (rows x width) only, so that logits are (positions, vocabulary)."""

    def select(_: Any, arguments: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        return (arguments[0].flatten(0, 1).index_select(0, positions),)

    hook = output_layer.register_forward_pre_hook(select)
    try:
        yield
    finally:
        hook.remove()


@contextmanager
def sum_in_parts(
    output_layer: Any, positions: torch.Tensor, size: int, loss: Callable[[torch.Tensor, slice], torch.Tensor]
) -> Iterator[list[torch.Tensor]]:
    """Have the output layer give the sum of a loss over the positions; only ``size`` of them have logits at once.

    The logits of each part are computed again in the backward pass instead of being kept.

    Args:
        output_layer: The model's.
        positions: Of (rows x width), flattened.
        size: Positions of a part.
        loss: Sum of the losses of a part, from its logits and its place among ``positions``.

    Yields:
        A list that holds the sum after the forward pass, shape (1, 1).
    """
    plain = output_layer.forward

    def forward(hidden: torch.Tensor) -> torch.Tensor:
        total = torch.zeros((), device=hidden.device)
        for part in _parts(plain, hidden, positions, size, loss):
            total = total + part
        return total.reshape(1, 1)

    with _instead(output_layer, forward) as sums:
        yield sums


@contextmanager
def values_in_parts(
    output_layer: Any, positions: torch.Tensor, size: int, function: Callable[[torch.Tensor, slice], torch.Tensor]
) -> Iterator[list[torch.Tensor]]:
    """The same, with numbers of each position instead of a sum.

    Args:
        output_layer: The model's.
        positions: Of (rows x width), flattened.
        size: Positions of a part.
        function: Numbers of a part's positions, (part, ...), from its logits and its place among ``positions``.

    Yields:
        A list that holds the numbers of all positions after the forward pass.
    """
    plain = output_layer.forward

    def forward(hidden: torch.Tensor) -> torch.Tensor:
        return torch.cat(list(_parts(plain, hidden, positions, size, function)))

    with _instead(output_layer, forward) as values:
        yield values


@contextmanager
def replaced_output(
    output_layer: Any, positions: torch.Tensor, head: Callable[[torch.Tensor], torch.Tensor]
) -> Iterator[list[torch.Tensor]]:
    """Run a head on the hidden states at some positions instead of the output layer.

    Args:
        output_layer: The model's.
        positions: Of (rows x width), flattened.
        head: From (positions, width).

    Yields:
        A list that holds its result after the forward pass.
    """

    def forward(hidden: torch.Tensor) -> torch.Tensor:
        return head(hidden.flatten(0, 1).index_select(0, positions))

    with _instead(output_layer, forward) as results:
        yield results


def _parts(
    plain: Callable[[torch.Tensor], torch.Tensor],
    hidden: torch.Tensor,
    positions: torch.Tensor,
    size: int,
    function: Callable[[torch.Tensor, slice], torch.Tensor],
) -> Iterator[torch.Tensor]:
    chosen = hidden.flatten(0, 1).index_select(0, positions)
    for start in range(0, len(positions), size):
        span = slice(start, start + size)
        yield checkpoint(lambda states, at: function(plain(states), at), chosen[span], span, use_reentrant=False)


@contextmanager
def _instead(output_layer: Any, forward: Callable[[torch.Tensor], torch.Tensor]) -> Iterator[list[torch.Tensor]]:
    """Have the layer compute something else while the block runs; the list gets its results."""
    plain, own = output_layer.forward, "forward" in vars(output_layer)
    results: list[torch.Tensor] = []
    hook = output_layer.register_forward_hook(lambda _, __, result: results.append(result))
    output_layer.forward = forward
    try:
        yield results
    finally:
        hook.remove()
        if own:
            output_layer.forward = plain
        else:
            del output_layer.forward


@contextmanager
def adapter_hidden(model: Any) -> Iterator[None]:
    """Let TRL not see that the output layer is adapted: it refuses it, since its own loss would pass the adapter by."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    layer = model.get_output_embeddings()
    if not isinstance(layer, BaseTunerLayer):
        yield
        return
    model.get_output_embeddings = layer.get_base_layer
    try:
        yield
    finally:
        del model.get_output_embeddings
