"""Splits long plain texts into chunks that fit the context of a model.

Only plain texts are split, since half a dialogue would train half an answer. A chunk ends after a paragraph, otherwise
after a sentence, otherwise after a word, as late as `characters` allows but not in its first half; with `overlap` it
begins up to that many characters before the end of the previous chunk, at a word. Every chunk keeps the source and row
of its document, all chunks of a document are in one split and one cluster, and `extra.parquet` has the number of each,
and the document's own kept columns with the first.
The step must follow those that repair texts and remove personal data, which need whole texts, and precede those that
limit the length.

Good for: articles, books and manuals. A token has about four characters in English.

Example:
    ``{name: chunk, characters: 4000, overlap: 200}`` makes three rows of an article of 10,000 characters.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, model_validator

from tasks.contracts.params import Section

if TYPE_CHECKING:
    import pyarrow as pa

    from tasks.corpus.rows.rows import Rows
    from tasks.corpus.rows.texts import Cleaned

# Patterns after which a text may be split, the best first.
_ENDS = tuple(re.compile(pattern) for pattern in (r"\n\s*\n", r"[.?!。？！][\"”')\]]*\s+|\n|[。？！]", r"\s+"))
_SPACE = re.compile(r"\s")


class Chunk(Section):
    """Splits long plain texts."""

    name: Literal["chunk"] = "chunk"
    characters: int = Field(default=4000, ge=100, description="maximum length of a chunk")
    overlap: int = Field(
        default=0, ge=0, description="maximum number of characters that a chunk repeats of the previous one"
    )

    @model_validator(mode="after")
    def _overlap_is_small(self) -> Chunk:
        if self.overlap > self.characters // 4:
            raise ValueError("overlap is more than a quarter of characters; train would contain nearly equal rows")
        return self

    def clean(self, table: pa.Table) -> Cleaned:
        """The rows unchanged; the step is `cut_rows`, which returns more rows than it gets."""
        from tasks.corpus.rows.texts import Cleaned

        return Cleaned(table)

    def cut_rows(self, rows: Rows) -> Rows:
        """The rows with every long plain text replaced by its chunks."""
        import numpy as np
        import pyarrow as pa
        import pyarrow.compute as pc

        from tasks.corpus.rows.rows import Listing, Step, column_messages, find_plain, turn_lengths

        table = rows.table
        messages = column_messages(table)
        contents = messages.flatten().field("content")
        first_turns = np.cumsum(turn_lengths(messages)) - turn_lengths(messages)
        long = find_plain(messages)
        long[long] = np.asarray(pc.utf8_length(contents.take(pa.array(first_turns[long])))) > self.characters
        taken: list[int] = []
        cut: list[DocumentPart | None] = []
        for place, is_long in enumerate(long.tolist()):
            if is_long:
                text = contents[int(first_turns[place])].as_py()
                name = hashlib.sha256(text.encode()).hexdigest()[:16]
                texts = cut_text(text, self.characters, self.overlap)
                cut += [DocumentPart(text, name, number, len(texts)) for number, text in enumerate(texts, start=1)]
                taken += [place] * len(texts)
            else:
                taken.append(place)
                cut.append(None)
        out = _replace_rows(table, taken, cut) if long.any() else table
        sources = table["source"]
        documents = Counter(sources.filter(pa.array(long)).to_pylist())
        parts = Counter(sources.take(pa.array([place for place in taken if long[place]], pa.int64())).to_pylist())
        listing = Listing(
            "Long texts split into chunks",
            ("source", "texts", "chunks"),
            tuple((source, count, parts[source]) for source, count in sorted(documents.items())),
        )
        listings = (listing,) if documents else ()
        step = Step(self.name, table.num_rows, out.num_rows, sum(parts.values()), listings=listings)
        return replace(rows, table=out, steps=(*rows.steps, step))


@dataclass(frozen=True)
class DocumentPart:
    """A chunk: its text, the hash of its document, its number, and the number of chunks."""

    text: str
    document: str
    number: int
    count: int


def _replace_rows(table: pa.Table, taken: list[int], cut: list[DocumentPart | None]) -> pa.Table:
    """The rows at these places, with the chunks in place of their texts."""
    import pyarrow as pa

    from tasks.corpus.reading.unused_columns import COLUMN, DOCUMENT, PART, PARTS
    from tasks.corpus.rows.rows import column_messages

    field = table.schema.field("messages")
    whole = [place for place, part in zip(taken, cut, strict=True) if part is None]
    # One row after the other would copy the text of a document for each of its chunks.
    chunks = [[{"role": "assistant", "content": part.text}] for part in cut if part is not None]
    messages = pa.concat_arrays(
        [column_messages(table.take(pa.array(whole, pa.int64()))), pa.array(chunks, field.type)]
    )
    order: list[int] = []
    kept, made = 0, len(whole)
    for part in cut:
        order.append(kept if part is None else made)
        kept, made = kept + (part is None), made + (part is not None)
    places = pa.array(taken, pa.int64())
    # The columns of a document that no shape uses stand with its first chunk alone.
    first = pa.array(
        [place if part is None or part.number == 1 else None for place, part in zip(taken, cut, strict=True)]
    )
    columns: dict[str, Any] = {}
    for name in table.column_names:
        if name == "messages":
            columns[name] = messages.take(pa.array(order, pa.int64()))
        else:
            columns[name] = table[name].take(first if name == COLUMN else places)
    columns[DOCUMENT] = pa.array([part and part.document for part in cut], pa.string())
    columns[PART] = pa.array([part and part.number for part in cut], pa.int32())
    columns[PARTS] = pa.array([part and part.count for part in cut], pa.int32())
    fields = [*table.schema, pa.field(DOCUMENT, pa.string()), pa.field(PART, pa.int32()), pa.field(PARTS, pa.int32())]
    return pa.table(columns, schema=pa.schema(fields))


def cut_text(text: str, characters: int, overlap: int = 0) -> list[str]:
    """Chunks of a text, without the white space around them; no other character is lost.

    Args:
        text: The text.
        characters: Maximum length of a chunk.
        overlap: Maximum number of characters that a chunk repeats of the previous one.
    """
    parts: list[str] = []
    begin = 0
    while begin < len(text):
        rest = len(text) - begin
        if rest <= characters:
            end = len(text)
        else:
            # A rest that is slightly too long is halved, so that no tiny chunk remains.
            longest = characters if rest >= 1.5 * characters else (3 * rest + 4) // 5
            end = _find_end(text, begin, begin + min(longest, characters))
        if part := text[begin:end].strip():
            parts.append(part)
        begin = end if end == len(text) else _find_start(text, begin, end, overlap)
    return parts


def _find_end(text: str, begin: int, latest: int) -> int:
    earliest = begin + (latest - begin) // 2
    for pattern in _ENDS:
        ends = [match.end() for match in pattern.finditer(text, earliest, latest)]
        if ends:
            return ends[-1]
    return latest


def _find_start(text: str, begin: int, end: int, overlap: int) -> int:
    """Where the next chunk begins: at a word within the overlap, or at the end of this chunk."""
    if not overlap:
        return end
    space = _SPACE.search(text, max(end - overlap, begin + 1), end)
    return space.end() if space else end
