"""Texts without labels, labelled by functions and a label model.

It wraps a source of texts. Each function votes on each text or abstains; the label model (see
``annotation/label_model.py``) weighs the votes, and the likeliest label becomes the label and the answer of the row.
Texts on which all abstain, or whose label is less sure than ``min_confidence``, are set aside with the reason. The
tables of the functions, their conflicts and majority vote beside the label model stand on the page.

Where some rows have a true label, ``gold`` names its column: it stays, and the functions are measured against it.

All texts are held in memory: the label model needs them at once.

Example:
    ``{name: weak, source: {name: text, path: data/raw/mails.txt, rows: lines}, functions: [{name: keywords, label:
    refund, words: [refund, money back]}, {name: regex, label: parcel, pattern: "parcel|package"}]}``
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from tasks.contracts.errors import PipelineError
from tasks.corpus.reading.sources.csv import Csv
from tasks.corpus.reading.sources.hugging_face import HuggingFace
from tasks.corpus.reading.sources.jsonl import Jsonl
from tasks.corpus.reading.sources.parquet import Parquet
from tasks.corpus.reading.sources.source import Broken, Part, Records, Shape, Source
from tasks.corpus.reading.sources.sql import Sql
from tasks.corpus.reading.sources.text import Text
from tasks.corpus.reading.sources.web import Web
from tasks.corpus.weak_supervision.functions import AnyFunction

if TYPE_CHECKING:
    from tasks.corpus.rows.rows import Listing

# Texts nobody could label are sound, so they are not counted among the bad rows.
STEP = "weak labels"
Inner = Annotated[Text | Jsonl | Csv | Parquet | HuggingFace | Sql | Web, Field(discriminator="name")]


class Weak(Source):
    """Labels by functions."""

    name: Literal["weak"] = "weak"
    source: Inner = Field(description="where the texts come from; its title and limits do not count, its pin does")
    text: str = Field(default="text", description="column with the text")
    gold: str | None = Field(default=None, description="column with the true label, empty where it is not known")
    functions: tuple[AnyFunction, ...] = Field(min_length=1, description="the labelling functions")
    shares: dict[str, float] | None = Field(
        default=None, description="label to how frequent it is, for all labels; null: all alike"
    )
    min_confidence: float = Field(
        default=0.5, ge=0, le=1, description="probability below which a label is not believed and the row set aside"
    )
    shape: Shape = "text_label"
    label: str | None = "label"

    @field_validator("shares")
    @classmethod
    def _are_shares(cls, shares: dict[str, float] | None) -> dict[str, float] | None:
        if shares and (min(shares.values()) <= 0 or abs(sum(shares.values()) - 1) > 0.01):
            raise ValueError("shares must be above zero and add up to 1")
        return shares

    @model_validator(mode="after")
    def _settled(self) -> Weak:
        if self.sha256 is not None:
            raise ValueError("sha256 pins files: give it to the source inside")
        if self.shape != "text_label" or self.label != "label" or self.fields is not None:
            raise ValueError("shape, label and fields are settled: a text and its label")
        return self

    @property
    def place(self) -> str:
        """What it reads, for people."""
        return str(getattr(self.source, "place", None) or getattr(self.source, "path", self.source.name))

    def read(self, root: Path) -> Records:
        """Read all texts, and label them.

        Raises:
            PipelineError: The inner source fails, a row has no text column, or a function fails.
        """
        from tasks.corpus.reading.sources.arrow_rows import split_table

        content = self.source.read(root)
        inner = content if isinstance(content, Records) else Records([split_table(content)])
        listings: list[Listing] = []
        return Records(self._label(inner, root, listings), inner.files, listings)

    def _label(self, inner: Records, root: Path, listings: list[Listing]) -> Iterator[Part]:
        from tasks.corpus.reading.sources.broken_rows import show_row
        from tasks.corpus.weak_supervision.votes import collect_votes, label_texts, tabulate

        parts = list(inner.parts)
        rows = [(part, place) for part in parts for place in range(len(part.items))]
        if not rows:
            yield from parts
            return
        texts = [self._text_of(part.items[place]) for part, place in rows]
        if not any(text.strip() for text in texts):
            title, columns = self.title or self.name, ", ".join(sorted(rows[0][0].items[rows[0][1]]))
            raise PipelineError(f'source "{title}": no row has a text in "{self.text}"; it has {columns}; correct text')
        gold = [self._gold_of(part.items[place]) for part, place in rows]
        found = label_texts(collect_votes(self.functions, texts, root), self.shares)
        listings.extend(tabulate(found, gold, self.min_confidence))
        labelled = {id(part): Part(part.file, broken=list(part.broken)) for part in parts}
        for (part, place), text, known, label, sure in zip(
            rows, texts, gold, found.chosen, found.confidence, strict=True
        ):
            out, number = labelled[id(part)], part.numbers[place]
            reason = self._judge(text, known, label, sure)
            if reason is not None:
                out.broken.append(Broken(number, reason, show_row(part.items[place]), STEP if text.strip() else "read"))
                continue
            confidence = 1.0 if known is not None else round(sure, 6)
            others = {name: value for name, value in part.items[place].items() if name not in (self.text, self.gold)}
            out.items.append(others | {"text": text, "label": known or label, "confidence": confidence})
            out.numbers.append(number)
        yield from labelled.values()

    def _judge(self, text: str, known: str | None, label: str | None, sure: float) -> str | None:
        """Why a row is set aside, if it is."""
        if not text.strip():
            return f'no text in "{self.text}"'
        if known is not None:
            return None
        if label is None:
            return "no labelling function votes"
        if sure < self.min_confidence:
            return f"labelling functions disagree: less than {self.min_confidence:g} sure"
        return None

    def _text_of(self, item: dict[str, Any]) -> str:
        value = item.get(self.text)
        return value if isinstance(value, str) else ""

    def _gold_of(self, item: dict[str, Any]) -> str | None:
        value = item.get(self.gold) if self.gold else None
        return None if value is None or not str(value).strip() else str(value)
