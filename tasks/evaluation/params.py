"""Section ``evaluation`` of ``params.yaml``. The union is the registry of metrics."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, Field, model_validator

from tasks.contracts.params import Section
from tasks.evaluation.decisions.params import HeldOutReuse
from tasks.evaluation.judges import AnyJudge
from tasks.evaluation.metrics.certainty.calibration import BrierScore, CalibrationError
from tasks.evaluation.metrics.certainty.entropy import SemanticEntropy, SequenceEntropy
from tasks.evaluation.metrics.context.trace import (
    Attribution,
    ContextCompleteness,
    ContextRelevance,
    ContextUtilisation,
)
from tasks.evaluation.metrics.cost.latency import Latency
from tasks.evaluation.metrics.cost.model_size import ModelSize
from tasks.evaluation.metrics.form.answer_length import AnswerLength
from tasks.evaluation.metrics.form.finished import FinishedAnswers
from tasks.evaluation.metrics.form.json_validity import JsonValidity
from tasks.evaluation.metrics.form.length_deviation import LengthDeviation
from tasks.evaluation.metrics.form.refusal_agreement import RefusalAgreement
from tasks.evaluation.metrics.form.regex_match import RegexMatch
from tasks.evaluation.metrics.form.repetition import AnswerRepetition
from tasks.evaluation.metrics.judged.claims import Completeness, Factuality
from tasks.evaluation.metrics.judged.embedding_similarity import EmbeddingSimilarity
from tasks.evaluation.metrics.labels.intent_accuracy import IntentAccuracy
from tasks.evaluation.metrics.labels.label_scores import MacroF1, MacroPrecision, MacroRecall, WeightedF1
from tasks.evaluation.metrics.likelihoods.bits_per_byte import BitsPerByte
from tasks.evaluation.metrics.likelihoods.loss import Loss
from tasks.evaluation.metrics.likelihoods.perplexity import Perplexity
from tasks.evaluation.metrics.likelihoods.preference_accuracy import PreferenceAccuracy
from tasks.evaluation.metrics.passes_tests import PassesTests
from tasks.evaluation.metrics.vectors.recall_at import RecallAt
from tasks.evaluation.metrics.vectors.reciprocal_rank import ReciprocalRank
from tasks.evaluation.metrics.words.bleu import Bleu
from tasks.evaluation.metrics.words.chrf import ChrF
from tasks.evaluation.metrics.words.exact_match import ExactMatch
from tasks.evaluation.metrics.words.number_match import NumberMatch
from tasks.evaluation.metrics.words.rouge_l import RougeL
from tasks.evaluation.metrics.words.rouge_n import Rouge1, Rouge2
from tasks.evaluation.metrics.words.token_f1 import TokenF1
from tasks.evaluation.reward_metrics.reward_accuracy import RewardAccuracy
from tasks.evaluation.reward_metrics.reward_calibration import RewardCalibration
from tasks.evaluation.reward_metrics.step_accuracy import StepAccuracy
from tasks.evaluation.slices.names import LABEL, LENGTH, SOURCE
from tasks.evaluation.suites import AnySuite, expand_suites


def _accept_bare_name(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


AnyMetric = Annotated[
    IntentAccuracy
    | MacroF1
    | WeightedF1
    | MacroPrecision
    | MacroRecall
    | Loss
    | Perplexity
    | BitsPerByte
    | ExactMatch
    | NumberMatch
    | TokenF1
    | RougeL
    | Rouge1
    | Rouge2
    | Bleu
    | ChrF
    | JsonValidity
    | RegexMatch
    | RefusalAgreement
    | PreferenceAccuracy
    | RecallAt
    | ReciprocalRank
    | RewardAccuracy
    | RewardCalibration
    | StepAccuracy
    | FinishedAnswers
    | LengthDeviation
    | AnswerRepetition
    | AnswerLength
    | PassesTests
    | CalibrationError
    | BrierScore
    | SequenceEntropy
    | SemanticEntropy
    | EmbeddingSimilarity
    | Factuality
    | Completeness
    | ContextRelevance
    | ContextCompleteness
    | ContextUtilisation
    | Attribution
    | Latency
    | ModelSize,
    Field(discriminator="name"),
    BeforeValidator(_accept_bare_name),
]

METRICS: tuple[type[Any], ...] = get_args(get_args(AnyMetric)[0])


class AnswerGeneration(Section):
    """How answers are generated: greedily, with the same settings for all models."""

    max_new_tokens: int = Field(default=128, ge=1, description="longest answer, in tokens")
    batch_size: int = Field(default=64, ge=1, description="items answered at once; fewer need less memory")
    precision: Literal["fp32", "bf16"] = Field(
        default="fp32",
        description="number format of the weights; bf16 halves the memory and is faster where the hardware supports it",
    )
    device: Literal["auto", "cpu", "cuda"] = Field(default="auto", description="auto uses CUDA where available")
    timeout_s: float | None = Field(
        default=None,
        gt=0,
        description="longest time of an answer from its first token, in seconds; null: only max_new_tokens limits it",
    )


# Resamples below the tail of an interval; fewer do not tell where it ends.
TAIL_RESAMPLES = 20


class Bootstrap(Section):
    """Intervals and power."""

    resamples: int = Field(default=10_000, ge=1_000, description="number of bootstrap resamples")
    confidence: float = Field(default=0.95, gt=0.5, lt=1, description="confidence level of every interval, as a share")
    power: float = Field(
        default=0.8,
        gt=0.5,
        lt=1,
        description="power at which the smallest detectable difference is stated, as a share",
    )
    seed: int = Field(default=0, ge=0, description="seed of the resampling")
    interval_method: Literal["expanded", "bca"] = Field(
        default="expanded",
        description="expanded percentiles, which hold best for differences; or bca, for scores that are skewed",
    )

    def at(self, confidence: float) -> dict[str, Any]:
        """All of it at another level of confidence, with as many resamples as show where such intervals end."""
        tail = round((1 - confidence) / 2, 12)
        return {
            **self.model_dump(),
            "confidence": confidence,
            "resamples": max(self.resamples, math.ceil(TAIL_RESAMPLES / tail)),
        }


class PromotionGate(Section):
    """What a candidate must prove before it replaces the champion."""

    primary: str | Annotated[tuple[str, ...], Field(min_length=1)] = Field(
        default="intent_accuracy",
        description="must be better, the interval clear of zero; of several one is enough, by Holm's method; where "
        "none applies, the first metric that does",
    )
    minimum_items: int = Field(
        default=100, ge=2, description="fewer scored items prove nothing, and the champion stays"
    )
    must_not_worsen: dict[str, Annotated[float, Field(ge=0)]] = Field(
        default={"loss": 0.05, "rouge_l": 0.02},
        description="metric to margin in its own unit, by which the interval must rule out a worsening",
    )
    reuse: HeldOutReuse = Field(
        default_factory=HeldOutReuse, description="how often the same held-out items may decide about retrains"
    )
    undecided: Literal["keep", "ask"] = Field(
        default="keep",
        description="keep what is in use, or ask: a retrain waits in the Prefect UI for a person who decides",
    )
    undecided_timeout_s: int = Field(
        default=86_400, ge=1, description="seconds a retrain waits for that person; then what is in use stays"
    )

    @property
    def rule(self) -> dict[str, Any]:
        """What `tasks.evaluation.verdict.decide` takes of it."""
        return {name: getattr(self, name) for name in ("primary", "minimum_items", "must_not_worsen")}

    @property
    def primaries(self) -> tuple[str, ...]:
        """The primary metrics."""
        return (self.primary,) if isinstance(self.primary, str) else self.primary


class Evaluation(Section):
    """Base, champion and candidate on the same held-out items."""

    items: int = Field(
        default=400, ge=2, description="maximum number of held-out items, selected by a hash of their content"
    )
    metrics: tuple[AnyMetric, ...] = Field(
        default=(IntentAccuracy(), Loss(), Perplexity(), RougeL(), ExactMatch()),
        min_length=1,
        description="metrics, in the order of the report",
    )
    suites: tuple[AnySuite, ...] = Field(
        default=(), description="questions that all models are asked beside the held-out items; none by default"
    )
    judges: tuple[AnyJudge, ...] = Field(
        default=(), description="language models that score the answers; each is a metric too, and may decide"
    )
    generation: AnswerGeneration = Field(default_factory=AnswerGeneration)
    bootstrap: Bootstrap = Field(default_factory=Bootstrap)
    gate: PromotionGate = Field(default_factory=PromotionGate)
    slices: tuple[str, ...] = Field(
        default=(SOURCE, LABEL, LENGTH),
        description="what the items are also scored by: source, label, length, language, or kept columns of the data",
    )
    examples: int = Field(
        default=20, ge=0, le=200, description="changed answers shown, improved and worsened each, as far as they fit"
    )
    folds: int | None = Field(
        default=None,
        ge=2,
        le=20,
        description="k-fold cross-validation for small sets: so many trainings more, each on the other folds, so that "
        "all training rows are items; null: the test split alone",
    )
    training_seeds: int = Field(
        default=1,
        ge=1,
        le=10,
        description="trainings with as many seeds, one of which is the candidate; the verdict is over all of them",
    )

    @property
    def repeats(self) -> int:
        """Trainings that the stage makes itself."""
        return self.folds or self.training_seeds - 1

    def describe_repeats(self) -> str:
        """What these trainings are, for a plan; empty where there are none."""
        if self.folds:
            return f"{self.folds} trainings more, each on {self.folds - 1}/{self.folds} of the rows (evaluation.folds)"
        return f"{self.repeats} trainings more, with other seeds (evaluation.training_seeds)" if self.repeats else ""

    @model_validator(mode="after")
    def _gate_is_scored(self) -> Evaluation:
        names = [one.name for one in (*self.metrics, *self.judges)]
        if len(set(names)) < len(names):
            raise ValueError(f"metrics: {', '.join(names)} names one metric or judge twice; name each once")
        keys = [suite.key for suite in expand_suites(self.suites)]
        if repeated := sorted({key for key in keys if keys.count(key) > 1}):
            raise ValueError(f"suites: several are called {', '.join(repeated)}; give each a title of its own")
        missing = sorted({*self.gate.primaries, *self.gate.must_not_worsen} - set(names))
        if missing:
            raise ValueError(
                f"gate: {', '.join(missing)} is not scored; add it to metrics ({', '.join(names)}) or take it "
                "out of the gate"
            )
        if len(set(self.slices)) < len(self.slices):
            raise ValueError(f"slices: {', '.join(self.slices)} names one twice; name each once")
        decisive = {*self.gate.primaries, *self.gate.must_not_worsen}
        if unproven := [one.name for one in self.judges if one.name in decisive and one.agreement is None]:
            raise ValueError(
                f"judges: {', '.join(unproven)} is in the gate and nothing shows that it agrees with people; give it "
                "agreement: {file: <pairs that people compared>, at_least: 0.7}, or take it out of the gate"
            )
        if self.folds and self.training_seeds > 1:
            raise ValueError(
                f"folds: {self.folds} and training_seeds: {self.training_seeds} both repeat the training; keep folds "
                "for a small set, or training_seeds for a test split that is large enough"
            )
        if self.folds and (probed := [metric.name for metric in self.metrics if hasattr(type(metric), "probe")]):
            raise ValueError(
                f"folds: {self.folds} and metrics: {', '.join(probed)}, for which a model is asked more than its "
                "answers; models of folds are asked about different items, and a release keeps only answers; set "
                "folds: null, or take it out of metrics"
            )
        if self.items < self.gate.minimum_items:
            raise ValueError(
                f"items: {self.items} is below gate.minimum_items ({self.gate.minimum_items}), so no candidate "
                "could ever pass; raise items or lower minimum_items"
            )
        return self
