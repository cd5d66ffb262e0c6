"""Columns of the sources that no shape uses, written to a file beside the splits on request.

``keep: true`` on a source keeps all of them, ``keep: [ticket, meta.region]`` some. ``extra.parquet`` has one line per
row with such columns, keyed by ``id``, with the columns as one JSON object in ``extra``. It also has the part number of
rows that the step `chunk` cut from a document. Personal data is removed from these columns as from the texts; the other
cleaning steps do not change them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from tasks.contracts.tables import add_file, write_table
from tasks.corpus.reading.shapes.recognise import open_paths
from tasks.corpus.rows.rows import Listing, Rows

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
        keep: True for all unused columns, or their names; a dot reaches into an object or a list.
        used: Columns of the shape; of an object that one of them reaches into, the rest is kept.
        row: The row as the source read it.
    """
    chosen: dict[str, Any]
    if isinstance(keep, bool):
        chosen = {name: value for name, value in row.items() if name not in used}
        for path in used:
            if "." in path and path not in row:
                chosen = _remove_path(chosen, path.split("."))
    else:
        opened = open_paths(row, {name: name for name in keep})
        chosen = {name: opened[name] for name in keep if name in opened}
    return [
        {"name": name, "value": value, "json": False}
        if isinstance(value, str)
        else {"name": name, "value": orjson.dumps(value, default=str).decode(), "json": True}
        for name, value in chosen.items()
    ]


def _remove_path(value: Any, path: Sequence[str]) -> Any:
    if not isinstance(value, dict) or path[0] not in value:
        return value
    if len(path) == 1:
        return {name: child for name, child in value.items() if name != path[0]}
    return value | {path[0]: _remove_path(value[path[0]], path[1:])}


def join_values(values: Sequence[Mapping[str, Any]]) -> str:
    """The kept columns as one JSON object."""
    return orjson.dumps({entry["name"]: _read(entry) for entry in values}).decode()


def _read(entry: Mapping[str, Any]) -> Any:
    if not entry["json"]:
        return entry["value"]
    try:
        return orjson.loads(entry["value"])
    except orjson.JSONDecodeError:
        # The removal of personal data may leave text that is no JSON.
        return entry["value"]


def write_extra(rows: Rows, path: Path) -> dict[str, int]:
    """Write the kept columns.

    Args:
        rows: The rows at the end of the stage.
        path: The Parquet file; it is written empty when no column was kept and no document was cut.

    Returns:
        Number of lines.
    """
    schema = add_file(EXTRA, rows.table["file"])
    tables = [_list_lines(table, schema) for table in (rows.table, rows.rejected) if table is not None]
    table = pa.concat_tables(tables)
    write_table(table, path, schema)
    return {"lines": table.num_rows}


def _list_lines(table: pa.Table, schema: pa.Schema) -> pa.Table:
    for name, kind in ((COLUMN, TYPE), (PART, pa.int32()), (PARTS, pa.int32())):
        if name not in table.column_names:
            table = table.append_column(name, pa.nulls(table.num_rows, kind))
    table = table.filter(pc.or_(pc.is_valid(table[COLUMN]), pc.is_valid(table[PART])))
    texts = [None if values is None else join_values(values) for values in table[COLUMN].to_pylist()]
    columns = {name: table[name] for name in schema.names if name != "extra"}
    return pa.table({**columns, "extra": pa.array(texts, pa.string())}).select(schema.names).cast(schema)


def list_padded_columns(title: str, counts: Mapping[str, int]) -> list[Listing]:
    """The columns whose objects had keys without a value, as a table for the report; empty without any."""
    rows = tuple((title, column, count) for column, count in sorted(counts.items()))
    if not rows:
        return []
    note = "Arrow fills keys that an object does not have with null, so null and absent are one; both count as absent."
    return [Listing(f"Keys without a value: {title}", ("source", "column", "keys left out"), rows, note)]


# Columns: hash of the document, number of the part, and number of parts; null for rows that were not cut.
DOCUMENT, PART, PARTS = "document", "part", "parts"
