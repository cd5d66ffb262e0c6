"""Whatever joins, steps and leaves in whatever order, each row's logits are those of the row alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.gateway.batching.batch import MINIMUM_FREE_COLUMNS, Batch, logits_alone, rounding_noise

# Rounding of float32 logits of size 10 over two layers; leaking rows differ by more than 1e-2.
ROUNDING = 2.0e-4


@pytest.fixture(scope="module")
def loaded(model: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).eval()


def check(loaded: Any, logits: torch.Tensor, rows: list[list[int]]) -> None:
    for row, tokens in enumerate(rows):
        assert torch.allclose(logits[row], logits_alone(loaded, tokens), atol=ROUNDING, rtol=0)


ACTIONS = st.lists(
    st.one_of(
        st.lists(st.lists(st.integers(0, 599), min_size=1, max_size=40), min_size=1, max_size=3),
        st.integers(1, 4),
        st.sets(st.integers(0, 4), min_size=1, max_size=3),
    ),
    min_size=1,
    max_size=7,
)


@settings(max_examples=25, deadline=None)
@given(ACTIONS, st.integers(1, 100))
@torch.inference_mode()
def test_rows_do_not_see_one_another(loaded: Any, actions: list[Any], prefill_tokens: int) -> None:
    batch, rows = Batch(loaded, prefill_tokens), list[list[int]]()
    for action in actions:
        if isinstance(action, list):
            check(loaded, batch.join(action), action)
            rows += [list(prompt) for prompt in action]
        elif isinstance(action, set):
            order = batch.remove({place for place in action if place < len(rows)})
            rows = [rows[place] for place in order]
        elif rows:
            for number in range(action):
                tokens = [(31 * number + len(row)) % 600 for row in rows]
                rows = [[*row, token] for row, token in zip(rows, tokens, strict=True)]
                logits = batch.step(tokens)
            check(loaded, logits, rows)
        assert len(batch) == len(rows)


@torch.inference_mode()
def test_a_row_outlives_the_room_it_began_with(loaded: Any) -> None:
    batch, rows = Batch(loaded, 1000), [[5, 6, 7], [8]]
    batch.join(rows)
    for number in range(2 * MINIMUM_FREE_COLUMNS + 10):
        if number == MINIMUM_FREE_COLUMNS:
            batch.join([[9, 10]])
            rows.append([9, 10])
        tokens = [(7 * number + place) % 600 for place in range(len(rows))]
        rows = [[*row, token] for row, token in zip(rows, tokens, strict=True)]
        logits = batch.step(tokens)
    check(loaded, logits, rows)


def test_leaving_moves_the_last_rows_into_the_gaps(loaded: Any) -> None:
    with torch.inference_mode():
        batch = Batch(loaded, 1000)
        batch.join([[1]] * 5)
        assert batch.remove({0, 3}) == [4, 1, 2]
        assert batch.remove({2}) == [0, 1]
        assert batch.remove({0, 1}) == []
        assert len(batch) == 0


def test_the_measured_noise_is_rounding(loaded: Any) -> None:
    with torch.inference_mode():
        assert 0 < rounding_noise(loaded, [[1, 2], [3, 4, 5, 6, 7], [8]]) < ROUNDING
