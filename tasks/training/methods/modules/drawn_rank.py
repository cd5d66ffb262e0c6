"""LoRA's two matrices used up to a rank that can be set anew at any time; see `tasks.training.methods.dylora`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

ADAPTER = "default"  # PEFT's name for the only one


class FirstRows(nn.Linear):
    """A, of which the first ``rank`` rows count."""

    rank: int

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        return nn.functional.linear(states, self.weight[: self.rank])


class FirstColumns(nn.Linear):
    """B, of which the first ``rank`` columns count."""

    rank: int

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        return nn.functional.linear(states, self.weight[:, : self.rank])


def make_truncatable(adapted: Any) -> None:
    """Replace A and B of every adapted layer by ones that can be used up to a rank; the weights stay the same."""
    for layer in _layers(adapted):
        for matrices, kind in ((layer.lora_A, FirstRows), (layer.lora_B, FirstColumns)):
            matrix = matrices[ADAPTER]
            with torch.device("meta"):
                cut = kind(matrix.in_features, matrix.out_features, bias=False)
            cut.weight = matrix.weight
            matrices[ADAPTER] = cut


def use_rank(adapted: Any, rank: int, alpha: float) -> None:
    """Use every adapted layer as an adapter of this rank, with its scale of alpha / rank."""
    for layer in _layers(adapted):
        layer.lora_A[ADAPTER].rank = layer.lora_B[ADAPTER].rank = rank
        layer.scaling[ADAPTER] = alpha / rank


def _layers(adapted: Any) -> Iterator[Any]:
    from peft.tuners.lora import LoraLayer

    return (module for module in adapted.modules() if isinstance(module, LoraLayer))
