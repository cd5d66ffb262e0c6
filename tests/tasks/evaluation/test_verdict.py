"""Every way a verdict can fall, with its reason."""

from __future__ import annotations

import numpy as np
import pytest
from statsmodels.stats.multitest import multipletests

from tasks.contracts.errors import PipelineError
from tasks.evaluation.comparison import Comparison
from tasks.evaluation.metrics.form.finished import FinishedAnswers
from tasks.evaluation.metrics.form.regex_match import RegexMatch
from tasks.evaluation.metrics.labels.intent_accuracy import IntentAccuracy
from tasks.evaluation.metrics.likelihoods.bits_per_byte import BitsPerByte
from tasks.evaluation.metrics.likelihoods.loss import Loss
from tasks.evaluation.metrics.words.exact_match import ExactMatch
from tasks.evaluation.scoring import Scoreboard
from tasks.evaluation.verdict import PromotionVerdict, decide, find_better
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


def test_a_little_better_in_the_mean_is_undecided_with_the_items_that_would_settle_it() -> None:
    verdict = judge(board(10, 90, 92, offset=0))
    assert verdict.verdict == "undecided"
    assert verdict.reasons[0].startswith("not proven better than the champion")
    assert "on 120 items, enough to detect a difference of " in verdict.reasons[0]
    # 2 of 120 differ: 2.802 x 0.1286 / sqrt(120) = 0.0329 detectable, 0.01667 found: 120 x 1.974^2 = 467.
    assert verdict.items_needed == 470
    assert verdict.reasons[0].endswith("; about 470 items would settle it")


def test_so_many_items_do_settle_it() -> None:
    """Of candidates as much better as the found one, four of five are proven so on the items that are asked for."""
    rng = np.random.default_rng(5)
    found = 0
    for _ in range(60):
        right = rng.random(470) < 0.75
        gained = ~right & (rng.random(470) < 0.0667)
        items = make_items(["yes"] * 470)
        answers = [["yes" if each else "no" for each in one] for one in (right, right | gained)]
        made = make_board(
            items, [make_outcome("base", answers[0]), make_outcome("candidate", answers[1])], [ExactMatch()]
        )
        found += decide(made, "exact_match", 100, {}, None).verdict == "promote"
    assert 0.64 <= found / 60 <= 1.0, found  # three standard deviations of 60 trials at 80% are 15 points


def test_not_even_better_in_the_mean_is_kept() -> None:
    verdict = judge(board(10, 90, 88))
    assert (verdict.verdict, verdict.items_needed) == ("keep", None)
    assert verdict.reasons[0].startswith("not proven better than the champion")


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


def test_a_small_worsening_that_the_items_cannot_rule_out_is_undecided() -> None:
    """Non-inferiority is a question of the interval's unfavourable end, not of the mean."""
    losses = [1.0 + (0.9 if place % 2 else -0.86) for place in range(120)]
    outcomes = [
        make_outcome("base", right_and_wrong(10, 120)),
        make_outcome("candidate", right_and_wrong(90, 120), losses),
    ]
    found = make_board(ITEMS, outcomes)
    assert found.against_opponent["loss"].difference == pytest.approx(0.02)
    verdict = judge(found, margins={"loss": 0.05})
    assert verdict.verdict == "undecided"
    # 0.2260 detectable, 0.05 - 0.02 to be ruled out: 120 x 7.53^2 = 6,810.
    assert verdict.items_needed == 6_900
    assert judge(found, margins={"loss": 0.30}).verdict == "promote"
    assert judge(found, margins={"loss": 0.01}).verdict == "keep"


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
    assert (verdict.verdict, verdict.items_needed) == ("undecided", 121)
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


def test_of_several_primary_metrics_one_is_enough_by_holms_method() -> None:
    """At 5% a gain of 7 of 120 without a loss has p = 0.016, which two metrics still allow and four do not."""
    answers = ["yes"] * 7 + ["no"] * 113
    metrics = [ExactMatch(), RegexMatch(pattern="yes"), Loss(), FinishedAnswers(), BitsPerByte()]
    outcomes = [make_outcome("base", ["no"] * 120), make_outcome("candidate", answers)]
    found = make_board(ITEMS, outcomes, metrics)
    p = found.find_p("exact_match")
    assert 0.0005 < p < 0.025
    for wanted, better in ((["loss", "exact_match"], True), (["exact_match"], True), (["loss", "finished"], False)):
        verdict = decide(found, wanted, 100, {}, None)
        assert (verdict.verdict == "promote") is better, wanted
    assert verdict.primary == "loss"
    assert decide(found, ["loss", "exact_match"], 100, {}, None).primary == "exact_match"
    assert (
        "one of 2 primary metrics, by Holm's method" in decide(found, ["loss", "exact_match"], 100, {}, None).reasons[0]
    )


@pytest.mark.parametrize("values", [[0.01, 0.04, 0.03], [0.001, 0.02, 0.5], [0.026, 0.001], [0.024, 0.3]])
def test_holms_method_is_that_of_statsmodels(values: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["exact_match", "loss", "perplexity"][: len(values)]
    found = board(10, None, 90, losses=(2.0, 1.0))
    monkeypatch.setattr(Scoreboard, "find_p", lambda _, name: values[names.index(name)])
    expected = multipletests(values, alpha=0.05, method="holm")[0]
    assert set(find_better(found, names)) == {name for name, rejected in zip(names, expected, strict=True) if rejected}


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
