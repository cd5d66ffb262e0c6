"""Lion's update (Chen et al. 2023, arXiv:2302.06675, algorithm 2)."""

from __future__ import annotations

from typing import Any

import torch


class LionUpdate(torch.optim.Optimizer):
    """Steps of one size, in the direction of the sign of a mean of momentum and gradient.

    Args:
        groups: With ``params``, ``lr`` and ``weight_decay``.
        beta1: Share of the momentum in the direction of a step.
        beta2: Share of the momentum kept from step to step.
    """

    def __init__(self, groups: list[dict[str, Any]], beta1: float, beta2: float) -> None:
        super().__init__(groups, {"beta1": beta1, "beta2": beta2})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for weights in group["params"]:
                if weights.grad is None:
                    continue
                state = self.state[weights]
                if not state:
                    state["momentum"] = torch.zeros_like(weights)
                momentum = state["momentum"]
                direction = torch.lerp(weights.grad, momentum, group["beta1"]).sign_()
                weights.mul_(1 - group["lr"] * group["weight_decay"]).sub_(direction, alpha=group["lr"])
                momentum.lerp_(weights.grad, 1 - group["beta2"])
