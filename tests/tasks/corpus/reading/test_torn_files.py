"""A file that is torn costs its own rest: of several files the others are read, and the torn one is named."""

from __future__ import annotations

import gzip
import io
import json
import logging
import lzma
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from tasks.contracts.errors import PipelineError
from tasks.corpus.reading.ingest import read_sources
from tasks.corpus.reading.sources import json_rows
from tasks.corpus.reading.sources.csv import Csv
from tasks.corpus.reading.sources.jsonl import Jsonl
from tasks.corpus.reading.sources.parquet import Parquet
from tasks.corpus.reading.sources.text import Text
from tasks.corpus.rows.rows import Rows

ROWS = [{"question": f"What is {n}, and why?", "answer": f"It is {n}."} for n in range(5)]
LINES = "\n".join(json.dumps(row) for row in ROWS) + "\n"
CSV = "question,answer\n" + "".join(f'"{row["question"]}",{row["answer"]}\n' for row in ROWS)


def parquet() -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(ROWS), buffer)
    return buffer.getvalue()


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gz": gzip.compress,
    "xz": lzma.compress,
    "zst": zstandard.ZstdCompressor().compress,
}
# Name of a file, its source and whole content, and what its reason says when it is cut in half.
WHOLE_FILES: dict[str, tuple[Any, bytes, str]] = {
    **{f"jsonl.{name}": (Jsonl, pack(LINES.encode()), "cannot be read") for name, pack in PACKERS.items()},
    **{f"csv.{name}": (Csv, pack(CSV.encode()), "cannot be read") for name, pack in PACKERS.items()},
    **{f"txt.{name}": (Text, pack(LINES.encode()), "cannot be read") for name, pack in PACKERS.items()},
    "parquet": (Parquet, parquet(), "not a readable Parquet file"),
}
# Files of which a torn one costs a row only: its content, and the reason of that row.
ROW_BY_ROW: dict[str, tuple[Any, bytes, str]] = {
    "jsonl": (Jsonl, LINES.encode()[:-5], "not JSON"),
    "jsonl in UTF-8 with its mark": (Jsonl, LINES.encode("utf-8-sig")[:-5], "not JSON"),
    "jsonl in UTF-16": (Jsonl, LINES.encode("utf-16")[:-3], "not UTF-16"),
    "jsonl in UTF-32": (Jsonl, LINES.encode("utf-32")[:-5], "not UTF-32"),
    "csv in UTF-16": (Csv, CSV.encode("utf-16")[:-3], "not UTF-16"),
    "csv in UTF-16, big end first": (Csv, b"\xfe\xff" + CSV.encode("utf-16-be")[:-3], "not UTF-16"),
    "csv": (Csv, CSV.encode()[:-10], "another number of fields than the header"),
    "csv in UTF-8": (Csv, CSV.encode()[:-3] + b"\xc3\n", "not UTF-8"),
    "text in UTF-16": (Text, LINES.encode("utf-16")[:-3], "not UTF-16"),
}


def put(folder: Path, kind: Any, names: dict[str, bytes]) -> Any:
    folder.mkdir()
    for name, data in names.items():
        (folder / name).write_bytes(data)
    return kind(path=f"{folder.name}/*", title="faq", **({"rows": "lines"} if kind is Text else {}))


def counts(rows: Rows) -> dict[str, int]:
    files = rows.table["file"].to_pylist()
    return {name: files.count(name) for name in sorted(set(files))}


@pytest.mark.parametrize("name", WHOLE_FILES)
def test_a_torn_file_among_others_is_set_aside_with_its_reason(
    tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    kind, whole, reason = WHOLE_FILES[name]
    torn = whole[: len(whole) // 2]
    files = {f"a.{name}": whole, f"b.{name}": torn, f"c.{name}": whole}
    source = put(tmp_path / "set", kind, files)
    with caplog.at_level(logging.WARNING):
        rows = read_sources([source], "quarantine", tmp_path)
    assert counts(rows) == {f"a.{name}": 5, f"c.{name}": 5}
    (row,) = rows.dropped.to_pylist()
    assert (row["source"], row["row"]) == (f"faq/b.{name}", 0)
    assert row["reason"].startswith(f"set/b.{name}: {reason}")
    assert [listing.heading for listing in rows.steps[0].listings] == ['Broken files of source "faq"']
    assert "the rest of this file is left out" in caplog.text
    with pytest.raises(PipelineError, match=f"faq/b.{name}:0: set/b.{name}: {reason}"):
        read_sources([source], "stop", tmp_path)
    # Alone, or where all are torn, nothing is left that would stand for the source.
    for alone in ({f"b.{name}": torn}, {f"b.{name}": torn, f"c.{name}": torn}):
        folder = tmp_path / f"alone{len(alone)}"
        with pytest.raises(PipelineError, match=reason):
            read_sources([put(folder, kind, alone)], "quarantine", tmp_path)


@pytest.mark.parametrize("name", ROW_BY_ROW)
def test_a_torn_text_costs_its_last_row(tmp_path: Path, name: str) -> None:
    kind, torn, reason = ROW_BY_ROW[name]
    whole = (CSV if kind is Csv else LINES).encode()
    source = put(tmp_path / "set", kind, {"a": whole, "b": torn, "c": whole})
    rows = read_sources([source], "quarantine", tmp_path)
    assert counts(rows) == {"a": 5, "b": 4, "c": 5}
    (row,) = rows.dropped.to_pylist()
    assert (row["source"], row["reason"]) == ("faq/b", reason)


def test_a_damaged_member_of_an_archive(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        for name in ("a", "b", "c"):
            archive.writestr(f"{name}.jsonl", LINES)
    data = (tmp_path / "set.zip").read_bytes()
    place = data.find(b"What is 1", data.find(b"b.jsonl"))
    (tmp_path / "set.zip").write_bytes(data[:place] + b"That" + data[place + 4 :])
    source = Jsonl(path="zip://*.jsonl::set.zip", title="faq")
    rows = read_sources([source], "quarantine", tmp_path)
    assert counts(rows) == {"a.jsonl": 5, "c.jsonl": 5}
    assert "cannot be unpacked (Bad CRC-32 for file 'b.jsonl')" in rows.dropped["reason"][0].as_py()
    (tmp_path / "set.zip").write_bytes(data[:100])
    with pytest.raises(PipelineError, match="cannot be read"):
        read_sources([source], "quarantine", tmp_path)


def test_a_large_array_that_ends_early(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_rows, "MAX_DOCUMENT_BYTES", 2)
    array = json.dumps(ROWS).encode()
    rows = read_sources([put(tmp_path / "set", Jsonl, {"a": array, "b": array[:-9]})], "quarantine", tmp_path)
    assert counts(rows)["a"] == 5
    assert "b: is not JSON after row" in rows.dropped["reason"][0].as_py()


def test_a_limit_that_is_no_damage_still_stops(tmp_path: Path) -> None:
    bomb = gzip.compress(LINES.encode() * 1000)
    source = put(tmp_path / "set", Jsonl, {"a": LINES.encode(), "b": bomb})
    with pytest.raises(PipelineError, match="unpacks to more than 5,000 bytes"):
        read_sources([source.model_copy(update={"max_bytes": 5000})], "quarantine", tmp_path)


def test_utf16_without_its_mark_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_bytes(CSV.encode("utf-16-le"))
    with pytest.raises(PipelineError, match=r"as in UTF-16 without its byte order mark; .* set utf-16-le or utf-16-be"):
        read_sources([Csv(path="x.csv")], "quarantine", tmp_path)
    rows = read_sources([Csv(path="x.csv", encoding="utf-16-le")], "quarantine", tmp_path)
    assert rows.table.num_rows == 5


@pytest.mark.parametrize(("kind", "text"), [(Csv, "question,answer\nwhy?,caf\x81\n"), (Text, "caf\x81\n")])
@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "utf-8"])
def test_the_reason_names_the_encoding_that_was_tried(tmp_path: Path, kind: Any, text: str, encoding: str) -> None:
    (tmp_path / "x").write_bytes(text.encode("latin-1"))
    shown = "UTF-8" if encoding == "utf-8" else encoding
    with pytest.raises(PipelineError) as caught:
        read_sources([kind(path="x", encoding=encoding)], "quarantine", tmp_path)
    assert f"is not {shown}; " in str(caught.value)
    assert ("set encoding, such as" in str(caught.value)) == (encoding == "utf-8")
    assert ("correct encoding" in str(caught.value)) == (encoding != "utf-8")


def test_json_lines_have_no_encoding_to_set(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b'{"question": "caf\xe9"}\n')
    with pytest.raises(PipelineError, match=r"is not UTF-8; convert it to UTF-8$"):
        read_sources([Jsonl(path="x")], "quarantine", tmp_path)
