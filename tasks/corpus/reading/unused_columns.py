"""Columns of the sources that take no part, kept beside the splits for those who ask for them.

``keep: true`` on a source keeps all of them, ``keep: [ticket, meta.region]`` some. ``extra.parquet`` has a line per row
that has such columns, found by ``id``: they stand in ``extra`` as one JSON object. It also says which part of its
document a row is where the step `chunk` cut it. Personal data is taken out of the columns as out of the texts; the
other cleaning steps leave them as they came.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from tasks.contracts.tables import write_table
from tasks.corpus.reading.shapes.recognise import open_paths
from tasks.corpus.rows.rows import Rows

COLUMN = "extra"
# A value is a text, or the JSON of anything else, so that the step for personal data sees all of it.
TYPE = pa.list_(pa.struct([("name", pa.string()), ("value", pa.string()), ("json", pa.bool_())]))
EXTRA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("row", pa.int64(), nullable=False),
        pa.field("part", pa.int32()),
        pa.field("parts", pa.int32()),
        pa.field("extra", pa.string()),
    ]
)


def pick_values(keep: bool | Sequence[str], used: Sequence[str], row: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The columns of a row to keep.

    Args:
        keep: True for all that take no part, or their names; a dot goes into an object or a list.
        used: Columns that take part; of an object that one of them reaches into, the rest is kept.
        row: As the source gave it.
    """
    chosen: dict[str, Any]
    if isinstance(keep, bool):
        chosen = {name: value for name, value in row.items() if name not in used}
        for path in used:
            if "." in path and path not in row:
                chosen = _leave_out(chosen, path.split("."))
    else:
        opened = open_paths(row, {name: name for name in keep})
        chosen = {name: opened[name] for name in keep if name in opened}
    return [
        {"name": name, "value": value, "json": False}
        if isinstance(value, str)
        else {"name": name, "value": orjson.dumps(value, default=str).decode(), "json": True}
        for name, value in chosen.items()
    ]


def _leave_out(value: Any, path: Sequence[str]) -> Any:
    if not isinstance(value, dict) or path[0] not in value:
        return value
    if len(path) == 1:
        return {name: below for name, below in value.items() if name != path[0]}
    return value | {path[0]: _leave_out(value[path[0]], path[1:])}


def join_values(values: Sequence[Mapping[str, Any]]) -> str:
    """The kept columns as one JSON object."""
    return orjson.dumps({each["name"]: _read(each) for each in values}).decode()


def _read(each: Mapping[str, Any]) -> Any:
    if not each["json"]:
        return each["value"]
    try:
        return orjson.loads(each["value"])
    except orjson.JSONDecodeError:
        # Personal data that was taken out of it left no JSON behind.
        return each["value"]


def write_extra(rows: Rows, path: Path) -> dict[str, int]:
    """Write the kept columns.

    Args:
        rows: At the end of the stage.
        path: The Parquet file; it has no line when nothing was to be kept and nothing was cut.

    Returns:
        Number of lines.
    """
    tables = [_list_lines(table) for table in (rows.table, rows.rejected) if table is not None]
    table = pa.concat_tables(tables)
    write_table(table, path, EXTRA)
    return {"lines": table.num_rows}


def _list_lines(table: pa.Table) -> pa.Table:
    for name, kind in ((COLUMN, TYPE), (PART, pa.int32()), (PARTS, pa.int32())):
        if name not in table.column_names:
            table = table.append_column(name, pa.nulls(table.num_rows, kind))
    table = table.filter(pc.or_(pc.is_valid(table[COLUMN]), pc.is_valid(table[PART])))
    texts = [None if values is None else join_values(values) for values in table[COLUMN].to_pylist()]
    columns = {name: table[name] for name in ("id", "source", "row", "part", "parts")}
    return pa.table({**columns, "extra": pa.array(texts, pa.string())}, schema=EXTRA)


# Columns: hash of the document, number of the part, and how many there are; null for rows that were not cut.
DOCUMENT, PART, PARTS = "document", "part", "parts"
