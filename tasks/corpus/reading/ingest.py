"""Read all sources into one table of conversations."""

from __future__ import annotations

import gc
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, Literal, Protocol

import orjson
import pyarrow as pa

from tasks.contracts.errors import PipelineError, raise_all
from tasks.contracts.leftovers import walk_files
from tasks.contracts.records import QUARANTINE, STEPS, UNTRAINED
from tasks.corpus.engines.spread import IN_TURN, Spread
from tasks.corpus.reading.answers import COLUMN, describe_answers, list_steps
from tasks.corpus.reading.limit import RowSample
from tasks.corpus.reading.marks import count_untrained, leave_unlearned_end, list_untrained
from tasks.corpus.reading.shapes.nested import INHERITED, is_nested, unfold_row
from tasks.corpus.reading.shapes.recognise import (
    Recognised,
    find_label,
    name_columns,
    open_paths,
    recognise_shape,
    use_columns,
    use_shape,
)
from tasks.corpus.reading.shapes.shape import ConvertedRow, RowError
from tasks.corpus.reading.sources.arrow_rows import split_table
from tasks.corpus.reading.sources.broken_rows import show_row
from tasks.corpus.reading.sources.source import Broken, Fields, Part, Records
from tasks.corpus.reading.sources.unpack import fix_encoding
from tasks.corpus.reading.sources.values import find_integer_columns, restore_integers
from tasks.corpus.reading.unused_columns import COLUMN as EXTRA
from tasks.corpus.reading.unused_columns import TYPE, list_padded_columns, pick_values
from tasks.corpus.reading.unused_turn_keys import count_unused_turn_keys, list_unused_turn_keys
from tasks.corpus.rows.rows import CARRIED, ROWS, Origin, Rows, Step, build_messages

log = logging.getLogger(__name__)

OnBadRow = Literal["quarantine", "stop"]
MAX_SHOWN_ROWS = 10
DEFAULT_FIX = "check that the file is of this kind"
# How to fix a file without a single readable row, by the reason of its first broken row.
FIXES = {
    "not JSON": "a JSON object per line or an array of them is read; `jq -c .` writes objects so",
    "not CSV": "set quotes: false if quotation marks in it are text, or fix them",
    "another number of fields": "set delimiter to what stands between the fields",
}
MIN_SAMPLE_ROWS = 500
MAX_NAME_CHARACTERS = 40
MAX_BROKEN_ROWS = 1_000_000


class ReadableSource(Protocol):
    """Interface of a source; its params are those of `Source`."""

    @property
    def name(self) -> str: ...
    @property
    def title(self) -> str: ...
    @property
    def weight(self) -> float: ...
    @property
    def limit(self) -> int | None: ...
    @property
    def shape(self) -> str: ...
    @property
    def fields(self) -> Fields | None: ...
    @property
    def label(self) -> str | None: ...
    @property
    def keep(self) -> bool | Sequence[str]: ...
    @property
    def optional(self) -> bool: ...
    def read(self, root: Path) -> Records | pa.Table: ...


def read_sources(
    sources: Sequence[ReadableSource],
    on_bad_row: OnBadRow,
    root: Path,
    columns: Sequence[str] = (),
    spread: Spread = IN_TURN,
) -> Rows:
    """Read every source, recognise its shape and convert its rows.

    Args:
        sources: In the order of params; the order decides which of two duplicates is the first.
        on_bad_row: Whether a broken row is moved to the quarantine or stops the stage.
        root: Folder to which relative paths refer.
        columns: Columns of the sources carried along as text for the split.
        spread: Engine that parses and converts the parts of the files.

    Returns:
        The rows, with the broken ones in ``dropped``.

    Raises:
        PipelineError: Sources that are missing, empty, of unknown shape or that differ from their pin, all reported
            together; or the first broken rows when ``on_bad_row`` is ``stop``.
    """
    problems: list[str] = []
    tables: list[pa.Table] = []
    dropped: list[pa.Table] = []
    origins: list[Origin] = []
    for source in sources:
        try:
            table, broken_rows, origin = read_source(source, root, columns, spread)
        except PipelineError as error:
            problems.append(str(error))
            continue
        tables.append(table)
        dropped.append(broken_rows)
        origins.append(origin)
    raise_all(problems, "sources")
    rows = pa.concat_tables(tables, promote_options="default") if tables else ROWS.empty_table()
    bad = pa.concat_tables(dropped) if dropped else QUARANTINE.empty_table()
    if on_bad_row == "stop" and bad.num_rows:
        _stop(bad)
    raise_all(
        [
            f'no row of any source has the column "{column}" that data_preparation.split.method names; '
            "correct its name or add it to a source"
            for column in columns
            if CARRIED + column not in rows.column_names or rows[CARRIED + column].null_count == rows.num_rows > 0
        ],
        "sources",
    )
    if not rows.num_rows:
        raise PipelineError("no source gave a single row; give data_preparation.sources one that holds rows")
    reasons = Counter(bad["reason"].to_pylist())
    left_out = sum(origin.left_out for origin in origins)
    untrained = count_untrained(rows)
    step = Step(
        "read",
        rows.num_rows + bad.num_rows,
        rows.num_rows,
        reasons=dict(sorted(reasons.items(), key=lambda item: (-item[1], item[0]))),
        notes=({"beyond_limit": left_out} if left_out else {})
        | ({"answers_without_loss": untrained} if untrained else {}),
        listings=tuple(listing for origin in origins for listing in origin.listings),
    )
    return Rows(rows, bad, (step,), tuple(replace(origin, listings=()) for origin in origins))


def _stop(broken_rows: pa.Table) -> None:
    lines = [
        f"{row['source']}:{row['row']}: {row['reason']}; fix the row or set on_bad_row: quarantine"
        for row in broken_rows.slice(0, MAX_SHOWN_ROWS).to_pylist()
    ]
    if broken_rows.num_rows > MAX_SHOWN_ROWS:
        lines.append(f"and {broken_rows.num_rows - MAX_SHOWN_ROWS} more")
    raise_all(lines, "bad rows")


def read_source(
    source: ReadableSource, root: Path, columns: Sequence[str] = (), spread: Spread = IN_TURN
) -> tuple[pa.Table, pa.Table, Origin]:
    """Read one source: its rows, its broken rows in the schema of the quarantine, and its description.

    Raises:
        PipelineError: It is missing, empty, of unknown shape, or has no readable row.
    """
    title, place = source.title or source.name, name_place(source)
    content = source.read(root)
    records = content if isinstance(content, Records) else Records([split_table(content)])
    parts = iter(records.parts)
    first_parts = _read_first_parts(parts)
    items = [item for part in first_parts for item in part.items]
    broken = [row for part in first_parts for row in part.broken]
    if not items and not broken:
        if source.optional:
            log.info('source "%s": %s is not there or empty; it is optional', title, place)
            return ROWS.empty_table(), QUARANTINE.empty_table(), _origin(source, records)
        problem = "is empty" if records.files else _describe_folder(root / place) or "does not exist"
        raise PipelineError(f'source "{title}": {place} {problem}; put rows there, correct path, or set optional: true')
    if not items:
        raise PipelineError(
            f'source "{title}": {place} holds no readable row, line {broken[0].number} is {broken[0].reason}; '
            + _find_fix(source, broken[0].reason)
        )
    integers = find_integer_columns(items, is_delimited(source))
    restore_integers(items, integers)
    shape = choose_shape(source, title, items)
    label = source.label or find_label(shape, items)
    if source.label is not None and not any(_has_column(item, source.label) for item in items):
        raise PipelineError(f'source "{title}": no column "{source.label}" for the label; it has {name_columns(items)}')
    bound_columns = [column for column in (*shape.columns.values(), label) if column is not None]
    if not isinstance(source.keep, bool):
        _require_columns(title, source.keep, items)
    pick_extra = partial(pick_values, source.keep, bound_columns) if source.keep else None
    names = name_columns(items)
    items.clear()
    row_sample = RowSample(source.limit)
    broken_rows: list[pa.Table] = []
    rows = broken_count = 0
    turn_keys: Counter[str] = Counter()
    padded: Counter[str] = Counter()
    convert = partial(_convert_part, title, shape, label, columns, pick_extra, integers)
    for table, bad, count, unused_keys, nulls in spread("read", convert, chain(_release_parts(first_parts), parts)):
        turn_keys.update(unused_keys)
        padded.update(nulls)
        row_sample.add(table)
        broken_rows.append(bad)
        rows += count
        broken_count += bad.num_rows
        if broken_count > MAX_BROKEN_ROWS:
            raise PipelineError(
                f'source "{title}": more than {MAX_BROKEN_ROWS:,} rows of {place} cannot be read, the last for '
                f'"{bad["reason"][-1]}"; fix the source, or remove it'
            )
    used_columns = {*shape.columns.values(), label, *columns}
    used_columns |= set(source.keep if not isinstance(source.keep, bool) else names if source.keep else ())
    unused = tuple(column for column in names if column not in used_columns)
    tables = row_sample.finish()
    records.listings += list_unused_turn_keys(title, turn_keys) + list_padded_columns(title, padded)
    return (
        pa.concat_tables(tables, promote_options="default"),
        pa.concat_tables(broken_rows),
        _origin(source, records, shape, rows, row_sample.left_out, unused),
    )


def is_delimited(source: Any) -> bool:
    """Whether the numbers of a source are text."""
    return bool(getattr(source, "source", source).name == "csv")


def _find_fix(source: ReadableSource, reason: str) -> str:
    """What to do about a source without a single readable row."""
    encoding = reason.removeprefix("not ")
    if encoding in ("UTF-8", "UTF-16", "UTF-32", getattr(source, "encoding", "")):
        return fix_encoding(encoding) if hasattr(source, "encoding") else "convert it to UTF-8"
    return next((step for start, step in FIXES.items() if reason.startswith(start)), DEFAULT_FIX)


def _read_first_parts(parts: Iterator[Part]) -> list[Part]:
    """The first parts, with enough rows to recognise the shape."""
    first_parts: list[Part] = []
    while sum(len(part.items) for part in first_parts) < MIN_SAMPLE_ROWS and (part := next(parts, None)) is not None:
        first_parts.append(unfold_part(part))
    return first_parts


def _release_parts(first_parts: list[Part]) -> Iterator[Part]:
    """The parts, each removed from the list when it is used, so that its memory is freed."""
    while first_parts:
        yield first_parts.pop(0)


def name_place(source: ReadableSource) -> str:
    """Path, URL or name of a source, as configured."""
    return str(getattr(source, "place", None) or getattr(source, "path", source.name))


def _origin(
    source: ReadableSource,
    records: Records,
    shape: Recognised | None = None,
    rows: int = 0,
    left_out: int = 0,
    unused: tuple[str, ...] = (),
) -> Origin:
    return Origin(
        source.title or source.name,
        source.name,
        name_place(source),
        shape.name if shape else "",
        dict(records.files),
        rows,
        source.weight,
        unused,
        left_out,
        shape.confidence if shape else 1.0,
        dict(shape.candidates) if shape else {},
        tuple(records.listings),
    )


def unfold_part(part: Part) -> Part:
    """A part with its nested rows of passages or instances flattened; the rows of one nested row share its number."""
    if not any(is_nested(item) for item in part.items if not INHERITED.keys().isdisjoint(item)):
        return part
    unfolded = [
        (item, number)
        for row, number in zip(part.items, part.numbers, strict=True)
        for item in (unfold_row(row) if is_nested(row) else [row])
    ]
    return Part(part.file, [item for item, _ in unfolded], [number for _, number in unfolded], part.broken, part.padded)


def choose_shape(source: ReadableSource, title: str, items: Sequence[Mapping[str, Any]]) -> Recognised:
    """The shape of a source: by ``fields``, by name, or recognised.

    Raises:
        PipelineError: A mapped column is in no row, or the shape is unknown or ambiguous.
    """
    if source.fields is not None:
        return use_columns(title, source.fields.list_columns(source.label), items)
    if source.shape != "auto":
        return use_shape(title, source.shape, items)
    try:
        return recognise_shape(title, items)
    except PipelineError as error:
        if source.name != "csv" or not _looks_like_row(items[0]):
            raise
        raise PipelineError(
            f'source "{title}": the first line looks like a row and no header, {name_columns(items)}; '
            "name the columns, such as columns: [text, label], or if it is the header, with fields"
        ) from error


def _looks_like_row(names: Iterable[str]) -> bool:
    """Whether column names look like values: long, numbers or sentences."""
    return any(
        len(name) > MAX_NAME_CHARACTERS or name.replace(".", "").isdecimal() or name.endswith((".", "?", "!"))
        for name in names
    )


@contextmanager
def _without_collector() -> Iterator[None]:
    """Disable garbage collection: parsed rows have no cycles, and searching for them takes as long as parsing."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@_without_collector()
def _convert_part(
    title: str,
    shape: Recognised,
    label: str | None,
    columns: Sequence[str],
    pick_extra: Callable[[Mapping[str, Any]], list[dict[str, Any]]] | None,
    integers: Sequence[str],
    part: Part,
) -> tuple[pa.Table, pa.Table, int, Counter[str], Counter[str]]:
    part = unfold_part(part)
    restore_integers(part.items, integers)
    numbers: list[int] = []
    labels: list[str | None] = []
    conversations: list[ConvertedRow] = []
    carried: dict[str, list[str | None]] = {column: [] for column in columns}
    extra: list[list[dict[str, Any]]] = []
    broken = list(part.broken)
    turn_keys: Counter[str] = Counter()
    for number, item in zip(part.numbers, part.items, strict=True):
        try:
            conversation = leave_unlearned_end(shape.convert(item))
        except RowError as error:
            broken.append(Broken(number, str(error), show_row(item)))
            continue
        conversations.append(conversation)
        turn_keys.update(count_unused_turn_keys(item, shape.columns))
        numbers.append(number)
        labels.append(_read_label(_get_value(item, label)) if label else None)
        for column, values in carried.items():
            values.append(_read_carried(_get_value(item, column)))
        if pick_extra is not None:
            extra.append(pick_extra(item))
    place = f"{title}/{part.file}" if part.file else title
    broken_table = [
        {"source": place, "row": row.number, "step": row.step, "reason": row.reason, "content": row.content}
        for row in sorted(broken)
    ]
    table = pa.table(
        {
            "source": pa.array([title] * len(conversations), pa.string()),
            "file": pa.array([part.file] * len(conversations), pa.string()),
            "row": pa.array(numbers, pa.int64()),
            "label": pa.array(labels, pa.string()),
            "messages": build_messages([conversation.turns for conversation in conversations]),
        },
        schema=ROWS,
    )
    for column, values in carried.items():
        table = table.append_column(CARRIED + column, pa.array(values, pa.string()))
    if pick_extra is not None:
        table = table.append_column(EXTRA, pa.array(extra, TYPE))
    if shape.compares:
        table = table.append_column(COLUMN, describe_answers(conversations))
        if (steps := list_steps(conversations)) is not None:
            table = table.append_column(STEPS, steps)
    untrained = list_untrained(conversations)
    if untrained is not None:
        table = table.append_column(UNTRAINED, untrained)
    return table, pa.Table.from_pylist(broken_table, schema=QUARANTINE), part.rows, turn_keys, part.padded


def _require_columns(title: str, names: Sequence[str], items: Sequence[Mapping[str, Any]]) -> None:
    missing = [name for name in names if not any(name in open_paths(item, {name: name}) for item in items)]
    if missing:
        raise PipelineError(
            f'source "{title}": keep names {", ".join(missing)}, which no row has; columns are {name_columns(items)}'
        )


def _has_column(item: Mapping[str, Any], column: str) -> bool:
    return column in open_paths(item, {"label": column})


def _get_value(item: Mapping[str, Any], column: str) -> Any:
    return item[column] if column in item else open_paths(item, {"label": column}).get(column)


def _describe_folder(folder: Path) -> str:
    """The files of a folder without a file of the source's kind, for the error message; empty without a folder."""
    if not folder.is_dir():
        return ""
    if (folder / "dataset_info.json").is_file() or (folder / "dataset_dict.json").is_file():
        return "is a data set of the hub's library, which the source hugging_face reads"
    names = [
        f"{path.relative_to(folder)} ({reason})" if reason else str(path.relative_to(folder))
        for path, reason in walk_files(folder)
    ]
    return f"holds no file of this kind, but {', '.join(names[:3]) or 'none at all'}"


def _read_carried(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return orjson.dumps(value, default=str).decode()


def _read_label(value: Any) -> str | None:
    if value is None or isinstance(value, list | dict):
        return None
    text = str(value)
    return text if text.strip() else None
