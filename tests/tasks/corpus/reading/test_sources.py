"""Every kind of source reads what it says, and a row that cannot be read is named, not lost."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import logging
import lzma
import re
import tempfile
from collections.abc import Iterable
from pathlib import Path
from random import Random
from typing import Any, get_args

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.contracts.errors import PipelineError
from tasks.corpus.reading.ingest import read_sources
from tasks.corpus.reading.limit import RowSample
from tasks.corpus.reading.sources.csv import Csv, find_delimiter
from tasks.corpus.reading.sources.hugging_face import HuggingFace
from tasks.corpus.reading.sources.json_rows import parse_json
from tasks.corpus.reading.sources.jsonl import Jsonl
from tasks.corpus.reading.sources.parquet import Parquet
from tasks.corpus.rows.rows import Rows
from tasks.data_preparation.params import AnySource, DataPreparation
from tests.checkout import ROOT

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


@pytest.mark.parametrize(
    ("text", "params", "expected"),
    [
        ("sep=;\r\ntext;label\r\na, b;x\r\n", {}, [["a, b", "x"]]),
        ("text, as typed\tlabel\na, b\tx\n", {"fields": {"text": "text, as typed"}, "label": "label"}, [["a, b", "x"]]),
        ("text,label,,\na,x,,\n", {}, [["a", "x"]]),
        ("x,a\ny,b\n", {"columns": ["label", "text"]}, [["a", "x"], ["b", "y"]]),
        ('text\tlabel\n"a\tx\nb "c"\ty\n', {"quotes": False}, [['"a', "x"], ['b "c"', "y"]]),
    ],
    ids=["excel", "tab", "unnamed", "headless", "quotes"],
)
def test_csv_as_it_comes(tmp_path: Path, text: str, params: dict[str, Any], expected: list[list[str]]) -> None:
    (tmp_path / "x.csv").write_bytes(text.encode())
    assert turns(read(Csv(path="x.csv", **params), tmp_path, "stop")) == expected


def test_a_csv_without_a_header_is_told_to_name_its_columns(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("ham,See you there.\nspam,Win now!\n")
    with pytest.raises(PipelineError, match=r"looks like a row and no header, \['ham', .* columns: \[text, label\]"):
        read(Csv(path="x.csv"), tmp_path)
    (tmp_path / "y.csv").write_bytes("caf\xe9,caf\xe9\n".encode("latin-1"))
    rows = read(Csv(path="*.csv", columns=["label", "text"]), tmp_path)
    assert rows.table["label"].to_pylist() == ["ham", "spam"]
    assert rows.dropped["reason"].to_pylist() == ["not UTF-8"]
    with pytest.raises(ValueError, match="same name"):
        Csv(path="x.csv", columns=["a", "a"])


def test_nan_and_infinity_are_nothing(tmp_path: Path) -> None:
    lines = [
        '{"question": "NaN, ok", "answer": "a", "score": NaN}',
        '{"question": "r", "answer": "b", "s": [-Infinity]}',
    ]
    for name, text in {"x.jsonl": "\n".join(lines), "x.json": f"[{', '.join(lines)}]"}.items():
        (tmp_path / name).write_text(text)
        rows = read(Jsonl(path=name, keep=["score"]), tmp_path, "stop")
        assert turns(rows) == [["NaN, ok", "a"], ["r", "b"]]


def test_classes_in_parquet_have_their_names(tmp_path: Path) -> None:
    kind = datasets.ClassLabel(names=["no", "yes"])
    features = datasets.Features({"text": datasets.Value("string"), "label": kind})
    table = datasets.Dataset.from_dict({"text": ["a", "b", "c"], "label": [1, 0, -1]}, features=features)
    table.to_parquet(str(tmp_path / "x.parquet"))
    assert read(Parquet(path="x.parquet"), tmp_path).table["label"].to_pylist() == ["yes", "no", None]


def test_a_folder_of_another_kind_is_named(tmp_path: Path) -> None:
    datasets.Dataset.from_dict({"text": ["a"]}).save_to_disk(str(tmp_path / "set"))
    (tmp_path / "txt").mkdir()
    (tmp_path / "txt/a.txt").write_text("a")
    (tmp_path / "empty").mkdir()
    for path, said in {
        "set": "is a data set of the hub's library, which the source hugging_face reads",
        "set/data-00000-of-00001.arrow": "is an Arrow stream",
        "txt": "holds no file of this kind, but a.txt",
        "empty": "holds no file of this kind, but none at all",
    }.items():
        with pytest.raises(PipelineError, match=said):
            read(Parquet(path=path), tmp_path)
    (tmp_path / "x.csv").write_bytes("text;label\ncaf\xe9;x\n".encode("latin-1"))
    with pytest.raises(PipelineError, match="line 2 is not UTF-8; set encoding, such as cp1252"):
        read(Csv(path="x.csv"), tmp_path)


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
    with pytest.raises(PipelineError, match=r"part-3\.parquet:0: .*part-3\.parquet: not a readable Parquet file"):
        read(Parquet(path="part-*.parquet"), tmp_path, "stop")


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


@pytest.mark.parametrize(
    "pack", [gzip.compress, lzma.compress, zstandard.ZstdCompressor().compress], ids=["gz", "xz", "zst"]
)
def test_packed_files_joined_end_to_end_are_read_to_the_end(tmp_path: Path, pack: Any) -> None:
    (tmp_path / "faq.jsonl").write_bytes(b"".join(pack(line + b"\n") for line in LINES.split(b"\n")))
    assert turns(read(Jsonl(path="faq.jsonl"), tmp_path)) == EXPECTED
    whole = pack(LINES)
    for torn in (whole[:-1], whole[: len(whole) // 2], whole + whole[:9]):
        (tmp_path / "faq.jsonl").write_bytes(torn)
        with pytest.raises(PipelineError, match=r"faq\.jsonl: cannot be read \(.*\); fetch the file again"):
            read(Jsonl(path="faq.jsonl"), tmp_path)


def test_xz_padding_and_memory(tmp_path: Path) -> None:
    (tmp_path / "faq.jsonl").write_bytes(lzma.compress(LINES + b"\n") + bytes(8) + lzma.compress(LINES) + bytes(4))
    assert turns(read(Jsonl(path="faq.jsonl"), tmp_path)) == EXPECTED * 2
    hungry = [{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 30}]
    (tmp_path / "faq.jsonl").write_bytes(lzma.compress(LINES, filters=hungry))
    with pytest.raises(PipelineError, match="Memory usage limit exceeded"):
        read(Jsonl(path="faq.jsonl"), tmp_path)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"PK\x03\x04rest", "is a zip archive or a spreadsheet; read an archive's files with the path zip:"),
        (b"BZh91AY", "is packed with bzip2; pack it with gzip, xz or zstd"),
        (b"PAR1rest", "is a Parquet file; read it with the source parquet"),
        (b"SQLite format 3\0", "is an SQLite database; read it with the source sql"),
    ],
)
def test_files_of_other_kinds_are_named(tmp_path: Path, data: bytes, reason: str) -> None:
    (tmp_path / "x.csv").write_bytes(data)
    for source in (Csv(path="x.csv"), Jsonl(path="x.csv")):
        with pytest.raises(PipelineError, match=reason):
            read(source, tmp_path)


def test_a_decompression_bomb_stops_at_its_bound(tmp_path: Path) -> None:
    data = b"\n".join([LINES] * 1000)
    (tmp_path / "x.jsonl").write_bytes(gzip.compress(data))
    assert read(Jsonl(path="x.jsonl", max_bytes=len(data)), tmp_path).table.num_rows == 2000
    with pytest.raises(
        PipelineError, match=f"unpacks to more than {len(data) - 1:,} bytes; check that it is no decomp"
    ):
        read(Jsonl(path="x.jsonl", max_bytes=len(data) - 1), tmp_path)
    # A plain file cannot grow: what is on the disk was meant to be there.
    (tmp_path / "x.jsonl").write_bytes(data)
    assert read(Jsonl(path="x.jsonl", max_bytes=1), tmp_path).table.num_rows == 2000


def test_encodings(tmp_path: Path) -> None:
    text = "question,answer\nOpen on Sunday?,No.\nWo ist das Café?,Hier.\n"
    for name, params in (("utf-16", {}), ("utf-8-sig", {}), ("cp1252", {"encoding": "cp1252"}), ("utf-32", {})):
        (tmp_path / "x.csv").write_bytes(text.encode(name))
        assert turns(read(Csv(path="x.csv", **params), tmp_path)) == EXPECTED
    (tmp_path / "x.jsonl").write_bytes(LINES.decode().encode("utf-16"))
    assert turns(read(Jsonl(path="x.jsonl"), tmp_path)) == EXPECTED
    # One byte that the encoding does not know costs its row only.
    (tmp_path / "x.csv").write_bytes(text.encode("cp1252").replace(b"No.", b"N\x81"))
    rows = read(Csv(path="x.csv", encoding="cp1252"), tmp_path)
    assert turns(rows) == EXPECTED[1:]
    assert [(r["row"], r["reason"]) for r in rows.dropped.to_pylist()] == [(2, "not cp1252")]
    (tmp_path / "x.csv").write_bytes(text.encode("utf-16")[:-1])
    rows = read(Csv(path="x.csv"), tmp_path)
    assert turns(rows) == EXPECTED[:1]
    assert [(r["row"], r["reason"]) for r in rows.dropped.to_pylist()] == [(3, "not UTF-16")]
    with pytest.raises(ValueError, match="unknown encoding klingon"):
        Csv(path="x.csv", encoding="klingon")


def test_a_quote_that_is_not_closed_costs_the_lines_it_swallows_and_each_is_named(tmp_path: Path) -> None:
    lines = ["question,answer", "a,1", '"b,2', "c,3", 'd,"4"', 'e,"5', "f,6"]
    (tmp_path / "x.csv").write_text("\n".join(lines))
    rows = read(Csv(path="x.csv"), tmp_path)
    assert turns(rows) == [["a", "1"]]
    assert [(r["row"], r["reason"]) for r in rows.dropped.to_pylist()] == [
        (3, "not CSV (',' expected after '\"'); quotes: false reads quotation marks as text"),
        (4, "inside a record that is not CSV"),
        (5, "inside a record that is not CSV"),
        (6, "not CSV (unexpected end of data); quotes: false reads quotation marks as text"),
        (7, "inside a record that is not CSV"),
    ]
    assert rows.dropped["content"].to_pylist() == lines[2:]


def test_parquet_values_that_are_no_json(tmp_path: Path) -> None:
    torn = pa.Array.from_buffers(pa.string(), 3, pa.array([b"fine", b"caf\xe9", b"too"]).buffers())
    moment = pa.array([0, 1, 2**55], pa.timestamp("ms"))
    table = pa.table(
        {"question": torn, "answer": ["x"] * 3, "at": moment, "price": pa.array([1, 2, 3], pa.decimal128(5, 2))}
    )
    pq.write_table(table, tmp_path / "x.parquet")
    part = next(iter(Parquet(path="x.parquet").read(tmp_path).parts))
    assert part.items == [{"question": "fine", "answer": "x", "at": "1970-01-01T00:00:00", "price": "1.00"}]
    assert [(row.number, row.reason) for row in part.broken] == [(2, "not UTF-8"), (3, "a value is out of range")]
    assert '"question":"caf\\\\xe9"' in part.broken[0].content
    pq.write_table(pa.Table.from_arrays([torn.cast(pa.binary())] * 2, ["a", "a"]), tmp_path / "x.parquet")
    with pytest.raises(PipelineError, match=r"its schema names \['a'\] twice"):
        read(Parquet(path="x.parquet"), tmp_path)


def test_too_many_unreadable_rows_stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.corpus.reading.ingest.MAX_BROKEN_ROWS", 5)
    (tmp_path / "x.jsonl").write_bytes(LINES + b"\nbad" * 5)
    assert read(Jsonl(path="x.jsonl"), tmp_path).dropped.num_rows == 5
    (tmp_path / "x.jsonl").write_bytes(LINES + b"\nbad" * 6)
    with pytest.raises(PipelineError, match=r'more than 5 rows of x\.jsonl cannot be read, the last for "not JSON"'):
        read(Jsonl(path="x.jsonl"), tmp_path)


def test_what_is_broken_is_shown_cut(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_bytes(LINES + b"\n" + b"\xff" * 20_000)
    content = read(Jsonl(path="x.jsonl"), tmp_path).dropped["content"][0].as_py()
    assert content == "\\xff" * 10_000 + "… (20,000 bytes)"


def write_rows(path: Path, names: Iterable[str]) -> None:
    path.write_text("\n".join(json.dumps({"question": f"Question {name}?", "answer": "Yes."}) for name in names))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=60, unique=True), st.integers(1, 40), st.randoms())
def test_a_limit_keeps_the_same_rows_in_any_order_and_a_new_row_displaces_at_most_one(
    names: list[int], limit: int, random: Random
) -> None:
    def choose(chosen: list[int]) -> list[str]:
        with tempfile.TemporaryDirectory() as folder:
            write_rows(Path(folder) / "x.jsonl", map(str, chosen))
            rows = read(Jsonl(path="x.jsonl", limit=limit), Path(folder))
        assert rows.origins[0].rows == len(chosen)
        assert rows.origins[0].left_out == max(0, len(chosen) - limit)
        assert rows.table["row"].to_pylist() == sorted(rows.table["row"].to_pylist())
        return [messages[0]["content"] for messages in rows.table["messages"].to_pylist()]

    kept = choose(names)
    assert len(kept) == min(limit, len(names))
    assert kept == [name for name in (f"Question {n}?" for n in names) if name in set(kept)]
    shuffled = names.copy()
    random.shuffle(shuffled)
    assert set(choose(shuffled)) == set(kept)
    assert len(set(kept) - set(choose([*names, 10**7]))) <= 1


def test_a_limit_holds_little_more_than_it_keeps(tmp_path: Path) -> None:
    kept = RowSample(100)
    for start in range(0, 10_000, 50):
        kept.add(
            pa.table(
                {
                    "source": ["s"] * 50,
                    "file": [""] * 50,
                    "row": range(start, start + 50),
                    "label": [str(n) for n in range(start, start + 50)],
                }
            )
        )
        assert sum(table.num_rows for table in kept._tables) <= 200
    (table,) = kept.finish()
    assert (table.num_rows, kept.left_out) == (100, 9_900)
    # One in a hundred, from everywhere: the mean place of 100 uniform ones has a standard error of 289.
    assert abs(sum(table["row"].to_pylist()) / 100 - 5_000) < 4 * 289


def test_the_docs_have_an_example_of_every_source() -> None:
    page = (ROOT / "docs/features.md").read_text()
    rows = re.findall(r"^\| source `(\w+)`.* \| `(\{.*\})` \|$", page, re.MULTILINE)
    sources = [DataPreparation.model_validate({"sources": [yaml.safe_load(text)]}).sources[0] for _, text in rows]
    assert [source.name for source in sources] == [name for name, _ in rows]
    kinds = get_args(get_args(AnySource)[0])
    assert sorted(source.name for source in sources) == sorted(kind.model_fields["name"].default for kind in kinds)
