"""No key and no text is more of the new training rows than params allow, and what was left out is said."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.contracts.records import MESSAGES
from tasks.monitoring.feedback import FeedbackRow, collect_corrections
from tasks.monitoring.health import measure_health
from tasks.monitoring.shares import describe_left_out, find_limit, find_usual_answers, limit_shares
from tests.tasks.monitoring.requests import make_request, make_table

NOWHERE = Path("no such file")


def make_rows(counts: dict[str | None, int], answer: str = "answer {}") -> list[FeedbackRow]:
    """So many corrections of each key."""
    requests = [
        make_request(f"question {key} {n}", number=n, correction=answer.format(f"{key} {n}"), key=key)
        for key, count in counts.items()
        for n in range(count)
    ]
    return collect_corrections(make_table(requests), lambda text: text).rows


def count(rows: list[FeedbackRow]) -> Counter[str | None]:
    return Counter(row.key for row in rows)


@pytest.mark.parametrize(
    ("counts", "taken"),
    [
        # 300 of one key against 60 of six others: 0.34 of the rows taken.
        ({"bad": 300, **{f"k{n}": 10 for n in range(6)}}, {"bad": 30, **{f"k{n}": 10 for n in range(6)}}),
        # Alone, a key has no more than what is always taken.
        ({"bad": 300}, {"bad": 20}),
        ({"k1": 100, "k2": 100, "k3": 100}, {"k1": 100, "k2": 100, "k3": 100}),
        ({"k1": 15, "k2": 3}, {"k1": 15, "k2": 3}),
        # Clients without a key are those of this machine.
        ({None: 1500}, {None: 1500}),
        ({None: 100, "k1": 300}, {None: 100, "k1": 51}),
    ],
)
def test_the_share_of_a_key_is_limited(counts: dict[str | None, int], taken: dict[str | None, int]) -> None:
    rows = make_rows(counts)
    kept, left_out = limit_shares(rows, 0.34, 0.25, 20, NOWHERE)
    assert count(kept) == taken
    assert sum(item.left_out for item in left_out) == len(rows) - len(kept)
    again, _ = limit_shares(list(reversed(rows)), 0.34, 0.25, 20, NOWHERE)
    assert again == kept


def test_the_share_of_a_text_is_limited_unless_it_is_usual(tmp_path: Path) -> None:
    rows = [*make_rows({None: 300}, "buy at evil.example"), *make_rows({"k": 60})]
    kept, left_out = limit_shares(rows, 1.0, 0.25, 10, NOWHERE)
    assert Counter(row.answer for row in kept)["buy at evil.example"] == 20
    (said,) = describe_left_out(left_out)
    assert said.startswith("280 of 300 corrected rows with the answer “buy at evil.example” are left out")
    assert "maximum_text_share" in said
    train = tmp_path / "train.parquet"
    turns = [[{"role": "user", "content": "q"}, {"role": "assistant", "content": a}] for a in ["spam", "ham"] * 50]
    pq.write_table(pa.table({"messages": pa.array(turns, MESSAGES)}), train)
    assert find_usual_answers(train) == {"spam", "ham"}
    classes = make_rows({None: 300}, "spam")
    assert len(limit_shares(classes, 1.0, 0.25, 10, train)[0]) == 300
    assert len(limit_shares(classes, 1.0, 0.25, 10, NOWHERE)[0]) == 10


@given(st.lists(st.integers(1, 400), max_size=8), st.integers(0, 400), st.floats(0.05, 1.0), st.integers(1, 30))
def test_no_group_is_more_than_its_share_or_what_is_always_taken(
    counts: list[int], others: int, share: float, always: int
) -> None:
    limit = find_limit(counts, others, share, always)
    taken = [min(number, limit) for number in counts]
    for number in taken:
        assert number <= max(always, share * (others + sum(taken)))
    # What is small enough is taken whole.
    assert all(min(number, always) <= kept for number, kept in zip(counts, taken, strict=True))


def test_the_health_of_a_window_names_who_corrects() -> None:
    rows = [make_request("a", number=n, correction="same" if n < 3 else f"c{n}", key="k1") for n in range(6)]
    rows += [make_request("b", number=9, correction="d", key=None), make_request("c", number=10)]
    health = measure_health(make_table(rows))
    assert health.corrections == {"k1": 6, "": 1}
    assert health.figures["largest_share_of_corrections_by_one_key"] == round(6 / 7, 6)
    assert health.figures["largest_share_of_corrections_with_one_text"] == round(3 / 7, 6)
    assert measure_health(make_table([make_request("a")])).corrections == {}
