"""The ``monitoring`` section: when traffic counts as drifted, and when a retrain may start."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, field_validator

from tasks.contracts.params import Section
from tasks.corpus.embedders import AnyEmbedder
from tasks.corpus.embedders.tfidf import Tfidf
from tasks.monitoring.detectors.distance import Distance
from tasks.monitoring.detectors.embedding import Embedding
from tasks.monitoring.detectors.level import Level
from tasks.monitoring.detectors.rate import Rate
from tasks.monitoring.detectors.words import WordFrequency
from tasks.monitoring.schedule import Schedule

DetectorParams = Annotated[Distance | Level | Rate | WordFrequency | Embedding, Field(discriminator="name")]

REFUSALS = (
    r"\bi(?:'m| am) (?:sorry|afraid),? (?:but )?i (?:can't|cannot|can not|am unable|am not able)",
    r"\bi (?:can't|cannot|can not|am unable to|am not able to) (?:help|assist|answer|do that|provide)",
    r"\bi (?:don't|do not) (?:know|understand)\b",
    r"\bas an ai\b",
)


class Drift(Section):
    """The traffic window against the baseline."""

    minimum_rows: int = Field(100, ge=20, description="minimum number of answered requests on either side, rows")
    maximum_rows: int = Field(
        1000, ge=100, le=5000, description="maximum number of requests compared on either side; more are sampled"
    )
    false_alarms: float = Field(
        0.02, gt=0, le=0.05, description="share of windows without drift that may be called drift, 0 to 0.05"
    )
    splits: int = Field(
        2000, ge=500, le=20_000, description="number of A/A splits of baseline and window for calibration"
    )
    power: float = Field(0.9, gt=0.5, lt=1, description="power at which detectable effects are stated, as a share")
    embedder: AnyEmbedder = Field(Tfidf(dimensions=32, unit="terms"), description="what makes vectors of prompts")
    detectors: tuple[DetectorParams, ...] = Field(
        (Distance(), Level(), Rate(), WordFrequency(), Embedding()), min_length=1
    )
    refusals: tuple[str, ...] = Field(REFUSALS, description="patterns that mark an answer as a refusal, case ignored")
    examples: int = Field(6, ge=0, le=50, description="prompts least like the baseline shown in the report")
    seed: int = Field(0, ge=0, description="seed of sampling, calibration and embedding")

    @field_validator("embedder", mode="before")
    @classmethod
    def _name_is_known(cls, embedder: Any) -> Any:
        if isinstance(embedder, dict) and embedder.get("name") == "characters":
            raise ValueError("characters is a unit of tfidf now; write {name: tfidf, unit: characters}")
        return embedder


class Retraining(Section):
    """When a retrain may start. One requested by hand ignores the cool-down, the budget and the minimum of new rows."""

    cool_down_hours: float = Field(24, ge=0, description="pause after a finished retrain, hours")
    minimum_new_rows: int = Field(20, ge=0, description="minimum number of corrected rows not trained on yet, rows")
    maximum_key_share: float = Field(
        0.34,
        gt=0,
        le=1,
        description="maximum share of the new training rows that come from one API key, 0 to 1; minimum_new_rows of a "
        "key are always taken. Without keys the clients of this machine are trusted, and there is no limit",
    )
    maximum_text_share: float = Field(
        0.25,
        gt=0,
        le=1,
        description="maximum share of the new training rows that have the same answer, 0 to 1; minimum_new_rows of it "
        "are always taken, and answers that are 1% of the training data, such as names of classes, have no limit",
    )
    maximum_per_week: int = Field(7, ge=1, description="maximum number of retrains started in seven days")
    consecutive: int = Field(1, ge=1, description="consecutive windows that must show drift before a retrain")
    schedule: Schedule | None = Field(
        None, description="when the deployment `retraining` starts by itself, under `heptune up`; null: never"
    )
    commit: bool = Field(False, description="commit changed inputs on a branch named after the reason")


class Monitoring(Section):
    """Stage 7 and the retrains that it triggers."""

    drift: Drift = Drift()
    retraining: Retraining = Retraining()
    schedule: Schedule | None = Field(
        None, description="when the deployment `monitoring` looks at the traffic, under `heptune up`; null: never"
    )
    evidently_pages: int | None = Field(
        50,
        ge=1,
        description="newest runs of monitoring with which MLflow keeps Evidently's page, 4 MB each; null: all of them",
    )
