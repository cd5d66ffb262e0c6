"""The false-alarm rate of the whole verdict and its power, measured on simulated windows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tasks.monitoring.calibration import judge_probes, rank
from tasks.monitoring.detectors.distance import Distance
from tasks.monitoring.drift import DriftVerdict, detect_drift
from tasks.monitoring.params import Drift
from tasks.monitoring.sample import TrafficSample
from tasks.monitoring.traffic import FrozenTraffic
from tests.tasks.monitoring.requests import make_request, make_table, make_traffic

FAST = Drift(splits=600, false_alarms=0.05, examples=2)


def look(seed: int, new: int, settings: Drift = FAST, rows: int = 150) -> DriftVerdict:
    traffic = FrozenTraffic(make_traffic(300, 2 * seed), make_traffic(rows, 2 * seed + 1, new), "w")
    return detect_drift(traffic, settings, str)


def test_false_alarms_stay_below_the_stated_rate() -> None:
    """5% of 60 are 3; more than 7 would come by chance less than once in a hundred times."""
    alarms = sum(look(seed, new=0).verdict == "drift" for seed in range(60))
    assert alarms <= 7


def test_the_chance_is_calibrated_with_all_comparisons_together() -> None:
    """Ten independent features without drift: each alone would alarm in 40% of windows together."""
    rng = np.random.default_rng(3)
    settings = Distance(minimum_effect=0.0)
    alarms = 0
    for trial in range(100):
        numbers = {f"f{k}": rng.normal(size=180) for k in range(10)}
        sample = TrafficSample(120, [""] * 180, [""] * 180, numbers, {}, np.zeros((180, 2)))
        found = judge_probes(settings.probes(sample), sample, 400, trial, 0.05, 0.9)
        alarms += any(f.alert for f in found)
    assert alarms <= 11  # 5 expected; 12 or more with probability 0.4%


@pytest.mark.parametrize(("new", "least"), [(15, 4), (30, 5)])
def test_new_subjects_are_seen(new: int, least: int) -> None:
    """A tenth of the window about one new subject is seen nearly always, a fifth always."""
    found = [look(seed, new) for seed in range(100, 105)]
    assert sum(v.verdict == "drift" for v in found) >= least
    assert "battery" in {word.word for word in found[-1].words[:4]}


def test_the_stated_smallest_shift_is_seen() -> None:
    """A shift of a normal feature by exactly the stated gap is noticed about as often as stated."""
    rng = np.random.default_rng(5)
    seen = 0
    for trial in range(40):
        reference = rng.uniform(size=300)
        probe_of = Distance(minimum_effect=0.0)

        def sample_with(window: np.ndarray, reference: np.ndarray = reference) -> TrafficSample:
            numbers = {"f": np.concatenate([reference, window])}
            return TrafficSample(300, [""] * 500, [""] * 500, numbers, {}, np.zeros((500, 2)))

        usual = sample_with(rng.uniform(size=200))
        smallest = judge_probes(probe_of.probes(usual), usual, 500, trial, 0.05, 0.9)[0].smallest
        # Moving a uniform variable by d makes a gap of exactly d.
        moved = sample_with(rng.uniform(size=200) + smallest)
        seen += judge_probes(probe_of.probes(moved), moved, 500, trial, 0.05, 0.9)[0].alert
    assert seen >= 32  # 36 expected


def test_small_effects_raise_no_alert_however_certain() -> None:
    certain = look(1, new=30)
    large = {d.name: 101.0 if d.name == "level" else 0.99 for d in FAST.detectors}
    strict = Drift(splits=600, detectors=tuple({"name": n, "minimum_effect": e} for n, e in large.items()))
    assert certain.verdict == "drift"
    assert look(1, new=30, settings=strict).verdict == "no_drift"


def test_a_longer_answer_is_an_alert_about_answers() -> None:
    window = make_traffic(150, 1)
    answers = [row + " Thank you for your patience with us." * 2 for row in window["answer"].to_pylist()]
    longer = window.set_column(6, "answer", [answers])
    found = detect_drift(FrozenTraffic(make_traffic(300, 0), longer, "w"), FAST, str)
    assert {f.subject for f in found.alerts} == {"answer length in characters", "answer length in words"}
    assert found.reasons[0].startswith("answer length in")


def test_refusals_are_an_alert() -> None:
    window = make_traffic(150, 1)
    answers = ["I’m sorry, but I can't help with that." if k % 5 == 0 else a
               for k, a in enumerate(window["answer"].to_pylist())]  # fmt: skip
    found = detect_drift(FrozenTraffic(make_traffic(300, 0), window.set_column(6, "answer", [answers]), "w"), FAST, str)
    finding = next(f for f in found.alerts if f.detector == "rate")
    assert finding.subject == "answers that refuse"
    assert finding.effect == pytest.approx(0.2)
    assert any(r.startswith("answers that refuse: the share rose from 0% to 20% (") for r in found.reasons)


def test_rank_counts_equals_as_larger() -> None:
    assert rank(np.array([[1.0], [2.0], [2.0], [3.0]]))[:, 0].tolist() == [1.0, 3 / 4, 3 / 4, 1 / 4]


def judge(baseline: list[dict[str, Any]], window: list[dict[str, Any]]) -> DriftVerdict:
    return detect_drift(FrozenTraffic(make_table(baseline), make_table(window), "w"), FAST, str)


@pytest.mark.parametrize("rows", [100, 200])
@pytest.mark.parametrize(
    "rare",
    [
        {"messages": [{"role": r, "content": "my parcel"} for r in ("user", "assistant", "user", "assistant", "user")]},
        {"messages": [{"role": "user", "content": "my parcel 4711"}]},
        {"messages": [{"role": "user", "content": "MY PARCEL"}]},
        {"messages": [{"role": "user", "content": "👍"}]},
        {"messages": [{"role": "user", "content": ""}]},
        {"answer": "I'm sorry, but I can't help with that."},
        {"answer": ""},
        {"answer": "word " * 500},
    ],
    ids=["turns", "digits", "capitals", "emoji", "empty prompt", "refusal", "empty answer", "long answer"],
)
def test_one_unusual_row_against_a_constant_baseline_is_no_drift(rows: int, rare: dict[str, Any]) -> None:
    usual = [make_request("my parcel", number=number) for number in range(rows)]
    verdict = judge(usual, [*usual[1:], {**usual[0], **rare}])
    assert verdict.verdict == "no_drift"
    assert all(abs(finding.effect) < 1 for finding in verdict.findings if finding.detector == "level")


def test_a_change_of_every_row_against_a_constant_baseline_is_drift_of_finite_size() -> None:
    usual = [make_request("my parcel", number=number) for number in range(150)]
    turns = [{"role": r, "content": "my parcel"} for r in ("user", "assistant", "user")]
    verdict = judge(usual, [{**row, "messages": turns} for row in usual])
    assert [finding.subject for finding in verdict.alerts] == ["turns of the conversation"]
    assert verdict.alerts[0].effect == pytest.approx(2, abs=0.01)


@pytest.mark.parametrize("kinds", [("👍", "👎"), ("?", "!"), ("1", "2"), ("a", "b"), ("好", "坏")])
def test_prompts_without_words_are_compared(kinds: tuple[str, str]) -> None:
    first, second = ([make_request(kind, number=number) for number in range(150)] for kind in kinds)
    assert judge(first, first).verdict == "no_drift"
    assert judge(first, second).verdict == ("no_drift" if kinds[0].isdigit() else "drift")


def test_false_alarms_on_features_that_are_rare_stay_below_the_stated_rate() -> None:
    """One prompt in sixty has digits, so that many a baseline has none; 5% of 60 are 3."""
    alarms = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        prompts = ["my parcel " + ("4711" if rng.random() < 1 / 60 else "today") for _ in range(240)]
        rows = [make_request(prompt, number=number) for number, prompt in enumerate(prompts)]
        alarms += judge(rows[:120], rows[120:]).verdict == "drift"
    assert alarms <= 7
