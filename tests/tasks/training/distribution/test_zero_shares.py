"""Shares of flat lists, cut for one number of ranks and put together for another."""

from __future__ import annotations

import pytest
import torch

from tasks.training.distribution.zero_shares import Piece, collect, cut

WEIGHTS = {"norm": torch.arange(1.0, 8), "matrix": torch.arange(100.0, 135).reshape(5, 7), "one": torch.tensor([9.0])}
SHAPES = {name: weights.shape for name, weights in WEIGHTS.items()}


def make_list(rank: int, ranks: int) -> tuple[torch.Tensor, dict[str, Piece]]:
    """A rank's flat list, padded with -1, and where its weights are."""
    pieces = cut(SHAPES, rank, ranks)
    length = sum(-(-weights.numel() // ranks) for weights in WEIGHTS.values())
    numbers = torch.full((length,), -1.0)
    for name, piece in pieces.items():
        numbers[piece.start : piece.start + piece.count] = WEIGHTS[name].flatten()[piece.first :][: piece.count]
    return numbers, pieces


@pytest.mark.parametrize("before", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("after", [1, 2, 3, 5, 8])
def test_each_rank_gets_the_numbers_that_it_holds_now(before: int, after: int) -> None:
    saved = [make_list(rank, before) for rank in range(before)]
    for rank in range(after):
        expected, pieces = make_list(rank, after)
        found = collect(pieces, saved, torch.empty_like(expected))
        assert torch.equal(found, expected.clamp(min=0))  # what pads a list is zero


def test_a_missing_share_is_told() -> None:
    numbers, pieces = make_list(0, 1)
    saved = [make_list(rank, 3) for rank in (0, 2)]
    with pytest.raises(RuntimeError, match=r"^norm: the checkpoint has 4 of 7 numbers$"):
        collect(pieces, saved, numbers)
