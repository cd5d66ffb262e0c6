"""Parts of the items: by what they are grouped, which are too small, and which stand out among all."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import orjson
import pyarrow as pa
import pytest

from tasks.contracts.errors import PipelineError
from tasks.contracts.tables import write_table
from tasks.corpus.reading.unused_columns import EXTRA
from tasks.evaluation import cross_checks
from tasks.evaluation.cross_checks import cross_check
from tasks.evaluation.metrics.likelihoods.loss import Loss
from tasks.evaluation.metrics.metric import Scores
from tasks.evaluation.metrics.words.exact_match import ExactMatch
from tasks.evaluation.slices.groups import MOST_GROUPS, OTHER, Grouping, group_items, group_values
from tasks.evaluation.slices.scores import MINIMUM_UNITS, find_enough, mark_outstanding, score_slices
from tests.tasks.evaluation.boards import make_board, make_items, make_outcome, right_and_wrong


def test_items_are_grouped_by_what_is_known_of_them(tmp_path: Path) -> None:
    items = make_items(["yes"] * 8, ["a", "b", None, "a"] * 2, ["shop"] * 4 + ["mail"] * 4)
    items = tuple(
        replace(item, prompt=({"role": "user", "content": "word " * (1 + place)},)) for place, item in enumerate(items)
    )
    lines = [
        {"id": item.id, "source": item.source, "row": 1, "part": None, "parts": None}
        | {"extra": orjson.dumps({"region": "north" if place % 2 else "south", "age": place}).decode()}
        for place, item in enumerate(items[:6])
    ]
    path = tmp_path / "extra.parquet"
    write_table(pa.Table.from_pylist(lines, schema=EXTRA), path, EXTRA)
    found = group_items(items, ("source", "label", "length", "region", "age"), path)
    groups = {one.name: one.groups for one in found.found}
    assert groups["source"] == ("shop",) * 4 + ("mail",) * 4
    assert groups["label"] == ("a", "b", None, "a") * 2
    assert groups["length"] == ("1 to 3 words",) * 3 + ("4 to 5 words",) * 2 + ("6 to 7 words",) * 2 + ("8 words",)
    assert groups["region"] == ("south", "north") * 3 + (None, None)
    assert groups["age"] == ("0", "1", "2", "3", "4", "5", None, None)
    assert found.of_item(7) == {"source": "mail", "label": "a", "length": "8 words"}
    assert found.figures["groups_by_region"] == 2
    with pytest.raises(
        PipelineError, match="colour is no kept column of the held-out items; expected some of source, "
    ):
        group_items(items, ("source", "colour"), path)
    with pytest.raises(PipelineError, match=r"region is no kept column.*set keep: \[region\] on the source"):
        group_items(items, ("region",), tmp_path / "nothing.parquet")
    unlabelled = tuple(replace(item, label=None) for item in items)
    assert group_items(unlabelled, ("label",)).missing == {"label": "no item has a label"}


def test_the_language_of_the_question_is_a_group() -> None:
    items = tuple(
        replace(item, prompt=({"role": "user", "content": text},))
        for item, text in zip(
            make_items(["yes"] * 3),
            ["Ich möchte wissen, wann meine Bestellung endlich ankommt.", "When will my order finally arrive?", "Hm"],
            strict=True,
        )
    )
    assert group_items(items, ("language",)).found == (Grouping("language", ("de", "en", None)),)


def test_columns_of_many_values_stay_readable() -> None:
    texts = [f"city {n % 60}" for n in range(100)]
    groups = group_values(texts)
    assert len(set(groups)) == MOST_GROUPS + 1
    assert groups.count(OTHER) == sum(text not in groups for text in texts)
    numbers = group_values([*range(100), None, float("nan")])
    assert [numbers[place] for place in (0, 25, 26, 99, 100, 101)] == [
        "0 to 25", "0 to 25", "26 to 50", "76 to 99", None, None,
    ]  # fmt: skip
    assert group_values([True, False, "", None, ["a"]]) == ["true", "false", None, None, '["a"]']
    assert group_values(["x" * 500, "two\nlines"]) == ["x" * 59 + "…", "two lines"]


def test_a_small_slice_says_how_many_items_it_takes() -> None:
    """The whole set shows 0.5 where it could have shown 0.1 on 400 items: 400 x (0.1 / 0.5)^2 = 16 do for 0.5."""
    items = make_items(["yes"] * 200, ["large"] * 170 + ["small"] * 26 + ["tiny"] * 4)
    outcomes = [
        make_outcome("base", right_and_wrong(60, 200)),
        make_outcome("candidate", right_and_wrong(150, 200, offset=40)),
    ]
    board = make_board(items, outcomes, [ExactMatch(), Loss()])
    whole = board.against_opponent["exact_match"]
    assert find_enough(whole.model_copy(update={"items": 400, "difference": 0.5, "low": 0.4, "detectable": 0.1})) == 16
    undecided = whole.model_copy(update={"items": 400, "difference": 0.01, "low": -0.1, "detectable": 0.1})
    assert find_enough(undecided) == 400
    assert find_enough(undecided.model_copy(update={"detectable": 0.0, "difference": 0.0})) == MINIMUM_UNITS
    groupings = group_items(items, ("label",)).found
    found = {one.name: one for one in score_slices(board, "exact_match", groupings, 1_000, 0)}
    enough = find_enough(whole)
    assert 4 < enough <= 26
    assert [found[name].too_small for name in ("large", "small", "tiny")] == [False, False, True]
    assert {one.enough for one in found.values()} == {enough}
    assert found["tiny"].comparison.low == -0.75, "a difference that does not vary is not certain"
    assert found["small"].difference == pytest.approx((sum(150 + 40 > p >= 40 for p in range(170, 196)) - 0) / 26)
    low, high = found["large"].ends
    assert low < found["large"].values["candidate"] < high


def test_what_stands_out_is_clear_among_all_slices() -> None:
    """Of 38 groups without a difference two would be clear at 5% each; by Holm's method none is, but the real one."""
    items = make_items(["yes"] * 820, [f"l{n % 38}" for n in range(800)] + ["real"] * 20)
    flips = [(n * 7919) % 11 for n in range(800)]
    base = ["yes" if flip > 5 else "no" for flip in flips] + ["no"] * 20
    candidate = ["yes" if flip > 4 and flip != 7 else "no" for flip in flips] + ["yes"] * 20
    board = make_board(items, [make_outcome("base", base), make_outcome("candidate", candidate)], [ExactMatch()])
    slices = score_slices(board, "exact_match", group_items(items, ("label",)).found, 1_000, 0)
    assert [one.name for one in slices if one.stands_out] == ["real"]
    assert mark_outstanding([], 0.95) == []
    # By models of five folds the same 20 of 20 are less: p = 2 / 2^20 is 0.0016 at intervals 1.5 times as wide, above
    # 0.05 / 39; all of 30 are clear, which draws alone could not tell from 20.
    groupings = group_items(items, ("label",)).found
    folded = replace(board, folds=5)
    assert [one.name for one in score_slices(folded, "exact_match", groupings, 1_000, 0) if one.stands_out] == []
    items = make_items(["yes"] * 830, [f"l{n % 38}" for n in range(800)] + ["real"] * 30)
    outcomes = [make_outcome("base", base + ["no"] * 10), make_outcome("candidate", candidate + ["yes"] * 10)]
    folded = replace(make_board(items, outcomes, [ExactMatch()]), folds=5)
    found = score_slices(folded, "exact_match", group_items(items, ("label",)).found, 1_000, 0)
    assert [one.name for one in found if one.stands_out] == ["real"]


def test_of_slices_without_a_difference_few_stand_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """At 5%, in 200 sets of eight slices without folds, of scores whose differences are skewed and hardly vary."""
    monkeypatch.setattr(cross_checks, "FLIPS", 1_000)
    rng = np.random.default_rng(5)
    marked = 0
    for _ in range(200):
        found = []
        for _ in range(8):
            changes = rng.choice([-1.0, 0, 0, 0, 1.0], 30) * rng.gamma(0.5, 1, 30)
            one, other = (Scores(values, np.ones(30)) for values in (changes, np.zeros(30)))
            found.append(cross_check(Loss(), one, other, list(map(str, range(30))), tail=True).permutation)
        marked += bool(min(found) <= 0.05 / 8)
    assert marked <= 0.05 * 200 + 2 * np.sqrt(200 * 0.05 * 0.95)
