"""Latency and size as guards of the gate: within a margin, and closed where they are not known."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tasks.contracts.errors import PipelineError
from tasks.evaluation.metrics.cost.latency import Latency
from tasks.evaluation.metrics.cost.model_size import ModelSize
from tasks.evaluation.metrics.words.exact_match import ExactMatch
from tasks.evaluation.outcomes import Outcome
from tasks.evaluation.verdict import PromotionVerdict, decide
from tests.tasks.evaluation.boards import make_board, make_items, make_outcome, right_and_wrong

ITEMS = make_items(["yes"] * 120)
MARGINS = {"latency": 0.2, "model_size": 0.5}


def answer(model: str, right: int, slower: float, parameters: int) -> Outcome:
    seconds = [0.5 + place % 7 / 10 + slower * (0.9 + place % 3 / 10) for place in range(20)]
    probes = {"seconds 20 3": {"seconds": seconds + [None] * 100}, "size": {"parameters": parameters}}
    return replace(make_outcome(model, right_and_wrong(right, 120)), probes=probes)


def judge(slower: float, parameters: int) -> PromotionVerdict:
    outcomes = [answer("base", 10, 0, 9_000_000), answer("champion", 40, 0, 10_000_000)]
    outcomes.append(answer("candidate", 100, slower, parameters))
    board = make_board(ITEMS, outcomes, [ExactMatch(), Latency(), ModelSize()])
    return decide(board, "exact_match", 100, MARGINS, "abc")


def test_a_candidate_that_costs_no_more_than_its_margins_is_promoted() -> None:
    found = judge(0.1, 10_500_000)
    assert found.verdict == "promote"
    assert found.reasons[1].startswith("latency (s) worsened from 0.785 to 0.884")
    assert found.reasons[1].endswith("by no more than its margin of 0.2")
    assert found.reasons[2] == (
        "parameters (millions) worsened from 10.0 to 10.5 (+0.500 [+0.500, +0.500]), by no more than its margin of 0.5"
    )
    assert found.comparisons["candidate_vs_champion"]["latency"]["items"] == 20


@pytest.mark.parametrize(
    ("slower", "parameters", "said"), [(0.4, 10_000_000, "latency"), (0.1, 10_600_000, "parameters")]
)
def test_one_that_costs_more_is_not_however_good_it_is(slower: float, parameters: int, said: str) -> None:
    found = judge(slower, parameters)
    assert found.verdict == "keep"
    (reason,) = (one for one in found.reasons if one.startswith(said))
    assert reason.endswith(f"by more than its margin of {MARGINS['latency' if said == 'latency' else 'model_size']:g}")


def test_without_numbers_nothing_is_decided() -> None:
    for metric, why in ((Latency(), "its answers were not timed"), (ModelSize(), "its parameters were not counted")):
        outcomes = [answer("base", 10, 0, 1), make_outcome("candidate", right_and_wrong(100, 120))]
        with pytest.raises(PipelineError, match=f"candidate: {why}"):
            make_board(ITEMS, outcomes, [ExactMatch(), metric])
