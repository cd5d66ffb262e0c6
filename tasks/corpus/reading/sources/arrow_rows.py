"""Rows of Arrow tables, as many at a time as fit into memory, and what a Parquet file may claim."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

from tasks.contracts.errors import PipelineError
from tasks.corpus.reading.sources.broken_rows import show_row
from tasks.corpus.reading.sources.source import Broken, Part
from tasks.corpus.reading.sources.values import MAX_DEPTH, MAX_ROW_BYTES, TOO_DEEP, TOO_LONG, is_deep, to_plain

# Bytes of text that are held at a time, and rows at most.
HELD = 64 * 1024 * 1024
MOST_ROWS = 1024
MOST_COLUMNS = 20_000
# Text packs to a twentieth at best. A file that claims more than this, and more than `HELD`, is made to harm.
MOST_TIMES = 200
LEAST_ROW = 64

# Keys by which an object is a turn of a conversation, in which null is read as absent.
TURN_ROLES = frozenset({"role", "from", "speaker"})

UNREADABLE = (ValueError, OverflowError, pa.ArrowException)


def read_classes(schema: pa.Schema) -> dict[str, list[str]]:
    """Column to the names of its classes, where the hub's library wrote the file and the column holds their numbers."""
    try:
        features = orjson.loads((schema.metadata or {}).get(b"huggingface", b"{}"))["info"]["features"]
        kinds = {name: kind for name, kind in features.items() if kind.get("_type") == "ClassLabel"}
        classes = {name: kind["names"] for name, kind in kinds.items() if types.is_integer(schema.field(name).type)}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}
    return {name: names for name, names in classes.items() if all(isinstance(each, str) for each in names)}


def name_classes(part: Part, classes: Mapping[str, Sequence[str]]) -> None:
    """Put the names of the classes where their numbers stand; a number without a name says nothing."""
    for column, names in classes.items():
        for item in part.items:
            number = item[column]
            item[column] = names[number] if number is not None and 0 <= number < len(names) else None


def check_claims(file: Any, name: str, packed: int, max_bytes: int) -> None:
    """Refuse a file by what its footer says, before any of it is unpacked.

    Args:
        file: Opened by pyarrow.
        name: What it is called in messages.
        packed: Its size in bytes.
        max_bytes: Most bytes it may unpack to.

    Raises:
        PipelineError: It unpacks to too much, has too many columns, or names one twice.
    """
    metadata = file.metadata
    twice = sorted(column for column, count in Counter(file.schema_arrow.names).items() if count > 1)[:20]
    if twice:
        raise PipelineError(f"{name}: its schema names {twice} twice; rename one of the columns")
    if metadata.num_columns > MOST_COLUMNS:
        raise PipelineError(f"{name}: {metadata.num_columns:,} columns; at most {MOST_COLUMNS:,} are read")
    size = sum(metadata.row_group(group).total_byte_size for group in range(metadata.num_row_groups))
    if max(size, metadata.num_rows * LEAST_ROW) > max_bytes or size > max(HELD, MOST_TIMES * packed):
        raise PipelineError(
            f"{name}: {packed:,} bytes say they unpack to {size:,} bytes and {metadata.num_rows:,} rows; check that it "
            f"is no decompression bomb, then raise max_bytes ({max_bytes:,}) or write it again"
        )


def _columns(file: Any, group: int) -> list[Any]:
    # A chunk whose description is damaged ends the whole process when it is asked for here, yet is an error where a
    # row is read; so a row is read first.
    next(file.iter_batches(1, row_groups=[group]), None)
    row_group = file.metadata.row_group(group)
    return [row_group.column(number) for number in range(row_group.num_columns)]


def choose_rows(path: Path, file: Any, group: int) -> int:
    """How many rows of a row group are read at a time, so that they hold about `HELD` bytes of text at most.

    A text that repeats is stored once, in a dictionary, so a small file can hold a large one a million times.
    """
    import pyarrow.parquet as pq

    texts = [column for column in _columns(file, group) if column.physical_type == "BYTE_ARRAY"]
    rows = [HELD * column.num_values // max(column.total_uncompressed_size, 1) for column in texts]
    repeated = {
        column.path_in_schema: column.total_uncompressed_size
        for column in texts
        if column.has_dictionary_page and column.total_uncompressed_size > HELD // MOST_ROWS
    }
    if repeated:
        with pq.ParquetFile(path, read_dictionary=list(repeated)) as again:
            first = next(again.iter_batches(1, row_groups=[group], columns=list(repeated)), None)
        longest = max((_measure(column) for column in first.columns), default=0) if first is not None else 0
        rows.append(HELD // (longest or max(repeated.values())))
    return max(1, int(min([MOST_ROWS, *rows])))


def spell_out(table: pa.Table) -> pa.Table:
    """The same rows, each with its own text where columns are dictionaries."""
    for place, field in enumerate(table.schema):
        if types.is_dictionary(field.type):
            table = table.set_column(place, field.name, table.column(place).cast(field.type.value_type))
    return table


def _measure(array: Any) -> int:
    """Bytes of the longest text in the dictionaries of an array; 0 when it has none."""
    if types.is_dictionary(array.type):
        lengths = pc.binary_length(array.dictionary.cast(pa.large_binary()))
        return int(pc.max(lengths).as_py() or 0)
    if types.is_struct(array.type):
        return max(map(_measure, array.flatten()), default=0)
    return _measure(array.values) if types.is_nested(array.type) else 0


def split_table(table: pa.Table, file: str = "", first: int = 1) -> Part:
    """The rows of an Arrow table, the number of the first given; a row that Python cannot hold becomes a broken one."""
    part = Part(file)
    for place, field in enumerate(table.schema):
        if types.is_float32(field.type):
            # 0.1 is to be 0.1, and not the nearest number of 64 bits to it.
            shortest = table.column(place).cast(pa.string()).cast(pa.float64())
            table = table.set_column(place, field.name, shortest)
    odd = [field.name for field in table.schema if not _is_plain(field.type)]
    deep = any(_count_levels(field.type) >= MAX_DEPTH for field in table.schema)
    large = table.nbytes > MAX_ROW_BYTES
    padded = [field.name for field in table.schema if _has_objects(field.type)]
    for number, item in enumerate(_list_rows(table), start=first):
        if isinstance(item, Broken):
            part.broken.append(item._replace(number=number))
            continue
        for name in odd:
            item[name] = to_plain(item[name])
        for name in padded:
            item[name], count = _leave_out_nulls(item[name])
            part.padded[name] += count
        if large and _count_bytes(item) > MAX_ROW_BYTES:
            part.broken.append(Broken(number, TOO_LONG, show_row(item)))
        elif deep and is_deep(item):
            part.broken.append(Broken(number, TOO_DEEP, show_row(item)))
        else:
            part.items.append(item)
            part.numbers.append(number)
    part.padded = +part.padded
    return part


def _has_objects(kind: pa.DataType) -> bool:
    """Whether a type holds objects other than the turns of a conversation."""
    if types.is_map(kind):
        return False
    if types.is_struct(kind):
        fields = [kind.field(number) for number in range(kind.num_fields)]
        is_turn = not TURN_ROLES.isdisjoint(field.name for field in fields)
        return not is_turn or any(_has_objects(field.type) for field in fields)
    inner = [kind.field(number).type for number in range(kind.num_fields)] if types.is_nested(kind) else []
    return any(map(_has_objects, inner))


def _leave_out_nulls(value: Any) -> tuple[Any, int]:
    """A value without the keys of its objects that are null, at any depth, and their number; turns keep theirs.

    A struct of Arrow has all keys that any row has: `{"city": "Paris"}` beside `{"date": "Friday"}` becomes
    `{"city": "Paris", "date": null}`, which would teach calls with arguments that nobody gave.
    """
    if isinstance(value, list):
        pairs = [_leave_out_nulls(item) for item in value]
        return [item for item, _ in pairs], sum(count for _, count in pairs)
    if not isinstance(value, dict):
        return value, 0
    is_turn = not TURN_ROLES.isdisjoint(value)
    kept = {key: _leave_out_nulls(item) for key, item in value.items() if item is not None or is_turn}
    count = len(value) - len(kept) + sum(count for _, count in kept.values())
    return {key: item for key, (item, _) in kept.items()}, count


def _list_rows(table: pa.Table) -> list[Any]:
    try:
        rows: list[Any] = table.to_pylist()
    except UNREADABLE:
        # One row is the reason: all are read by themselves.
        return [_read_row(table.slice(row, 1)) for row in range(table.num_rows)]
    return rows


def _read_row(row: pa.Table) -> Any:
    try:
        return row.to_pylist()[0]
    except UnicodeDecodeError:
        reason = "not UTF-8"
    except UNREADABLE:
        reason = "a value is out of range"
    return Broken(0, reason, show_row({name: _salvage(row[name]) for name in row.column_names}))


def _salvage(column: pa.ChunkedArray) -> Any:
    for kind in (column.type, pa.binary()):
        try:
            value = column.cast(kind).to_pylist()[0]
        except UNREADABLE:
            continue
        return value.decode(errors="backslashreplace") if isinstance(value, bytes) else value
    return "?"


def _count_bytes(value: Any) -> int:
    if isinstance(value, dict):
        return sum(_count_bytes(item) for item in value.values())
    if isinstance(value, list):
        return sum(_count_bytes(item) for item in value)
    return len(value) if isinstance(value, str | bytes) else 8


def _is_plain(kind: pa.DataType) -> bool:
    """Whether Python's values of an Arrow type are JSON values; floats may be NaN, which is none."""
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind) or types.is_struct(kind):
        return all(_is_plain(kind.field(number).type) for number in range(kind.num_fields))
    return bool(
        types.is_string(kind)
        or types.is_large_string(kind)
        or types.is_integer(kind)
        or types.is_boolean(kind)
        or types.is_null(kind)
    )


def _count_levels(kind: pa.DataType) -> int:
    if not types.is_nested(kind):
        return 0
    return 1 + max((_count_levels(kind.field(number).type) for number in range(kind.num_fields)), default=0)
