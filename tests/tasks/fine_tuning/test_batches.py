"""Packing and order: every conversation once an epoch, whole, in rows like TRL's, as a function of the seed alone."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from trl import pack_dataset

from tasks.fine_tuning.loss.batches import collate, order_batches, pack, validation_batches
from tasks.training.rows import TokenizedRows

LENGTHS = st.lists(st.integers(1, 40), min_size=1, max_size=60)


def make_rows(lengths: list[int]) -> TokenizedRows:
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    tokens = np.arange(10, 10 + offsets[-1], dtype=np.int64)
    labels = tokens.copy()
    labels[offsets[:-1]] = -100
    return TokenizedRows(tokens, labels, offsets)


@given(LENGTHS)
@settings(max_examples=60, deadline=None)
def test_packing_keeps_conversations_whole_and_fits(lengths: list[int]) -> None:
    bins = pack(lengths, 40)
    assert sorted(i for row in bins for i in row) == list(range(len(lengths)))
    assert all(sum(lengths[i] for i in row) <= 40 for row in bins)


def test_rows_are_filled_as_trl_fills_them() -> None:
    random = np.random.default_rng(1)
    lengths = random.integers(3, 90, 2300).tolist()
    packed = pack_dataset(Dataset.from_dict({"input_ids": [[7] * n for n in lengths]}), 128, "bfd")
    theirs = sorted(sorted(row) for row in packed["seq_lengths"])
    ours = sorted(sorted(lengths[i] for i in row) for row in pack(lengths, 128))
    assert ours == theirs


@given(LENGTHS, st.booleans(), st.integers(1, 5), st.integers(0, 3))
@settings(max_examples=60, deadline=None)
def test_every_epoch_has_every_conversation_once(lengths: list[int], packed: bool, batch_size: int, seed: int) -> None:
    rows = len(pack(lengths, 40)) if packed else len(lengths)
    per_epoch = -(-rows // batch_size)
    batches = list(islice(order_batches(lengths, packed, 40, batch_size, seed), 2 * per_epoch))
    again = list(islice(order_batches(lengths, packed, 40, batch_size, seed), 2 * per_epoch))
    assert batches == again
    for epoch in (batches[:per_epoch], batches[per_epoch:]):
        assert sorted(i for batch in epoch for row in batch for i in row) == list(range(len(lengths)))
        assert all(len(batch) <= batch_size for batch in epoch)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=80), st.integers(1, 12), st.integers(0, 3))
@settings(max_examples=80, deadline=None)
def test_stratified_batches_have_every_class_in_its_share(classes: list[int], size: int, seed: int) -> None:
    known = np.array(classes)
    count = -(-len(classes) // size)
    batches = list(islice(order_batches([5] * len(classes), False, 40, size, seed, known), 2 * count))
    for epoch in (batches[:count], batches[count:]):
        rows = [index for batch in epoch for (index,) in batch]
        assert sorted(rows) == list(range(len(classes)))
        for batch in epoch:
            for name in set(classes):
                expected = len(batch) * classes.count(name) / len(classes)
                found = sum(classes[index] == name for (index,) in batch)
                # Each class is spread evenly; those of the other classes shift where a batch begins and ends.
                assert abs(found - expected) < 1 + len(set(classes))


def test_epochs_and_seeds_differ_in_order() -> None:
    lengths = [5] * 64
    first = list(islice(order_batches(lengths, False, 40, 4, 0), 32))
    other = list(islice(order_batches(lengths, False, 40, 4, 1), 16))
    assert first[:16] != first[16:]
    assert first[:16] != other


def test_unpacked_batches_hold_conversations_of_like_length() -> None:
    random = np.random.default_rng(0)
    lengths = random.integers(10, 200, 2000).tolist()
    batches = list(islice(order_batches(lengths, False, 200, 16, 0), 125))
    padded = sum(16 * max(lengths[row[0]] for row in batch) for batch in batches)
    assert sum(lengths) / padded > 0.95


def test_collated_by_hand() -> None:
    rows = make_rows([2, 3, 1])
    packed = collate(rows, [[1, 0], [2]], pad=1, packed=True)
    assert packed["input_ids"].tolist() == [[12, 13, 14, 10, 11], [15, 1, 1, 1, 1]]
    assert packed["labels"].tolist() == [[-100, 13, 14, -100, 11], [-100] * 5]
    assert packed["position_ids"].tolist() == [[0, 1, 2, 0, 1], [0, 0, 1, 2, 3]]
    assert "attention_mask" not in packed
    padded = collate(rows, [[0], [1]], pad=1, packed=False)
    assert padded["input_ids"].tolist() == [[10, 11, 1], [12, 13, 14]]
    assert padded["labels"].tolist() == [[-100, 11, -100], [-100, 13, 14]]
    assert padded["attention_mask"].tolist() == [[1, 1, 0], [1, 1, 1]]


@given(LENGTHS)
@settings(max_examples=40, deadline=None)
def test_validation_sees_every_row_once(lengths: list[int]) -> None:
    batches = validation_batches(lengths, 100)
    assert sorted(row[0] for batch in batches for row in batch) == list(range(len(lengths)))
    assert all(len(batch) == 1 or len(batch) * max(lengths[r[0]] for r in batch) <= 100 for batch in batches)


@pytest.mark.parametrize("packed", [False, True])
def test_an_end_that_is_also_padding_is_learned_and_padding_is_not(packed: bool) -> None:
    # Told apart by the token, as some collators do, no answer would have an end, and the model would never stop.
    end = 2
    rows = TokenizedRows(
        tokens=np.array([5, 6, end, 5, 6, 7, 8, end]),
        labels=np.array([-100, 6, end, -100, -100, 7, 8, end]),
        offsets=np.array([0, 3, 8]),
    )
    batch = collate(rows, [[0], [1]], pad=end, packed=packed)
    assert batch["input_ids"].tolist() == [[5, 6, end, end, end], [5, 6, 7, 8, end]]
    assert batch["labels"].tolist() == [[-100, 6, end, -100, -100], [-100, -100, 7, 8, end]]
