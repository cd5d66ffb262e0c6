"""Files made to take all memory: each is refused with one line, or read within bounds."""

from __future__ import annotations

import gzip
import io
import json
import lzma
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

MEBIBYTE = 1024 * 1024
# Of the process, in MiB.
LIMIT = 2048
# Reads every file, and prints what became of it and how many MiB the process took at most, file by file.
READ = r"""
import json, re, sys
from pathlib import Path
from tasks.contracts.errors import PipelineError
from tasks.corpus.reading.ingest import read_sources
from tasks.data_preparation.params import DataPreparation

def peak():
    # Of this program alone; what getrusage says counts the process that started it too.
    return int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) // 1024

folder = Path(sys.argv[1])
stream = len(sys.argv) > 2
for file in sorted((folder / "data/raw").iterdir()):
    name = {"jsonl": "jsonl", "json": "jsonl", "csv": "csv", "parquet": "parquet"}[file.name.split(".")[1]]
    given = {"name": name, "path": f"data/raw/{file.name}", "max_bytes": 150 * 1024 * 1024}
    source = DataPreparation.model_validate({"sources": [given]}).sources[0]
    before = peak()
    try:
        if stream:
            found = [sum(len(part.items) for part in source.read(folder).parts), 0]
        else:
            rows = read_sources([source], "quarantine", folder)
            found = [rows.table.num_rows, rows.dropped.num_rows]
    except PipelineError as error:
        found = str(error)
    print(json.dumps([file.name, found, before, peak()]))
"""


def read(folder: Path, *options: str) -> dict[str, tuple[Any, int, int]]:
    """File to what became of it, and to the most memory in MiB before and after it."""
    done = subprocess.run(
        [sys.executable, "-c", READ, str(folder), *options], capture_output=True, text=True, timeout=300, check=True
    )
    return {name: (found, before, after) for name, found, before, after in map(json.loads, done.stdout.splitlines())}


def row(number: int, answer: str = "Yes.") -> dict[str, str]:
    return {"question": f"Is {number} it?", "answer": answer}


def pack_zeros(compressor: Callable[[], Any], total: int) -> bytes:
    """So many zeros, packed."""
    made = compressor()
    block = bytes(MEBIBYTE)
    return b"".join([*(made.compress(block) for _ in range(total // MEBIBYTE)), made.flush()])


def write(folder: Path, name: str, content: bytes) -> None:
    (folder / "data/raw").mkdir(parents=True, exist_ok=True)
    (folder / "data/raw" / name).write_bytes(content)


def write_table(folder: Path, name: str, table: pa.Table, **options: Any) -> None:
    buffer = io.BytesIO()
    pq.write_table(table, buffer, **options)
    write(folder, name, buffer.getvalue())


def write_bombs(folder: Path) -> None:
    import zlib

    good = json.dumps(row(1)).encode()
    for name, compressor in (
        ("zeros.jsonl.gz", lambda: zlib.compressobj(1, wbits=31)),
        ("zeros.csv.xz", lambda: lzma.LZMACompressor(preset=0)),
        ("zeros.jsonl.zst", lambda: zstandard.ZstdCompressor(level=1).compressobj()),
    ):
        write(folder, name, pack_zeros(compressor, 200 * MEBIBYTE))
    long = b'{"question": "long", "answer": "' + b"x" * 100_000_000 + b'"}'
    write(folder, "line.jsonl", b"\n".join([good, long, good]))
    write(folder, "line.jsonl.gz", gzip.compress(b"\n".join([good, long, good]), 1))
    write(folder, "line.csv", b"question,answer\na,b\nlong," + b"x" * 100_000_000 + b"\nc,d\n")
    write(folder, "quote.csv", b'question,answer\na,b\n"open,' + b"x,y\n" * 150_000 + b"c,d\n")
    write(folder, "header.csv", b"x," * 50_000_000 + b"\n1,2\n")
    write(folder, "deep.jsonl", good + b"\n" + b'{"a":' * 1_000_000 + b"1" + b"}" * 1_000_000 + b"\n")
    write(folder, "deep.json", b"[" * 5_000_000 + b"]" * 5_000_000)
    write(folder, "many.json", b"[" + b"{}," * 8_000_000 + b"{}]")
    write(folder, "lists.jsonl", good + b'\n{"a": [' + b"[]," * 2_000_000 + b"[]]}\n")
    write(folder, "object.json", b'{"rows": [\n' + b",\n".join([good] * 2_000_000) + b"]}")
    columns = [f"c{number}" for number in range(10_000)]
    wide = [dict.fromkeys(columns, "x") | row(n) for n in range(20)]
    write(folder, "wide.jsonl", "\n".join(map(json.dumps, wide)).encode())
    write(
        folder, "wide.csv", "\n".join(",".join(line) for line in [list(wide[0]), *(r.values() for r in wide)]).encode()
    )
    write_table(folder, "wide.parquet", pa.Table.from_pylist(wide))
    text = pa.DictionaryArray.from_arrays(pa.array([0] * 100_000, pa.int32()), pa.array(["x" * 30_000_000]))
    write_table(folder, "repeated.parquet", pa.table({"question": ["?"] * 100_000, "answer": text}))
    write_table(
        folder,
        "zeros.parquet",
        pa.table({"question": ["a"] * 20, "answer": ["0" * 20_000_000] * 20}),
        use_dictionary=False,
        compression="zstd",
    )
    rows = pa.Table.from_pylist([row(1), row(2, "x" * 20_000_000), row(3)])
    write_table(folder, "row.parquet", rows, compression="none")
    rows = pa.table({"question": pa.nulls(10_000_000, pa.string()), "answer": pa.nulls(10_000_000, pa.string())})
    write_table(folder, "nulls.parquet", rows)


EXPECTED: dict[str, Any] = {
    "zeros.jsonl.gz": "unpacks to more than 157,286,400 bytes",
    "zeros.csv.xz": "unpacks to more than 157,286,400 bytes",
    "zeros.jsonl.zst": "unpacks to more than 157,286,400 bytes",
    "line.jsonl": [2, 1],
    "line.jsonl.gz": [2, 1],
    "line.csv": [2, 1],
    "quote.csv": [50_002, 100_000],
    "header.csv": "the header line is longer than 16 MiB",
    "deep.jsonl": [1, 1],
    "deep.json": "holds no readable row",
    "many.json": "unknown shape",
    "lists.jsonl": [1, 1],
    "object.json": "begins like one JSON object of more than 64 MiB",
    "wide.jsonl": [20, 0],
    "wide.csv": [20, 0],
    "wide.parquet": [20, 0],
    "repeated.parquet": "unpacks to more than 157,286,400 bytes",
    "row.parquet": [2, 1],
    "zeros.parquet": "no decompression bomb",
    "nulls.parquet": "no decompression bomb",
}


def test_bombs_stay_below_two_gibibytes(tmp_path: Path) -> None:
    write_bombs(tmp_path)
    found = read(tmp_path)
    assert set(found) == set(EXPECTED)
    for name, expected in EXPECTED.items():
        result, _, memory = found[name]
        assert expected in result if isinstance(expected, str) else expected == result, (name, result)
        assert memory < LIMIT, (name, memory)


@pytest.mark.parametrize("suffix", ["jsonl", "jsonl.zst", "json", "csv", "csv.gz", "parquet"])
def test_readers_hold_a_piece_at_a_time(tmp_path: Path, suffix: str) -> None:
    # 120 MB in 60,000 rows; what is held is some blocks of 4 MiB, and the rows in them.
    rows = [row(n, f"{n} " + "answer " * 280) for n in range(60_000)]
    text = b"\n".join(json.dumps(item).encode() for item in rows)
    if suffix.startswith("jsonl"):
        write(tmp_path, f"x.{suffix}", zstandard.ZstdCompressor(level=1).compress(text) if "zst" in suffix else text)
    elif suffix == "json":
        write(tmp_path, "x.json", b"[" + text.replace(b"\n", b",") + b"]")
    elif suffix.startswith("csv"):
        lines = "\n".join(["question,answer", *(f"{item['question']},{item['answer']}" for item in rows)]).encode()
        write(tmp_path, f"x.{suffix}", gzip.compress(lines, 1) if "gz" in suffix else lines)
    else:
        write_table(tmp_path, "x.parquet", pa.Table.from_pylist(rows))
    ((found, before, after),) = read(tmp_path, "stream").values()
    assert found == [60_000, 0]
    assert after - before < (250 if suffix == "json" else 100)
