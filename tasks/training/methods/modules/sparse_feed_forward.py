"""A block's feed-forward part copied into experts, and the router between them; see
`tasks.training.methods.mixture_of_experts`.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn

SPREAD = 0.02  # standard deviation of a router's first weights, as Mixtral's


class Padding:
    """Which positions of the pass under way are no padding.

    Attributes:
        mask: Shape (rows, positions); None where all count.
    """

    def __init__(self) -> None:
        self.mask: torch.Tensor | None = None

    def read(self, decoder: Any, inputs: tuple[Any, ...], named: Mapping[str, Any]) -> None:
        """Of the inputs of a decoder; a mask of pairs of positions, as packed rows have, says nothing of padding."""
        mask = named.get("attention_mask")
        self.mask = mask if isinstance(mask, torch.Tensor) and mask.ndim == 2 else None


class SparseFeedForward(nn.Module):
    """``sum of weight_e * expert_e(x)`` over the ``top_k`` experts of a token, with weights that sum to 1.

    The weights are the router's probabilities, those of the chosen experts divided by their sum (Jiang et al. 2024,
    arXiv:2401.04088, section 2.1).

    Args:
        part: The feed-forward part; the first expert.
        width: Of the model.
        experts: Number of experts.
        top_k: Experts of a token.
        padding: Of the pass under way.

    Attributes:
        watched: The router's results are kept in training, until `take` is called.
        chosen: Tokens that each expert got in this step, on this rank.
        use: Tokens that each expert got in the steps before, on all ranks.
    """

    def __init__(self, part: nn.Module, width: int, experts: int, top_k: int, padding: Padding) -> None:
        super().__init__()
        self.experts = nn.ModuleList([part, *(copy.deepcopy(part) for _ in range(experts - 1))])
        self.router = nn.Linear(width, experts, bias=False)
        nn.init.normal_(self.router.weight, std=SPREAD)
        self.top_k, self.padding, self.watched = top_k, padding, False
        self.chosen = torch.zeros(experts, dtype=torch.int64)
        self.use = torch.zeros(experts, dtype=torch.int64)
        self._kept: list[tuple[torch.Tensor, torch.Tensor]] = []

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """States of shape ``[rows, positions, width]`` to as many."""
        flat = states.reshape(-1, states.shape[-1])
        logits = self.router(flat).float()
        best, chosen = torch.softmax(logits, dim=-1).topk(self.top_k, dim=-1)
        weights = best / best.sum(dim=-1, keepdim=True)
        if self.watched and self.training and not _is_computed_again():
            self._keep(logits, chosen)
        result = torch.zeros_like(flat)
        # Each is called, without tokens too, so that every rank exchanges the same gradients.
        for number, expert in enumerate(self.experts):
            tokens, place = (chosen == number).nonzero(as_tuple=True)
            part = expert(flat[tokens]) * weights[tokens, place, None].to(flat.dtype)
            result = result.index_add(0, tokens, part.to(result.dtype))
        return result.view_as(states)

    def take(self) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Of each pass since the last call the router's logits and the experts it chose, without padding; counted."""
        kept, self._kept = self._kept, []
        for _, chosen in kept:
            counts = chosen.flatten().bincount(minlength=len(self.experts))
            self.chosen = self.chosen.to(counts.device) + counts
        return kept

    def _keep(self, logits: torch.Tensor, chosen: torch.Tensor) -> None:
        mask = self.padding.mask
        if mask is not None and mask.numel() == len(logits):
            real = mask.flatten().bool()
            logits, chosen = logits[real], chosen[real]
        self._kept.append((logits, chosen))


def measure_routers(kept: list[tuple[torch.Tensor, torch.Tensor]]) -> tuple[torch.Tensor, ...]:
    """The load-balance and the z loss of the passes that `SparseFeedForward.take` gave, means over their tokens, and
    the largest and the smallest share of the choices that fell on one expert.

    The first is the number of experts times the sum over them of the share of the choices that fell on it, times its
    mean probability (Fedus et al. 2022, arXiv:2101.03961, equation 4; shares of all ``top_k`` choices): 1 where tokens
    are spread evenly. The second is the mean of the squared log-sum-exp of the logits (Zoph et al. 2022,
    arXiv:2202.08906, equation 5).
    """
    logits = torch.cat([one for one, _ in kept])
    chosen = torch.cat([one for _, one in kept])
    number = logits.shape[1]
    shares = chosen.flatten().bincount(minlength=number) / max(1, chosen.numel())
    balance = number * (shares * torch.softmax(logits, dim=-1).mean(dim=0)).sum()
    return balance, torch.logsumexp(logits, dim=-1).square().mean(), shares.max(), shares.min()


def put_experts(model: Any, blocks: list[Any], name: str, experts: int, top_k: int) -> None:
    """Replace the feed-forward part of each block by experts that are copies of it.

    Args:
        model: The model.
        blocks: Its blocks.
        name: Of the part in a block.
        experts: Of each block.
        top_k: Experts of a token.
    """
    padding, width = Padding(), model.config.get_text_config().hidden_size
    for block in blocks:
        part = getattr(block, name)
        weights = next(part.parameters())
        sparse = SparseFeedForward(part, width, experts, top_k, padding)
        sparse.router.to(weights.device, weights.dtype)
        setattr(block, name, sparse)
    model.get_decoder().register_forward_pre_hook(padding.read, with_kwargs=True)


def find_experts(model: Any) -> Iterator[SparseFeedForward]:
    """The feed-forward parts of an adapted model, from the input to the output."""
    return (module for module in model.modules() if isinstance(module, SparseFeedForward))


def _is_computed_again() -> bool:
    """Whether a backward pass is under way, in which gradient checkpointing computes blocks once more."""
    return torch._C._current_graph_task_id() != -1
