"""Updates inside the backward pass: LOMO (Lv et al. 2023, arXiv:2306.09782) and AdaLOMO (arXiv:2310.10195).

PyTorch calls a hook of each weight once its gradient is complete, all uses of the weight counted. Every operation that
needs the old weight has run by then, since each of them had to give its share of the gradient.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch

SMALLEST_SQUARE = 1e-30
SMALLEST_SIZE = 1e-3  # of a tensor, so that one that begins at zero can leave it
DECAY = -0.8


class InsideBackward(torch.optim.Optimizer, ABC):
    """Updates a weight when its gradient is complete, and drops the gradient; `step` only counts.

    Args:
        groups: With ``params``, ``lr`` and ``weight_decay``.
    """

    def __init__(self, groups: list[dict[str, Any]]) -> None:
        super().__init__(groups, {"step": 0})
        # Groups become other dictionaries when a state is loaded; their numbers stay.
        self.group_of = {id(w): number for number, group in enumerate(self.param_groups) for w in group["params"]}
        for group in self.param_groups:
            for weights in group["params"]:
                weights.register_post_accumulate_grad_hook(self._update_now)

    @torch.no_grad()
    def _update_now(self, weights: torch.Tensor) -> None:
        gradient, weights.grad = weights.grad, None
        assert gradient is not None
        self._update(weights, gradient, self.param_groups[self.group_of[id(weights)]])

    @abstractmethod
    def _update(self, weights: torch.Tensor, gradient: torch.Tensor, group: dict[str, Any]) -> None:
        """Change the weights in place."""

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            group["step"] += 1


class LomoUpdate(InsideBackward):
    """SGD.

    Args:
        groups: With ``params``, ``lr`` and ``weight_decay``.
        clip_value: Largest size of each number of a gradient; 0 is off.
    """

    def __init__(self, groups: list[dict[str, Any]], clip_value: float) -> None:
        self.clip_value = clip_value
        super().__init__(groups)

    def _update(self, weights: torch.Tensor, gradient: torch.Tensor, group: dict[str, Any]) -> None:
        if self.clip_value:
            gradient.clamp_(-self.clip_value, self.clip_value)
        weights.mul_(1 - group["lr"] * group["weight_decay"]).sub_(gradient, alpha=group["lr"])


class AdaLomoUpdate(InsideBackward):
    """Steps over Adafactor's means of the squared gradient, in proportion to the tensor's size.

    Args:
        groups: With ``params``, ``lr`` and ``weight_decay``.
        clip_update: Largest root mean square of a tensor's update.
    """

    def __init__(self, groups: list[dict[str, Any]], clip_update: float) -> None:
        self.clip_update = clip_update
        super().__init__(groups)

    def _update(self, weights: torch.Tensor, gradient: torch.Tensor, group: dict[str, Any]) -> None:
        update = self._scale(gradient, self.state[weights], 1 - (group["step"] + 1) ** DECAY)
        update /= (_root_mean_square(update) / self.clip_update).clamp_(min=1.0)
        rate = group["lr"] * float(_root_mean_square(weights).clamp_(min=SMALLEST_SIZE))
        weights.mul_(1 - rate * group["weight_decay"]).sub_(update, alpha=rate)

    def _scale(self, gradient: torch.Tensor, state: dict[str, Any], kept: float) -> torch.Tensor:
        """The gradient over the root of its mean square; ``kept`` is the share of the old mean."""
        square = gradient.square().add_(SMALLEST_SQUARE)
        if gradient.ndim < 2:
            if not state:
                state["mean"] = torch.zeros_like(square)
            mean: torch.Tensor = state["mean"].lerp_(square, 1 - kept)
            return gradient.mul(mean.rsqrt())
        if not state:
            state["rows"], state["columns"] = square.new_zeros(square.shape[:-1]), square.new_zeros(square.shape[-1:])
        rows: torch.Tensor = state["rows"].lerp_(square.mean(dim=-1), 1 - kept)
        columns: torch.Tensor = state["columns"].lerp_(square.mean(dim=-2), 1 - kept)
        return gradient.mul(rows.div(rows.mean()).rsqrt_().unsqueeze(-1)).mul_(columns.rsqrt())


def _root_mean_square(tensor: torch.Tensor) -> torch.Tensor:
    norm: torch.Tensor = torch.linalg.vector_norm(tensor)
    return norm.div(tensor.numel() ** 0.5)
