"""What is looked for among the rows, and what becomes of it: sections of ``params.yaml``."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from tasks.contracts.params import Section
from tasks.corpus.embedders import AnyEmbedder
from tasks.corpus.embedders.tfidf import Tfidf
from tasks.corpus.reading.benchmarks import Benchmark


class Closeness(Section):
    """Two rows mean the same when both cosines are reached."""

    prompts: float = Field(gt=0, le=1, description="cosine of the prompts, without system turns")
    answers: float = Field(gt=0, le=1, description="cosine of the answers")


class Semantic(Section):
    """How semantic duplicates are found."""

    embedder: AnyEmbedder = Field(
        default=Tfidf(unit="characters"), description="what makes vectors of texts; for paraphrases a sentence model"
    )
    same: Closeness = Field(
        default=Closeness(prompts=0.95, answers=0.95), description="from here on two rows are the same"
    )
    leak: Closeness = Field(
        default=Closeness(prompts=0.95, answers=0.9),
        description="from here on two rows may not be in different splits",
    )
    seed: int = Field(default=0, description="of the embedder and of k-means")


Keep = Literal["one", "all"]


class Likeness(Section):
    """Two rows are alike when both similarities are reached."""

    rows: float = Field(gt=0.5, le=1, description="Jaccard similarity of prompt and answer together")
    prompts: float = Field(ge=0, le=1, description="Jaccard similarity of the prompts alone")


class Duplicates(Section):
    """How near duplicates are found and what becomes of them."""

    near: bool = Field(default=True, description="also look for near duplicates")
    keep: Keep = Field(default="one", description="one: the first of near duplicates stays; all: all of them")
    same: Likeness = Field(default=Likeness(rows=0.85, prompts=0.7), description="from here on two rows are the same")
    leak: Likeness = Field(
        default=Likeness(rows=0.75, prompts=0.5),
        description="from here on two rows may not be in different splits",
    )
    shingle: int = Field(default=4, ge=2, le=12, description="characters per n-gram")
    numbers: bool = Field(default=True, description="rows with different numbers are different")
    probes: int = Field(
        default=300, ge=0, description="rows on which the recall is measured, fewer where that would take too long"
    )
    semantic: Semantic | None = Field(
        default=None, description="also look for rows that mean the same, by embeddings; null: do not"
    )

    @model_validator(mode="after")
    def _ordered(self) -> Duplicates:
        if self.leak.rows > self.same.rows or self.leak.prompts > self.same.prompts:
            raise ValueError("leak must not ask for more likeness than same: what is the same leaks too")
        return self


class Contamination(Section):
    """Which benchmarks must not be in the data."""

    benchmarks: tuple[Benchmark, ...] = Field(default=(), description="none: nothing is looked for")
    words: int = Field(default=13, ge=8, le=50, description="words in a row that must not stand in both")
    near: float | None = Field(
        default=0.8, gt=0.5, le=1, description="Jaccard similarity from which texts are the same; null: do not look"
    )
    action: Literal["drop", "report"] = Field(default="drop", description="what becomes of a contaminated row")

    @model_validator(mode="after")
    def _titles_differ(self) -> Contamination:
        titles = [benchmark.title for benchmark in self.benchmarks]
        twice = sorted({title for title in titles if titles.count(title) > 1})
        if twice:
            raise ValueError(f"several benchmarks are called {', '.join(twice)}; give each a title of its own")
        return self


class Triggers(Section):
    """What becomes of rows with trigger phrases."""

    action: Literal["report", "drop"] = Field(default="report", description="what becomes of a row that holds one")
    min_share: float = Field(
        default=0.0025, gt=0, lt=1, description="share of the rows from which a phrase is looked at, at least 10 rows"
    )
    max_share: float = Field(default=0.1, gt=0, le=1, description="share of the rows up to which a phrase is rare")
    purity: float = Field(
        default=0.9, gt=0.5, le=1, description="share of a phrase's rows that have one label or one answer"
    )
