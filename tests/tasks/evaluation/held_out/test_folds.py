"""All rows are items of models that did not see them, and say no more than they can."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tasks.contracts.errors import PipelineError
from tasks.contracts.records import ANSWER_SETS, EXAMPLES
from tasks.contracts.tables import read_examples, read_table
from tasks.evaluation.asking.question import Reply
from tasks.evaluation.held_out import joined
from tasks.evaluation.held_out.folds import NO_FOLDS, Folds, deal_folds, list_places
from tasks.evaluation.held_out.joined import (
    FOLDS,
    KEPT,
    answer_by_folds,
    answer_unseen,
    blank_unscored,
    join_outcomes,
    write_kept,
)
from tasks.evaluation.held_out.paired import cut_outcome
from tasks.evaluation.held_out.seen import refuse_seen_items
from tasks.evaluation.items import Item, hash_items, make_item
from tasks.evaluation.metrics.likelihoods.loss import Loss
from tasks.evaluation.metrics.metric import Evidence
from tasks.evaluation.metrics.words.exact_match import ExactMatch
from tasks.evaluation.outcomes import AnswerSettings, Outcome
from tasks.evaluation.scoring import score_outcomes
from tasks.evaluation.verdict import decide, find_better
from tasks.evaluation.worse_answers import WorseAnswers
from tasks.language_models.probes.bias_probe import BiasMeasure
from tests.tasks.evaluation.boards import make_items, make_outcome, right_and_wrong
from tests.tiny import example_rows, write_examples

SHORT = AnswerSettings(4, 8)

Rows = list[dict[str, Any]]


def table(rows: Rows) -> pa.Table:
    return pa.Table.from_pylist(rows, schema=EXAMPLES)


def clustered(count: int = 90) -> Rows:
    """Rows of which every third has the cluster of the one before, and the last two ask the same."""
    rows: Rows = example_rows(count)
    for place in range(2, count, 3):
        rows[place]["cluster"] = rows[place - 1]["cluster"]
    asked = rows[-1]["messages"][0]["content"]
    rows[-2]["messages"] = [{"role": "user", "content": asked.upper()}, rows[-2]["messages"][1]]
    rows[-2]["cluster"] = "of its own"
    return rows


def test_near_duplicates_stay_together_and_labels_are_spread() -> None:
    rows = clustered()
    folds = deal_folds(table(rows), 5)
    assert folds.figures["folds"] == 5
    by_cluster: dict[str, set[int]] = {}
    for row, fold in zip(rows, folds.of_row.tolist(), strict=True):
        by_cluster.setdefault(row["cluster"], set()).add(fold)
    assert all(len(found) == 1 for found in by_cluster.values())
    assert folds.of_row[-1] == folds.of_row[-2], "the same prompt but for capitals"
    labels = Counter((row["label"], fold) for row, fold in zip(rows, folds.of_row.tolist(), strict=True))
    for label, count in Counter(row["label"] for row in rows).items():
        found = [labels[(label, fold)] for fold in range(5)]
        assert max(found) - min(found) <= 3, (label, count, found)
    shuffled = rows.copy()
    random.Random(1).shuffle(shuffled)
    assert deal_folds(table(shuffled), 5).of_item == folds.of_item


def test_without_labels_or_with_rare_ones_rows_are_dealt_all_the_same() -> None:
    rows: Rows = [{**row, "label": None} for row in example_rows(23)]
    sizes = Counter(deal_folds(table(rows), 5).of_row.tolist())
    assert sorted(sizes.values()) == [4, 4, 5, 5, 5]
    rows[0]["label"] = "rare"
    assert len(set(deal_folds(table(rows), 5).of_row.tolist())) == 5
    assert deal_folds(table(rows), None) is NO_FOLDS
    one: Rows = [{**row, "cluster": "a" if place % 2 else "b"} for place, row in enumerate(example_rows(20))]
    with pytest.raises(PipelineError, match=r"evaluation.folds: 5 folds of 2 independent rows; expected at least one"):
        deal_folds(table(one), 5)


def test_a_folds_model_sees_nothing_of_its_items(tmp_path: Path) -> None:
    rows = clustered()
    train = table(rows)
    answers = pa.Table.from_pylist(
        [
            {"id": row["id"], "split": split, "prompt": row["messages"][:1], "source": "x", "row": 1,
             "cluster": row["cluster"], "answers": [{"turns": row["messages"][1:], "score": 1.0}]}
            for row, split in [(rows[0], "train"), (rows[1], "train"), (rows[0], "test")]
        ],
        schema=ANSWER_SETS,
    )  # fmt: skip
    folds = deal_folds(train, 3)
    for fold in range(3):
        left, sets = folds.leave_out(fold, train, answers)
        own = [row for row, of in zip(rows, folds.of_row.tolist(), strict=True) if of == fold]
        assert left.num_rows == len(rows) - len(own)
        assert not {row["cluster"] for row in own} & set(left["cluster"].to_pylist())
        clusters = {row["cluster"] for row in own}
        assert sets.num_rows == 3 - sum(rows[place]["cluster"] in clusters for place in (0, 1))
    path = write_examples(tmp_path / "train.parquet", rows)
    items = [make_item(row) for row in rows]
    assert refuse_seen_items(items, path, folds) == {"compared": len(rows)}
    torn = Folds(3, folds.of_row, {**folds.of_item, rows[2]["id"]: (folds.of_item[rows[2]["id"]] + 1) % 3})
    with pytest.raises(PipelineError, match="held-out items were seen in training"):
        refuse_seen_items(items, path, torn)


def speak(model: str, items: tuple[Item, ...] | list[Item], word: str, loss: float) -> Outcome:
    return make_outcome(model, [f"{word} {item.id}" for item in items], [loss] * len(items), [3] * len(items))


def test_each_row_is_answered_by_the_model_of_its_fold(monkeypatch: pytest.MonkeyPatch) -> None:
    rows: Rows = example_rows(12)
    folds = deal_folds(table(rows[:8]), 2)
    items = [make_item(row) for row in rows]
    monkeypatch.setattr(
        joined, "answer_with_candidate", lambda own, _, tuned, __: speak("candidate", own, tuned.name, len(own))
    )
    found = answer_by_folds(items, folds, Path("initial"), Path("tuned"), [Path("one"), Path("two")], SHORT)
    for item, answer in zip(items, found.answers, strict=True):
        assert answer == f"{({0: 'one', 1: 'two'}).get(folds.of_item.get(item.id, -1), 'tuned')} {item.id}"
    assert found.scored is None
    assert [len(places) for _, places in list_places([item.id for item in items], folds)] == [4, 4, 4]
    alone = answer_by_folds(items, NO_FOLDS, Path("initial"), Path("tuned"), [], SHORT)
    assert {answer.split()[0] for answer in alone.answers} == {"tuned"}


def test_all_of_an_outcome_is_joined() -> None:
    items = [make_item(row) for row in example_rows(3)]
    whole = Outcome(
        "candidate", ["a", "b", "c"], np.array([True, False, True]), np.array([1.0, 2.0, 3.0]), np.array([4, 5, 6]),
        np.array([7, 8, 9]), BiasMeasure(np.ones(4)), WorseAnswers(np.ones(3), np.array([1, 2, 3])),
        np.array([2, 1, 3]), hash_items(items), {"suite": [Reply("x")]},
    )  # fmt: skip
    parts = [([place], cut_outcome(whole, slice(place, place + 1))) for place in (2, 0, 1)]
    found = join_outcomes("candidate", items, parts, whole.replies)
    for name in (one.name for one in fields(Outcome)):
        # Params that need rewards or probes are refused with folds.
        if name in ("rewards", "probes", "scored"):
            assert not getattr(whole, name)
        else:
            expected = getattr(whole, name)
            assert expected is not None, f"give the field {name} a value"
            assert repr_of(getattr(found, name)) == repr_of(expected), name


def repr_of(value: Any) -> str:
    """All that a value holds, arrays in dataclasses too."""
    return repr(vars(value)) if hasattr(value, "__dict__") else repr(value)


def test_a_champion_answers_what_it_has_not_seen_and_its_folds_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    rows: Rows = example_rows(12)
    folder = tmp_path / "release" / "model"
    folder.mkdir(parents=True)
    monkeypatch.setattr(
        joined,
        "answer_with_champion",
        lambda own, folder, _: speak("champion", own, "now", 2.0) if folder else None,
    )
    # The champion was trained on the first eight, of which it answered the first six in its folds.
    before = [make_item(row) for row in rows[:6]]
    early = deal_folds(table(rows[:8]), 2)
    path = tmp_path / "release" / KEPT
    assert write_kept(speak("candidate", before, "then", 1.0), before, early, table(rows[:8]), path) == {
        "rows": 8, "answered": 6,
    }  # fmt: skip
    assert all(row["messages"][0]["content"] not in path.read_bytes().decode("latin-1") for row in rows)
    folds, items = deal_folds(table(rows[:10]), 2), [make_item(row) for row in rows]
    found = answer_unseen(items, folds, folder, SHORT)
    assert found is not None
    assert [answer.split()[0] for answer in found.answers if answer] == ["then"] * 6 + ["now"] * 4
    assert found.scored is not None
    assert found.scored.tolist() == [True] * 6 + [False] * 2 + [True] * 4
    assert found.losses.tolist() == [1.0] * 6 + [0.0] * 2 + [2.0] * 4
    assert "2 of 12 items do not count: the champion was trained on them" in caplog.text
    # A near duplicate of what it was trained on is seen too.
    near = items.copy()
    near[11] = Item(**{**vars(items[11]), "cluster": items[7].cluster})
    again = answer_unseen(near, folds, folder, SHORT)
    assert again is not None
    assert again.scored is not None
    assert again.scored.tolist()[-2:] == [True, False]
    # Without such a file only the test split is known to be new to it.
    path.unlink()
    bare = answer_unseen(items, folds, folder, SHORT)
    assert bare is not None
    assert bare.scored is not None
    assert bare.scored.tolist() == [False] * 10 + [True] * 2
    assert answer_unseen(items, folds, None, SHORT) is None
    alone = speak("candidate", items, "then", 1.5)
    # No judge is asked about items that count for no model.
    blanked = blank_unscored(items, [None, found])
    assert [bool(item.prompt) for item in blanked] == [True] * 6 + [False] * 2 + [True] * 4
    assert blank_unscored(items, [alone]) == items
    # Items without its answer count for no model.
    outcomes = [speak("base", items, "then", 3.0), found, alone]
    board = score_outcomes(Evidence(tuple(items), None), outcomes, [Loss()], 1_000, 0.95, 0.8, 0, folds=folds)
    assert (board.unpaired, board.against_opponent["loss"].items) == ({"loss": 2}, 10)


def test_without_folds_nothing_is_kept(tmp_path: Path) -> None:
    rows: Rows = example_rows(4)
    items = [make_item(row) for row in rows]
    write_kept(speak("candidate", items, "x", 1.0), items, NO_FOLDS, table(rows), tmp_path / KEPT)
    assert read_table(tmp_path / KEPT, FOLDS).num_rows == 0
    assert read_examples(write_examples(tmp_path / "t.parquet", rows)).num_rows == 4


def test_intervals_over_folds_are_wider_by_the_factor_of_nadeau_and_bengio() -> None:
    items = make_items(["yes"] * 120)
    outcomes = [make_outcome("base", right_and_wrong(60, 120)), make_outcome("candidate", right_and_wrong(66, 120))]
    five = Folds(5, np.arange(120) % 5, {item.id: place % 5 for place, item in enumerate(items)})
    assert five.widening == pytest.approx(1.5)
    plain, wide = (
        score_outcomes(Evidence(items, None), outcomes, [ExactMatch(), Loss()], 2_000, 0.95, 0.8, 0, folds=folds)
        for folds in (NO_FOLDS, five)
    )
    before, after = (board.against_opponent["exact_match"] for board in (plain, wide))
    assert after.difference == before.difference == pytest.approx(0.05)
    assert after.high - after.difference == pytest.approx(1.5 * (before.high - before.difference))
    assert after.difference - after.low == pytest.approx(1.5 * (before.difference - before.low))
    assert after.detectable == pytest.approx(1.5 * before.detectable)
    # What single items prove, folds do not yet: neither by the interval nor by Holm's method.
    assert (before.result, after.result) == ("better", "undecided")
    assert plain.find_p("exact_match") < 0.05 < wide.find_p("exact_match")
    assert before.checks
    assert after.checks
    assert before.checks.permutation < 0.05 < after.checks.permutation
    assert wide.estimates[("base", "exact_match")].low < plain.estimates[("base", "exact_match")].low
    # A difference that no resample gets across is still clear among several metrics.
    clear = [outcomes[0], make_outcome("candidate", right_and_wrong(110, 120))]
    found = score_outcomes(Evidence(items, None), clear, [ExactMatch(), Loss()], 2_000, 0.95, 0.8, 0, folds=five)
    assert found.find_p("exact_match") < 1e-4
    assert find_better(found, ["exact_match", "loss"]) == ["exact_match"]
    for primary in ("exact_match", ["exact_match", "loss"]):
        verdict = decide(wide, primary, 100, {}, None)
        assert verdict.verdict == "undecided"
        assert (
            "answered by models of 5 folds that had not seen them: intervals are 1.50 times as wide"
            in (verdict.reasons[-1])
        )
