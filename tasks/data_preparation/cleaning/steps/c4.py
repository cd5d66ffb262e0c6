"""The cleaning rules of C4 for web text.

Raffel et al. 2019, https://arxiv.org/abs/1910.10683, 2.2, made for English pages. Lines are kept that end in terminal
punctuation and have at least five words; lines about JavaScript, cookies and terms of use are removed, and so are
citation marks such as ``[1]``. A row is dropped when its text contains "lorem ipsum" or a curly bracket (code), or
keeps fewer than three sentences. Of a span of three sentences that several texts share, only the first
occurrence in a row that this step keeps stays; place the steps that drop rows before it.

Good for: scraped pages. Markdown with templates loses most rows (486 of 500 posts of digital.gov), and with the
defaults so do short dialogues (Dolly 66%, hh-rlhf 88%): for these set ``terminal: false``, a lower
``min_line_words``, and ``span: 0``, since polite phrases repeat.

Example:
    The line ``Home | Shop | Login`` is removed; the paragraph below it is kept.
"""

from __future__ import annotations

import re
from hashlib import blake2b
from itertools import chain
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from tasks.contracts.params import Section
from tasks.corpus.rows.roles import CONTEXT, ROLES, Of
from tasks.corpus.text.code import outside_code

if TYPE_CHECKING:
    import pyarrow as pa

    from tasks.corpus.rows.texts import Cleaned

# Rows taken out of Arrow at once, which bounds the memory.
BATCH_ROWS = 10_000
_CITATION = re.compile(r"\[(?:\d*|edit|citation needed)\]")
_POLICY = re.compile(
    r"terms of use|privacy policy|cookie policy|uses cookies|use of cookies|use cookies|javascript", re.IGNORECASE
)
_ENDS = (".", "?", "!", '"', "”")
_SENTENCE_END = re.compile(r"(?<=[.?!])[\"”')\]]*\s+|\n+")
_LOREM = re.compile(r"lorem ipsum", re.IGNORECASE)


class C4(Section):
    """Removes lines that are not prose and repeated spans of sentences, and drops rows without enough prose."""

    name: Literal["c4"] = "c4"
    of: Of = Field(default="answers", description="which turns are cleaned and checked")
    terminal: bool = Field(default=True, description="whether a line must end in . ? ! or a quotation mark")
    min_line_words: int = Field(default=5, ge=0, description="minimum words of a line")
    min_sentences: int = Field(default=3, ge=0, description="minimum sentences of a turn after lines were removed")
    curly: bool = Field(default=True, description="whether a curly bracket drops the row")
    span: int = Field(
        default=3, ge=0, description="sentences; a span that occurred in an earlier turn is removed; 0: none"
    )

    def clean(self, table: pa.Table) -> Cleaned:
        import pyarrow as pa

        from tasks.corpus.rows.learned import learned_messages
        from tasks.corpus.rows.texts import EXAMPLES, Cleaned, show_change

        index = table.schema.get_field_index("messages")
        field = table.schema.field(index)
        # Spans of sentences of the rows kept so far.
        seen: set[bytes] = set()
        examples: list[tuple[str, str]] = []
        reasons: list[str | None] = []
        columns: list[pa.Array] = []
        changed = 0
        for start in range(0, table.num_rows, BATCH_ROWS):
            rows: list[list[dict[str, Any]]] = learned_messages(table.slice(start, BATCH_ROWS)).to_pylist()
            for turns in rows:
                before = [turn["content"] for turn in turns]
                reason = self._clean_turns(turns, seen)
                after = [turn["content"] for turn in turns]
                reasons.append(reason)
                if before != after and reason is None:
                    changed += 1
                    if len(examples) < EXAMPLES:
                        old, new = next((a, b) for a, b in zip(before, after, strict=True) if a != b)
                        examples.append(show_change(old, new))
            for turn in chain.from_iterable(rows):
                turn["role"] = "assistant" if turn["role"] == CONTEXT else turn["role"]
            columns.append(pa.array(rows, field.type))
        column = pa.chunked_array(columns, field.type)
        return Cleaned(table.set_column(index, field, column), reasons, changed, tuple(examples))

    def _clean_turns(self, turns: list[dict[str, Any]], seen: set[bytes]) -> str | None:
        """Clean the turns of a row in place; the reason to drop it, None to keep it."""
        reason: str | None = None
        spans_of_row: set[bytes] = set()
        for turn in turns:
            if turn["role"] not in ROLES[self.of]:
                continue
            reason = reason or self._reject(turn["content"])
            turn["content"], spans = self._drop_repeated_spans(self.keep_lines(turn["content"]), seen, spans_of_row)
            spans_of_row.update(spans)
            if count_sentences(turn["content"]) < self.min_sentences:
                reason = reason or f"fewer than {self.min_sentences} sentences"
        if reason is None:
            seen |= spans_of_row
        return reason

    def _reject(self, text: str) -> str | None:
        if _LOREM.search(text):
            return "lorem ipsum"
        return "curly bracket" if self.curly and "{" in text else None

    def keep_lines(self, text: str) -> str:
        """The lines of a text that are prose, without citation marks."""
        uncited = outside_code(text, lambda prose: _CITATION.sub("", prose))
        return "\n".join(line for line in uncited.split("\n") if self._is_prose(line.strip()))

    def _is_prose(self, line: str) -> bool:
        if self.terminal and (not line.endswith(_ENDS) or line.endswith("...")):
            return False
        return len(line.split()) >= self.min_line_words and not _POLICY.search(line)

    def _drop_repeated_spans(self, text: str, seen: set[bytes], of_row: set[bytes]) -> tuple[str, list[bytes]]:
        """The text without spans that occurred before, and the hashes of all its spans."""
        pieces = split_sentences(text)
        if not self.span or len(pieces) < self.span:
            return text, []
        spans = [
            blake2b(
                " ".join(" ".join(pieces[start : start + self.span]).casefold().split()).encode(), digest_size=12
            ).digest()
            for start in range(len(pieces) - self.span + 1)
        ]
        repeated = {
            start + place
            for start, key in enumerate(spans)
            if key in seen or key in of_row
            for place in range(self.span)
        }
        if repeated:
            text = "".join(piece for place, piece in enumerate(pieces) if place not in repeated).strip()
        return text, spans


def split_sentences(text: str) -> list[str]:
    """Sentences with their trailing space; joined they are the text."""
    ends = [match.end() for match in _SENTENCE_END.finditer(text)]
    pieces = [text[start:end] for start, end in zip([0, *ends], [*ends, len(text)], strict=True)]
    return [piece for piece in pieces if piece]


def count_sentences(text: str) -> int:
    """Number of sentences with at least one word."""
    return sum(any(map(str.isalnum, piece)) for piece in split_sentences(text))
