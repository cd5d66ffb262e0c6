"""The trustworthiness table: each axis is measured, or it says why not and what would."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tasks.evaluation.asking.question import Reply
from tasks.evaluation.comparison import Comparison
from tasks.evaluation.scoring import Estimate
from tasks.evaluation.suites.safety.fairness import Fairness
from tasks.evaluation.suites.safety.machine_ethics import MachineEthics
from tasks.evaluation.suites.safety.unknown_answers import UnknownAnswers
from tasks.evaluation.suites.scoring import NO_SUITES, SuiteBoard, SuiteResult, read_suites, score_suites
from tasks.evaluation.trustworthiness.axes import describe_axes, list_axes, list_spoiled
from tasks.language_models.probes.bias_probe import BiasMeasure
from tasks.language_models.probes.bias_sentences import COUPLES
from tests.tasks.evaluation.boards import make_outcome
from tests.tasks.evaluation.suites.replies import HOW

KNOWING, INVENTING = "I don't know.", "In 1902, at sea."


def make_board(base: str, candidate: str) -> SuiteBoard:
    """Two suites of safety, one of which has no file, with one answer to everything."""
    asked = read_suites([UnknownAnswers(role="guard"), Fairness(files="nowhere.csv")])
    outcomes = []
    for model, text in (("base", base), ("candidate", candidate)):
        outcome = make_outcome(model, ["x"])
        replies = {key: [Reply(text=text) for _ in found] for key, found in asked.questions.items()}
        object.__setattr__(outcome, "replies", replies)
        outcomes.append(outcome)
    return score_suites(asked, outcomes, **HOW)


def test_every_axis_is_measured_or_says_why_not() -> None:
    axes = {axis.axis: axis for axis in list_axes(make_board(KNOWING, INVENTING), {})}
    assert len(axes) == 12
    assert axes["Privacy"].why_not == "not measured: no suite for it; add {name: memorisation}"
    assert axes["Fairness"].why_not.startswith("not measured: fairness failed: nowhere.csv: there is no such file")
    (one,) = axes["Out-of-distribution robustness"].measures
    assert (one.scores, one.change, one.result) == ({"base": 0, "candidate": 1}, 1, "worse")
    (spoiled,) = list_spoiled(list(axes.values()))
    assert spoiled.startswith(
        "Out-of-distribution robustness, answers that claim to know: 0 before tuning, 1.00 after (+1"
    )
    block = describe_axes(make_board(KNOWING, INVENTING), {})
    assert block.summary == "1 of DecodingTrust's 8 axes are measured. Measures that tuning made worse: 1."
    kept = json.loads(json.dumps(block.values))
    assert [axis["axis"] for axis in kept["axes"]] == list(axes)
    assert kept["spoiled"] == list(block.notes) == [spoiled]
    rows = {row[0]: row for row in block.tables[0].rows}
    assert len(rows) == 12
    assert rows["Privacy"][1:] == [axes["Privacy"].why_not, "–", "–", "–", "–"]


def test_without_suites_the_bias_probe_is_what_is_known() -> None:
    base, candidate = make_outcome("base", ["x"]), make_outcome("candidate", ["x"])
    rising = np.linspace(0, 0.1, len(COUPLES))
    object.__setattr__(base, "bias", BiasMeasure(rising))
    object.__setattr__(candidate, "bias", BiasMeasure(rising + np.linspace(0.5, 0.6, len(COUPLES))))
    axes = list_axes(NO_SUITES, {"base": base, "candidate": candidate})
    measured = [axis for axis in axes if axis.measures]
    assert [axis.axis for axis in measured] == ["Stereotype"]
    (one,) = measured[0].measures
    assert one.change == pytest.approx(0.55)
    assert one.result == "worse"
    assert all(axis.why_not for axis in axes if not axis.measures)


def test_a_guard_that_cannot_be_read_keeps_the_candidate_out() -> None:
    from tasks.evaluation.suites.gate import judge_guards

    (judged,) = judge_guards(make_board(KNOWING, INVENTING), "base")
    assert (judged.key, judged.margin) == ("unknown_answers", UnknownAnswers.usual_margin)
    assert judged.comparison is not None
    assert not judged.comparison.stays_within(judged.margin)
    # Its few questions are enough to rule out the usual margin where nothing changed.
    (same,) = judge_guards(make_board(KNOWING, KNOWING), "base")
    assert same.comparison is not None
    assert same.comparison.stays_within(same.margin)
    asked = read_suites([Fairness(files="nowhere.csv", role="guard")])
    outcomes = [make_outcome(model, ["x"]) for model in ("base", "candidate")]
    (failed,) = judge_guards(score_suites(asked, outcomes, **HOW), "base")
    assert failed.comparison is None
    assert "fairness guards, and failed: nowhere.csv" in failed.reason


def test_measures_that_put_others_into_context_spoil_nothing() -> None:
    suite = MachineEthics(files="x")
    worse = Comparison(
        mean_a=0.9, mean_b=0.1, difference=0.8, low=0.7, high=0.9, detectable=0.1, items=50, higher_is_better=False
    )
    estimates = {(model, name): Estimate(0.5, 0.4, 0.6) for model in ("base", "candidate") for name in suite.measures}
    compared = {"candidate_vs_base": dict.fromkeys(suite.measures, worse)}
    result = SuiteResult(suite, estimates=estimates, comparisons=compared)
    axes = list_axes(SuiteBoard({"machine_ethics": result}), {})
    assert [line.split(":")[0] for line in list_spoiled(axes)] == ["Machine ethics, judgements as people's"]
    (shown,) = [axis.measures for axis in axes if axis.measures]
    assert [(one.measure, one.result) for one in shown] == [
        ("judgements as people's", "worse"),
        ("scenarios called wrong", ""),
    ]
