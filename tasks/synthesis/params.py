"""Section ``synthesis``: what ``heptune synthesize`` has a teacher write."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from tasks.contracts.params import Section
from tasks.corpus.reading.sources.csv import Csv
from tasks.corpus.reading.sources.hugging_face import HuggingFace
from tasks.corpus.reading.sources.jsonl import Jsonl
from tasks.corpus.reading.sources.parquet import Parquet
from tasks.corpus.reading.sources.sample import Sample
from tasks.corpus.reading.sources.sql import Sql
from tasks.corpus.writers import AnyWriter
from tasks.synthesis.checks import AnyCheck
from tasks.synthesis.checks.duplicates import DuplicatesCheck
from tasks.synthesis.checks.label_set import LabelSet
from tasks.synthesis.checks.length import LengthCheck
from tasks.synthesis.checks.refusal import Refusal

# Sources of rows with prompts and answers.
AnySeeds = Annotated[Parquet | Jsonl | Csv | HuggingFace | Sql | Sample, Field(discriminator="name")]


class Price(Section):
    """What a model costs per million tokens, in any one currency."""

    prompt: float = Field(default=0.0, ge=0, description="of prompts")
    completion: float = Field(default=0.0, ge=0, description="of answers")


class Limits(Section):
    """Where a run ends, whatever it has; counted over all runs that these params made, also broken ones."""

    calls: int | None = Field(default=None, ge=1, description="most answered calls; null: no limit")
    cost: float | None = Field(
        default=None,
        gt=0,
        description="most to spend, in the currency of the prices; a call is asked only when a long answer to it would "
        "still be within; null: no limit",
    )


class Synthesis(Section):
    """Rows that a teacher writes into a file below ``data/raw``; a source of kind jsonl then reads it."""

    title: str = Field(
        default="synthetic", pattern=r"^\w[\w.-]*$", description="the file is data/raw/synthetic/TITLE.jsonl"
    )
    teacher: AnyWriter = Field(description="the model that writes")
    judge: AnyWriter | None = Field(default=None, description="the model that scores; null: the teacher")
    rows: int = Field(
        default=100, ge=1, description="accepted rows wanted; more of them later keeps those that are there"
    )
    task: str = Field(default="", description="what the rows are for, in a sentence or two; told to the teacher")
    system: str | None = Field(
        default=None, description="system turn of every row, also given to the teacher's answers"
    )
    seeds: AnySeeds | Literal["train"] | None = Field(
        default="train",
        description="rows that the teacher sees as examples: the training rows of the last run, or a source; those "
        "alike a held-out row are left out; null: none",
    )
    topics: tuple[str, ...] = Field(default=(), description="what rows are about; none: the teacher is asked for them")
    topics_wanted: int = Field(default=12, ge=1, le=1000, description="topics the teacher is asked for")
    labels: tuple[str, ...] | Literal["seeds"] = Field(
        default=(), description="labels that rows may have; seeds: those of the seeds; none: rows have no label"
    )
    instructions_per_call: int = Field(default=5, ge=1, le=50, description="prompts asked for at once")
    examples_per_call: int = Field(default=3, ge=0, le=50, description="seeds shown in a call")
    attempts: int = Field(
        default=3, ge=1, le=10, description="calls for an answer that can be read, each with another seed"
    )
    least_score: int | None = Field(
        default=4, ge=1, le=5, description="score of the judge, 1 to 5, from which a row is accepted; null: no judge"
    )
    rewrites: int = Field(default=1, ge=0, le=5, description="how often an answer below least_score is rewritten")
    checks: tuple[AnyCheck, ...] = Field(
        default=(LengthCheck(), LabelSet(), DuplicatesCheck(), Refusal()),
        description="what rows are held against, in order",
    )
    teacher_price: Price = Price()
    judge_price: Price | None = Field(default=None, description="null: the teacher's, if it judges, else nothing")
    limits: Limits = Limits()
    prompts: str | None = Field(default=None, description="folder with own prompts, see synthesis/wording.py")
    seed: int = Field(default=0, description="of the choice of examples")

    @model_validator(mode="after")
    def _says_what_for(self) -> Synthesis:
        if self.seeds is None and not self.task and not self.topics:
            raise ValueError("without seeds the teacher knows nothing; give task, topics or both")
        if self.seeds is None and self.labels == "seeds":
            raise ValueError("labels: seeds needs seeds; list the labels instead")
        return self

    @model_validator(mode="after")
    def _checks_differ(self) -> Synthesis:
        names = [check.name for check in self.checks if check.name != "regex"]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"the check {twice[0]} stands there twice; keep one")
        return self
