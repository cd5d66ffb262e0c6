"""What the turns of a row hold beside their text: marks of the loss, unused keys, and nulls that Arrow adds."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.corpus.reading.ingest import read_sources
from tasks.corpus.reading.sources.jsonl import Jsonl
from tasks.corpus.reading.sources.parquet import Parquet
from tasks.corpus.rows.rows import Rows

ASKED: dict[str, Any] = {"role": "user", "content": "Where?"}


def read(tmp_path: Path, items: list[dict[str, Any]]) -> Rows:
    (tmp_path / "x.jsonl").write_text("\n".join(json.dumps(item) for item in items))
    return read_sources([Jsonl(path="x.jsonl")], "quarantine", tmp_path)


def answer(text: str, **keys: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": text, **keys}


def test_answers_that_are_not_to_be_learned_stay_as_context(tmp_path: Path) -> None:
    marks: list[dict[str, Any]] = [{"weight": 0}, {"train": False}, {"loss": False}, {"masked": True}]
    good = {"messages": [ASKED, answer("There.", weight=1), ASKED, answer("Here.")]}
    rows = read(
        tmp_path, [good, *({"messages": [ASKED, answer("Wrong.", **m), ASKED, answer("Here.")]} for m in marks)]
    )
    assert rows.dropped.num_rows == 0
    assert rows.table["untrained"].to_pylist() == [None, [1], [1], [1], [1]]
    assert rows.table["messages"][1].as_py() == [ASKED, answer("Wrong."), ASKED, answer("Here.")]
    assert rows.steps[0].notes == {"answers_without_loss": 4}


def test_what_follows_the_last_learned_answer_is_left_out(tmp_path: Path) -> None:
    turns = [ASKED, answer("1", weight=0), ASKED, answer("2"), ASKED, answer("3", weight=0), ASKED]
    rows = read(tmp_path, [{"messages": turns}])
    assert rows.table["messages"].to_pylist() == [[ASKED, answer("1"), ASKED, answer("2")]]
    assert rows.table["untrained"].to_pylist() == [[1]]


def test_a_row_without_a_learned_answer_is_set_aside_with_its_reason(tmp_path: Path) -> None:
    rows = read(
        tmp_path,
        [
            {"messages": [ASKED, answer("Here.")]},
            {"messages": [ASKED, answer("Wrong.", weight=0), ASKED, answer("Wrong.", train=False)]},
            {"messages": [answer("Hello."), ASKED, answer("Wrong.", weight=0)]},
        ],
    )
    assert rows.dropped["reason"].to_pylist() == [
        "no answer is to be learned: all are marked so (weight: 0, train: false); unmark one",
        "no prompt before the first answer",
    ]
    assert "untrained" not in rows.table.column_names


def test_a_limit_draws_the_same_rows_whichever_part_has_the_marks(tmp_path: Path) -> None:
    plain = [{"messages": [ASKED, answer(f"Here {i}.")]} for i in range(200)]
    marked = [{"messages": [ASKED, answer("No.", weight=0), ASKED, answer(f"There {i}.")]} for i in range(200)]
    drawn = []
    for name, items in (("a", plain + marked), ("b", marked + plain)):
        (tmp_path / f"{name}.jsonl").write_text("\n".join(json.dumps(item) for item in items))
        rows = read_sources([Jsonl(path=f"{name}.jsonl", limit=50)], "quarantine", tmp_path).table
        drawn.append(sorted(turns[-1]["content"] for turns in rows["messages"].to_pylist()))
        has_marks = [turns[-1]["content"].startswith("There") for turns in rows["messages"].to_pylist()]
        assert [places == [1] for places in rows["untrained"].to_pylist()] == has_marks
    assert drawn[0] == drawn[1]


def test_unused_keys_of_turns_are_counted_listed_and_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    items = [
        {"messages": [ASKED | {"name": "ada"}, answer("Here.", reasoning_content="hm", id=None)]},
        {"messages": [ASKED | {"name": "bob"}, answer("Here.", reasoning_content="")]},
        {"messages": [ASKED, answer("Here.")]},
    ]
    with caplog.at_level(logging.WARNING):
        rows = read(tmp_path, items)
    listing = rows.steps[0].listings[0]
    assert listing.heading == "Unused parts of turns: jsonl"
    assert listing.rows == (("jsonl", "name", 2), ("jsonl", "reasoning_content", 1))
    assert 'source "jsonl": not used in turns: name (2), reasoning_content (1)' in caplog.text


def call(**arguments: Any) -> dict[str, Any]:
    return {
        "messages": [
            ASKED,
            {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "f", "arguments": arguments}}]},
        ]
    }


def test_arguments_that_parquet_pads_with_null_are_not_taught(tmp_path: Path) -> None:
    items = [call(city="Paris"), call(date="Friday", city=None), call(deep={"a": 1}), call(deep={"b": [{"c": None}]})]
    texts = ['{"city":"Paris"}', '{"date":"Friday"}', '{"deep":{"a":1}}', '{"deep":{"b":[{}]}}']
    tools = [{"name": "f", "parameters": {"city": "text"}}, {"name": "g", "parameters": {"date": "text"}}]
    table = pa.Table.from_pylist([item | {"tools": tools} for item in items])
    pq.write_table(table, tmp_path / "x.parquet")
    rows = read_sources([Parquet(path="x.parquet")], "quarantine", tmp_path)
    turns = rows.table["messages"].to_pylist()
    assert [row[2]["content"] for row in turns] == [f'[{{"name":"f","arguments":{text}}}]' for text in texts]
    assert turns[0][0]["content"] == (
        'Tools: [{"name":"f","parameters":{"city":"text"}},{"name":"g","parameters":{"date":"text"}}]'
    )
    listing = rows.steps[0].listings[0]
    assert listing.heading == "Keys without a value: parquet"
    # Per row 2 of the 4 parameters of the tools; 2, 2, 3 and 4 of the arguments.
    assert listing.rows == (("parquet", "messages", 11), ("parquet", "tools", 8))
    assert "Arrow" in listing.note


def test_explicit_nulls_of_json_lines_stay(tmp_path: Path) -> None:
    rows = read(tmp_path, [call(city="Paris", date=None)])
    assert rows.table["messages"][0].as_py()[1]["content"] == '[{"name":"f","arguments":{"city":"Paris","date":null}}]'
    assert rows.steps[0].listings == ()
