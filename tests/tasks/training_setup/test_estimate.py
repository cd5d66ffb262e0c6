"""Counts without a tokenizer, and costs, are what a calculation by hand gives."""

from __future__ import annotations

from types import SimpleNamespace

import pyarrow as pa
import pytest

from tasks.contracts.records import EXAMPLES
from tasks.training_setup.costs import foresee_costs
from tasks.training_setup.estimate import estimate_counts, estimate_from_size
from tests.tasks.fine_tuning.small import make_plan


def rows(*conversations: list[tuple[str, str]]) -> pa.Table:
    listed = [
        {
            "id": str(number),
            "messages": [{"role": role, "content": content} for role, content in turns],
            "source": "s",
            "row": number,
            "label": None,
            "cluster": str(number),
        }
        for number, turns in enumerate(conversations)
    ]
    return pa.Table.from_pylist(listed, schema=EXAMPLES)


# 40 and 20 bytes are 10 and 5 tokens, with 4 of the template each, and one begins the row: 24, of which 9 are answered.
SHORT = [("user", "a" * 40), ("assistant", "b" * 20)]
LONG = [("user", "a" * 400), ("assistant", "b" * 20)]


def test_tokens_of_prepared_rows() -> None:
    found = estimate_counts(rows(SHORT, SHORT), 3, 64, 4.0)
    assert (found.rows, found.examples, found.cut, found.validation_examples) == (2, 2, 0, 3)
    assert list(found.lengths) == [24, 24]
    assert (found.tokens, found.supervised_tokens) == (48, 18)


def test_long_rows_are_cut_and_keep_a_share_of_their_answer() -> None:
    found = estimate_counts(rows(LONG), 0, 57, 4.0)
    assert (list(found.full_lengths), list(found.lengths), found.cut) == ([114], [57], 1)
    assert found.supervised_tokens == 4  # half of 9


def test_tokens_that_were_counted_scale_the_estimate() -> None:
    found = estimate_counts(rows(SHORT, LONG), 0, 1000, 4.0, tokens=69)
    assert list(found.lengths) == [12, 57]  # half of 24 and of 114


def test_only_a_size() -> None:
    found = estimate_from_size(10, 500, 1, 40)
    assert list(found.lengths) == [40] * 10
    assert (found.cut, found.tokens, found.supervised_tokens) == (10, 400, 200)


def test_time_price_and_energy() -> None:
    plan = make_plan(tokens=1_800_000, epochs=2.0)
    found = foresee_costs(plan, 1000.0, 2.5, 400.0)
    assert vars(found) == {"tokens": 3_600_000, "seconds": 3600.0, "price": 2.5, "kilowatt_hours": pytest.approx(0.4)}
    assert vars(foresee_costs(plan, None, 2.5, 400.0)) == vars(
        SimpleNamespace(tokens=3_600_000, seconds=None, price=None, kilowatt_hours=None)
    )
