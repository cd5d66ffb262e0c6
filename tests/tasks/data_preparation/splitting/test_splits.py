"""Each way to split does what it says, and rows that are added move no old row."""

from __future__ import annotations

import itertools
import json
import random
from collections import Counter, defaultdict
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tasks.contracts.errors import PipelineError
from tasks.corpus.reading.ingest import read_sources
from tasks.corpus.reading.sources.csv import Csv
from tasks.corpus.reading.sources.jsonl import Jsonl
from tasks.corpus.rows.rows import CARRIED, Rows
from tasks.data_preparation.cleaning.clean import clean_rows
from tasks.data_preparation.cleaning.steps.missing import Missing
from tasks.data_preparation.gate.measures import describe_splits
from tasks.data_preparation.screening.duplicates import remove_duplicates
from tasks.data_preparation.screening.params import Duplicates
from tasks.data_preparation.splitting.methods.column import Column
from tasks.data_preparation.splitting.methods.content import Content
from tasks.data_preparation.splitting.methods.grouped import Grouped
from tasks.data_preparation.splitting.methods.stratified import Stratified, count_due
from tasks.data_preparation.splitting.methods.time import Time, read_time
from tasks.data_preparation.splitting.params import Split
from tasks.data_preparation.splitting.split import find_leaks, name_groups, split_examples
from tests.conversations import make, pair

WORDS = [a + b for a in ("ka", "lo", "mi", "tu", "ve", "zy") for b in ("ra", "sol", "ten", "wick", "dun")]
ALL = Duplicates(keep="all")
MAY, JUNE = datetime(2026, 5, 1), datetime(2026, 6, 1)


def prompt(number: int) -> str:
    """A prompt of letters, unlike that of every other number."""
    return " ".join(random.Random(number).choices(WORDS, k=9))


def rows_of(numbers: list[int], labels: list[str | None], **columns: list[str | None]) -> Rows:
    rows = make(*[pair(prompt(n), f"answer {prompt(n + 10**6)}") for n in numbers], labels=labels)
    table = rows.table
    for name, values in columns.items():
        table = table.append_column(CARRIED + name, pa.array(values, pa.string()))
    return remove_duplicates(Rows(table, rows.dropped, rows.steps, rows.origins), ALL)


def placed(rows: Rows) -> dict[str, str]:
    return dict(zip(rows.table["id"].to_pylist(), rows.table["split"].to_pylist(), strict=True))


KINDS = st.sampled_from(["a", "b", "c", "d", None])
NUMBERS = st.lists(st.integers(0, 400), min_size=60, max_size=120, unique=True)
DAYS = st.integers(1, 9)


@st.composite
def grown(draw: st.DrawFn) -> tuple[list[tuple[int, str | None, str, str]], int]:
    """Rows (number, label, group, time), of which the first so many are old."""
    numbers = draw(NUMBERS)
    rows = [(n, draw(KINDS), f"g{n % 17}", f"2026-0{draw(DAYS)}-11T10:00:00") for n in numbers]
    return rows, draw(st.integers(40, len(rows) - 1))


def split_rows(rows: list[tuple[int, str | None, str, str]], method: object, minimum: int = 0) -> dict[str, str] | None:
    table = rows_of([r[0] for r in rows], [r[1] for r in rows], group=[r[2] for r in rows], time=[r[3] for r in rows])
    values = {"method": method, "min_per_class": minimum, "on_small_class": "keep"}
    if getattr(method, "uses_shares", True):
        values |= {"validation": 0.2, "test": 0.2}
    try:
        return placed(split_examples(table, Split.model_validate(values), ALL))
    except PipelineError:
        return None  # too few rows for three splits


@pytest.mark.parametrize(
    "method",
    [
        Content(),
        Grouped(column="group"),
        Time(column="time", validation_from=MAY, test_from=JUNE),
        Column(column="time", train=tuple(f"2026-0{d}-11T10:00:00" for d in range(1, 7)), validation=(), test=()),
    ],
    ids=lambda method: method.name,
)
@settings(max_examples=25, deadline=None)
@given(grown(), st.randoms())
def test_rows_added_anywhere_move_no_old_row(
    method: object, data: tuple[list[tuple[int, str | None, str, str]], int], rng: random.Random
) -> None:
    rows, old = data
    if isinstance(method, Column):
        method = method.model_copy(
            update={"validation": ("2026-07-11T10:00:00",), "test": ("2026-08-11T10:00:00", "2026-09-11T10:00:00")}
        )
    before = split_rows(rows[:old], method)
    mixed = list(rows)
    rng.shuffle(mixed)
    after = split_rows(mixed, method)
    if before is not None and after is not None:
        assert all(after[name] == split for name, split in before.items() if name in after)


@settings(max_examples=40, deadline=None)
@given(grown(), st.integers(0, 3))
def test_rows_added_at_the_end_move_no_old_row_of_a_class(
    data: tuple[list[tuple[int, str | None, str, str]], int], minimum: int
) -> None:
    rows, old = data
    before, after = split_rows(rows[:old], Stratified(), minimum), split_rows(rows, Stratified(), minimum)
    if before is not None and after is not None:
        assert before.items() <= after.items()


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 400), st.integers(0, 50), st.sampled_from([0.05, 0.1, 0.25]), st.integers(0, 3))
def test_every_class_has_its_share_to_within_a_row(count: int, seed: int, share: float, minimum: int) -> None:
    split = Split(method=Stratified(), validation=share / 2, test=share, seed=seed)
    table = pa.table({"label": ["a"] * count})
    assigned = Stratified().assign(table, [f"k{i}" for i in range(count)], split, minimum)
    counts = Counter(assigned.splits)
    least = min(minimum, count // 3)
    for name, wanted in (("test", share), ("validation", share / 2)):
        assert counts[name] >= least
        assert abs(counts[name] - wanted * count) <= max(1, minimum) + (minimum > 0)
    assert minimum == 0 or assigned.splits[0] == "train"


def test_due_counts_pass_one_threshold_between_each_two_whole_numbers() -> None:
    found = [count_due("test", "=a", step / 100, 7) for step in range(1001)]
    assert all(a <= b <= a + 1 for a, b in itertools.pairwise(found))
    assert [found[100 * whole] for whole in range(11)] == list(range(11))


def test_stratified_is_more_even_than_content() -> None:
    labels: list[str | None] = [f"l{i % 40}" for i in range(1600)]
    rows = rows_of(list(range(1600)), labels)
    spread = {}
    for method in (Content(), Stratified()):
        out = split_examples(rows, Split(method=method, validation=0.1, test=0.1), ALL)
        counts = Counter(
            label
            for label, split in zip(out.table["label"].to_pylist(), out.table["split"].to_pylist(), strict=True)
            if split == "test"
        )
        spread[method.name] = max(counts[f"l{i}"] for i in range(40)) - min(counts[f"l{i}"] for i in range(40))
    # 40 rows and a share of 0.1: 4 in each class.
    assert spread["stratified"] <= 1
    assert spread["content"] >= 4


def test_rows_of_one_fold_share_a_split_and_count_once() -> None:
    rows = make(*[pair(f"{prompt(i // 4)} order {i}", "fine") for i in range(400)], labels=["x"] * 400)
    out = split_examples(
        remove_duplicates(rows, Duplicates(near=False, numbers=False)),
        Split(method=Stratified(), validation=0.2, test=0.2),
        Duplicates(near=False, numbers=False),
    )
    by_fold = defaultdict(set)
    for fold, split in zip(name_groups(out.table, numbers=False), out.table["split"].to_pylist(), strict=True):
        by_fold[fold].add(split)
    assert all(len(splits) == 1 for splits in by_fold.values())
    counts = Counter(next(iter(splits)) for splits in by_fold.values())
    assert abs(counts["test"] - 20) <= 1


def test_a_group_is_in_one_split_and_others_go_by_content() -> None:
    groups = [f"customer {i // 5}" if i < 500 else None for i in range(700)]
    rows = rows_of(list(range(700)), ["x"] * 700, customer=groups)
    out = split_examples(rows, Split(method=Grouped(column="customer"), validation=0.2, test=0.2), ALL)
    of_group = defaultdict(set)
    for group, split in zip(out.table[f"{CARRIED}customer"].to_pylist(), out.table["split"].to_pylist(), strict=True):
        of_group[group].add(split)
    assert of_group.pop(None) == {"train", "validation", "test"}
    assert all(len(splits) == 1 for splits in of_group.values())
    # Three standard deviations of a binomial count of 100 groups.
    assert abs(sum(splits == {"test"} for splits in of_group.values()) - 20) <= 12


def test_one_prompt_in_two_groups_does_not_leak() -> None:
    texts = [prompt(i % 50) for i in range(100)]
    rows = make(*[pair(f"{text} {i}", f"answer {prompt(i + 500)}") for i, text in enumerate(texts)])
    table = rows.table.append_column(f"{CARRIED}who", pa.array([f"w{i}" for i in range(100)]))
    rows = remove_duplicates(Rows(table, rows.dropped, rows.steps, rows.origins), Duplicates(near=False, numbers=False))
    out = split_examples(
        rows, Split(method=Grouped(column="who"), validation=0.3, test=0.3), Duplicates(near=False, numbers=False)
    )
    by_fold = defaultdict(set)
    for fold, split in zip(name_groups(out.table, numbers=False), out.table["split"].to_pylist(), strict=True):
        by_fold[fold].add(split)
    assert all(len(splits) == 1 for splits in by_fold.values())
    reasons = Counter(out.dropped["reason"].to_pylist())
    assert all(" too like one of " in reason for reason in reasons)
    assert 10 < sum(reasons.values()) < 50


def test_of_a_fold_the_first_row_that_stays_decides() -> None:
    assert find_leaks(["train", None, "test", "train"], np.zeros((0, 2), dtype=int), ["a", "a", "a", "a"]) == [
        None,
        None,
        "test row too like one of train",
        None,
    ]


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("2026-05-01", datetime(2026, 5, 1, tzinfo=UTC)),
        ("2020-02-20 06:43:18", datetime(2020, 2, 20, 6, 43, 18, tzinfo=UTC)),
        ("2026-05-01T02:00:00+02:00", datetime(2026, 5, 1, tzinfo=UTC)),
        ("2026-05-01T00:00:00Z", datetime(2026, 5, 1, tzinfo=UTC)),
        ("1777593600", datetime(2026, 5, 1, tzinfo=UTC)),
        ("1777593600000", datetime(2026, 5, 1, tzinfo=UTC)),
        ("20260501", datetime(2026, 5, 1, tzinfo=UTC)),
        ("2026", datetime(2026, 1, 1, tzinfo=UTC)),
        ("20269999", datetime.fromtimestamp(20269999, UTC)),
        ("yesterday", None),
        ("nan", None),
        ("1e300", None),
        ("-inf", None),
    ],
)
def test_times_are_read(text: str, time: datetime | None) -> None:
    assert read_time(text) == time


def test_time_holds_out_what_comes_later() -> None:
    times = ["2026-04-30T23:59:59", "2026-05-01", "2026-05-31T23:59:59.9", "2026-06-01", "soon", None] * 20
    rows = rows_of(list(range(120)), [None] * 120, at=times)
    out = split_examples(rows, Split(method=Time(column="at", validation_from=MAY, test_from=JUNE)), ALL)
    found = dict(zip(out.table[f"{CARRIED}at"].to_pylist(), out.table["split"].to_pylist(), strict=True))
    assert found == {times[0]: "train", times[1]: "validation", times[2]: "validation", times[3]: "test"}
    assert Counter(out.dropped["reason"].to_pylist()) == {
        'column "at" holds no time (soon)': 20,
        'column "at" holds no time (empty)': 20,
    }
    shares = describe_splits(out, Split(method=Time(column="at", validation_from=MAY, test_from=JUNE)))
    assert shares["of_its_share"].to_pylist() == [1.0, 1.0, 1.0]


def test_a_column_of_the_source_decides(tmp_path: Path) -> None:
    lines = ["question,answer,fold"]
    lines += [f"{prompt(i)},{prompt(i + 1000)},{('Training', 'dev', ' TEST', 'odd')[i % 4]}" for i in range(80)]
    (tmp_path / "a.csv").write_text("\n".join(lines))
    method = Column(column="fold")
    rows = read_sources([Csv(path="a.csv", title="a")], "quarantine", tmp_path, method.columns)
    assert rows.origins[0].unused == ()
    rows = clean_rows(rows, [Missing()])
    out = split_examples(remove_duplicates(rows, ALL), Split(method=method), ALL)
    assert Counter(out.table["split"].to_pylist()) == {"train": 20, "validation": 20, "test": 20}
    assert Counter(out.dropped["reason"].to_pylist()) == {'column "fold" names no split (odd)': 20}
    deep = [json.dumps({"question": prompt(i), "answer": "a", "meta": {"fold": "train"}}) for i in range(3)]
    (tmp_path / "a.jsonl").write_text("\n".join(deep))
    inside = read_sources([Jsonl(path="a.jsonl")], "quarantine", tmp_path, ("meta.fold",))
    assert inside.table[f"{CARRIED}meta.fold"].to_pylist() == ["train"] * 3
    with pytest.raises(PipelineError, match='no row of any source has the column "flod"'):
        read_sources([Csv(path="a.csv", title="a")], "quarantine", tmp_path, ("flod",))


def test_a_column_that_names_no_test_row_is_one_clear_error() -> None:
    rows = rows_of(list(range(40)), [None] * 40, fold=["train", "dev"] * 20)
    with pytest.raises(
        PipelineError, match=r"method column assigned none of 40 rows to test; check the values of its column"
    ):
        split_examples(rows, Split(method=Column(column="fold")), ALL)


def test_small_classes_stop_or_are_counted() -> None:
    labels: list[str | None] = ["many"] * 97 + ["few"] * 3
    rows = rows_of(list(range(100)), labels)
    settings_ = {"method": {"name": "stratified"}, "validation": 0.2, "test": 0.2, "min_per_class": 2}
    with pytest.raises(PipelineError, match=r"1 of 2 labels have fewer than 2 rows in a split: few \(train 1, val"):
        split_examples(rows, Split.model_validate(settings_), ALL)
    out = split_examples(rows, Split.model_validate(settings_ | {"on_small_class": "keep"}), ALL)
    assert out.steps[-1].notes["small_classes"] == 1
    assert split_examples(rows, Split.model_validate(settings_ | {"min_per_class": 1}), ALL).table.num_rows == 100


def test_plain_text_without_a_prompt_is_split_by_its_text() -> None:
    rows = make(*[[("assistant", prompt(i))] for i in range(300)])
    out = split_examples(remove_duplicates(rows, ALL), Split(validation=0.2, test=0.2), ALL)
    assert min(Counter(out.table["split"].to_pylist()).values()) > 35


def test_params_that_contradict_themselves() -> None:
    with pytest.raises(ValidationError, match="method column takes no shares; remove test"):
        Split(method=Column(), test=0.1)
    with pytest.raises(ValidationError, match="validation_from must lie before test_from"):
        Time(column="at", validation_from=JUNE, test_from=MAY)
    with pytest.raises(ValidationError, match="dev cannot mean two splits"):
        Column(test=("dev",))
    with pytest.raises(ValidationError, match="'content', 'stratified', 'grouped', 'time', 'column'"):
        Split.model_validate({"method": {"name": "magic"}})
