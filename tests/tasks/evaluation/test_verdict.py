"""Every way a verdict can fall, with its reason."""

from __future__ import annotations

import pytest

from tasks.contracts.errors import PipelineError
from tasks.evaluation.comparison import Comparison
from tasks.evaluation.metrics.intent_accuracy import IntentAccuracy
from tasks.evaluation.metrics.loss import Loss
from tasks.evaluation.scoring import Scoreboard
from tasks.evaluation.verdict import PromotionVerdict, decide
from tasks.evaluation.wording import describe_change, describe_margin, signed
from tasks.pages.text import show_score
from tests.tasks.evaluation.boards import make_board, make_items, make_outcome, right_and_wrong

ITEMS = make_items(["yes"] * 120)


def board(
    base: int, champion: int | None, candidate: int, losses: tuple[float, float] = (1.0, 1.0), offset: int = 0
) -> Scoreboard:
    """Right answers of each of 120 and mean losses of opponent and candidate."""
    outcomes = [
        make_outcome("base", right_and_wrong(base, 120), [losses[0]] * 120),
        None if champion is None else make_outcome("champion", right_and_wrong(champion, 120), [losses[0]] * 120),
        make_outcome("candidate", right_and_wrong(candidate, 120, offset), [losses[1]] * 120),
    ]
    return make_board(ITEMS, outcomes)


def judge(found: Scoreboard, minimum_items: int = 100, margins: dict[str, float] | None = None) -> PromotionVerdict:
    release = "abc" if "champion" in found.outcomes else None
    return decide(found, "exact_match", minimum_items, margins or {}, release)


def test_better_than_the_champion_is_promoted() -> None:
    verdict = judge(board(10, 60, 90), margins={"loss": 0.05})
    assert verdict.verdict == "promote"
    assert verdict.reasons[0].startswith("better than the champion: exact match improved from 0.500 to 0.750 (+0.250 [")
    assert verdict.reasons[0].endswith("]) on 120 items")
    assert verdict.reasons[1] == (
        "loss went from 1.00 to 1.00 (0 [0, 0]); a worsening by more than its margin of 0.05 is ruled out"
    )
    assert (verdict.champion, verdict.items, verdict.opponent) == ("abc", 120, "champion")
    assert set(verdict.comparisons) == {"candidate_vs_base", "candidate_vs_champion"}
    assert verdict.comparisons["candidate_vs_champion"]["exact_match"]["difference"] == pytest.approx(0.25)


def test_without_a_champion_the_base_is_the_opponent() -> None:
    verdict = judge(board(10, None, 90))
    assert (verdict.verdict, verdict.opponent, verdict.champion) == ("promote", "base", None)
    assert set(verdict.comparisons) == {"candidate_vs_base"}


def test_better_than_the_base_only_is_kept() -> None:
    verdict = judge(board(10, 90, 92, offset=0))
    assert verdict.verdict == "keep"
    assert verdict.reasons[0].startswith("not proven better than the champion")
    assert "on 120 items, enough to detect a difference of " in verdict.reasons[0]


def test_worse_than_the_champion_is_kept() -> None:
    verdict = judge(board(10, 90, 60))
    assert (verdict.verdict, verdict.reasons[0].split(":")[0]) == ("keep", "worse than the champion")


def test_the_same_model_again_is_kept() -> None:
    assert judge(board(10, 90, 90)).verdict == "keep"


def test_a_worsening_beyond_the_margin_is_kept_however_good_the_primary_metric() -> None:
    found = board(10, 60, 90, losses=(1.0, 1.1))
    assert judge(found, margins={"loss": 0.2}).verdict == "promote"
    verdict = judge(found, margins={"loss": 0.05})
    assert verdict.verdict == "keep"
    beyond = "loss worsened from 1.00 to 1.10 (+0.100 [+0.100, +0.100]), by more than its margin of 0.05"
    assert beyond in verdict.reasons


def test_a_small_worsening_that_the_items_cannot_rule_out_is_kept() -> None:
    """Non-inferiority is a question of the interval's unfavourable end, not of the mean."""
    losses = [1.0 + (0.9 if place % 2 else -0.86) for place in range(120)]
    outcomes = [
        make_outcome("base", right_and_wrong(10, 120)),
        make_outcome("candidate", right_and_wrong(90, 120), losses),
    ]
    found = make_board(ITEMS, outcomes)
    assert found.against_opponent["loss"].difference == pytest.approx(0.02)
    assert judge(found, margins={"loss": 0.05}).verdict == "keep"
    assert judge(found, margins={"loss": 0.30}).verdict == "promote"


def compared(low: float, high: float, higher_is_better: bool) -> Comparison:
    """A candidate whose difference to an opponent at 2 lies in the middle of an interval."""
    difference = (low + high) / 2
    return Comparison(
        mean_a=2 + difference,
        mean_b=2,
        difference=difference,
        low=low,
        high=high,
        detectable=0.1,
        items=100,
        higher_is_better=higher_is_better,
    )


# The ends of the interval of what got better, the margin being 0.1.
SENTENCES = {
    (0.2, 0.4): "improved from {} to {} ({})",
    (-0.4, -0.2): "worsened from {} to {} ({}), by more than its margin of 0.1",
    (-0.15, -0.05): "worsened from {} to {} ({}), possibly by more than its margin of 0.1",
    (-0.08, -0.02): "worsened from {} to {} ({}), by no more than its margin of 0.1",
    (-0.05, 0.15): "went from {} to {} ({}); a worsening by more than its margin of 0.1 is ruled out",
    (-0.2, 0.3): "went from {} to {} ({}); a worsening by more than its margin of 0.1 is not ruled out",
    (0.0, 0.0): "went from {} to {} ({}); a worsening by more than its margin of 0.1 is ruled out",
}


@pytest.mark.parametrize("higher_is_better", [True, False])
@pytest.mark.parametrize(("ends", "sentence"), SENTENCES.items())
def test_sentences_say_which_way_a_metric_went(
    ends: tuple[float, float], sentence: str, higher_is_better: bool
) -> None:
    low, high = ends if higher_is_better else (-ends[1], -ends[0])
    one = compared(low, high, higher_is_better)
    numbers = f"{signed(one.difference)} [{signed(low)}, {signed(high)}]"
    expected = sentence.format("2.00", show_score(2 + one.difference), numbers)
    assert describe_margin("Loss", one, 0.1) == f"loss {expected}"
    assert describe_change("ROUGE-L", one) == f"ROUGE-L {expected.split(')')[0]})"
    assert one.stays_within(0.1) is (ends[0] >= -0.1)


@pytest.mark.parametrize(
    ("value", "shown"),
    [(4.6401, "4.64"), (0.01331, "0.0133"), (0.975, "0.975"), (1254.0, "1,250"), (0.0, "0"), (2e-9, "0"),
     (0.1, "0.100"), (float("nan"), "–"), (-0.05, "-0.0500"), (1.0, "1.00"), (12.345, "12.3")],
)  # fmt: skip
def test_scores_have_three_digits(value: float, shown: str) -> None:
    assert show_score(value) == shown


def test_too_few_items_prove_nothing() -> None:
    verdict = judge(board(0, 0, 120), minimum_items=121)
    assert verdict.verdict == "keep"
    assert verdict.reasons[0].startswith("too few items to judge: 120 scored on exact_match, at least 121 needed")


def test_a_primary_metric_that_does_not_apply_is_replaced_and_named() -> None:
    outcomes = [
        make_outcome("base", ["no"] * 120, [2.0] * 120),
        make_outcome("candidate", ["no"] * 120, [1.0] * 120),
    ]
    found = make_board(ITEMS, outcomes, [IntentAccuracy(), Loss()])
    verdict = decide(found, "intent_accuracy", 100, {"rouge_l": 0.1, "intent_accuracy": 0.1}, None)
    assert (verdict.verdict, verdict.primary) == ("promote", "loss")
    assert any("intent_accuracy does not apply (the training split has" in reason for reason in verdict.reasons)
    assert any(reason.startswith("intent_accuracy is not checked") for reason in verdict.reasons)


def test_nothing_comparable_is_an_error() -> None:
    outcomes = [make_outcome("base", ["no"] * 120), make_outcome("candidate", ["no"] * 120)]
    found = make_board(ITEMS, outcomes, [IntentAccuracy()])
    with pytest.raises(PipelineError, match="none could be compared"):
        decide(found, "intent_accuracy", 100, {}, None)


def test_not_a_number_never_promotes() -> None:
    losses = [float("nan")] + [0.5] * 119
    outcomes = [
        make_outcome("base", right_and_wrong(10, 120)),
        make_outcome("candidate", right_and_wrong(90, 120), losses),
    ]
    found = make_board(ITEMS, outcomes)
    assert judge(found).verdict == "promote"
    assert judge(found, margins={"loss": 0.05}).verdict == "keep"
    assert decide(found, "loss", 100, {}, None).verdict == "keep"
