"""Splits long plain texts into chunks that fit the context of a model.

Only plain texts are split, since half a dialogue would train half an answer. A chunk ends after a paragraph, otherwise
after a sentence, otherwise after a word, as late as `characters` allows but not in its first half; with `overlap` it
begins up to that many characters before the end of the previous chunk, at a word. Every chunk keeps the source and row
of its document, all chunks of a document are in one split and one cluster, and `extra.parquet` has the number of each.
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
from dataclasses import replace
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

        from tasks.corpus.rows.rows import Listing, Step, column_messages, find_plain

        table = rows.table
        messages = column_messages(table)
        places = np.flatnonzero(find_plain(messages)).tolist()
        texts = [turns[0]["content"] for turns in messages.take(pa.array(places, pa.int64())).to_pylist()]
        long = {place: text for place, text in zip(places, texts, strict=True) if len(text) > self.characters}
        taken: list[int] = []
        cut: list[tuple[str, str, int, int] | None] = []
        for place in range(table.num_rows):
            if place not in long:
                taken.append(place)
                cut.append(None)
                continue
            texts = cut_text(long[place], self.characters, self.overlap)
            name = hashlib.sha256(long[place].encode()).hexdigest()[:16]
            taken += [place] * len(texts)
            cut += [(text, name, number, len(texts)) for number, text in enumerate(texts, start=1)]
        out = _replace_texts(table.take(pa.array(taken, pa.int64())), cut) if long else table
        documents, parts = (
            Counter(table["source"].take(pa.array(which, pa.int64())).to_pylist())
            for which in (list(long), [place for place in taken if place in long])
        )
        listing = Listing(
            "Long texts split into chunks",
            ("source", "texts", "chunks"),
            tuple((source, count, parts[source]) for source, count in sorted(documents.items())),
        )
        step = Step(self.name, table.num_rows, out.num_rows, sum(parts.values()), listings=(listing,) if long else ())
        return replace(rows, table=out, steps=(*rows.steps, step))


def _replace_texts(table: pa.Table, cut: list[tuple[str, str, int, int] | None]) -> pa.Table:
    import pyarrow as pa

    from tasks.corpus.reading.unused_columns import DOCUMENT, PART, PARTS

    turns: list[list[dict[str, Any]]] = table["messages"].to_pylist()
    for row, part in enumerate(cut):
        if part is not None:
            turns[row] = [turns[row][0] | {"content": part[0]}]
    index = table.schema.get_field_index("messages")
    field = table.schema.field(index)
    table = table.set_column(index, field, pa.array(turns, field.type))
    for name, place, kind in ((DOCUMENT, 1, pa.string()), (PART, 2, pa.int32()), (PARTS, 3, pa.int32())):
        values = pa.array([part[place] if part else None for part in cut], kind)
        table = table.append_column(name, values)
    return table


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
