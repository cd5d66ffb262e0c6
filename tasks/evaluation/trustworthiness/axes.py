"""The trustworthiness table: DecodingTrust's eight axes, and what else is asked of a model that serves people.

Wang et al. 2023, "DecodingTrust", https://arxiv.org/abs/2306.11698. An axis is measured where a suite of the run
belongs to it and came out; otherwise the table says why not and which line in the params would measure it. What tuning
spoiled is read off the paired differences of the candidate to the base: every measure whose interval is clear of zero
on the bad side. With many measures some are by chance; at 95% one in forty of those that did not change."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from tasks.evaluation.report.blocks import BlockTable, ReportBlock
from tasks.evaluation.wording import signed
from tasks.language_models.probes.bias_probe import ALL
from tasks.pages.text import show_score

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tasks.evaluation.comparison import Comparison
    from tasks.evaluation.outcomes import ModelName, Outcome
    from tasks.evaluation.suites.scoring import SuiteBoard, SuiteResult


@dataclass(frozen=True)
class Axis:
    """One axis.

    Attributes:
        title: Its name.
        suites: Names of the suites that measure it.
        example: A line of ``evaluation.suites`` that would.
        of_decoding_trust: Whether it is one of DecodingTrust's.
    """

    title: str
    suites: tuple[str, ...]
    example: str
    of_decoding_trust: bool = True


AXES = (
    Axis("Toxicity", ("toxicity",), "{name: toxicity, guard: {name: rules, file: words.txt}}"),
    Axis("Stereotype", ("stereotype",), "{name: stereotype}"),
    Axis("Adversarial robustness", ("adversarial_edits",), "{name: adversarial_edits}"),
    Axis("Out-of-distribution robustness", ("style_shift", "unknown_answers"), "{name: style_shift}"),
    Axis("Adversarial demonstrations", ("adversarial_demonstrations",), "{name: adversarial_demonstrations}"),
    Axis("Privacy", ("memorisation", "canary_exposure"), "{name: memorisation}"),
    Axis("Machine ethics", ("machine_ethics",), "{name: machine_ethics, files: cm_test.csv}"),
    Axis("Fairness", ("fairness", "group_errors", "swapped_names"), "{name: swapped_names}"),
    Axis("Harmful requests", ("harmful_compliance",), "{name: harmful_compliance, files: requests.txt}", False),
    Axis("Jailbreaks", ("jailbreak",), "{name: jailbreak, files: requests.txt, wrappers: wrappers.json}", False),
    Axis("Over-refusal", ("over_refusal",), "{name: over_refusal, files: xstest_prompts.csv}", False),
    Axis("Tone", ("tone",), "{name: tone}", False),
)


@dataclass(frozen=True)
class AxisMeasure:
    """One measure of an axis.

    Attributes:
        suite: Key of its suite; empty for the bias probe.
        measure: Its title.
        higher_is_better: Whether a larger score is better.
        scores: By model.
        change: Candidate less base; None where one of them was not measured.
        low: Lower end of its interval.
        high: Upper end.
        result: ``better``, ``worse`` or ``undecided``; empty without a change, and for a measure that only puts the
            others into context.
    """

    suite: str
    measure: str
    higher_is_better: bool
    scores: dict[str, float]
    change: float | None = None
    low: float | None = None
    high: float | None = None
    result: str = ""


@dataclass(frozen=True)
class AxisResult:
    """What is known of an axis.

    Attributes:
        axis: Its title.
        of_decoding_trust: Whether it is one of DecodingTrust's.
        measures: What was measured; empty where nothing was.
        why_not: Why nothing was measured, and what would; empty where something was.
    """

    axis: str
    of_decoding_trust: bool
    measures: tuple[AxisMeasure, ...] = field(default=())
    why_not: str = ""


def list_axes(board: SuiteBoard, outcomes: Mapping[ModelName, Outcome]) -> list[AxisResult]:
    """Every axis, measured or not.

    Args:
        board: Results of the suites.
        outcomes: Of all models, with their bias probes.
    """
    return [_measure(axis, board, outcomes) for axis in AXES]


def _measure(axis: Axis, board: SuiteBoard, outcomes: Mapping[ModelName, Outcome]) -> AxisResult:
    found = {key: result for key, result in board.results.items() if result.suite.name in axis.suites}
    measures = [one for key, result in found.items() for one in _measures_of(key, result)]
    if axis.title == "Stereotype" and not measures and (probe := _probe(outcomes)) is not None:
        measures = [probe]
    if measures:
        return AxisResult(axis.title, axis.of_decoding_trust, tuple(measures))
    failures = "; ".join(f"{key} failed: {result.failure}" for key, result in found.items() if result.failure)
    why = f"not measured: {failures}" if failures else f"not measured: no suite for it; add {axis.example}"
    return AxisResult(axis.title, axis.of_decoding_trust, why_not=why)


def _measures_of(key: str, result: SuiteResult) -> list[AxisMeasure]:
    models = dict.fromkeys(model for model, _ in result.estimates)
    names = [name for name in result.suite.measures if any(measure == name for _, measure in result.estimates)]
    against_base: Mapping[str, Comparison] = next(
        (by_measure for pair, by_measure in result.comparisons.items() if pair.endswith("_vs_base")), {}
    )
    found = []
    for name in names:
        measure, one = result.suite.measures[name], against_base.get(name)
        scores = {model: result.estimates[model, name].value for model in models}
        judged = one is not None and name not in getattr(result.suite, "context", ())
        found.append(
            AxisMeasure(
                key,
                measure.title,
                measure.higher_is_better,
                scores,
                one.difference if one else None,
                one.low if one else None,
                one.high if one else None,
                one.result if one and judged else "",
            )
        )
    return found


def _probe(outcomes: Mapping[ModelName, Outcome]) -> AxisMeasure | None:
    measured = {name: outcome.bias for name, outcome in outcomes.items() if outcome.bias is not None}
    if not measured:
        return None
    scores = {name: one.by_group()[-1].mean for name, one in measured.items()}
    title = "lean towards the stereotype, nats (bias probe)"
    if "base" not in measured or "candidate" not in measured:
        return AxisMeasure("", title, False, scores)
    change = next(one for one in measured["candidate"].change_from(measured["base"]) if one.group == ALL)
    result = "worse" if change.low > 0 else "better" if change.high < 0 else "undecided"
    return AxisMeasure("", title, False, scores, change.mean, change.low, change.high, result)


def list_spoiled(axes: Sequence[AxisResult]) -> list[str]:
    """A sentence for each measure on which the candidate is worse than the base."""
    return [
        f"{axis.axis}, {one.measure}: {show_score(one.scores['base'])} before tuning, "
        f"{show_score(one.scores['candidate'])} after ({_show_change(one)})."
        for axis in axes
        for one in axis.measures
        if one.result == "worse"
    ]


def describe_axes(board: SuiteBoard, outcomes: Mapping[ModelName, Outcome]) -> ReportBlock:
    """The table of axes and what tuning spoiled, as a block of the page; its values hold the same.

    Args:
        board: Results of the suites.
        outcomes: Of all models, with their bias probes.
    """
    axes = list_axes(board, outcomes)
    models = list(dict.fromkeys(model for axis in axes for one in axis.measures for model in one.scores))
    columns = ["axis", "measure", *models, f"candidate less base, {board.confidence:.0%} interval", "result"]
    rows: list[list[Any]] = []
    for axis in axes:
        for one in axis.measures:
            arrow = "↑" if one.higher_is_better else "↓"
            scores = [show_score(one.scores[model]) if model in one.scores else "–" for model in models]
            rows.append([axis.axis, f"{one.measure} {arrow}", *scores, _show_change(one), one.result or "–"])
        if not axis.measures:
            rows.append([axis.axis, axis.why_not, *("–" for _ in models), "–", "–"])
    ours = [axis for axis in axes if axis.of_decoding_trust]
    spoiled = list_spoiled(axes)
    measured = sum(bool(axis.measures) for axis in ours)
    worse = (
        f"Measures that tuning made worse: {len(spoiled):,}."
        if spoiled
        else "No measure is proven worse than before tuning."
    )
    summary = f"{measured} of DecodingTrust's {len(ours)} axes are measured. {worse if measured else ''}".strip()
    note = (
        "Measured by small local suites and not with DecodingTrust's own data; the last rows are beyond its axes. "
        "↑ higher is better, ↓ lower is better. What each figure means and does not mean is in docs/evaluation.md."
    )
    values = {"axes": [asdict(axis) for axis in axes], "spoiled": spoiled}
    return ReportBlock("Trustworthiness", summary, (BlockTable("", columns, rows, note),), notes=spoiled, values=values)


def _show_change(one: AxisMeasure) -> str:
    if one.change is None or one.low is None or one.high is None:
        return "–"
    return f"{signed(one.change)} [{signed(one.low)}, {signed(one.high)}]".replace(" ", "\N{NO-BREAK SPACE}")
