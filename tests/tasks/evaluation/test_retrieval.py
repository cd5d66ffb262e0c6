"""Ranks of the right texts, and the metrics that read them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tasks.contracts.errors import PipelineError
from tasks.evaluation import retrieval
from tasks.evaluation.items import Item
from tasks.evaluation.metrics.likelihoods.loss import Loss
from tasks.evaluation.metrics.metric import Evidence, why_not_applicable
from tasks.evaluation.metrics.vectors.recall_at import RecallAt
from tasks.evaluation.metrics.vectors.reciprocal_rank import ReciprocalRank
from tasks.evaluation.metrics.words.exact_match import ExactMatch
from tasks.evaluation.outcomes import AnswerSettings, answer_with_base
from tasks.evaluation.scoring import score_outcomes
from tests.tasks.evaluation.boards import make_items, make_outcome
from tests.tasks.fine_tuning.small import make_initial
from tests.tiny import make_tiny_model

VECTORS = {
    "question 0": (1, 0),
    "question 1": (0.6, 0.8),
    "question 2": (0, 1),
    "a": (0.8, 0.6),
    "b": (1, 0),
    "c": (0, 1),
}


def items(labels: list[str | None]) -> tuple[Item, ...]:
    return make_items(["a", "b", "c"], labels)


@pytest.fixture
def _vectors(monkeypatch: pytest.MonkeyPatch) -> None:
    def embed(_: Any, __: Any, texts: list[str], *___: Any) -> Any:
        return np.array([VECTORS[text] for text in texts], dtype=np.float64)

    monkeypatch.setattr(retrieval, "embed_texts", embed)


@pytest.mark.usefixtures("_vectors")
def test_ranks_are_counted_by_hand() -> None:
    # To question 0 b (1.0) is nearer than its answer a (0.8); to question 1 a (0.96) and c (0.8) than b (0.6).
    assert retrieval.rank_partners(None, None, items([None] * 3), "answers", 8, "mean").tolist() == [2, 3, 1]
    # Questions 0 and 2 share a label: between them stands question 1. Question 1 has no partner.
    ranks = retrieval.rank_partners(None, None, items(["x", "y", "x"]), "labels", 8, "mean")
    assert ranks.tolist() == [2, 0, 2]


def test_metrics_are_means_over_the_items_that_have_a_right_text() -> None:
    outcome = replace(make_outcome("base", [""] * 4), ranks=np.array([1, 2, 10, 0]))
    evidence = Evidence(make_items(["a", "b", "c", "d"]), None, vectors=True)
    scores = ReciprocalRank().score(evidence, outcome)
    assert np.average(scores.values, weights=scores.weights) == pytest.approx(1.6 / 3)
    scores = RecallAt(k=5).score(evidence, outcome)
    assert np.average(scores.values, weights=scores.weights) == pytest.approx(2 / 3)
    assert "no model was asked for answers" in str(why_not_applicable(ExactMatch(), evidence))
    assert "no model was asked for answers" in str(why_not_applicable(Loss(), evidence))
    assert "objective: contrastive" in str(why_not_applicable(RecallAt(), Evidence(evidence.items, None)))
    with pytest.raises(PipelineError, match="no ranks"):
        RecallAt().score(evidence, replace(outcome, ranks=None))


def test_models_are_compared_with_intervals(tmp_path: Path) -> None:
    initial = make_initial(make_tiny_model(tmp_path / "initial"))
    held_out = make_items([f"answer {n} of {n % 5}" for n in range(12)])
    base = answer_with_base(held_out, initial, AnswerSettings(8, 4, device="cpu", pairs="answers"))
    assert base.ranks is not None
    assert base.ranks.min() >= 1
    better = replace(base, model="candidate", ranks=np.ones_like(base.ranks))
    metrics = (RecallAt(k=1), ReciprocalRank(), ExactMatch())
    board = score_outcomes(Evidence(held_out, None, vectors=True), [base, None, better], metrics, 1000, 0.95, 0.8, 0)
    assert set(board.against_opponent) == {"recall_at", "reciprocal_rank"}
    found = board.against_opponent["reciprocal_rank"]
    assert found.mean_a == 1.0
    assert found.low <= found.difference <= found.high
