"""What every source has in common: its params, and the records it gives."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from pydantic import Field, model_validator

from tasks.contracts.params import Section

if TYPE_CHECKING:
    from tasks.corpus.rows.rows import Listing

Shape = Literal[
    "auto",
    "messages",
    "sharegpt",
    "alpaca",
    "prompt_completion",
    "question_answer",
    "text_label",
    "plain_text",
    "preference",
    "preference_implicit",
    "kto",
    "ranked",
    "stepwise",
    "squad",
    "multiple_choice",
]


class Fields(Section):
    """Which column plays which part, where the names do not say so themselves.

    One of ``messages``; ``prompt`` and ``answer``; ``text``, with the source's ``label`` or alone; ``chosen`` and
    ``rejected``, with ``prompt`` or ``messages`` or alone; ``desirable`` with ``messages`` or with ``prompt`` and
    ``answer``; ``prompt`` and ``answers``; ``prompt``, ``context`` and ``answers``; ``prompt``, ``choices`` and
    ``gold``. A dot goes into an object or a list: ``content.title``, ``turns.0``.
    """

    messages: str | None = Field(default=None, description="column with a list of turns")
    prompt: str | None = Field(default=None, description="column with the user's text")
    context: str | None = Field(default=None, description="column with text that belongs above the prompt")
    input: str | None = Field(default=None, description="column with text that belongs below the prompt")
    answer: str | None = Field(default=None, description="column with the answer")
    history: str | None = Field(default=None, description="column with earlier turns, a list of [prompt, answer]")
    system: str | None = Field(default=None, description="column with the system text")
    tools: str | None = Field(default=None, description="column with the definitions of tools")
    text: str | None = Field(default=None, description="column with a text that is labelled, or learned as it stands")
    chosen: str | None = Field(default=None, description="column with the better answer, or the whole dialogue")
    rejected: str | None = Field(default=None, description="column with the worse answer, or the whole dialogue")
    desirable: str | None = Field(default=None, description="column that marks the answer good or bad, true or false")
    answers: str | None = Field(default=None, description="column with a list of answers")
    scores: str | None = Field(default=None, description="column with a number per answer, larger is better")
    ranks: str | None = Field(default=None, description="column with a number per answer, 1 is best")
    choices: str | None = Field(default=None, description="column with a list of choices")
    gold: str | None = Field(default=None, description="column with the place (from 0), letter or text of the right")

    @model_validator(mode="after")
    def _complete(self) -> Fields:
        from tasks.corpus.reading.shapes.recognise import shapes_of_roles

        if not any(list(shapes_of_roles(self.list_columns(label))) for label in (None, "label")):
            raise ValueError(
                "name either messages, or both prompt and answer, or text, chosen and rejected, prompt and answers, "
                "or prompt, choices and gold; with those, only what belongs to them"
            )
        return self

    def list_columns(self, label: str | None) -> dict[str, str]:
        """Role to column; the source's label counts where a text is labelled."""
        columns = {role: column for role, column in self.model_dump().items() if column is not None}
        return columns | ({"label": label} if label is not None and "text" in columns else {})


class Source(Section):
    """Params that every source takes."""

    name: str = Field(description="kind of source")
    title: str = Field(default="", pattern="^[^/]*$", description="name of the source in the rows; its kind when empty")
    weight: float = Field(
        default=1.0,
        gt=0,
        le=100,
        description="below 1: this share of the rows, chosen by content hash; above 1: every row that many "
        "times in train, the fraction once more by content hash",
    )
    limit: int | None = Field(
        default=None,
        ge=1,
        description="at most so many rows, those with the smallest content hashes: the choice depends on no order, "
        "and a new row displaces at most one",
    )
    sha256: str | None = Field(
        default=None,
        pattern="^[0-9a-f]{64}$",
        description="pin of the content: of the file, over the files of a glob or folder, over the rows of a query, "
        "of a hub data set or of the sample, over the pages of a site; another content stops",
    )
    shape: Shape = Field(default="auto", description="shape of the rows; auto recognises it")
    fields: Fields | None = Field(default=None, description="which column plays which part; overrides shape")
    label: str | None = Field(default=None, description="column with the label; label, intent or category by itself")
    optional: bool = Field(default=False, description="a missing or empty source is no error")
    keep: bool | tuple[str, ...] = Field(
        default=False,
        description="columns that take no part and are to stay in extra.parquet: true for all, or their names",
    )
    license: str = Field(default="", description="licence of the rows for the data card, an SPDX id or words")
    license_url: str = Field(default="", pattern=r"^(https?://\S+)?$", description="where that licence can be read")
    origin: str = Field(default="", description="where the rows come from, in words, for the data card")


class Broken(NamedTuple):
    """A row that could not be read, or whose source sets it aside itself, which is then the step."""

    number: int
    reason: str
    content: str
    step: str = "read"


@dataclass
class Part:
    """Rows of one file that follow one another: as many as are held at a time.

    Attributes:
        file: Name of the file, empty where there is only one.
        items: The rows as dictionaries of JSON values; their texts are encodable as UTF-8.
        numbers: Line (or position) of each row, counted from 1.
        broken: Rows that could not be read.
        padded: Column to the number of keys without a value left out of its objects.
    """

    file: str = ""
    items: list[dict[str, Any]] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    broken: list[Broken] = field(default_factory=list)
    padded: Counter[str] = field(default_factory=Counter)

    @property
    def rows(self) -> int:
        return len(self.items) + len(self.broken)


@dataclass
class Records:
    """What a source gives.

    Attributes:
        parts: The rows, part by part; reading them may raise `PipelineError`.
        files: Name of each file to its SHA-256; complete once the parts were read to the end.
        listings: Tables for the report; complete once the parts were read to the end.
    """

    parts: Iterable[Part] = ()
    files: dict[str, str] = field(default_factory=dict)
    listings: list[Listing] = field(default_factory=list)
