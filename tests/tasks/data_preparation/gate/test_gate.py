"""Each check of the gate sees its defect: plant it, and the gate must fail for that reason. Real Great Expectations."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tasks.contracts.errors import PipelineError
from tasks.contracts.manifest import read_manifest, write_json
from tasks.contracts.records import QUARANTINE
from tasks.corpus.reading.answers import TYPE as ANSWERS
from tasks.corpus.rows.rows import Origin, Rows, Step
from tasks.corpus.text.folds import fold_prompt, fold_prompts
from tasks.data_preparation.gate import gate, measures
from tasks.data_preparation.gate.accepted import accept_version, compare_versions, measure_version, read_accepted
from tasks.data_preparation.gate.approval import approve_findings
from tasks.data_preparation.gate.expectations import Check
from tasks.data_preparation.gate.gate import (
    Verdict,
    check_quality,
    check_suite,
    evaluate,
    hash_data,
    hash_rows,
    require_passed,
)
from tasks.data_preparation.gate.measures import COLUMNS, describe_rows, describe_sources, describe_splits
from tasks.data_preparation.gate.params import CHECKS, Expectation, Gate
from tasks.data_preparation.output.publish import write_quarantine, write_splits
from tasks.data_preparation.screening.duplicates import remove_duplicates
from tasks.data_preparation.screening.params import Duplicates
from tasks.data_preparation.screening.similar_pairs import record_pairs
from tasks.data_preparation.splitting.params import Split
from tasks.data_preparation.splitting.passages import SHARES_PASSAGE
from tasks.data_preparation.splitting.split import SEEN, fingerprint_rows, split_examples
from tests.conversations import make, pair

SPLIT = Split(validation=0.2, test=0.2)


@cache
def sound() -> Rows:
    """120 unlike rows of two labels."""
    rng = random.Random(2)
    words = [a + b for a in ("ka", "lo", "mi", "tu", "ve") for b in ("ra", "sol", "ten", "wick", "dun")]
    turns = [pair(" ".join(rng.sample(words, 7)) + "?", " ".join(rng.sample(words, 9)) + ".") for _ in range(120)]
    rows = make(*turns, labels=["yes", "no"] * 60)
    origin = Origin("s", "jsonl", "x", "alpaca", {}, 120, 1.0)
    rows = replace(rows, origins=(origin,))
    return split_examples(remove_duplicates(rows, Duplicates()), SPLIT, Duplicates())


def check(rows: Rows, folder: Path, **limits: Any) -> Verdict:
    return check_quality(rows, Gate(**limits), Duplicates(), SPLIT, folder)


def put(rows: Rows, column: str, change: Callable[[list[Any]], None]) -> Rows:
    values = rows.table[column].to_pylist()
    change(values)
    index = rows.table.schema.get_field_index(column)
    kind = rows.table.schema.field(index).type
    return replace(rows, table=rows.table.set_column(index, column, pa.array(values, kind)))


def row_of(split: str) -> int:
    return sound().table["split"].to_pylist().index(split)


def set_turns(turns: list[tuple[str, str]]) -> Callable[[list[Any]], None]:
    def change(values: list[Any]) -> None:
        values[0] = [{"role": r, "content": c} for r, c in turns]

    return change


def copy_over(first: str, second: str) -> Callable[[list[Any]], None]:
    def change(values: list[Any]) -> None:
        values[row_of(second)] = values[row_of(first)]

    return change


def almost(values: list[Any]) -> None:
    turns = [dict(turn) for turn in values[row_of("train")]]
    turns[0]["content"] = turns[0]["content"].replace("a", "aa", 1)
    values[row_of("test")] = turns


def renumbered(values: list[Any]) -> None:
    turns = [dict(turn) for turn in values[row_of("train")]]
    turns[0]["content"] = turns[0]["content"].upper() + "!!"
    turns[1]["content"] = "something else altogether"
    values[row_of("test")] = turns


def drop_split(rows: Rows, name: str) -> Rows:
    keep = pa.array([split != name for split in rows.table["split"].to_pylist()])
    return replace(rows, table=rows.table.filter(keep))


def quarantined(rows: Rows, count: int, step: str) -> Rows:
    gone = [{"source": "s/part", "row": i, "step": step, "reason": "r", "content": "c"} for i in range(count)]
    origin = replace(rows.origins[0], rows=rows.table.num_rows + count)
    return replace(rows, dropped=pa.Table.from_pylist(gone, schema=QUARANTINE), origins=(origin,))


def silent_source(rows: Rows) -> Rows:
    return replace(rows, origins=(*rows.origins, replace(rows.origins[0], title="silent", rows=10)))


def step_ran(rows: Rows, name: str) -> Rows:
    return replace(rows, steps=(*rows.steps, Step(name, rows.table.num_rows, rows.table.num_rows)))


def marked(rows: Rows, kind: str, step: str) -> Rows:
    """The first row holds what a step found and only reported."""
    pairs = np.array([[1, 0]])
    return step_ran(record_pairs(rows, rows.table, kind, pairs, np.ones(1), np.ones(1), dropped=False), step)


def flooded(rows: Rows) -> Rows:
    pairs = np.array([[0, 1]] * 60)
    rows = record_pairs(rows, rows.table, "near", pairs, np.ones(60), np.ones(60), dropped=True)
    return replace(rows, origins=(replace(rows.origins[0], rows=180),))


def lengthened(column: int) -> Callable[[Rows], Rows]:
    def change(values: list[Any]) -> None:
        for turns in values:
            turns[column]["content"] = " ".join([turns[column]["content"]] * 2)

    return lambda rows: reseen(put(rows, "messages", change))


def reseen(rows: Rows) -> Rows:
    """As if the rows had been like this when they were split."""
    index = rows.table.schema.get_field_index(SEEN)
    return replace(rows, table=rows.table.set_column(index, SEEN, pa.array(fingerprint_rows(rows.table), pa.uint64())))


def relabel(rows: Rows) -> Rows:
    def change(values: list[Any]) -> None:
        values[:] = ["yes"] * 100 + ["no"] * 20

    return reseen(put(rows, "label", change))


def thin_out(rows: Rows) -> Rows:
    keep = pa.array([place % 3 == 0 for place in range(rows.table.num_rows)])
    return replace(rows, table=rows.table.filter(keep))


# The defects of each check: how to plant it, and the settings under which it must be seen.
MUTATIONS: dict[str, tuple[Callable[[Rows], Rows], dict[str, Any]]] = {
    "enough_rows": (lambda r: r, {"min_rows": 121}),
    "splits_filled": (lambda r: reseen(put(r, "split", lambda v: v.__setitem__(row_of("train"), "dev"))), {}),
    "ids_unique": (lambda r: put(r, "id", lambda v: v.__setitem__(1, v[0])), {}),
    "prompt_present": (lambda r: put(r, "messages", set_turns([("user", " "), ("assistant", "a")])), {}),
    "answer_present": (lambda r: r, {"max_answer": 20}),
    "ends_with_answer": (
        lambda r: put(r, "messages", set_turns([("user", "a"), ("assistant", "b"), ("user", "c")])),
        {},
    ),
    "rows_supervised": (
        # The check of empty answers sees it too, so that one is only to tell here.
        lambda r: put(r, "messages", set_turns([("user", "a"), ("assistant", " ")])),
        {"severity": {"answer_present": "info"}},
    ),
    "labels_known": (lambda r: r, {"labels": ("yes",)}),
    "labels_trained": (lambda r: put(r, "label", lambda v: v.__setitem__(row_of("test"), "rare")), {}),
    "clusters_in_one_split": (lambda r: put(r, "cluster", copy_over("train", "test")), {}),
    "prompts_in_one_split": (lambda r: put(r, "messages", renumbered), {}),
    "near_duplicates_in_one_split": (lambda r: put(r, "messages", almost), {}),
    "passages_in_one_split": (lambda r: put(r, SHARES_PASSAGE, lambda v: v.__setitem__(row_of("test"), 1)), {}),
    "nothing_contaminated": (lambda r: marked(r, "contamination", "contamination"), {}),
    "no_trigger_phrases": (lambda r: marked(r, "trigger", "triggers"), {}),
    "sources_supervised": (lambda r: silent_source(r), {"min_used_share": 0.0}),
    "sources_used": (lambda r: quarantined(r, 200, "weights"), {"min_used_share": 0.5}),
    "bad_rows_few": (lambda r: quarantined(r, 20, "read"), {"max_bad_share": 0.1}),
    "duplicates_few": (lambda r: quarantined(r, 20, "near duplicates"), {"max_duplicate_share": 0.1}),
    "copies_few": (flooded, {}),
    "sources_held_out": (lambda r: all_in_train(r), {}),
    "splits_near_their_shares": (lambda r: thin_split(r), {}),
    "prompt_lengths_as_accepted": (lengthened(0), {}),
    "answer_lengths_as_accepted": (lengthened(1), {}),
    "labels_as_accepted": (relabel, {}),
    "labels_kept": (
        lambda r: put(r, "label", lambda v: v.__setitem__(slice(None), ["yes"] * 120)),
        {"max_change": 1.0},
    ),
    "rows_kept": (thin_out, {"min_rows": 1}),
}


def all_in_train(rows: Rows) -> Rows:
    """60 training rows as a source of their own, such as the corrections of one client that are all alike."""
    train = [place for place, split in enumerate(rows.table["split"].to_pylist()) if split == "train"][:60]

    def change(values: list[Any]) -> None:
        for place in train:
            values[place] = "feedback"

    rows = put(rows, "source", change)
    return replace(rows, origins=(*rows.origins, replace(rows.origins[0], title="feedback", rows=60)))


def thin_split(rows: Rows) -> Rows:
    test = [place for place, split in enumerate(rows.table["split"].to_pylist()) if split == "test"]
    keep = pa.array([place not in test[3:] for place in range(rows.table.num_rows)])
    return replace(rows, table=rows.table.filter(keep))


@pytest.fixture(scope="module")
def accepted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sound rows as the last accepted version."""
    path = tmp_path_factory.mktemp("accepted") / "accepted.json"
    write_json(path, measure_version(describe_rows(sound(), Duplicates())).model_dump(mode="json"))
    return path


def sound_steps() -> Rows:
    return step_ran(step_ran(sound(), "contamination"), "triggers")


def test_sound_rows_pass_every_check(tmp_path: Path, accepted: Path) -> None:
    wanted = Gate(labels=("yes", "no"))
    verdict = check_quality(sound_steps(), wanted, Duplicates(), SPLIT, tmp_path, accepted, tmp_path)
    assert verdict.passed
    assert [r.check.name for r in verdict.results if not r.success] == []
    assert {r.check.name for r in verdict.results} == set(CHECKS)
    require_passed(verdict)


@pytest.mark.parametrize("name", CHECKS)
def test_each_check_sees_its_defect_and_no_other_does(name: str, tmp_path: Path, accepted: Path) -> None:
    plant, limits = MUTATIONS[name]
    severity = {name: "critical", **limits.get("severity", {})}
    limits = {**limits, "severity": severity}
    verdict = check_quality(plant(sound_steps()), Gate(**limits), Duplicates(), SPLIT, tmp_path, accepted, tmp_path)
    assert [r.check.name for r in verdict.failed] == [name]
    assert not verdict.passed
    with pytest.raises(PipelineError, match=f"{name} failed"):
        require_passed(verdict)
    assert f'"name": "{name}"' in (tmp_path / "validation.json").read_text()
    assert "FAILED" in (tmp_path / "index.html").read_text()


def test_no_check_is_without_a_defect() -> None:
    assert set(MUTATIONS) == set(CHECKS)


def test_good_rows_do_not_count_as_bad(tmp_path: Path) -> None:
    assert check(quarantined(sound(), 20, "exact duplicates"), tmp_path, max_bad_share=0.0).passed


def test_rows_beyond_a_limit_are_in_no_share(tmp_path: Path) -> None:
    """Of 6,000 rows 120 are taken: unclean ones are a share of these, unreadable ones of all."""

    def limited(unreadable: int, unclean: int) -> Rows:
        rows = quarantined(sound(), unclean, "length")
        gone = [
            {"source": "s/part", "row": i, "step": "read", "reason": "r", "content": "c"} for i in range(unreadable)
        ]
        dropped = pa.concat_tables([rows.dropped, pa.Table.from_pylist(gone, schema=QUARANTINE)])
        read = 6000
        left_out = read - rows.table.num_rows - unclean - unreadable
        return replace(rows, dropped=dropped, origins=(replace(rows.origins[0], rows=read, left_out=left_out),))

    assert check(limited(0, 0), tmp_path).passed
    assert check(limited(540, 0), tmp_path).passed
    assert [r.check.name for r in check(limited(660, 0), tmp_path).failed] == ["bad_rows_few"]
    assert [r.check.name for r in check(limited(0, 40), tmp_path).failed] == ["bad_rows_few"]


def test_a_row_that_the_chat_template_refuses_does_not_fail_a_small_source(tmp_path: Path) -> None:
    """Corrections may be few, and were written before the model had this template."""

    def with_feedback(step: str) -> Rows:
        rows = put(sound(), "source", lambda values: values.__setitem__(slice(3), ["feedback"] * 3))
        gone = [{"source": "feedback/v1.jsonl", "row": 4, "step": step, "reason": "r", "content": "c"}]
        origins = [replace(rows.origins[0], title=title, rows=count) for title, count in (("s", 117), ("feedback", 4))]
        return replace(rows, dropped=pa.Table.from_pylist(gone, schema=QUARANTINE), origins=tuple(origins))

    assert check(with_feedback("template"), tmp_path).passed
    assert [r.check.name for r in check(with_feedback("length"), tmp_path).failed] == ["bad_rows_few"]


def test_a_held_out_label_that_is_not_trained_is_a_warning(tmp_path: Path) -> None:
    rows = put(sound(), "label", lambda values: values.__setitem__(row_of("test"), "rare"))
    verdict = check(rows, tmp_path)
    assert [r.check.name for r in verdict.warned] == ["labels_trained"]
    assert verdict.passed
    strict = check(rows, tmp_path, severity={"labels_trained": "critical"})
    assert [r.check.name for r in strict.failed] == ["labels_trained"]


def test_many_duplicates_are_a_warning_that_names_the_source_and_the_reasons(tmp_path: Path) -> None:
    verdict = check(quarantined(sound(), 40, "near duplicates"), tmp_path)
    assert verdict.passed
    assert [r.check.name for r in verdict.warned] == ["duplicates_few"]
    assert verdict.warned[0].finding.endswith(": s 25% (r 25%)")
    assert not check(quarantined(sound(), 20, "near duplicates"), tmp_path).warned


def test_a_split_far_from_its_share_is_a_warning(tmp_path: Path) -> None:
    verdict = check_quality(sound(), Gate(), Duplicates(), Split(validation=0.05, test=0.8), tmp_path)
    assert [r.check.name for r in verdict.warned] == ["splits_near_their_shares"]


def test_a_severity_can_be_lowered(tmp_path: Path) -> None:
    verdict = check(sound(), tmp_path, min_rows=121, severity={"enough_rows": "warning"})
    assert verdict.passed
    assert [r.check.name for r in verdict.warned] == ["enough_rows"]


def test_further_expectations_of_params(tmp_path: Path) -> None:
    secret = Expectation(type="expect_column_values_to_not_match_regex", kwargs={"column": "answer", "regex": "karas"})
    plain = Expectation(type="expect_column_values_to_not_match_regex", kwargs={"column": "answer", "regex": "[a-z]"})
    assert check(sound(), tmp_path, expectations=(secret,)).passed
    verdict = check(sound(), tmp_path, expectations=(secret, plain))
    assert [r.check.type for r in verdict.failed] == [plain.type]
    assert "120 of 120 values do not fit" in verdict.failed[0].finding


def expect(kind: str, table: str = "rows", **kwargs: Any) -> Expectation:
    return Expectation(type=kind, table=table, kwargs=kwargs)


def test_unknown_expectations_and_wrong_arguments_are_reported_together(tmp_path: Path) -> None:
    wrong = (expect("expect_miracles", column="label"), expect("expect_column_values_to_be_unique", colum="id"))
    with pytest.raises(PipelineError) as caught:
        check(sound(), tmp_path, expectations=wrong)
    text = str(caught.value)
    assert 'unknown expectation "expect_miracles"; known are expect_column' in text
    assert "does not take {'colum': 'id'}" in text


@pytest.mark.parametrize(
    ("empty", "said"),
    [
        (expect("expect_column_to_exist"), "has no arguments and therefore expects nothing|does not take"),
        (expect("expect_column_values_to_be_in_set", column="label", value_set=[]), "value_set is empty"),
        (expect("expect_column_values_to_match_regex", column="answer", regex=" "), "regex is empty"),
        (expect("expect_column_values_to_match_regex_list", column="answer", regex_list=[]), "regex_list is empty"),
        (expect("expect_column_values_to_match_regex_list", column="answer", regex_list=[""]), "regex_list is empty"),
        (expect("expect_column_values_to_be_between", column="turns"), "min_value|max_value"),
        (expect("expect_table_row_count_to_be_between", min_value=None), "no argument"),
        (expect("expect_column_values_to_not_be_null", column="label", mostly=0), "mostly is 0"),
        (expect("expect_column_values_to_be_unique", column=""), "column is empty"),
        (
            expect("expect_column_values_to_be_unique", column="ids"),
            'no column "ids" in table rows; known are id, source',
        ),
        (
            expect("expect_column_pair_values_to_be_equal", column_A="id", column_B="of"),
            'no column "of" in table rows; known',
        ),
        (
            expect("expect_compound_columns_to_be_unique", column_list=["source", "line"]),
            'no column "line" in table rows; known',
        ),
        (
            expect("expect_column_max_to_be_between", "sources", column="id", max_value=1),
            'no column "id" in table sources',
        ),
    ],
)
def test_an_expectation_of_nothing_is_an_error_before_any_work(empty: Expectation, said: str) -> None:
    with pytest.raises(PipelineError, match=said):
        check_suite(Gate(expectations=(empty,)))


def test_an_expectation_without_a_type_or_an_empty_suite_is_an_error() -> None:
    with pytest.raises(ValidationError, match="at least 1 character"):
        Expectation(type="")
    with pytest.raises(ValidationError, match="labels contains an empty label"):
        Gate(labels=("yes", " "))
    with pytest.raises(PipelineError, match="the suite is empty"):
        evaluate([], {})


def test_tables_have_the_columns_that_expectations_may_name(tmp_path: Path, accepted: Path) -> None:
    described = describe_rows(sound(), Duplicates())
    last = read_accepted(accepted)
    assert last is not None
    tables = {
        "rows": described,
        "sources": describe_sources(sound(), described, SPLIT),
        "splits": describe_splits(sound(), SPLIT),
        "changes": compare_versions(last, described),
    }
    assert {name: sorted(table.column_names) for name, table in tables.items()} == {
        name: sorted(columns) for name, columns in COLUMNS.items()
    }


def test_changes_can_be_asked_about_only_once_a_version_was_accepted(tmp_path: Path, accepted: Path) -> None:
    asked = Gate(expectations=(expect("expect_column_max_to_be_between", "changes", column="labels", max_value=0.1),))
    first = check_quality(sound(), asked, Duplicates(), SPLIT, tmp_path)
    assert [r.finding for r in first.failed] == ["was not evaluated, there is no accepted version yet"]
    assert check_quality(sound(), asked, Duplicates(), SPLIT, tmp_path, accepted).passed


PROMPTS = st.text(st.characters(codec="utf-8"), max_size=12) | st.text("aZ09_ ,.-+!'\"\x1c\n()[", max_size=12)


@given(st.lists(PROMPTS, max_size=20), st.booleans())
def test_folding_at_once_is_folding_one_by_one(prompts: list[str], numbers: bool) -> None:
    folded = fold_prompts(pl.Series(prompts, dtype=pl.String), numbers)
    assert folded.to_list() == [fold_prompt(text, numbers) for text in prompts]


@pytest.mark.parametrize(
    ("kind", "kwargs", "finding"),
    [
        (
            "expect_column_values_to_be_between",
            {"column": "number", "min_value": 1, "max_value": 3},
            "3 of 6 values do not fit, such as 7, 9",
        ),
        ("expect_column_values_to_be_unique", {"column": "number"}, "2 of 6 values do not fit, such as 7"),
        (
            "expect_column_values_to_be_in_set",
            {"column": "label", "value_set": ["a"]},
            "2 of 5 values do not fit, such as b, c",
        ),
        ("expect_column_values_to_match_regex", {"column": "label", "regex": "^[abc]$"}, "all 5 rows passed"),
        ("expect_table_row_count_to_be_between", {"max_value": 4}, "found 7"),
    ],
)
def test_a_finding_counts_the_rows_and_shows_different_values(kind: str, kwargs: dict[str, Any], finding: str) -> None:
    numbers, labels = [1, 7, 7, 9, 2, 3, None], ["a", "a", None, None, "b", "c", "a"]
    table = pa.table({"number": pa.array(numbers, pa.int64()), "label": pa.array(labels, pa.string())})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gate, "refuse_empty", lambda checks: None)
        assert evaluate([Check("c", "m", "rows", kind, kwargs)], {"rows": table})[0].finding == finding


def test_rows_that_the_split_saw_are_not_searched_again(monkeypatch: pytest.MonkeyPatch) -> None:
    searched: list[int] = []
    search = measures.find_near_duplicates

    def count(table: pa.Table, *more: Any, **named: Any) -> Any:
        searched.append(table.num_rows)
        return search(table, *more, **named)

    monkeypatch.setattr(measures, "find_near_duplicates", count)
    assert not any(describe_rows(sound(), Duplicates())["leaks"].to_pylist())
    assert searched == []
    changed = describe_rows(put(sound(), "messages", almost), Duplicates())["leaks"].to_pylist()
    # The changed row is of test, so it and the rows of the other splits are compared.
    assert searched == [1 + sum(split != "test" for split in sound().table["split"].to_pylist())]
    assert [place for place, leaks in enumerate(changed) if leaks] == sorted([row_of("train"), row_of("test")])


def test_lengths_and_labels_are_compared_beyond_chance() -> None:
    rng = np.random.default_rng(3)

    def described(shift: float, share: float, rows: int = 4000) -> pa.Table:
        lengths = np.maximum(rng.normal(100 + 20 * shift, 20, rows), 1).astype(int)
        labels = ["a" if draw < share else "b" for draw in rng.random(rows)]
        return pa.table({"prompt_characters": lengths, "answer_characters": lengths, "label": labels})

    accepted = measure_version(described(0, 0.5))
    same = compare_versions(accepted, described(0, 0.5)).to_pylist()[0]
    assert same == {"rows_kept": 1.0, "prompt_lengths": 0.0, "answer_lengths": 0.0, "labels": 0.0, "labels_lost": 0}
    # Normal lengths that moved by one standard deviation are 2 Phi(1/2) - 1 = 0.383 apart; chance takes 0.036.
    moved = compare_versions(accepted, described(1, 0.8)).to_pylist()[0]
    assert moved["prompt_lengths"] == pytest.approx(0.383 - 0.036, abs=0.025)
    assert moved["labels"] == pytest.approx(0.3 - 0.013, abs=0.03)


def test_an_accepted_version_is_that_of_complete_data_that_passed(tmp_path: Path) -> None:
    docs, folder, path = tmp_path / "docs", tmp_path / "prepared", tmp_path / "gate/accepted.json"
    verdict = check(sound(), docs)
    with pytest.raises(PipelineError, match="not complete"):
        accept_version(folder, docs, path)
    write_quarantine(sound(), folder / "quarantine.parquet")
    write_splits(sound(), verdict, 0, folder)
    assert accept_version(folder, docs, path).rows == 120
    assert read_accepted(path) == verdict.statistics
    check(thin_out(sound()), docs)
    with pytest.raises(PipelineError, match="does not describe the data in"):
        accept_version(folder, docs, path)
    path.write_text('{"rows": 3}')
    with pytest.raises(PipelineError, match="not the statistics of a version"):
        read_accepted(path)


def test_info_is_in_the_data_docs_alone(tmp_path: Path) -> None:
    verdict = check(sound(), tmp_path, min_rows=121, severity={"enough_rows": "info"})
    assert verdict.passed
    assert not verdict.warned
    assert '"success": false' in (tmp_path / "validation.json").read_text()


def test_nothing_evaluated_never_passes(tmp_path: Path) -> None:
    empty = replace(sound(), table=sound().table.slice(0, 0))
    verdict = check(empty, tmp_path)
    assert not verdict.passed
    assert all(not r.success for r in verdict.results if r.check.table == "rows")
    for nothing in (verdict, Verdict((), 0), Verdict((), 10)):
        with pytest.raises(PipelineError):
            require_passed(nothing)


@pytest.mark.parametrize(
    ("kind", "kwargs"),
    [
        ("expect_column_values_to_be_in_set", {"column": "label", "value_set": ["a"]}),
        ("expect_column_distinct_values_to_be_in_set", {"column": "label", "value_set": ["a"]}),
        ("expect_column_values_to_be_unique", {"column": "label"}),
        ("expect_column_values_to_not_be_null", {"column": "label"}),
    ],
)
def test_a_column_without_values_fails_every_check(kind: str, kwargs: dict[str, Any]) -> None:
    rows = pa.table({"label": pa.array([None, None], pa.string())})
    result = evaluate([Check("c", "m", "rows", kind, kwargs)], {"rows": rows})[0]
    assert not result.success


def test_data_docs_are_offline_sealed_and_the_same_twice(tmp_path: Path) -> None:
    check(sound(), tmp_path / "a")
    check(sound(), tmp_path / "b")
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert names == ["index.html", "manifest.json", "statistics.json", "suite.json", "validation.json"]
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    read_manifest(tmp_path / "a", verify=True)
    page = (tmp_path / "a/index.html").read_text()
    assert "http://" not in page
    assert "https://" not in page
    assert json.loads((tmp_path / "a/validation.json").read_text())["passed"] is True


def test_a_failed_gate_writes_no_split_and_unseals_the_folder(tmp_path: Path) -> None:
    good = check(sound(), tmp_path / "docs")
    write_quarantine(sound(), tmp_path / "quarantine.parquet")
    write_splits(sound(), good, 0, tmp_path)
    assert read_manifest(tmp_path, verify=True)["labels"] == ["no", "yes"]
    bad = check(sound(), tmp_path / "docs", min_rows=121)
    write_quarantine(sound(), tmp_path / "quarantine.parquet")
    with pytest.raises(PipelineError, match="enough_rows failed, found 120; expected: at least 121 rows"):
        write_splits(sound(), bad, 0, tmp_path)
    with pytest.raises(PipelineError, match="not complete"):
        read_manifest(tmp_path)


def test_the_hash_of_the_data_knows_nothing_of_pieces_in_memory() -> None:
    rows = [{"id": f"{n:04}", "label": None if n % 3 else "a", "split": "train"} for n in range(10)]
    whole = pa.Table.from_pylist(rows)
    cut = pa.concat_tables([whole.slice(0, 4), whole.slice(4, 0), whole.slice(4)])
    assert hash_rows(cut) == hash_rows(whole)
    assert hash_rows(whole.take([1, 0, *range(2, 10)])) != hash_rows(whole)


def with_answers() -> Rows:
    """Rows of which one has another answer, one is repeated and one has a rejected answer."""
    rows = sound()
    others = [{"turns": [{"role": "assistant", "content": "never"}], "score": 0.0}]
    values = [{"start": 1, "score": 1.0, "preferred": True, "others": others if n == 3 else []} for n in range(120)]
    table = rows.table.append_column("answers", pa.array(values, ANSWERS))
    table = table.append_column("times", pa.array([1 + (n == 5) for n in range(120)], pa.int64()))
    return replace(rows, table=table.slice(1), rejected=table.slice(0, 1))


def change_cell(table: pa.Table, column: str) -> pa.Table:
    """The table with another value in one cell of a column."""
    values = table[column].to_pylist()
    value = values[0]
    if isinstance(value, dict):
        values[0] = {**value, "score": value["score"] + 1}
    else:
        values[0] = value + 1 if isinstance(value, int) else f"{value}x"
    index = table.schema.get_field_index(column)
    return table.set_column(index, column, pa.array(values, table.schema.field(index).type))


@pytest.mark.parametrize("column", ["id", "label", "split", "source", "row", "cluster", "answers", "times"])
def test_an_approval_covers_every_column_of_the_rows_and_of_the_rejected_ones(column: str) -> None:
    rows = with_answers()
    before = hash_data(rows, 0, None)
    assert rows.rejected is not None
    changed = [
        replace(rows, table=change_cell(rows.table, column)),
        replace(rows, rejected=change_cell(rows.rejected, column)),
        replace(rows, table=rows.table.drop_columns(column)),
    ]
    assert before not in {hash_data(other, 0, None) for other in changed}
    assert hash_data(with_answers(), 0, None) == before


def test_an_approval_covers_other_answers_and_weights(tmp_path: Path) -> None:
    rows = with_answers()
    values = rows.table["answers"].to_pylist()
    values[2]["others"][0]["turns"][0]["content"] = "always"
    index = rows.table.schema.get_field_index("answers")
    answered = replace(rows, table=rows.table.set_column(index, "answers", pa.array(values, ANSWERS)))
    weighted = replace(rows, origins=(replace(rows.origins[0], weight=2.5),))
    hashes = [hash_data(each, 0, None) for each in (rows, answered, weighted, replace(rows, rejected=None))]
    hashes.append(hash_data(rows, 1, None))
    for weight in ("1", "2"):
        (tmp_path / "balance.json").write_text(weight)
        hashes.append(hash_data(rows, 0, tmp_path))
    assert len(set(hashes)) == len(hashes)


def test_an_approval_is_void_once_what_it_covers_changes(tmp_path: Path) -> None:
    limits = Gate(min_rows=121)
    rows = with_answers()

    def judge_rows(each: Rows) -> Verdict:
        return check_quality(each, limits, Duplicates(), SPLIT, tmp_path / "docs", None, tmp_path / "approvals")

    assert not judge_rows(rows).passed
    approve_findings(tmp_path / "docs", tmp_path / "approvals", "Ann", "small on purpose")
    assert judge_rows(rows).passed
    assert not judge_rows(replace(rows, table=change_cell(rows.table, "answers"))).passed
    assert not judge_rows(replace(rows, origins=(replace(rows.origins[0], weight=2.0),))).passed
