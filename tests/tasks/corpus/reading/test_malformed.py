"""Malformed files: no crash, no bad row let through, no good row lost, and no file that takes all the memory.

Every case is either one `PipelineError`, or rows of which all can be written, with every other line set aside.
"""

from __future__ import annotations

import atexit
import csv
import gzip
import io
import json
import lzma
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tasks.contracts.errors import PipelineError
from tasks.corpus.reading.ingest import read_sources
from tasks.corpus.reading.sources import csv as csv_source
from tasks.corpus.reading.sources import json_rows, unpack
from tasks.corpus.reading.sources.csv import Csv
from tasks.corpus.reading.sources.files import Files
from tasks.corpus.reading.sources.jsonl import Jsonl
from tasks.corpus.reading.sources.parquet import Parquet
from tasks.corpus.reading.sources.source import Fields, Part
from tasks.corpus.rows.rows import Rows

FOLDER = Path(tempfile.mkdtemp(prefix="heptune-malformed-"))
(FOLDER / "data/raw").mkdir(parents=True)
atexit.register(shutil.rmtree, FOLDER, ignore_errors=True)

CASES, MANY_CASES = 1_000, 100_000
FIELDS = Fields(prompt="question", answer="answer")
GOOD = [{"question": f"What is {n}?", "answer": f"It is {n}."} for n in range(20)]
PACKERS: list[Callable[[bytes], bytes]] = [
    lambda data: data,
    lambda data: gzip.compress(data, 1),
    lambda data: lzma.compress(data, preset=0),
    zstandard.ZstdCompressor(level=1).compress,
]

NASTY = [
    b"\0",
    b"\xff",
    b"\xed\xa0\x80",
    b"\\ud800",
    b"\xef\xbb\xbf",
    b"\xff\xfe",
    b"\r",
    b"\n",
    b'"',
    b'""',
    b",",
    b"{",
    b"]",
]
NASTY += [
    b"\\u0000",
    b"NaN",
    b"1e999",
    b"9" * 40,
    b'{"a":' * 120,
    b"[" * 2000,
    b"\xe2\x80\xa8",
    b"\\",
    b"PK\x03\x04",
    b"\x1f\x8b",
]


def spoil(random: Random, data: bytes) -> bytes:
    """Bytes with a few of them lost, doubled, replaced or joined by what breaks parsers."""
    for _ in range(random.randint(1, 4)):
        at = random.randint(0, len(data))
        new = random.choice(NASTY) if random.random() < 0.7 else random.randbytes(random.randint(0, 4))
        data = data[:at] + new + data[at + random.randint(0, 8) :]
    return data if random.random() < 0.7 else data[: random.randint(0, len(data))]


def damage(data: bytes) -> st.SearchStrategy[bytes]:
    """The bytes as they are, or spoilt."""
    return st.integers(0, 2**32).map(lambda seed: spoil(Random(seed), data) if seed % 4 else data)


def json_line(number: int) -> bytes:
    return json.dumps(GOOD[number % len(GOOD)]).encode()


def csv_line(number: int) -> bytes:
    row = GOOD[number % len(GOOD)]
    return f'"{row["question"]}",{row["answer"]}'.encode()


def mix(good: Callable[[int], bytes]) -> st.SearchStrategy[bytes]:
    """Good lines, good lines that were spoilt, and what is no line of anything."""
    random = Random(0)
    spoilt = [spoil(random, good(n)) for n in range(500)]
    foreign = [
        text.encode(errors="surrogatepass")
        for text in ("\ud800", "\u2028", "\x1c", "caf\u00e9", "1", "[[]]", "{}", "nan")
    ]
    line = (
        st.sampled_from([good(n) for n in range(20)])
        | st.sampled_from(spoilt + foreign + NASTY)
        | st.binary(max_size=20)
    )
    return st.lists(line, max_size=10).map(b"\n".join)


json_documents = st.one_of(
    st.lists(st.integers(0, 19).map(lambda n: GOOD[n]), max_size=6).map(lambda rows: json.dumps(rows).encode()),
    st.integers(1, 19).map(lambda n: json.dumps({"data": {"train": GOOD[:n]}, "version": 1}, indent=1).encode()),
).flatmap(damage)


def write_parquet(rows: list[dict[str, Any]], **options: Any) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), buffer, **options)
    return buffer.getvalue()


PARQUETS = [write_parquet(GOOD, compression=c, use_dictionary=d) for c in ("none", "zstd") for d in (True, False)]
PARQUETS.append(
    write_parquet([{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}] * 9)
)


def read(source: Files, data: bytes) -> Rows | None:
    """The rows of a file; None where it is refused with a message fit for people."""
    (FOLDER / source.path).write_bytes(data)
    try:
        rows = read_sources([source], "quarantine", FOLDER)
    except PipelineError as error:
        message = str(error)
        rows = None
    if rows is None:
        assert 0 < len(message) < 5000
        assert "Traceback" not in message
        return None
    for table in (rows.table, rows.dropped):
        table.validate(full=True)
        assert all(isinstance(row, dict) for row in table.to_pylist())
    return rows


def take(source: Files, data: bytes) -> list[Part] | None:
    """The raw parts of a file; None where it is refused."""
    (FOLDER / source.path).write_bytes(data)
    try:
        return list(source.read(FOLDER).parts)
    except PipelineError:
        return None


def check_items(parts: list[Part]) -> None:
    """Items can be written, numbers grow, and nothing that broken rows show is a mystery."""
    for part in parts:
        assert part.numbers == sorted(set(part.numbers))
        assert len(part.items) == len(part.numbers)
        for item in part.items:
            assert isinstance(item, dict)
            orjson.dumps(item)
        for row in part.broken:
            row.content.encode()
            assert row.reason
            assert row.number >= 1
            assert len(row.content) < 25_000


def parse_alone(line: bytes) -> dict[str, Any] | None:
    """A line as Python's own parser reads it, None where it is no object."""
    try:
        value = json.loads(line.decode())
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def check_json_lines(data: bytes) -> None:
    # A first line that is neither object nor array makes it lines for certain.
    parts = take(Jsonl(path="data/raw/x.jsonl"), b"lines\n" + data)
    assert parts is not None
    check_items(parts)
    found = dict(pair for part in parts for pair in zip(part.numbers, part.items, strict=True))
    broken = {row.number for part in parts for row in part.broken}
    for number, line in enumerate((b"lines\n" + data).split(b"\n"), start=1):
        expected = parse_alone(line)
        if expected in GOOD:
            assert found[number] == expected
        assert (number in found) + (number in broken) == (1 if line.strip() else 0)
        if expected is None:
            assert number not in found
    rows = read(Jsonl(path="data/raw/x.jsonl", fields=FIELDS), b"lines\n" + json_line(3) + b"\n" + data)
    assert rows is not None
    assert rows.table["messages"][0].as_py()[1]["content"] == "It is 3."


def check_json_document(data: bytes) -> None:
    parts = take(Jsonl(path="data/raw/x.json"), data)
    if parts is not None:
        check_items(parts)
    read(Jsonl(path="data/raw/x.json"), data)


def check_csv(data: bytes) -> None:
    data = b"question,answer\n" + data
    parts = take(Csv(path="data/raw/x.csv"), data)
    assert parts is not None
    check_items(parts)
    lines = data.split(b"\n")
    found = dict(pair for part in parts for pair in zip(part.numbers, part.items, strict=True))
    broken = {row.number for part in parts for row in part.broken}
    for number, item in found.items():
        # What begins on this line is a row on its own, by Python's own reader.
        rest = b"\n".join(lines[number - 1 :]).decode(errors="surrogateescape")
        assert next(csv.reader(io.StringIO(rest, newline=""), strict=True)) == list(item.values())
    covered: set[int] = set(broken)
    for number, item in found.items():
        covered |= set(range(number, number + 1 + sum(value.count("\n") for value in item.values())))
    for number, line in enumerate(lines[1:], start=2):
        if line in {csv_line(n) for n in range(20)} and number not in covered:
            # Only inside the quotes of a broken record of the right form, which is set aside as one.
            assert any(start < number for start in broken)


def flatten(parts: list[Part] | None) -> Any:
    """Rows and broken rows, however they were cut into parts."""
    if parts is None:
        return None
    rows = [pair for part in parts for pair in zip(part.numbers, part.items, strict=True)]
    return rows, [row for part in parts for row in part.broken]


def check_packed(data: bytes) -> None:
    read(Jsonl(path="data/raw/x.jsonl.gz", max_bytes=1_000_000), data)
    read(Csv(path="data/raw/x.csv.gz", max_bytes=1_000_000), data)


def check_parquet(data: bytes) -> None:
    parts = take(Parquet(path="data/raw/x.parquet"), data)
    if parts is not None:
        check_items(parts)
    read(Parquet(path="data/raw/x.parquet"), data)


def check_any(data: bytes) -> None:
    for source in (
        Jsonl(path="data/raw/x"),
        Csv(path="data/raw/x"),
        Csv(path="data/raw/x", encoding="utf-16"),
        Parquet(path="data/raw/x"),
    ):
        read(source, data)


READERS: dict[str, tuple[st.SearchStrategy[bytes], Callable[[bytes], None], float]] = {
    "json lines": (mix(json_line), check_json_lines, 0.25),
    "json document": (json_documents, check_json_document, 0.15),
    "csv": (mix(csv_line), check_csv, 0.25),
    "packed": (
        st.builds(lambda pack, data: pack(data), st.sampled_from(PACKERS), mix(json_line)).flatmap(damage),
        check_packed,
        0.1,
    ),
    "parquet": (st.sampled_from(PARQUETS).flatmap(damage), check_parquet, 0.15),
    "anything": (st.binary(max_size=200) | mix(json_line), check_any, 0.1),
}


def run(reader: str, cases: int) -> None:
    strategy, check, share = READERS[reader]
    found = given(strategy)(check)
    settings(
        max_examples=round(cases * share),
        deadline=None,
        database=None,
        derandomize=cases == CASES,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )(found)()


@pytest.mark.parametrize("reader", READERS)
def test_a_thousand_malformed_files(reader: str) -> None:
    run(reader, CASES)


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("reader", READERS)
def test_a_hundred_thousand_malformed_files(reader: str) -> None:
    run(reader, MANY_CASES)


def test_shares_add_up() -> None:
    assert sum(share for *_, share in READERS.values()) == pytest.approx(1)


def test_any_byte_of_a_parquet_file_may_be_damaged() -> None:
    # A size that does not fit in the footer ends the process from within pyarrow where it is not read with care.
    data = PARQUETS[-1]
    for place in range(len(data)):
        for value in (0, 0x6A, 0xFF):
            check_parquet(data[:place] + bytes([value]) + data[place + 1 :])


@pytest.mark.parametrize(
    ("source", "strategy"),
    [
        (Jsonl(path="data/raw/x.jsonl"), mix(json_line).map(lambda data: b"lines\n" + data)),
        (Csv(path="data/raw/x.csv"), mix(csv_line)),
        (Csv(path="data/raw/x.csv"), mix(csv_line).map(lambda data: data.replace(b"\n", b"\r"))),
    ],
    ids=["jsonl", "csv", "old csv"],
)
def test_where_a_file_is_cut_into_blocks_changes_nothing(
    source: Files, strategy: st.SearchStrategy[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    @settings(max_examples=150, deadline=None, database=None, derandomize=True)
    @given(st.lists(strategy, max_size=3).map(b"\n".join), st.integers(1, 40))
    def hold(data: bytes, block: int) -> None:
        # A long line is one here from 60 bytes on.
        with monkeypatch.context() as patch:
            for module in (unpack, csv_source):
                patch.setattr(module, "MAX_ROW_BYTES", 60)
            patch.setattr(unpack, "MAX_SHOWN_CHARACTERS", 20)
            patch.setattr(unpack, "BLOCK", 60)
            whole = flatten(take(source, data))
            patch.setattr(unpack, "BLOCK", block)
            assert flatten(take(source, data)) == whole

    hold()


def test_a_byte_order_mark_may_come_out_of_a_decompressor_in_pieces() -> None:
    data = b"\xef\xbb\xbfquestion,answer\nOpen?,No.\n"
    packed = b"".join(gzip.compress(data[place : place + 1]) for place in range(len(data)))
    (part,) = take(Csv(path="data/raw/x.csv"), packed) or []
    assert part.items == [{"question": "Open?", "answer": "No."}]


def test_a_large_array_is_streamed_to_the_same_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [*GOOD, 1, {"deep": json.loads("[" * 150 + "]" * 150)}, {"question": '\u20ac \\ "', "answer": "[{]}"}]
    texts = [
        json.dumps(rows, **style).encode()
        for style in ({}, {"indent": 2}, {"ensure_ascii": False}, {"separators": (",\n", ":")})
    ]
    for text in (*texts, b"[]", b" [ ] "):
        whole = flatten(take(Jsonl(path="data/raw/x.json"), text))
        with monkeypatch.context() as patch:
            patch.setattr(json_rows, "MAX_DOCUMENT_BYTES", 2)
            for block in (3, 100):
                patch.setattr(json_rows, "BLOCK", block)
                assert flatten(take(Jsonl(path="data/raw/x.json"), text)) == whole
    monkeypatch.setattr(json_rows, "MAX_DOCUMENT_BYTES", 2)
    for text, reason in (
        (texts[0][:-1], "is not JSON after row 22 of its array"),
        (texts[0] + b"x", "is not JSON after row 23"),
        (texts[0].replace(b"What is 3", b"What is \xff"), "is not UTF-8 after row 0"),
        (texts[0].replace(b'"It is 3."', b"It is 3"), "is not JSON after row 3"),
        (json.dumps({"a": GOOD}, indent=1).encode(), "begins like one JSON object of more than"),
    ):
        (FOLDER / "data/raw/x.json").write_bytes(text)
        with pytest.raises(PipelineError, match=reason):
            list(Jsonl(path="data/raw/x.json").read(FOLDER).parts)
    # A lone surrogate costs its own row only, and a NaN is nothing.
    parts = take(Jsonl(path="data/raw/x.json"), b'[{"a": "\\ud800"}, {"a": NaN}, {"a": 1}]')
    assert flatten(parts)[0] == [(2, {"a": None}), (3, {"a": 1})]
    assert [row.reason for row in flatten(parts)[1]] == ["half of a surrogate pair, which is no character"]
