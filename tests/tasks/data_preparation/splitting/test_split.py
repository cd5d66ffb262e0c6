"""The split of a row is its own affair: new rows never move old ones, and nothing leaks."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tasks.contracts.errors import PipelineError
from tasks.corpus.rows.rows import Origin, Rows
from tasks.corpus.text.draws import draw
from tasks.corpus.text.folds import fold_prompt
from tasks.data_preparation.screening.duplicates import (
    SIGNATURES,
    drop_signatures,
    find_near_duplicates,
    remove_duplicates,
)
from tasks.data_preparation.screening.params import Duplicates, Keep
from tasks.data_preparation.splitting.methods.assignment import SPLITS, choose_splits
from tasks.data_preparation.splitting.params import Split
from tasks.data_preparation.splitting.split import find_leaks, repeat_train, split_examples
from tests.conversations import Turns, make, pair

HALVES = Split(validation=0.25, test=0.25)
WORDS = ("my", "order", "parcel", "card", "late", "lost", "where", "cancel", "12", "7")
ANSWERS = ("It is on its way to you now.", "We have cancelled it for you today.")


def conversations() -> st.SearchStrategy[list[Turns]]:
    prompt = st.lists(st.sampled_from(WORDS), min_size=1, max_size=6).map(" ".join)
    return st.lists(st.builds(pair, prompt, st.sampled_from(ANSWERS)), min_size=40, max_size=70)


def prepare(rows: list[Turns], keep: Keep = "one", split: Split = HALVES) -> Rows:
    duplicates = Duplicates(keep=keep)
    return split_examples(remove_duplicates(make(*rows), duplicates), split, duplicates)


def placed(rows: Rows) -> dict[str, str]:
    return dict(zip(rows.table["id"].to_pylist(), rows.table["split"].to_pylist(), strict=True))


@settings(max_examples=25, deadline=None)
@given(conversations(), conversations(), st.sampled_from(["one", "all"]), st.randoms())
def test_rows_added_anywhere_move_no_old_row(
    old: list[Turns], new: list[Turns], keep: Keep, rng: random.Random
) -> None:
    try:
        before = placed(prepare(old, keep))
        mixed = [*old, *new]
        rng.shuffle(mixed)
        after = placed(prepare(mixed, keep))
    except PipelineError:
        return  # too few rows for three splits
    assert all(after[name] == split for name, split in before.items() if name in after)


@settings(max_examples=25, deadline=None)
@given(conversations(), conversations(), st.sampled_from(["one", "all"]))
def test_rows_added_at_the_end_change_nothing_before(old: list[Turns], new: list[Turns], keep: Keep) -> None:
    try:
        before = prepare(old, keep)
    except PipelineError:
        return  # too few rows for three splits
    after = prepare([*old, *new], keep)
    assert placed(before).items() <= placed(after).items()
    assert before.dropped.to_pylist() == [r for r in after.dropped.to_pylist() if r["row"] <= len(old)]


@settings(max_examples=25, deadline=None)
@given(conversations(), st.sampled_from(["one", "all"]))
def test_nothing_alike_is_in_two_splits(rows: list[Turns], keep: Keep) -> None:
    try:
        out = prepare(rows, keep)
    except PipelineError:
        return  # too few rows for three splits
    splits, clusters = out.table["split"].to_pylist(), out.table["cluster"].to_pylist()
    settings_ = Duplicates()
    for first, second in find_near_duplicates(out.table, settings_, leaks=True).pairs.tolist():
        assert splits[first] == splits[second]
        assert clusters[first] == clusters[second]
    by_cluster: dict[str, set[str]] = {}
    for cluster, split in zip(clusters, splits, strict=True):
        by_cluster.setdefault(cluster, set()).add(split)
    assert all(len(found) == 1 for found in by_cluster.values())


def test_every_row_gets_one_of_three_splits() -> None:
    rows = split_examples(remove_duplicates(many(80), Duplicates()), HALVES, Duplicates())
    assert set(rows.table["split"].to_pylist()) == set(SPLITS)
    assert rows.table.num_rows == 80


def test_shares_are_near_what_was_asked() -> None:
    split = Split()
    counts = Counter(choose_splits((f"prompt number {'x' * i}" for i in range(10_000)), split))
    # Three standard deviations of a binomial count.
    assert abs(counts["test"] - 1000) < 90
    assert abs(counts["validation"] - 500) < 66


def test_a_split_is_where_its_draw_falls() -> None:
    keys = [f"key {number}" for number in range(300)]
    values = [draw("split", HALVES.seed, key) for key in keys]
    names = ["test" if value < 0.25 else "validation" if value < 0.5 else "train" for value in values]
    assert choose_splits(keys, HALVES) == names


def test_leaks_are_the_same_ones_from_the_signatures_of_the_step_before() -> None:
    rng = random.Random(3)
    texts = ["".join(rng.choices("abcdefghij ", k=60)) for _ in range(80)]
    alike = [text[:-6] + "".join(rng.choices("abcdefghij", k=6)) for text in texts]
    rows = remove_duplicates(make(*[pair(text, "fine") for text in (*texts, *alike)]), Duplicates())
    signed = [name for name in rows.table.column_names if name.startswith(SIGNATURES)]
    assert len(signed) == 1
    without = replace(rows, table=drop_signatures(rows.table))
    found, again = split_examples(rows, HALVES, Duplicates()), split_examples(without, HALVES, Duplicates())
    assert found.table.equals(again.table)
    # Without the step before, this one is the first to look for near duplicates, and measures the recall.
    assert [replace(step, notes={}) for step in found.steps] == [replace(step, notes={}) for step in again.steps]
    assert again.steps[-1].notes.items() >= found.steps[-1].notes.items()
    assert found.steps[-1].reasons
    # Other n-grams have other signatures.
    other = Duplicates(shingle=6)
    assert split_examples(rows, HALVES, other).table.equals(split_examples(without, HALVES, other).table)


def test_another_seed_is_another_split() -> None:
    keys = [f"key {'y' * i}" for i in range(400)]
    assert choose_splits(keys, Split()) != choose_splits(keys, Split(seed=1))


def test_case_spaces_and_punctuation_do_not_part_rows() -> None:
    assert fold_prompt("Where's order 4711?") == fold_prompt(" wheres  ORDER “4711”…!")
    assert fold_prompt("What is f(x, y)?") == fold_prompt("what is f(x,y)")
    assert fold_prompt("Well, hello (there)") == fold_prompt("well hello (there)")
    assert fold_prompt("您的订单。") == fold_prompt("您的 订单！")
    assert fold_prompt("Where is order 4711?", numbers=False) == fold_prompt("where is  ORDER 12!", numbers=False)


@pytest.mark.parametrize(
    "prompts",
    [
        ("12 + 7 =", "3 * 9 =", "12 - 7 =", "12 * 7 =", "-12 + 7 =", "127 ="),
        ("What is 12 plus 7?", "What is 3 plus 9?"),
        ("1 2 3", "12 3", "1 23"),
        ("3.5", "35", "3,5", "3:5", "3/5"),
        ("if a<b:", "if a>b:", "if a<=b:", "if a!=b:", "if !a:", "if a:"),
        ("( [ <", "( [ {", "?!", "!?", "...", "?"),
        ("good 👍", "good 👎", "good"),
        ("f(x, y)", "f(xy)", "f((x, y))", "f(x; y)", "[a, b", "[ab]", "[a, b]"),
    ],
)
def test_digits_signs_and_operators_part_rows(prompts: tuple[str, ...]) -> None:
    assert len({fold_prompt(text) for text in prompts}) == len(prompts)


def test_sums_are_split_one_by_one() -> None:
    sums = [pair(f"{a} {sign} {b} =", str(a + b if sign == "+" else a * b)) for a in range(12) for b in range(12)
            for sign in "+*"]  # fmt: skip
    counts = Counter(prepare(sums).table["split"].to_pylist())
    assert sum(counts.values()) == len(sums)
    # Three standard deviations of a binomial count around a half in train.
    assert abs(counts["train"] - len(sums) / 2) < 26


def test_the_later_of_two_rows_in_conflict_leaves() -> None:
    # Row 1 leaves for row 0; row 2 is like row 1 alone, which is gone, so it stays.
    splits = ["train", "test", "train"]
    assert find_leaks(splits, np.array([[0, 1], [1, 2]])) == [None, "test row too like one of train", None]


def test_an_empty_split_is_one_clear_error() -> None:
    with pytest.raises(PipelineError) as caught:
        prepare([pair("only one", "row")], split=Split())
    text = str(caught.value)
    assert "2 problems" in text or "gave none for" in text
    assert "add rows, raise its share" in text


def test_shares_must_leave_something_to_train_on() -> None:
    with pytest.raises(ValidationError, match="must leave a share for train"):
        Split(validation=0.5, test=0.5)


def many(count: int) -> Rows:
    rng = random.Random(1)
    return make(*[pair("".join(rng.choices("abcdefghij ", k=60)), "fine") for _ in range(count)])


def weighted(rows: Rows, weight: float) -> Rows:
    origin = Origin("s", "jsonl", "x", "alpaca", {}, rows.table.num_rows, weight)
    return Rows(rows.table, rows.dropped, rows.steps, (origin,))


def test_weight_below_one_takes_a_stable_share() -> None:
    duplicates = Duplicates(near=False)
    rows = remove_duplicates(weighted(many(2000), 0.3), duplicates)
    out = split_examples(rows, HALVES, duplicates)
    # Three standard deviations of a binomial count.
    assert abs(out.table.num_rows - 600) < 62
    assert set(out.dropped["reason"].to_pylist()) == {"outside the source's share"}
    half = Rows(rows.table.slice(0, 1000), rows.dropped, rows.steps, rows.origins)
    first = split_examples(half, HALVES, duplicates)
    assert set(first.table["id"].to_pylist()) <= set(out.table["id"].to_pylist())


def test_weight_above_one_repeats_train_rows_only() -> None:
    duplicates = Duplicates(near=False)
    rows = split_examples(remove_duplicates(weighted(many(1000), 2.5), duplicates), HALVES, duplicates)
    train = rows.table.filter(pa.compute.equal(rows.table["split"], "train"))
    repeated = repeat_train(train, rows, 0)
    times = Counter(repeated["id"].to_pylist())
    assert set(times.values()) == {2, 3}
    thirds = sum(count == 3 for count in times.values())
    assert abs(thirds - train.num_rows / 2) < 3 * (train.num_rows / 4) ** 0.5
    assert repeated.slice(0, train.num_rows)["id"].to_pylist() == train["id"].to_pylist()
