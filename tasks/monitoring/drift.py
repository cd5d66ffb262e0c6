"""The verdict on a window: drift, no drift, or too little data to decide."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from threadpoolctl import threadpool_limits

from tasks.monitoring.calibration import ProbeFinding, judge_probes
from tasks.monitoring.detectors.words import WordFrequency
from tasks.monitoring.explanation import WordUse, explain, find_examples, percent, rank_words
from tasks.monitoring.features import describe_rows
from tasks.monitoring.params import Drift
from tasks.monitoring.sample import TrafficSample
from tasks.monitoring.traffic import FrozenTraffic, answered, judge_size, take_sample

WORDS_SHOWN = 12


@dataclass(frozen=True)
class DriftVerdict:
    """The result of comparing one traffic window with the baseline.

    Attributes:
        verdict: ``drift``, ``no_drift``, ``too_few`` or ``no_data``.
        reasons: One sentence each.
        rows: Answered requests of the window.
        baseline_rows: Rows of the baseline.
        findings: One per probe; empty where nothing was compared.
        words: Words more frequent in the window, the most significant first.
        examples: Prompts of the window least like the baseline, without personal data.
        digest: SHA-256 of the window's file.
        sample: The rows that were compared, or None.
    """

    verdict: Literal["drift", "no_drift", "too_few", "no_data"]
    reasons: list[str]
    rows: int
    baseline_rows: int
    digest: str
    findings: list[ProbeFinding] = field(default_factory=list)
    words: list[WordUse] = field(default_factory=list)
    examples: list[str] = field(default_factory=list)
    sample: TrafficSample | None = None

    @property
    def alerts(self) -> list[ProbeFinding]:
        """Findings that raise an alert, the most significant first."""
        return sorted((f for f in self.findings if f.alert), key=significance)

    @property
    def figures(self) -> dict[str, float]:
        """Numbers for the stage's metrics."""
        figures: dict[str, float] = {
            "drift": int(self.verdict == "drift"),
            "compared": int(self.sample is not None),
            "window_rows": self.rows,
            "baseline_rows": self.baseline_rows,
        }
        if self.findings:
            figures["alerts"] = len(self.alerts)
            figures["least_adjusted_p"] = round(min(f.adjusted for f in self.findings), 6)
        return figures


def significance(finding: ProbeFinding) -> tuple[float, float, float, str]:
    """Sort key of findings: smallest p-value first, then the largest effect relative to the minimum effect."""
    relative_effect = abs(finding.effect) / max(finding.minimum_effect, 1e-9)
    return finding.adjusted, finding.p_value, -round(relative_effect, 9), finding.probe


def detect_drift(traffic: FrozenTraffic, settings: Drift, scrub: Callable[[str], str]) -> DriftVerdict:
    """Compare the window with the baseline.

    Args:
        traffic: The frozen pair.
        settings: Sizes, false-alarm rate, detectors.
        scrub: Replaces personal data in the prompts that are shown.
    """
    window, baseline = answered(traffic.window), answered(traffic.baseline)
    size, reasons = judge_size(traffic, settings.minimum_rows)
    if size != "enough":
        return DriftVerdict(size, reasons, window.num_rows, baseline.num_rows, traffic.digest)
    # One thread, because sums in another order differ in the last digit, which may change ranks.
    with threadpool_limits(1):
        sample = describe_rows(
            take_sample(baseline, settings.maximum_rows, settings.seed),
            take_sample(window, settings.maximum_rows, settings.seed),
            settings.embedder,
            settings.refusals,
            settings.seed,
        )
        probes = [probe for detector in settings.detectors for probe in detector.probes(sample)]
        findings = judge_probes(probes, sample, settings.splits, settings.seed, settings.false_alarms, settings.power)
        word_settings = next((d for d in settings.detectors if isinstance(d, WordFrequency)), WordFrequency())
        ranking = rank_words(sample, word_settings)
        words = [word for word in ranking if word.window > word.baseline][:WORDS_SHOWN]
        examples = find_examples(sample, words, settings.examples, scrub)
    alerts = any(finding.alert for finding in findings)
    verdict = DriftVerdict(
        "drift" if alerts else "no_drift",
        [],
        window.num_rows,
        baseline.num_rows,
        traffic.digest,
        findings,
        words if alerts else [],
        examples if alerts else [],
        sample,
    )
    strongest = ranking[0] if ranking else None
    verdict.reasons.extend(give_reasons(verdict, sample, strongest, settings.false_alarms))
    return verdict


def give_reasons(
    verdict: DriftVerdict, sample: TrafficSample, strongest: WordUse | None, false_alarms: float
) -> list[str]:
    """The reasons of the verdict: one sentence per subject, the most significant first."""
    if verdict.verdict == "no_drift":
        nearest = min(verdict.findings, key=significance)
        return [
            f"none of {len(verdict.findings)} comparisons is significant at a false-alarm rate of "
            f"{percent(false_alarms)}; the nearest is {nearest.subject} (adjusted p-value {nearest.adjusted:.2f})"
        ]
    first = {finding.subject: finding for finding in reversed(verdict.alerts)}
    per_subject = [finding for finding in verdict.alerts if first[finding.subject] is finding]
    reasons = [explain(finding, sample, strongest) for finding in per_subject]
    new = [word.word for word in verdict.words if word.word != "0"][:8]
    return reasons + ([f"words that became more frequent: {', '.join(new)}"] if new else [])


def verdict_record(verdict: DriftVerdict) -> dict[str, Any]:
    """The verdict as written to its file; rounded, so that the last digits of a sum do not change the bytes."""
    numbers = ("effect", "minimum_effect", "p_value", "adjusted", "smallest")
    return {
        "verdict": verdict.verdict,
        "reasons": verdict.reasons,
        "rows": verdict.rows,
        "baseline_rows": verdict.baseline_rows,
        "window": verdict.digest,
        "detectors": {
            f.probe: {
                "alert": f.alert,
                "unit": f.unit,
                **{key: round(float(getattr(f, key)), 6) for key in numbers},
            }
            for f in verdict.findings
        },
        "words": [
            {"word": w.word, "baseline": round(w.baseline, 6), "window": round(w.window, 6)} for w in verdict.words
        ],
        "examples": verdict.examples,
    }
