"""Made-up items, outcomes and scoreboards for the tests of this stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from tasks.evaluation.items import Item
from tasks.evaluation.judges.judged import JudgedAnswers
from tasks.evaluation.metrics.likelihoods.loss import Loss
from tasks.evaluation.metrics.likelihoods.perplexity import Perplexity
from tasks.evaluation.metrics.metric import Evidence, Metric
from tasks.evaluation.metrics.words.exact_match import ExactMatch
from tasks.evaluation.outcomes import ModelName, Outcome
from tasks.evaluation.scoring import Scoreboard, score_outcomes


def make_items(
    references: Sequence[str], labels: Sequence[str | None] | None = None, sources: Sequence[str] | None = None
) -> tuple[Item, ...]:
    return tuple(
        Item(
            id=f"item{place}",
            source=sources[place] if sources else "shop",
            label=labels[place] if labels else None,
            cluster=f"item{place}",
            prompt=({"role": "user", "content": f"question {place}"},),
            reference=reference,
        )
        for place, reference in enumerate(references)
    )


def make_outcome(
    model: ModelName, answers: Sequence[str], losses: Sequence[float] = (), tokens: Sequence[int] = ()
) -> Outcome:
    count = len(answers)
    return Outcome(
        model,
        list(answers),
        np.ones(count, dtype=bool),
        np.array(losses or [1.0] * count, dtype=np.float64),
        np.array(tokens or [1] * count, dtype=np.int64),
        np.ones(count, dtype=np.int64),
        ranks=np.full(count, 1 if model == "base" else 7, dtype=np.int64),
    )


def make_board(
    items: tuple[Item, ...],
    outcomes: Sequence[Outcome | None],
    metrics: Sequence[Metric] = (ExactMatch(), Loss(), Perplexity()),
    judged: Mapping[str, JudgedAnswers] | None = None,
) -> Scoreboard:
    vectors, rewards = (all(metric.looks_at == what for metric in metrics) for what in ("vectors", "rewards"))
    evidence = Evidence(items, None, vectors, rewards, judged or {})
    return score_outcomes(evidence, outcomes, metrics, resamples=2_000, confidence=0.95, power=0.8, seed=0)


def right_and_wrong(right: int, of: int, offset: int = 0) -> list[str]:
    """Answers to references that all read "yes": the first ``right`` after ``offset`` are right."""
    return ["yes" if offset <= place < offset + right else "no" for place in range(of)]
