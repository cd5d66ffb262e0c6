"""Every kind of source reads what it says, and a row that cannot be read is named, not lost."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import logging
import lzma
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from tasks.contracts.errors import PipelineError
from tasks.data_preparation.ingest import read_sources
from tasks.data_preparation.rows import Rows
from tasks.data_preparation.sources.csv import Csv, find_delimiter
from tasks.data_preparation.sources.hugging_face import HuggingFace
from tasks.data_preparation.sources.jsonl import Jsonl, parse_json
from tasks.data_preparation.sources.parquet import Parquet

ROWS = [
    {"question": "Open on Sunday?", "answer": "No."},
    {"question": "Wo ist das Café?", "answer": "Hier."},
]
LINES = "\n".join(json.dumps(row, ensure_ascii=False) for row in ROWS).encode()


def read(source: Any, root: Path, on_bad_row: Any = "quarantine") -> Rows:
    return read_sources([source], on_bad_row, root)


def turns(rows: Rows) -> list[list[str]]:
    return [[turn["content"] for turn in messages] for messages in rows.table["messages"].to_pylist()]


EXPECTED = [["Open on Sunday?", "No."], ["Wo ist das Café?", "Hier."]]


@pytest.mark.parametrize(
    "pack",
    [bytes, gzip.compress, lzma.compress, zstandard.ZstdCompressor().compress],
    ids=["plain", "gz", "xz", "zst"],
)
@pytest.mark.parametrize(
    "data",
    [
        LINES,
        json.dumps(ROWS).encode(),
        json.dumps(ROWS, indent=2).encode(),
        json.dumps({"train": {"set": [ROWS[0]]}, "test": [ROWS[1]], "size": 2}, indent=1).encode(),
        json.dumps({"train": [ROWS[0]], "test": [ROWS[1]]}).encode(),
        b"\xef\xbb\xbf" + LINES + b"\r\n\n",
    ],
    ids=["lines", "array", "indented", "nested", "nested_line", "bom"],
)
def test_json_in_every_form_and_packing(tmp_path: Path, data: bytes, pack: Any) -> None:
    (tmp_path / "faq.data").write_bytes(pack(data))
    rows = read(Jsonl(path="faq.data"), tmp_path)
    assert turns(rows) == EXPECTED
    assert rows.dropped.num_rows == 0


def test_a_single_row_is_no_container_of_its_turns(tmp_path: Path) -> None:
    row = {"messages": [{"role": "user", "content": "a?"}, {"role": "assistant", "content": "b"}]}
    for text in (json.dumps(row, indent=1), json.dumps(row)):
        assert [part.items for part in parse_json(io.BytesIO(text.encode()), "x")] == [[row]]


def test_broken_lines_are_named_with_their_line_and_nothing_is_lost(tmp_path: Path) -> None:
    lines = [
        LINES.split(b"\n")[0],
        b"",
        b'{"question": "torn", "ans',
        b'{"question": "caf\xe9", "answer": "x"}',
        b"[1, 2]",
        b'{"question": 5}',
        b'{"question": {"a": 1}, "answer": "x"}',
        LINES.split(b"\n")[1],
    ]
    (tmp_path / "faq.jsonl").write_bytes(b"\n".join(lines))
    rows = read(Jsonl(path="faq.jsonl", title="faq"), tmp_path)
    assert turns(rows) == EXPECTED
    assert rows.table["row"].to_pylist() == [1, 8]
    found = [(row["row"], row["reason"]) for row in rows.dropped.to_pylist()]
    assert found == [
        (3, "not JSON"),
        (4, "not UTF-8"),
        (5, "not a JSON object"),
        (6, 'no "answer"'),
        (7, 'a turn has neither "role" nor "from"'),
    ]
    assert set(rows.dropped["source"].to_pylist()) == {"faq"}
    assert rows.dropped["content"][0].as_py() == '{"question": "torn", "ans'
    assert "caf\\xe9" in rows.dropped["content"][1].as_py()
    assert rows.steps[0].rows_in == 7

    with pytest.raises(PipelineError, match="faq:3: not JSON; fix the row or set on_bad_row: quarantine"):
        read(Jsonl(path="faq.jsonl", title="faq"), tmp_path, "stop")


def test_csv_finds_its_delimiter_and_names_bad_rows(tmp_path: Path) -> None:
    text = 'text;category\n"Where; is\nit?";a-b\nragged\n\nfine;c;d\ncaf\udce9;e\nLast;f\n'
    (tmp_path / "x.csv").write_bytes(text.encode(errors="surrogateescape"))
    rows = read(Csv(path="x.csv"), tmp_path)
    assert turns(rows) == [["Where; is\nit?", "a-b"], ["Last", "f"]]
    assert rows.table["label"].to_pylist() == ["a-b", "f"]
    assert rows.table["row"].to_pylist() == [2, 8]
    assert [(r["row"], r["reason"]) for r in rows.dropped.to_pylist()] == [
        (4, "another number of fields than the header"),
        (6, "another number of fields than the header"),
        (7, "not UTF-8"),
    ]


@pytest.mark.parametrize(("header", "sign"), [("a,b", ","), ("a\tb,c\td", "\t"), ("a|b", "|"), ("text", ",")])
def test_delimiter_of_header(header: str, sign: str) -> None:
    assert find_delimiter(f"{header}\n1,2,3,4") == sign


def test_csv_header_that_names_a_column_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("text,label,text\na,b,c\n")
    with pytest.raises(PipelineError, match=r"names \['text'\] twice"):
        read(Csv(path="x.csv"), tmp_path)


def test_parquet_shards_keep_their_own_row_numbers(tmp_path: Path) -> None:
    for number in (1, 2):
        pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / f"part-{number}.parquet")
    rows = read(Parquet(path="part-*.parquet", title="shards"), tmp_path)
    assert turns(rows) == EXPECTED * 2
    assert rows.table["file"].to_pylist() == ["part-1.parquet"] * 2 + ["part-2.parquet"] * 2
    assert rows.table["row"].to_pylist() == [1, 2, 1, 2]
    (tmp_path / "part-3.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(PipelineError, match=r"part-3\.parquet: not a readable Parquet file"):
        read(Parquet(path="part-*.parquet"), tmp_path)


def test_hugging_face_folder_with_class_labels(tmp_path: Path) -> None:
    import datasets

    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["cancel", "refund"])}
    )
    made = datasets.Dataset.from_dict({"text": ["stop it", "money back"], "label": [0, 1]}, features=features)
    datasets.DatasetDict({"train": made, "test": made.select([0])}).save_to_disk(str(tmp_path / "set"))
    rows = read(HuggingFace(path="set", split="train"), tmp_path)
    assert turns(rows) == [["stop it", "cancel"], ["money back", "refund"]]
    assert read(HuggingFace(path="set"), tmp_path).table.num_rows == 3
    with pytest.raises(PipelineError, match=r'no split "dev"; it has \[\'test\', \'train\'\]'):
        read(HuggingFace(path="set", split="dev"), tmp_path)


def test_hub_needs_a_full_commit(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match="pin revision to a full commit"):
        read(HuggingFace(path="some/set"), tmp_path)
    with pytest.raises(ValueError, match="pattern"):
        HuggingFace(path="some/set", revision="main")


def test_pin_holds_and_stops_with_both_hashes(tmp_path: Path) -> None:
    (tmp_path / "faq.jsonl").write_bytes(LINES)
    found = hashlib.sha256(LINES).hexdigest()
    assert read(Jsonl(path="faq.jsonl", sha256=found), tmp_path).table.num_rows == 2
    other = "0" * 64
    with pytest.raises(PipelineError, match=f"has sha256 {found}; pinned is {other}"):
        read(Jsonl(path="faq.jsonl", sha256=other), tmp_path)


def test_a_source_that_dvc_does_not_watch_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "data/raw").mkdir(parents=True)
    for place in ("out.jsonl", "data/raw/in.jsonl"):
        (tmp_path / place).write_bytes(LINES)
    with caplog.at_level(logging.WARNING):
        read(Jsonl(path="data/raw/in.jsonl"), tmp_path)
        assert not caplog.records
        read(Jsonl(path="out.jsonl"), tmp_path)
    assert "DVC does not watch it" in caplog.text
    assert hashlib.sha256(LINES).hexdigest() in caplog.text


def test_all_troubles_of_all_sources_come_at_once(tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_bytes(b"\n \n")
    (tmp_path / "torn.jsonl.gz").write_bytes(gzip.compress(LINES)[:-12])
    (tmp_path / "none.jsonl").write_bytes(b"hello\nworld\n")
    sources = [Jsonl(path=name, title=name) for name in ("gone.jsonl", "empty.jsonl", "torn.jsonl.gz", "none.jsonl")]
    with pytest.raises(PipelineError) as caught:
        read_sources(sources, "quarantine", tmp_path)
    text = str(caught.value)
    assert "4 problems" in text
    assert 'source "gone.jsonl": gone.jsonl does not exist' in text
    assert 'source "empty.jsonl": empty.jsonl is empty' in text
    assert "torn.jsonl.gz: cannot be read" in text
    assert "holds no readable row, line 1 is not JSON" in text
    assert "Traceback" not in text


def test_an_optional_source_may_be_missing_but_one_must_give_rows(tmp_path: Path) -> None:
    (tmp_path / "faq.jsonl").write_bytes(LINES)
    there, gone = Jsonl(path="faq.jsonl", title="a"), Jsonl(path="feedback/*.jsonl", title="b", optional=True)
    rows = read_sources([there, gone], "quarantine", tmp_path)
    assert rows.table.num_rows == 2
    assert [origin.rows for origin in rows.origins] == [2, 0]
    with pytest.raises(PipelineError, match="no source gave a single row"):
        read_sources([gone], "quarantine", tmp_path)
