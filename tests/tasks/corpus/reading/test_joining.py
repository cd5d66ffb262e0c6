"""Equal conversations are joined: every answer, mark and label of theirs, whichever comes first."""

from __future__ import annotations

import itertools
from typing import Any

import pyarrow as pa
import pytest

from tasks.corpus.reading.answers import COLUMN, TYPE, exclude_rejected
from tasks.corpus.reading.joining import REJECTED, REVERSED, VOTES, join_values, list_conflicts
from tasks.corpus.rows.rows import Rows
from tasks.data_preparation.screening.duplicates import drop_exact_duplicates
from tests.conversations import make, pair


def answer(text: str, score: float | None) -> dict[str, Any]:
    return {"turns": [{"role": "assistant", "content": text}], "score": score}


def rate(score: float | None, *others: tuple[str, float | None], preferred: bool = True, start: int = 1) -> Any:
    return {"start": start, "score": score, "preferred": preferred, "others": [answer(*other) for other in others]}


def rated(*rows: tuple[str, str, Any], labels: list[str | None] | None = None) -> Rows:
    made = make(*(pair(prompt, text) for prompt, text, _ in rows), labels=labels)
    table = made.table.append_column(COLUMN, pa.array([value for *_, value in rows], TYPE))
    return Rows(table, made.dropped, made.steps, made.origins)


def list_others(rows: Rows) -> list[Any]:
    return [
        value and [(other["turns"][0]["content"], other["score"]) for other in value["others"]]
        for value in rows.table[COLUMN].to_pylist()
    ]


@pytest.mark.parametrize("order", itertools.permutations(range(3)))
def test_an_example_and_comparisons_are_joined_in_any_order(order: tuple[int, ...]) -> None:
    kinds = [None, rate(1.0, ("b", 0.0)), rate(1.0, ("c", 0.0), ("b", 0.0))]
    labels = [None, "x", None]
    done = drop_exact_duplicates(rated(*[("p", "a", kinds[i]) for i in order], labels=[labels[i] for i in order]))
    assert done.table.num_rows == 1
    assert sorted(list_others(done)[0]) == [("b", 0.0), ("c", 0.0)]
    assert done.table["label"].to_pylist() == ["x"]


def test_examples_that_come_first_do_not_cost_the_comparisons() -> None:
    examples = [(f"p{i}", "a", None) for i in range(15)]
    pairs = [(f"p{i}", "a", rate(1.0, ("b", 0.0))) for i in range(15)]
    done = drop_exact_duplicates(rated(*examples, *pairs))
    assert list_others(done) == [[("b", 0.0)]] * 15
    assert done.steps[-1].listings == ()


def test_scores_of_two_scales_meet_at_the_preferred_answer() -> None:
    joined = join_values([rate(9.0, ("b", 5.0), ("c", 1.0)), rate(1.0, ("b", 0.0), ("d", 0.5))])
    # The mean of the preferred one is 5: the first row is shifted by -4, the second by +4.
    assert joined["score"] == 5.0
    assert joined["others"] == [answer("d", 4.5), answer("b", 2.5), answer("c", -3.0)]


@pytest.mark.parametrize(
    ("marks", "score", "kept"),
    [((1, 1), 1.0, 1), ((0, 0), 0.0, 0), ((1, 0), 0.5, 0), ((0, 1, 1), 2 / 3, 1), ((None, 0), 0.0, 0)],
)
def test_marks_are_votes(marks: tuple[int | None, ...], score: float, kept: int) -> None:
    values = [None if mark is None else rate(float(mark), preferred=bool(mark)) for mark in marks]
    done = drop_exact_duplicates(rated(*(("p", "a", value) for value in values)))
    assert done.table[COLUMN].to_pylist()[0]["score"] == score
    assert [line[0] for listing in done.steps[-1].listings for line in listing.rows] == [VOTES] * (len(set(marks)) > 1)
    assert exclude_rejected(done).table.num_rows == kept


def test_answers_to_another_prompt_are_not_mixed_in() -> None:
    assert join_values([rate(1.0, ("b", 0.0), start=3), rate(1.0, ("c", 0.0))])["others"] == [answer("b", 0.0)]
    assert join_values([rate(None, ("b", None)), rate(None, ("c", None))])["others"] == [
        answer("b", None),
        answer("c", None),
    ]


def test_rows_that_disagree_are_listed() -> None:
    rows = rated(
        ("p", "a", rate(1.0, ("b", 0.0))),
        ("p", "b", rate(1.0, ("a", 0.0))),
        ("q", "a", rate(1.0, ("b", 0.0))),
        ("q", "b", None),
        ("r", "a", rate(1.0, ("b", 1.0))),
        ("r", "b", None),
    )
    (listing,) = list_conflicts(rows.table)
    assert listing.rows == ((REVERSED, "p → a"), (REVERSED, "p → b"), (REJECTED, "q → b"))
    assert f"{REVERSED}: 2; {REJECTED}: 1." in listing.note
