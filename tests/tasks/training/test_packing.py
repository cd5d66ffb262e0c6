"""Packed rows are counted as TRL packs them, and no better than arithmetic allows."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.training.packing import count_packed_rows

LENGTHS = st.lists(st.integers(1, 40), min_size=1, max_size=80)


@pytest.mark.parametrize(
    ("lengths", "rows"),
    [
        ([10], 1),
        ([5, 5], 1),
        ([6, 6], 2),
        ([6, 5, 4, 4, 1], 2),  # 6+4 and 5+4+1
        ([25, 3], 2),  # the long one is cut to a row of its own
        ([], 0),
    ],
)
def test_by_hand(lengths: list[int], rows: int) -> None:
    assert count_packed_rows(lengths, 10) == rows


@given(LENGTHS, st.integers(1, 32))
def test_bounds(lengths: list[int], capacity: int) -> None:
    rows = count_packed_rows(lengths, capacity)
    assert math.ceil(sum(min(n, capacity) for n in lengths) / capacity) <= rows <= len(lengths)


@given(LENGTHS, st.integers(1, 32), st.integers(1, 20))
def test_chunks_are_packed_alone(lengths: list[int], capacity: int, chunk: int) -> None:
    alone = [count_packed_rows(lengths[i : i + chunk], capacity) for i in range(0, len(lengths), chunk)]
    assert count_packed_rows(lengths, capacity, chunk) == sum(alone)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=80), st.integers(2, 32))
def test_as_trl_packs(lengths: list[int], capacity: int) -> None:
    from datasets import Dataset
    from datasets.utils.logging import disable_progress_bar
    from trl import pack_dataset

    disable_progress_bar()
    packed = pack_dataset(Dataset.from_dict({"input_ids": [[7] * n for n in lengths]}), capacity, "bfd")
    assert count_packed_rows(lengths, capacity) == len(packed)
