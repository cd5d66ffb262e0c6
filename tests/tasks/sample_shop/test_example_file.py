"""The sample as a CSV: what it holds, and that it overwrites nothing."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from tasks.contracts.errors import PipelineError
from tasks.sample_shop.example_file import write_example


def test_the_table_has_one_question_and_answer_a_row(tmp_path: Path) -> None:
    path = tmp_path / "raw/support.csv"
    count = write_example(path, rows=200, intents=3, seed=1)
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == count > 150
    assert all(row["question"] for row in rows)
    assert len({row["intent"] for row in rows}) == 3
    again = tmp_path / "again.csv"
    write_example(again, rows=200, intents=3, seed=1)
    assert again.read_bytes() == path.read_bytes()


def test_a_file_that_is_there_stays(tmp_path: Path) -> None:
    path = tmp_path / "support.csv"
    path.write_text("mine")
    with pytest.raises(PipelineError, match=r"support\.csv is there already"):
        write_example(path, rows=20, intents=2, seed=1)
    assert path.read_text() == "mine"
