"""Parquet files that are the same bytes for the same rows."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tasks.contracts.errors import PipelineError
from tasks.contracts.manifest import replacing
from tasks.contracts.records import ANSWER_SETS, EXAMPLES, STEPS, UNTRAINED

# Which file of its source a row comes from; written only where a source has several, so that its row number is unique.
FILE = pa.field("file", pa.string(), nullable=False)


def add_file(schema: pa.Schema, files: pa.ChunkedArray) -> pa.Schema:
    """A schema with the file of each row after its other columns, if any row comes from a source of several files.

    Args:
        schema: Of the table to be written.
        files: File of each row, empty for a source of a single file.
    """
    return schema.append(FILE) if pc.any(pc.not_equal(files, "")).as_py() else schema


def write_table(table: pa.Table, path: Path, schema: pa.Schema, private: bool = False) -> None:
    """Write rows under a fixed schema, aside first and renamed into place.

    Raises:
        PipelineError: The rows do not fit the schema, or the disk refused them.
    """
    try:
        # The bytes depend on the pieces in which the rows lie in memory, and those on how the work was shared out.
        fitted = table.select(schema.names).cast(schema).combine_chunks()
        for field in schema:
            if not field.nullable and fitted[field.name].null_count:
                raise PipelineError(f'{path}: column "{field.name}" has empty values; it must be filled')
        with replacing(path, private) as aside:
            pq.write_table(fitted, aside, compression="zstd")
    except (pa.ArrowInvalid, KeyError) as error:
        raise PipelineError(f"{path}: rows do not fit the schema ({error})") from error


def add_untrained(schema: pa.Schema, table: pa.Table) -> pa.Schema:
    """A schema with the column `UNTRAINED` after its other columns, if any row of the table has answers without loss.

    Args:
        schema: Of the table to be written.
        table: All rows, so that every file that is written of them has the same columns.
    """
    has_any = UNTRAINED.name in table.column_names and table[UNTRAINED.name].null_count < table.num_rows
    return schema.append(UNTRAINED) if has_any else schema


def read_examples(path: Path) -> pa.Table:
    """Read rows of the schema `EXAMPLES`, with the column `UNTRAINED` where the file has it.

    Raises:
        PipelineError: As `read_table`.
    """
    return read_table(path, EXAMPLES, optional=UNTRAINED)


def read_answers(path: Path) -> pa.Table:
    """Read rows of the schema `ANSWER_SETS`, with the column `STEPS` where the file has it.

    Raises:
        PipelineError: As `read_table`.
    """
    return read_table(path, ANSWER_SETS, optional=STEPS)


def read_table(path: Path, schema: pa.Schema, optional: pa.Field | None = None) -> pa.Table:
    """Read rows written by `write_table`, without the column `FILE`.

    Args:
        path: The Parquet file.
        schema: Columns that it must have.
        optional: A column that may follow them.

    Raises:
        PipelineError: The file is missing, unreadable or of another schema.
    """
    if not path.is_file():
        raise PipelineError(f"{path}: missing; run `heptune run` (or `dvc repro`) to make it")
    try:
        # `pq.read_table` gives the same, but reads through Arrow's datasets, which import pandas.
        with pq.ParquetFile(path) as file:
            table = file.read()
    except (pa.ArrowInvalid, OSError) as error:
        raise PipelineError(f"{path}: not a readable Parquet file ({error}); delete it and run again") from error
    if FILE.name in table.schema.names and FILE.name not in schema.names:
        table = table.drop_columns([FILE.name])
    expected = schema.names
    if optional is not None and optional.name in table.schema.names:
        expected = [*expected, optional.name]
    if table.schema.names != expected:
        raise PipelineError(f"{path}: columns {table.schema.names}; expected {schema.names}")
    return table
