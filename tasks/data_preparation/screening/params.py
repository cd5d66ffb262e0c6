"""The sections of ``params.yaml`` about duplicates, benchmark contamination and trigger phrases."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from tasks.contracts.params import Section
from tasks.corpus.embedders import AnyEmbedder
from tasks.corpus.embedders.tfidf import Tfidf
from tasks.corpus.reading.benchmarks import Benchmark


class CosineThresholds(Section):
    """Thresholds of two rows with the same meaning: both cosine similarities must reach theirs."""

    prompts: float = Field(gt=0, le=1, description="cosine similarity of the prompts, without system turns")
    answers: float = Field(gt=0, le=1, description="cosine similarity of the answers")


class Semantic(Section):
    """How semantic duplicates are found."""

    embedder: AnyEmbedder = Field(
        default=Tfidf(unit="characters"),
        description="model that embeds the texts; paraphrases need a sentence embedding model",
    )
    same: CosineThresholds = Field(
        default=CosineThresholds(prompts=0.95, answers=0.95), description="from here on two rows are the same"
    )
    leak: CosineThresholds = Field(
        default=CosineThresholds(prompts=0.95, answers=0.9),
        description="from here on two rows may not be in different splits",
    )
    seed: int = Field(default=0, description="of the embedder and of k-means")


Keep = Literal["one", "all"]


class JaccardThresholds(Section):
    """Thresholds of near duplicates: both similarities must reach theirs."""

    rows: float = Field(gt=0.5, le=1, description="Jaccard similarity of prompt and answer together")
    prompts: float = Field(ge=0, le=1, description="Jaccard similarity of the prompts alone")


class Duplicates(Section):
    """How near duplicates are found and what happens to them."""

    near: bool = Field(default=True, description="also look for near duplicates")
    keep: Keep = Field(
        default="one", description="one: the first of near duplicates is kept; all: all of them are kept"
    )
    same: JaccardThresholds = Field(
        default=JaccardThresholds(rows=0.85, prompts=0.7), description="from here on two rows are the same"
    )
    leak: JaccardThresholds = Field(
        default=JaccardThresholds(rows=0.75, prompts=0.5),
        description="from here on two rows may not be in different splits",
    )
    shingle: int = Field(default=4, ge=2, le=12, description="characters per n-gram")
    numbers: bool = Field(default=True, description="rows with different numbers are different")
    words: bool = Field(
        default=True,
        description="rows whose prompts have another word are different: spelling, politeness and a short sentence "
        "may differ",
    )
    answers: bool = Field(default=True, description="rows with another answer or another label are different")
    probes: int = Field(
        default=300,
        ge=0,
        description="rows on which the recall of MinHash is measured; fewer where that would take too long",
    )
    semantic: Semantic | None = Field(
        default=None, description="also look for rows with the same meaning, by embeddings; null: do not"
    )

    @model_validator(mode="after")
    def _ordered(self) -> Duplicates:
        if self.leak.rows > self.same.rows or self.leak.prompts > self.same.prompts:
            raise ValueError("the thresholds of leak must not exceed those of same: duplicates leak too")
        return self


class Contamination(Section):
    """Benchmarks whose items must not be in the data."""

    benchmarks: tuple[Benchmark, ...] = Field(default=(), description="none: the data are not checked")
    words: int = Field(
        default=8,
        ge=8,
        le=50,
        description="length of word n-grams; a row covers the words of an item that are in n-grams of both",
    )
    share: float = Field(
        default=0.5,
        gt=0,
        le=1,
        description="share of the words of a text of an item from which a row contains it; at least 13 words, or all",
    )
    near: float | None = Field(
        default=0.8,
        gt=0.5,
        le=1,
        description="Jaccard similarity from which texts are near duplicates; null: do not look",
    )
    action: Literal["drop", "report"] = Field(default="drop", description="what happens to a contaminated row")

    @model_validator(mode="after")
    def _titles_differ(self) -> Contamination:
        titles = [benchmark.title for benchmark in self.benchmarks]
        repeated = sorted({title for title in titles if titles.count(title) > 1})
        if repeated:
            raise ValueError(f"several benchmarks are called {', '.join(repeated)}; give each a title of its own")
        return self


class Triggers(Section):
    """How trigger phrases are found and what happens to the rows that contain one."""

    action: Literal["report", "drop"] = Field(default="report", description="what happens to a row that contains one")
    min_share: float = Field(
        default=0.0025, gt=0, lt=1, description="smallest share of the rows that contain the phrase, at least 10 rows"
    )
    max_share: float = Field(default=0.1, gt=0, le=1, description="largest share of the rows that contain the phrase")
    purity: float = Field(
        default=0.9,
        gt=0.5,
        le=1,
        description="smallest share of a phrase's rows that have one and the same label or answer",
    )
