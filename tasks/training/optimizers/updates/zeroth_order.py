"""MeZO's update (Malladi et al. 2023, arXiv:2305.17333, algorithm 1)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch


class ZerothOrderUpdate(torch.optim.Optimizer):
    """Moves the weights along a random direction, by how the loss changes along it.

    Args:
        groups: With ``params``, ``lr`` and ``weight_decay``.
        shift: Distance at which the loss is measured, to both sides.
        seed: Of the directions; that of a step follows from it and from the number of the step.
    """

    def __init__(self, groups: list[dict[str, Any]], shift: float, seed: int) -> None:
        self.shift, self.seed, self.slope = shift, seed, 0.0
        super().__init__(groups, {"step": 0})

    @torch.no_grad()
    def measure(self, loss: Callable[[], torch.Tensor]) -> torch.Tensor:
        """Add the slope of a batch's loss along the direction of this step; the weights are put back.

        Args:
            loss: Computes the batch's share of the loss; both times with the same random numbers.

        Returns:
            The mean of the two losses.
        """
        devices = {weights.device for group in self.param_groups for weights in group["params"]}
        self._move(self.shift)
        with torch.random.fork_rng([device for device in devices if device.type == "cuda"]):
            above = loss()
        self._move(-2 * self.shift)
        below = loss()
        self._move(self.shift)
        self.slope += float(above - below) / (2 * self.shift)
        return (above + below) / 2

    def _move(self, distance: float) -> None:
        for weights, noise, _ in self._directions():
            weights.add_(noise, alpha=distance)

    def _directions(self) -> Iterator[tuple[torch.Tensor, torch.Tensor, dict[str, Any]]]:
        """Every weight with its part of the step's direction, and its group; the same numbers at each call."""
        generators: dict[torch.device, torch.Generator] = {}
        for group in self.param_groups:
            for weights in group["params"]:
                if weights.device not in generators:
                    seed = (self.seed * 1_000_003 + group["step"]) % 2**63
                    generators[weights.device] = torch.Generator(weights.device).manual_seed(seed)
                noise = torch.randn(
                    weights.shape,
                    generator=generators[weights.device],
                    device=weights.device,
                    dtype=weights.dtype,
                )
                yield weights, noise, group

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        if torch.distributed.is_initialized():
            # Every rank went along the same direction with rows of its own, and now goes as far as the others.
            slope = torch.tensor(self.slope, dtype=torch.float64)
            torch.distributed.all_reduce(slope)
            self.slope = float(slope) / torch.distributed.get_world_size()
        for weights, noise, group in self._directions():
            weights.mul_(1 - group["lr"] * group["weight_decay"]).add_(noise, alpha=-group["lr"] * self.slope)
        for group in self.param_groups:
            group["step"] += 1
        self.slope = 0.0
