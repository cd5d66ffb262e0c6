"""The bytes of a table are those of its rows, however they lie in memory."""

from __future__ import annotations

import re
from pathlib import Path

import pyarrow as pa

from tasks.contracts.tables import read_table, write_table
from tests.checkout import ROOT

# Fewer fit into one page of the file, where their pieces do not show.
ROWS = 20_000
SCHEMA = pa.schema([pa.field("text", pa.string(), nullable=False), pa.field("row", pa.int64())])


def test_pieces_in_memory_do_not_show_in_the_file(tmp_path: Path) -> None:
    whole = pa.table({"text": [f"text {n} " * 20 for n in range(ROWS)], "row": range(ROWS)}, schema=SCHEMA)
    written = []
    for size in (ROWS, 1700, 64):
        pieces = pa.concat_tables([whole.slice(start, size) for start in range(0, ROWS, size)])
        write_table(pieces, tmp_path / f"{size}.parquet", SCHEMA)
        written.append((tmp_path / f"{size}.parquet").read_bytes())
    assert written[0] == written[1] == written[2]
    assert read_table(tmp_path / "64.parquet", SCHEMA).equals(whole)


def test_nobody_reads_rows_without_their_optional_column() -> None:
    """`read_table` with `EXAMPLES` would refuse splits that have answers without loss."""
    code = {path: path.read_text() for name in ("flows", "tasks") for path in (ROOT / name).rglob("*.py")}
    reads = {path.name for path, text in code.items() if re.search(r"read_table\([^()]*\bEXAMPLES\b", text)}
    assert reads == {"tables.py"}
