"""A file whose every row is broken costs its rows and nothing else, whatever the shape of the source."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tasks.contracts.errors import PipelineError
from tasks.corpus.reading.ingest import read_sources
from tasks.corpus.reading.shapes.recognise import SHAPES
from tasks.corpus.reading.sources.jsonl import Jsonl
from tests.tasks.corpus.reading.test_shapes import CASES

ROWS = {shape: row for shape, row, *_ in CASES}


def test_every_shape_is_tried() -> None:
    assert {shape.name for shape in SHAPES} == set(ROWS)


def spoil(row: dict[str, Any]) -> list[dict[str, Any]]:
    """Rows of the same columns that no shape can convert, and of other columns."""
    return [dict.fromkeys(row, 1.5), {name: {"x": [[]]} for name in row}, {"z": 1}]


@pytest.mark.parametrize("shape", ROWS)
@pytest.mark.parametrize("options", [{}, {"limit": 1}, {"keep": True}], ids=["plain", "limit", "keep"])
def test_a_part_of_broken_rows(tmp_path: Path, shape: str, options: dict[str, Any]) -> None:
    good = ROWS[shape]
    broken = [{"z": 1}] * 3
    for name, rows in (("a", [good]), ("b", broken), ("c", [good])):
        (tmp_path / f"{name}.jsonl").write_text("\n".join(json.dumps(row) for row in rows) + "\nno JSON\n")
    source = Jsonl(path="*.jsonl", shape=shape, **options)
    rows = read_sources([source], "quarantine", tmp_path)
    assert rows.table.num_rows == options.get("limit", 2)
    assert {row["source"] for row in rows.dropped.to_pylist() if row["reason"] != "not JSON"} == {"jsonl/b.jsonl"}
    assert rows.dropped.num_rows == 6


@pytest.mark.parametrize("shape", ROWS)
def test_a_source_of_broken_rows_alone_is_one_clear_error(tmp_path: Path, shape: str) -> None:
    (tmp_path / "x.jsonl").write_text("\n".join(json.dumps(row) for row in [{"z": 1}] * 3))
    with pytest.raises(PipelineError) as caught:
        read_sources([Jsonl(path="x.jsonl", shape=shape)], "quarantine", tmp_path)
    assert f"no row has the shape {shape}" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("shape", ["preference", "ranked", "kto", "multiple_choice", "squad", "messages"])
def test_rows_of_the_right_columns_and_wrong_values(tmp_path: Path, shape: str) -> None:
    good = ROWS[shape]
    for name, rows in (("a", [good]), ("b", spoil(good))):
        (tmp_path / f"{name}.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    rows = read_sources([Jsonl(path="*.jsonl", shape=shape)], "quarantine", tmp_path)
    assert rows.table["file"].to_pylist().count("a.jsonl") == 1
    assert rows.table.num_rows + rows.dropped.num_rows == 4
