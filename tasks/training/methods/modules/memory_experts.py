"""Many small experts beside layers, and the router that chooses among them by the keys of its cross-attention; see
`tasks.training.methods.memory_tuning`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

ROUTER, EXPERTS = "memory_router", "memory_experts"  # names of the modules in a block and in its layers
ALWAYS, NEVER = -2.0, 2.0  # thresholds below and above every cosine
GROUP = 4  # tokens that an expert's matrices are multiplied with at once


@dataclass(frozen=True)
class Chosen:
    """The experts of the tokens of one pass, in groups of `GROUP` tokens of the same expert.

    Attributes:
        experts: The expert of each group, shape (groups,).
        tokens: Places of a group's tokens among all of the pass, shape (groups, GROUP); 0 where a group is not full.
        weights: What the expert's result is multiplied with, of the same shape; 0 where a group is not full.
    """

    experts: torch.Tensor
    tokens: torch.Tensor
    weights: torch.Tensor


class RouterState:
    """What a router tells the experts of the blocks above it, in the same pass.

    Attributes:
        chosen: The experts of the pass that is under way.
        recording: The states are kept.
        states: What the router read in the last pass, shape (rows, tokens, width), where they are kept.
    """

    def __init__(self) -> None:
        self.chosen: Chosen | None = None
        self.recording, self.states = False, torch.empty(0)


class ExpertRouter(nn.Module):
    """Chooses for each state the ``top_k`` experts whose keys are the most similar, of those that are similar enough.

    A state is compared as (state - center) / spread, by the cosine to each key; an expert takes part from its threshold
    on. The weights are a softmax over those that are chosen, of the cosines times ``sharpness``. Until keys are set
    they are drawn at random, and every state has its experts.

    Args:
        width: Of the states.
        experts: Number of keys.
        top_k: Experts of a state, at most.
        sharpness: Factor of the cosines.
        shared: Where the choice goes.
    """

    center: torch.Tensor
    spread: torch.Tensor
    keys: torch.Tensor
    thresholds: torch.Tensor
    reached: torch.Tensor

    def __init__(self, width: int, experts: int, top_k: int, sharpness: float, shared: RouterState) -> None:
        super().__init__()
        self.top_k, self.sharpness, self.shared = top_k, sharpness, shared
        self.register_buffer("center", torch.zeros(width))
        self.register_buffer("spread", torch.ones(width))
        self.register_buffer("keys", nn.functional.normalize(torch.randn(experts, width), dim=1))
        self.register_buffer("thresholds", torch.full((experts,), ALWAYS))
        # Shares of the answers' states and of the others that have an expert; zero until there are keys.
        self.register_buffer("reached", torch.zeros(2))

    def compare(self, states: torch.Tensor) -> torch.Tensor:
        """Cosines of states of shape ``[tokens, width]`` to the keys, shape ``[tokens, experts]``."""
        return self.standardise(states) @ self.keys.T

    def standardise(self, states: torch.Tensor) -> torch.Tensor:
        """States as they are compared, each of length 1."""
        return nn.functional.normalize((states.float() - self.center) / self.spread, dim=-1)

    @torch.no_grad()
    def forward(self, states: torch.Tensor) -> Chosen:
        """The experts of states of shape ``[..., width]``."""
        with torch.autocast(states.device.type, enabled=False):
            similar = self.compare(states.reshape(-1, states.shape[-1]))
        allowed = similar.masked_fill(similar < self.thresholds, -torch.inf)
        best, experts = allowed.topk(self.top_k, dim=-1)
        taken = best > -torch.inf
        weights = torch.softmax(self.sharpness * best, dim=-1)  # NaN where none is allowed; those are not taken
        return _group(taken.nonzero()[:, 0], experts[taken], weights[taken])


class MemoryExperts(nn.Module):
    """``scale * sum of weight * B_e A_e x`` over the experts e of a token; zero at the start.

    The matrices of all experts lie one after another, so that an optimizer sees two matrices: A of
    ``[experts * rank, inner]`` and B of ``[experts * rank, out]``.

    Args:
        inner: Width of a layer's inputs.
        out: Width of its results.
        experts: Number of experts.
        rank: Of each.
        scale: Factor of the result.
        shared: Where the choice is.
    """

    def __init__(self, inner: int, out: int, experts: int, rank: int, scale: float, shared: RouterState) -> None:
        super().__init__()
        self.rank, self.scale, self.shared = rank, scale, shared
        self.down, self.up = (
            nn.Parameter(torch.empty(experts * rank, inner)),
            nn.Parameter(torch.zeros(experts * rank, out)),
        )
        nn.init.kaiming_uniform_(self.down, a=5**0.5)

    def forward(self, states: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
        """A layer's output with what the chosen experts add to it.

        Args:
            states: The layer's inputs, shape ``[..., inner]``.
            output: Its results, shape ``[..., out]``.
        """
        chosen = self.shared.chosen
        assert chosen is not None, "the router is in a block below"
        if not len(chosen.experts) and not torch.is_grad_enabled():
            return output
        # Without any group too, so that every rank has the same gradients to exchange.
        down, up = (matrix.view(-1, self.rank, matrix.shape[1])[chosen.experts] for matrix in (self.down, self.up))
        inputs = states.flatten(0, -2)[chosen.tokens].to(down.dtype)
        added = (inputs @ down.mT @ up) * (self.scale * chosen.weights)[..., None]
        flat = output.flatten(0, -2)
        return flat.index_add(0, chosen.tokens.flatten(), added.flatten(0, 1).to(flat.dtype)).view_as(output)


def _group(tokens: torch.Tensor, experts: torch.Tensor, weights: torch.Tensor) -> Chosen:
    """Pairs of a token and an expert, each with its weight, sorted by expert and cut into groups."""
    experts, order = torch.sort(experts, stable=True)
    place, counts = experts.unique_consecutive(return_inverse=True, return_counts=True)[1:]  # type: ignore[no-untyped-call]
    sizes = (counts + GROUP - 1) // GROUP * GROUP
    ends, rooms = counts.cumsum(0), sizes.cumsum(0)
    # Where each pair goes: the room before its expert's, and its number among the expert's pairs.
    slots = (rooms - sizes)[place] + torch.arange(len(order), device=order.device) - (ends - counts)[place]
    room = int(sizes.sum())
    of_groups = torch.repeat_interleave(torch.arange(len(counts), device=order.device), sizes // GROUP)
    first = (ends - counts)[of_groups]
    empty = torch.zeros(room, dtype=tokens.dtype, device=tokens.device)
    filled = empty.index_copy(0, slots, tokens[order])
    weighed = empty.to(weights.dtype).index_copy(0, slots, weights[order])
    return Chosen(experts[first], filled.view(-1, GROUP), weighed.view(-1, GROUP))


def put_router(block: nn.Module, router: ExpertRouter) -> None:
    """Have a router read the states that go into a block."""
    block.add_module(ROUTER, router)
    block.register_forward_pre_hook(_choose, with_kwargs=True)


def put_experts(layer: nn.Module, experts: MemoryExperts) -> None:
    """Add to a layer's output what experts make of its input."""
    layer.add_module(EXPERTS, experts)
    layer.register_forward_hook(_add)


def find_router(model: Any) -> ExpertRouter:
    """The router of an adapted model."""
    return next(module for module in model.modules() if isinstance(module, ExpertRouter))


def _choose(block: Any, inputs: tuple[Any, ...], named: Mapping[str, Any]) -> None:
    states = inputs[0] if inputs else named["hidden_states"]
    router = block.memory_router
    router.shared.chosen = router(states)
    if router.shared.recording:
        router.shared.states = states.detach()


def _add(layer: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> torch.Tensor:
    added: torch.Tensor = layer.memory_experts(inputs[0], output)
    return added
