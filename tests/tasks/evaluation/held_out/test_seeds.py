"""An improvement that is the luck of one training seed is not proven."""

from __future__ import annotations

import numpy as np
import pytest

from tasks.evaluation.comparison import Comparison
from tasks.evaluation.held_out.seeds import average_scores, join_seeds
from tasks.evaluation.metrics.likelihoods.loss import Loss
from tasks.evaluation.metrics.metric import Evidence, Scores
from tasks.evaluation.metrics.words.bleu import Bleu
from tasks.evaluation.metrics.words.exact_match import ExactMatch
from tasks.evaluation.outcomes import Outcome
from tasks.evaluation.scoring import Scoreboard, score_outcomes
from tasks.evaluation.verdict import decide
from tests.tasks.evaluation.boards import make_items, make_outcome, right_and_wrong

ITEMS = make_items(["yes"] * 400)


def test_both_sources_of_chance_are_in_the_interval() -> None:
    alone = Comparison(
        mean_a=0.55, mean_b=0.5, difference=0.05, low=0.03, high=0.07, detectable=0.03, items=400, higher_is_better=True
    )
    found = join_seeds(alone, [0.06, 0.04, 0.05], 0.95, 0.8)
    # t(2) = 4.3027, s = 0.01: h = 4.3027 x 0.01 / sqrt(3) = 0.02484.
    assert found.low == pytest.approx(0.05 - np.hypot(0.02, 0.02484), abs=1e-5)
    assert found.high == pytest.approx(0.05 + np.hypot(0.02, 0.02484), abs=1e-5)
    assert found.detectable == pytest.approx(np.hypot(0.03, 2.8016 * 0.01 / 3**0.5), abs=1e-5)
    assert found.seeds is not None
    assert "seeds" in found.model_dump()
    assert "seeds" not in alone.model_dump(), "verdicts over one seed are what they were"
    assert (found.seeds.low, found.seeds.high, found.seeds.deviation) == (0.03, 0.07, pytest.approx(0.01))


def test_scores_are_averaged_item_by_item_and_tallies_too() -> None:
    weights = np.ones(2)
    mean = average_scores([Scores(np.array([0.0, 1.0]), weights), Scores(np.array([1.0, 1.0]), weights)])
    assert mean.values.tolist() == [0.5, 1.0]
    evidence = Evidence(ITEMS[:2], None)
    one = Bleu().score(evidence, make_outcome("a", ["yes", "yes"]))
    both = average_scores([one, one])
    assert both.tally is not None
    assert one.tally is not None
    assert both.tally.counts.tolist() == one.tally.counts.tolist()


def board(*right: int) -> Scoreboard:
    """The opponent has 200 of 400 right, the candidate and the models of other seeds so many."""

    def answer(name: str, count: int) -> Outcome:
        return make_outcome(name, right_and_wrong(count, 400))

    candidate, *others = right
    return score_outcomes(
        Evidence(ITEMS, None), [answer("base", 200), answer("candidate", candidate)], [ExactMatch(), Loss()],
        2_000, 0.95, 0.8, 0, seeds=[answer(f"seed {n}", count) for n, count in enumerate(others)],
    )  # fmt: skip


def test_a_lucky_seed_is_not_promoted_and_a_steady_gain_is() -> None:
    alone, steady, lucky = board(230), board(230, 231, 229), board(230, 202, 203)
    assert decide(alone, "exact_match", 100, {}, None).verdict == "promote"
    verdict = decide(steady, "exact_match", 100, {}, None)
    assert verdict.verdict == "promote"
    assert verdict.reasons[-1].startswith(
        "over 3 training seeds the difference of exact_match was +0.0750, +0.0775, +0.0725 (standard deviation 0.00250)"
    )
    verdict = decide(lucky, "exact_match", 100, {}, None)
    assert verdict.verdict == "undecided"
    one = lucky.against_opponent["exact_match"]
    assert one.difference == pytest.approx((30 + 2 + 3) / 3 / 400)
    assert one.low < 0 < (one.seeds.low if one.seeds else -1)
    assert lucky.find_p("exact_match") > 0.05 > steady.find_p("exact_match")
    assert decide(lucky, ["exact_match", "loss"], 100, {}, None).verdict == "undecided"
    # What is shown and written as the candidate's stays that of the candidate.
    assert lucky.estimates[("candidate", "exact_match")].value == 230 / 400
    assert set(lucky.outcomes) == {"base", "candidate"}
    assert all(model in ("base", "candidate") for model, _ in lucky.estimates)
