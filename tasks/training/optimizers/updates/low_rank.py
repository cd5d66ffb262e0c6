"""AdamW whose moments of a matrix live in a space of few dimensions: GaLore and APOLLO.

GaLore (Zhao et al. 2024, arXiv:2403.03507, algorithm 2) takes the space that the gradient's largest singular vectors
span, and carries Adam's step back into the full space. APOLLO (Zhu et al. 2024, arXiv:2412.05270, algorithm 1) takes a
random space and reads from it only how large the step of each row or column should be.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any

import torch

EPSILON = 1e-8  # beside a norm in a denominator
GROWTH = 1.01  # largest growth of an APOLLO update's norm from step to step (section 4.2 of the paper)


class LowRankAdamW(torch.optim.Optimizer, ABC):
    """The part that both have in common: AdamW on what `_compress` leaves of a matrix, whole on everything else.

    Args:
        groups: With ``params``, ``lr``, ``weight_decay`` and ``part``; those whose part is ``matrix`` are compressed.
        rank: Dimensions of the space.
        refresh_every_steps: Steps between two spaces.
        scale: Factor on the steps of matrices.
        betas: Of the moments.
        epsilon: Beside the root of the second moment.
    """

    def __init__(
        self,
        groups: list[dict[str, Any]],
        rank: int,
        refresh_every_steps: int,
        scale: float,
        betas: tuple[float, float],
        epsilon: float,
    ) -> None:
        self.rank, self.refresh_every_steps, self.scale = rank, refresh_every_steps, scale
        super().__init__(groups, {"betas": betas, "epsilon": epsilon})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for weights in group["params"]:
                if weights.grad is not None:
                    state = self.state[weights]
                    state["step"] = state.get("step", 0) + 1
                    small = group["part"] == "matrix" and self.rank < min(weights.shape)
                    update = self._low_rank(weights.grad, state, group) if small else _adam(weights.grad, state, group)
                    weights.mul_(1 - group["lr"] * group["weight_decay"]).sub_(update, alpha=group["lr"])

    @abstractmethod
    def _low_rank(self, gradient: torch.Tensor, state: dict[str, Any], group: dict[str, Any]) -> torch.Tensor:
        """The update of a matrix.

        Args:
            gradient: (rows, columns).
            state: Of this matrix.
            group: Betas and epsilon.
        """

    def _is_due(self, state: dict[str, Any]) -> bool:
        return bool((state["step"] - 1) % self.refresh_every_steps == 0)


class GaLoreUpdate(LowRankAdamW):
    """Steps inside the space of the gradient's largest singular vectors."""

    def _low_rank(self, gradient: torch.Tensor, state: dict[str, Any], group: dict[str, Any]) -> torch.Tensor:
        tall = gradient.shape[0] >= gradient.shape[1]
        if self._is_due(state):
            left, _, right = torch.linalg.svd(gradient, full_matrices=False)
            state["basis"] = (right[: self.rank] if tall else left[:, : self.rank]).contiguous()
        basis: torch.Tensor = state["basis"]
        if tall:
            return (_adam(gradient @ basis.T, state, group) @ basis).mul_(self.scale)
        return (basis @ _adam(basis.T @ gradient, state, group)).mul_(self.scale)


class ApolloUpdate(LowRankAdamW):
    """The gradient itself, with a factor for each row or column, or one for the whole matrix.

    Args:
        channels: A factor for each row of a tall matrix and for each column of a wide one; else one factor.
        seed: Of the random spaces, which are drawn anew from their seeds at each step and never kept.
        rest: As in `LowRankAdamW`.
    """

    def __init__(self, groups: list[dict[str, Any]], channels: bool, seed: int, **rest: Any) -> None:
        self.channels, self.seed = channels, seed
        super().__init__(groups, **rest)

    def _low_rank(self, gradient: torch.Tensor, state: dict[str, Any], group: dict[str, Any]) -> torch.Tensor:
        tall = gradient.shape[0] >= gradient.shape[1]
        space = self._draw(min(gradient.shape), state["step"], gradient)
        small = gradient @ space if tall else space.T @ gradient
        adapted = _adam(small, state, group)
        along = (1 if tall else 0) if self.channels else None
        factors = _norm(adapted, along) / (_norm(small, along) + EPSILON)
        update = gradient * factors * math.sqrt(self.scale)
        norm = torch.linalg.vector_norm(update)
        if "norm" in state:
            limit = GROWTH * state["norm"]
            update *= torch.where(norm > limit, limit / (norm + EPSILON), 1.0)
            norm = torch.minimum(norm, limit)
        state["norm"] = norm
        return update

    def _draw(self, side: int, step: int, like: torch.Tensor) -> torch.Tensor:
        """Random directions of a space of ``side`` dimensions, the same for all steps between two refreshes."""
        number = (step - 1) // self.refresh_every_steps
        generator = torch.Generator("cpu").manual_seed(self.seed + number)
        space = torch.randn(side, self.rank, generator=generator) / math.sqrt(self.rank)
        return space.to(like.device, like.dtype)


def _adam(gradient: torch.Tensor, state: dict[str, Any], group: dict[str, Any]) -> torch.Tensor:
    """Adam's update without the learning rate; keeps two moments in the gradient's shape."""
    if "mean" not in state:
        state["mean"], state["square"] = torch.zeros_like(gradient), torch.zeros_like(gradient)
    beta1, beta2 = group["betas"]
    mean: torch.Tensor = state["mean"].lerp_(gradient, 1 - beta1)
    square = state["square"].mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
    root = (square / (1 - beta2 ** state["step"])).sqrt_().add_(group["epsilon"])
    return mean.div(1 - beta1 ** state["step"]).div_(root)


def _norm(matrix: torch.Tensor, along: int | None) -> torch.Tensor:
    """The Euclidean norm of the whole matrix, or along one of its sides."""
    norm: torch.Tensor = torch.linalg.vector_norm(matrix, dim=along, keepdim=True)
    return norm
