"""Every real set goes through with one params file, and its counts are explained there.

The sets are no part of the repository: paths are relative to the folder that the environment variable
``HEPTUNE_REAL_DATA`` names. Each file has the section ``data_preparation`` and, under ``expect``, either the ``error``
that stops it (a pattern), or

* ``shapes``: per source the shape and how sure it was recognised,
* ``read``: rows read, the unreadable ones included,
* ``dropped``: what reading and cleaning set aside, by step and reason,
* ``kept``: rows left after cleaning,
* ``whole``: what the steps behind drop, by step; the checks of the gate that fail; rows in ``answers.parquet``.

``slow`` marks a set that takes long to clean.
"""

from __future__ import annotations

import csv
import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml

from tasks.contracts.errors import PipelineError
from tasks.contracts.manifest import read_manifest
from tasks.contracts.records import ANSWER_SETS, MESSAGES, AnswerSet
from tasks.contracts.tables import read_table, write_table
from tasks.corpus.reading.answers import exclude_rejected
from tasks.corpus.reading.ingest import read_sources
from tasks.corpus.reading.sources.csv import Csv
from tasks.corpus.reading.sources.jsonl import Jsonl
from tasks.corpus.rows.rows import Rows
from tasks.data_preparation.cleaning.clean import clean_rows
from tasks.data_preparation.gate.gate import check_quality
from tasks.data_preparation.output.publish import write_quarantine, write_splits
from tasks.data_preparation.output.report import write_metrics, write_report
from tasks.data_preparation.params import DataPreparation
from tasks.data_preparation.screening.duplicates import remove_duplicates
from tasks.data_preparation.splitting.split import split_examples

ROOT = os.environ.get("HEPTUNE_REAL_DATA", "")
FILES = sorted(Path(__file__).parent.glob("*.yaml"))
RECIPES = {file.stem: yaml.safe_load(file.read_text()) for file in FILES}
MESSAGES_ONLY = pa.schema([pa.field("messages", MESSAGES)])
KEYS = {"shapes", "read", "dropped", "kept", "whole", "slow"}

needs_data = pytest.mark.skipif(not ROOT, reason="HEPTUNE_REAL_DATA names no folder with the real sets")
SLOW = [
    pytest.param(name, marks=pytest.mark.slow) if recipe["expect"].get("slow") else name
    for name, recipe in RECIPES.items()
]


def read_settings(name: str) -> DataPreparation:
    settings = DataPreparation.model_validate(RECIPES[name]["data_preparation"])
    paths = [Path(str(getattr(source, "path", "")).rpartition("::")[2]) for source in settings.sources]
    if ROOT and not all((Path(ROOT) / path.parts[0]).is_dir() for path in paths):
        pytest.skip(f"{ROOT} does not hold the set {name}")
    return settings


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_a_valid_section_and_says_what_to_expect(name: str) -> None:
    DataPreparation.model_validate(RECIPES[name]["data_preparation"])
    expect = RECIPES[name]["expect"]
    assert set(expect) == {"error"} or KEYS - {"slow"} <= set(expect) <= KEYS


def count_dropped(rows: Rows) -> dict[str, int]:
    found = Counter(f"{row['step']}: {row['reason']}" for row in rows.dropped.select(["step", "reason"]).to_pylist())
    return dict(found)


def read_and_clean(name: str) -> Rows:
    settings = read_settings(name)
    rows = read_sources(settings.sources, settings.on_bad_row, Path(ROOT), settings.split.method.columns)
    return clean_rows(rows, settings.cleaning)


@needs_data
@pytest.mark.parametrize("name", SLOW)
def test_a_real_set_is_recognised_and_cleaned(name: str) -> None:
    expect: dict[str, Any] = RECIPES[name]["expect"]
    if "error" in expect:
        with pytest.raises(PipelineError, match=expect["error"]) as caught:
            read_and_clean(name)
        assert "\n" not in str(caught.value)
        return
    rows = read_and_clean(name)
    assert {o.title: [o.shape, round(o.confidence, 3)] for o in rows.origins} == expect["shapes"]
    assert sum(origin.rows for origin in rows.origins) == rows.steps[0].rows_in == expect["read"]
    assert count_dropped(rows) == expect["dropped"]
    assert rows.table.num_rows == expect["kept"]


@needs_data
@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in RECIPES if "error" not in RECIPES[name]["expect"]])
def test_a_real_set_goes_through_the_stage(name: str, tmp_path: Path) -> None:
    whole = RECIPES[name]["expect"]["whole"]
    settings = read_settings(name)
    rows = read_and_clean(name)
    cleaned = len(rows.steps)
    rows = remove_duplicates(rows, settings.duplicates)
    rows = exclude_rejected(split_examples(rows, settings.split, settings.duplicates))
    write_quarantine(rows, tmp_path / "prepared/quarantine.parquet")
    verdict = check_quality(rows, settings.gate, settings.duplicates, settings.split, tmp_path / "report/data_docs")
    write_report(rows, verdict, tmp_path / "report/index.html")
    assert [result.check.name for result in verdict.failed] == whole["gate"]
    left = {step.name: step.rows_in - step.rows_out for step in rows.steps[cleaned:] if step.rows_in > step.rows_out}
    assert left == whole["dropped"]
    if verdict.passed:
        write_splits(rows, verdict, settings.split.seed, tmp_path / "prepared")
        counts = read_manifest(tmp_path / "prepared", verify=True)["counts"]
        answers = read_table(tmp_path / "prepared/answers.parquet", ANSWER_SETS).to_pylist()
        assert len([AnswerSet(**row) for row in answers]) == counts["answers"] == whole["answers"]
        assert sum(counts[split] for split in ("train", "validation", "test")) == rows.table.num_rows
        figures = write_metrics(rows, verdict, tmp_path / "report/metrics.json")
        assert figures["rows_kept"] + figures["rows_dropped"] == figures["rows_read"]


@needs_data
def test_naughty_strings_reach_the_disk_unchanged(tmp_path: Path) -> None:
    strings: list[str] = json.loads((Path(ROOT) / "naughty_strings/blns.json").read_text(encoding="utf-8"))
    lines = [json.dumps({"question": text, "answer": text}) for text in strings]
    (tmp_path / "x.jsonl").write_text("\n".join(lines), encoding="utf-8")
    with (tmp_path / "x.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("question", "answer"), *zip(strings, strings, strict=True)])
    for source in (Jsonl(path="x.jsonl"), Csv(path="x.csv")):
        rows = read_sources([source], "stop", tmp_path)
        write_table(rows.table.select(["messages"]), tmp_path / "x.parquet", MESSAGES_ONLY)
        found = read_table(tmp_path / "x.parquet", MESSAGES_ONLY)["messages"].to_pylist()
        # CSV has no line for a row of two empty fields but a blank one, which is no row.
        expected = [text for text in strings if text or source.name == "jsonl"]
        assert [[turn["content"] for turn in turns] for turns in found] == [[t, t] for t in expected]
