"""Texts without labels, labelled by functions and a label model.

It wraps a source of texts. Each function votes on each text or abstains; the label model (see
``weak_supervision/label_model.py``) weighs the votes, and the most probable label becomes the label and the answer of
the row. Texts on which all functions abstain, or whose label is less probable than ``min_confidence``, are moved to the
quarantine with the reason. The report has tables of the functions, of their conflicts, and of the label model compared
with majority vote.

If some rows have a true label, ``gold`` names its column: it is kept, and the accuracy of the functions is measured on
it.

All texts are kept in memory, because the label model needs all votes at once.

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

# Texts without a label are valid rows, so they are not counted as broken ones.
STEP = "weak labels"
InnerSource = Annotated[Text | Jsonl | Csv | Parquet | HuggingFace | Sql | Web, Field(discriminator="name")]


class Weak(Source):
    """Labels by functions."""

    name: Literal["weak"] = "weak"
    source: InnerSource = Field(description="source of the texts; its title and limits are ignored, its pin is checked")
    text: str = Field(default="text", description="column with the text")
    gold: str | None = Field(default=None, description="column with the true label, empty when unknown")
    functions: tuple[AnyFunction, ...] = Field(min_length=1, description="the labelling functions")
    shares: dict[str, float] | None = Field(default=None, description="prior probability of every label; null: uniform")
    min_confidence: float = Field(
        default=0.5, ge=0, le=1, description="rows whose label is less probable are moved to the quarantine"
    )
    shape: Shape = "text_label"
    label: str | None = "label"

    @field_validator("shares")
    @classmethod
    def _check_shares(cls, shares: dict[str, float] | None) -> dict[str, float] | None:
        if shares and (min(shares.values()) <= 0 or abs(sum(shares.values()) - 1) > 0.01):
            raise ValueError("shares must be above zero and add up to 1")
        return shares

    @model_validator(mode="after")
    def _check_fixed_params(self) -> Weak:
        if self.sha256 is not None:
            raise ValueError("sha256 pins files: give it to the source inside")
        if self.shape != "text_label" or self.label != "label" or self.fields is not None:
            raise ValueError("shape, label and fields are settled: a text and its label")
        return self

    @property
    def place(self) -> str:
        """What it reads, for messages and reports."""
        return str(getattr(self.source, "place", None) or getattr(self.source, "path", self.source.name))

    def read(self, root: Path) -> Records:
        """Read all texts and label them.

        Raises:
            PipelineError: The inner source fails, a row has no text column, or a function fails.
        """
        records = self.source.read(root)
        listings: list[Listing] = []
        return Records(self._label(records, root, listings), records.files, listings)

    def _label(self, records: Records, root: Path, listings: list[Listing]) -> Iterator[Part]:
        from tasks.corpus.reading.sources.broken_rows import show_row
        from tasks.corpus.reading.sources.values import find_integer_columns, restore_integers
        from tasks.corpus.weak_supervision.votes import collect_votes, label_texts, tabulate

        parts = list(records.parts)
        listings.extend(records.listings)
        rows = [(part, index) for part in parts for index in range(len(part.items))]
        if not rows:
            yield from parts
            return
        if self.gold is not None:
            items = [part.items[index] for part, index in rows]
            restore_integers(items, set(find_integer_columns(items, self.source.name == "csv")) & {self.gold})
        texts = [self._read_text(part.items[index]) for part, index in rows]
        if not any(text.strip() for text in texts):
            title, columns = self.title or self.name, ", ".join(sorted(rows[0][0].items[rows[0][1]]))
            raise PipelineError(f'source "{title}": no row has a text in "{self.text}"; it has {columns}; correct text')
        gold = [self._read_gold(part.items[index]) for part, index in rows]
        weak_labels = label_texts(collect_votes(self.functions, texts, root), self.shares)
        listings.extend(tabulate(weak_labels, gold, self.min_confidence))
        labelled = {id(part): Part(part.file, broken=list(part.broken), padded=part.padded) for part in parts}
        for (part, index), text, gold_label, label, probability in zip(
            rows, texts, gold, weak_labels.chosen, weak_labels.confidence, strict=True
        ):
            part_out, number = labelled[id(part)], part.numbers[index]
            reason = self._find_reject_reason(text, gold_label, label, probability)
            if reason is not None:
                part_out.broken.append(
                    Broken(number, reason, show_row(part.items[index]), STEP if text.strip() else "read")
                )
                continue
            confidence = 1.0 if gold_label is not None else round(probability, 6)
            other_columns = {
                name: value for name, value in part.items[index].items() if name not in (self.text, self.gold)
            }
            part_out.items.append(
                other_columns | {"text": text, "label": gold_label or label, "confidence": confidence}
            )
            part_out.numbers.append(number)
        yield from labelled.values()

    def _find_reject_reason(
        self, text: str, gold_label: str | None, label: str | None, probability: float
    ) -> str | None:
        """The reason to reject a row, None to keep it."""
        if not text.strip():
            return f'no text in "{self.text}"'
        if gold_label is not None:
            return None
        if label is None:
            return "no labelling function votes"
        if probability < self.min_confidence:
            return f"labelling functions disagree: less than {self.min_confidence:g} sure"
        return None

    def _read_text(self, item: dict[str, Any]) -> str:
        value = item.get(self.text)
        return value if isinstance(value, str) else ""

    def _read_gold(self, item: dict[str, Any]) -> str | None:
        value = item.get(self.gold) if self.gold else None
        return None if value is None or not str(value).strip() else str(value)
