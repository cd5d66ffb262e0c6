"""Section ``synthesis``: what ``heptune synthesize`` has a teacher write."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from tasks.contracts.params import Reads, Section
from tasks.corpus.reading.sources.csv import Csv
from tasks.corpus.reading.sources.hugging_face import HuggingFace
from tasks.corpus.reading.sources.jsonl import Jsonl
from tasks.corpus.reading.sources.parquet import Parquet
from tasks.corpus.reading.sources.sample import Sample
from tasks.corpus.reading.sources.sql import Sql
from tasks.language_models.writers import AnyWriter
from tasks.language_models.writers.cost import Price
from tasks.synthesis.checks import AnyCheck
from tasks.synthesis.checks.duplicates import DuplicateCheck
from tasks.synthesis.checks.label_set import LabelSetCheck
from tasks.synthesis.checks.length import LengthCheck
from tasks.synthesis.checks.refusal import RefusalCheck

# Sources of rows with prompts and answers.
AnySeeds = Annotated[Parquet | Jsonl | Csv | HuggingFace | Sql | Sample, Field(discriminator="name")]


class Limits(Section):
    """Limits at which a run ends; counted over all runs with these params, including interrupted ones."""

    calls: int | None = Field(default=None, ge=1, description="maximum number of answered calls; null: no limit")
    cost: float | None = Field(
        default=None,
        gt=0,
        description="maximum cost, in the currency of the prices; a call is made only if its longest possible answer "
        "stays within it; null: no limit",
    )


class Synthesis(Section):
    """Rows that a teacher writes into a file below ``data/raw``; a source of kind jsonl then reads it."""

    title: str = Field(
        default="synthetic", pattern=r"^\w[\w.-]*$", description="the file is data/raw/synthetic/TITLE.jsonl"
    )
    teacher: AnyWriter = Field(description="the model that writes")
    judge: AnyWriter | None = Field(default=None, description="the model that scores; null: the teacher")
    rows: int = Field(
        default=100, ge=1, description="number of accepted rows; raising it later keeps the existing rows"
    )
    task: str = Field(default="", description="purpose of the rows in a sentence or two, for the teacher")
    system: str | None = Field(
        default=None, description="system turn of every row, also given to the teacher's answers"
    )
    seeds: AnySeeds | Literal["train"] | None = Field(
        default="train",
        description="rows shown to the teacher as examples: the training rows of the last run, or a source, without "
        "near-duplicates of held-out rows; null: none",
    )
    topics: tuple[str, ...] = Field(default=(), description="topics of the rows; none: the teacher is asked for them")
    topics_wanted: int = Field(default=12, ge=1, le=1000, description="number of topics that the teacher is asked for")
    labels: tuple[str, ...] | Literal["seeds"] = Field(
        default=(), description="allowed labels; seeds: those of the seeds; none: rows have no label"
    )
    instructions_per_call: int = Field(default=5, ge=1, le=50, description="prompts requested per call")
    examples_per_call: int = Field(default=3, ge=0, le=50, description="seeds shown in a call")
    attempts: int = Field(
        default=3,
        ge=1,
        le=10,
        description="maximum number of calls until an answer can be parsed, each with another seed",
    )
    least_score: int | None = Field(
        default=4, ge=1, le=5, description="score of the judge, 1 to 5, from which a row is accepted; null: no judge"
    )
    rewrites: int = Field(
        default=1, ge=0, le=5, description="maximum number of rewrites of an answer below least_score"
    )
    checks: tuple[AnyCheck, ...] = Field(
        default=(LengthCheck(), LabelSetCheck(), DuplicateCheck(), RefusalCheck()),
        description="checks of the rows, in order",
    )
    teacher_price: Price = Price()
    judge_price: Price | None = Field(default=None, description="null: the teacher's price if it judges, else free")
    limits: Limits = Limits()
    prompts: Annotated[str | None, Reads("folder")] = Field(
        default=None, description="folder with your own prompts, see synthesis/wording.py"
    )
    seed: int = Field(default=0, description="seed of the choice of examples")

    @model_validator(mode="after")
    def _says_what_for(self) -> Synthesis:
        if self.seeds is None and not self.task and not self.topics:
            raise ValueError("without seeds the teacher has no information; give task, topics or both")
        if self.seeds is None and self.labels == "seeds":
            raise ValueError("labels: seeds needs seeds; list the labels instead")
        return self

    @model_validator(mode="after")
    def _checks_differ(self) -> Synthesis:
        names = [check.name for check in self.checks if check.name != "regex"]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"the check {twice[0]} is listed twice; keep one")
        return self
