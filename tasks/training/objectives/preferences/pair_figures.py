"""The figures of objectives that train on pairs: rewards of both answers, how far apart, and how often right."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

PAIR_FIGURES: Mapping[str, str] = {
    "accuracy": "Share of pairs whose better answer has the larger reward; equal ones count half",
    "margin": "Mean reward of the better answers less that of the worse ones",
    "chosen_reward": "Mean reward of the better answers",
    "rejected_reward": "Mean reward of the worse answers",
}


def measure_pairs(chosen: torch.Tensor, rejected: torch.Tensor) -> dict[str, tuple[torch.Tensor, int]]:
    """`PAIR_FIGURES` of a batch.

    Args:
        chosen: Rewards of the better answers, shape (pairs,).
        rejected: Those of the worse ones.
    """
    chosen, rejected = chosen.detach().float(), rejected.detach().float()
    right = (chosen > rejected).float() + 0.5 * (chosen == rejected).float()
    values = {"accuracy": right, "margin": chosen - rejected, "chosen_reward": chosen, "rejected_reward": rejected}
    return {name: (each.sum(), len(each)) for name, each in values.items()}
