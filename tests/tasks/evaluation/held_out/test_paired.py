"""Models are compared on the same items or not at all, and a metric that fails takes the gate with it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import ClassVar, Literal

import numpy as np
import pytest

from tasks.contracts.errors import PipelineError
from tasks.evaluation.held_out.paired import score_paired
from tasks.evaluation.items import Item, hash_items
from tasks.evaluation.metrics.likelihoods.loss import Loss
from tasks.evaluation.metrics.metric import Evidence, Metric, Scores
from tasks.evaluation.metrics.per_answer import PerAnswer
from tasks.evaluation.metrics.words.bleu import Bleu
from tasks.evaluation.metrics.words.exact_match import ExactMatch
from tasks.evaluation.outcomes import Outcome
from tasks.evaluation.scoring import Scoreboard
from tasks.evaluation.verdict import decide
from tests.tasks.evaluation.boards import make_board, make_items, make_outcome, right_and_wrong

ITEMS = make_items(["yes"] * 120)


class Brittle(PerAnswer):
    """Raises on one answer, or gives what `value` gives."""

    title: ClassVar[str] = "Brittle"
    higher_is_better: ClassVar[bool] = True
    name: Literal["brittle"] = "brittle"
    broken: str = "item77"

    def measure(self, item: Item, answer: str) -> float:
        if item.id == self.broken:
            raise ZeroDivisionError("no words")
        return float(answer == "yes")


class OnlyRight(ExactMatch):
    """Scores only what a model has right, as no metric should."""

    def score(self, evidence: Evidence, outcome: Outcome) -> Scores:
        found = super().score(evidence, outcome)
        return Scores(found.values, found.values.copy())


def board(*metrics: Metric, losses: list[float] | None = None) -> Scoreboard:
    outcomes = [
        make_outcome("base", right_and_wrong(10, 120)),
        make_outcome("candidate", right_and_wrong(90, 120), losses or ()),
    ]
    return make_board(ITEMS, outcomes, metrics)


def test_a_metric_that_raises_on_one_item_is_named_with_it_and_nothing_is_promoted() -> None:
    found = board(ExactMatch(), Brittle(), Loss())
    assert set(found.against_opponent) == {"exact_match", "loss"}
    why = "it failed on item item77 of the base: ZeroDivisionError: no words"
    assert found.failed == {"brittle": why}
    assert found.incomparable["brittle"] == why
    # Whoever does not ask for it is not held up by it.
    assert decide(found, "exact_match", 100, {"loss": 0.05}, None).verdict == "promote"
    for primary, margins in (("brittle", {}), (["exact_match", "brittle"], {}), ("exact_match", {"brittle": 0.1})):
        verdict = decide(found, primary, 100, margins, None)
        assert (verdict.verdict, verdict.items_needed) == ("keep", None), primary
        assert verdict.reasons[0] == f"brittle could not be scored, and nothing is promoted without it: {why}"


def test_where_every_metric_failed_the_run_stops_with_the_reason() -> None:
    with pytest.raises(PipelineError, match=r"none could be compared \(brittle: it failed on item item77"):
        decide(board(Brittle()), "brittle", 100, {}, None)


def test_a_number_that_is_none_fails_the_metric() -> None:
    losses = [0.5] * 120
    losses[3] = float("nan")
    losses[5] = float("inf")
    found = board(ExactMatch(), Loss(), losses=losses)
    assert found.failed == {
        "loss": "2 of 120 scores are not numbers (the first is that of item item3), those of the candidate"
    }
    assert decide(found, "exact_match", 100, {"loss": 0.05}, None).verdict == "keep"
    nothing = replace(make_outcome("candidate", ["yes"] * 120), answers=[""] * 120)
    scored = score_paired(Bleu(), Evidence(ITEMS, None), {"candidate": nothing})
    assert not scored.failure, "a score of 0 is a number"


def test_items_scored_for_some_models_only_are_left_out_and_counted() -> None:
    found = board(OnlyRight(), Loss())
    # Right of either: 10 of the base, which are among the 90 of the candidate.
    assert found.unpaired == {"exact_match": 80}
    one = found.against_opponent["exact_match"]
    assert (one.items, one.mean_a, one.mean_b) == (10, 1.0, 1.0)
    verdict = decide(found, "exact_match", 10, {}, None)
    assert verdict.verdict == "keep"
    assert verdict.reasons[-1] == "exact_match: 80 items are left out, as they are scored for some models only"


def cut(outcome: Outcome) -> Outcome:
    return replace(outcome, answers=outcome.answers[1:])


def other(outcome: Outcome) -> Outcome:
    return replace(outcome, items=hash_items(ITEMS[:-1]))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [(cut, "candidate: 119 and 120 answers to 120 items"), (other, "candidate: answered other items")],
)
def test_answers_to_other_items_are_refused(spoil: Callable[[Outcome], Outcome], said: str) -> None:
    base, candidate = (
        replace(make_outcome(name, ["no"] * 120), items=hash_items(ITEMS)) for name in ("base", "candidate")
    )
    make_board(ITEMS, [base, candidate])
    with pytest.raises(PipelineError, match=said):
        make_board(ITEMS, [base, spoil(candidate)])


def test_a_champion_that_has_not_answered_stops_the_decision() -> None:
    with pytest.raises(PipelineError, match="release abc is champion and has not answered the items"):
        decide(board(ExactMatch()), "exact_match", 100, {}, champion="abc")


def test_ties_are_counted() -> None:
    checks = board(ExactMatch()).against_opponent["exact_match"].checks
    assert checks is not None
    assert (checks.better, checks.worse, checks.ties) == (80, 0, 40)
    assert np.isfinite(checks.permutation)
