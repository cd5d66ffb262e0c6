"""The stage's page, figures and verdict file."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tasks.contracts.headline import write_headline
from tasks.contracts.manifest import write_json
from tasks.monitoring.calibration import ProbeFinding
from tasks.monitoring.drift import DriftVerdict, significance, verdict_record
from tasks.monitoring.explanation import averages, percent
from tasks.monitoring.health import Health
from tasks.monitoring.params import Drift
from tasks.monitoring.plots import draw_embeddings, draw_features, draw_words
from tasks.pages.page import Page, Tone
from tasks.pages.text import as_sentence

TONES: dict[str, Tone] = {"drift": "bad", "no_drift": "good", "too_few": "warn", "no_data": "plain"}


def write_page(verdict: DriftVerdict, health: Health, settings: Drift, evidently: str, path: Path) -> None:
    """Write the report page.

    Args:
        verdict: The verdict with all findings.
        health: Figures on how the window was served.
        settings: Params of the comparison.
        evidently: Name of Evidently's report beside the page.
        path: The HTML file.
    """
    shown = verdict.verdict.replace("_", " ")
    page = Page("Monitoring", describe(verdict, health), shown, TONES[verdict.verdict], stage="monitoring")
    page.cards(give_cards(verdict, health))
    page.listing([as_sentence(reason) for reason in verdict.reasons], "Why")
    if verdict.examples:
        page.listing(verdict.examples, "Prompts least like the baseline")
    if verdict.words:
        shares = [(word.word, word.baseline, word.window) for word in verdict.words]
        page.figure(
            draw_words(shares),
            "Words that became more frequent",
            "Share of prompts with the word. 0 stands for any word with a digit.",
        )
    if verdict.sample is not None:
        page.table("Comparisons", COLUMNS, [compare(verdict, f) for f in ranked(verdict)], explain_table(settings))
        page.figure(
            draw_features(verdict.sample),
            "Features in baseline and window",
            "Share of the rows. The last bin includes the highest 1% of the values.",
        )
        page.figure(
            draw_embeddings(verdict.sample),
            "Meaning of the prompts",
            "Each point is a prompt, in the first two principal components of the embeddings of all prompts.",
        )
        page.text(state_sensitivity(verdict, settings))
    if health.figures.get("requests"):
        page.table("How the window was served", ["figure", "value"], list_health(health))
    if health.corrections:
        total = sum(health.corrections.values())
        rows = [[key or "no key", count, percent(count / total)] for key, count in health.corrections.items()]
        page.table("Corrections by key", ["key", "corrections", "share"], rows[:SHOWN_KEYS], EXPLAIN_KEYS)
    page.link(evidently, "Evidently's report on the same features")
    page.write(path)


# Keys of the table of corrections, those with the most.
SHOWN_KEYS = 20
EXPLAIN_KEYS = (
    "A key is shown as it is logged. A retrain takes at most monitoring.retraining.maximum_key_share of its new rows "
    "from one key, and maximum_text_share with one answer."
)
COLUMNS = (
    "feature",
    "alert",
    "p-value",
    "effect size",
    "smallest that alerts",
    "measured as",
    "baseline",
    "window",
    "detectable",
)
# Name of a figure of the window's health to its name on the page; the unit follows from the figure.
HEALTH_NAMES = {
    "requests": "requests",
    "error_share": "server errors",
    "refused_share": "rejected requests (status 4xx)",
    "corrected_share": "requests with a correction",
    "largest_share_of_corrections_by_one_key": "largest share of the corrections from one key",
    "largest_share_of_corrections_with_one_text": "largest share of the corrections with the same text",
    "latency_p50_ms": "latency, median",
    "latency_p95_ms": "latency, 95th percentile",
    "latency_p99_ms": "latency, 99th percentile",
    "prompt_tokens_mean": "tokens of a prompt, mean",
    "completion_tokens_mean": "tokens of an answer, mean",
    "completion_tokens_p95": "tokens of an answer, 95th percentile",
}


def describe(verdict: DriftVerdict, health: Health) -> str:
    """The verdict in one sentence, and which traffic it is about."""
    size = f"{verdict.rows:,} answered requests in the window, {verdict.baseline_rows:,} in the baseline"
    size += f" ({describe_window(health)})" if health.period else ""
    return {
        "drift": f"The traffic differs from the baseline: {size}.",
        "no_drift": f"The traffic does not differ from the baseline: {size}.",
        "too_few": f"There are too few requests to compare: {size}.",
        "no_data": "There is no traffic to compare yet.",
    }[verdict.verdict]


def describe_window(health: Health) -> str:
    """When the requests of the window were received, and which release answered them."""
    times = (datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%d %H:%M") for time in health.period or (0, 0))
    received = " to ".join(dict.fromkeys(times))
    releases = " and ".join(name[:12] or "unknown" for name in health.releases)
    answered = f", answered by release {releases}" if releases else ""
    return f"received {received} UTC{answered}"


def give_cards(verdict: DriftVerdict, health: Health) -> dict[str, str | int | float]:
    cards: dict[str, str | int | float] = {"answered requests": verdict.rows, "baseline rows": verdict.baseline_rows}
    if verdict.findings:
        cards["comparisons with an alert"] = f"{len(verdict.alerts)} of {len(verdict.findings)}"
    if "latency_p95_ms" in health.figures:
        cards["latency, 95th percentile"] = f"{health.figures['latency_p95_ms']:,.0f} ms"
    if "error_share" in health.figures:
        cards["server errors"] = percent(health.figures["error_share"])
    return cards


def ranked(verdict: DriftVerdict) -> list[ProbeFinding]:
    return sorted(verdict.findings, key=lambda f: (not f.alert, *significance(f)))


def compare(verdict: DriftVerdict, finding: ProbeFinding) -> list[Any]:
    """A row of the comparison table."""
    before: float | None = None
    now: float | None = None
    if verdict.sample and finding.subject in {**verdict.sample.numbers, **verdict.sample.flags}:
        before, now = averages(finding.subject, verdict.sample)
    return [
        finding.subject,
        finding.alert,
        f"{finding.adjusted:.4f}",
        f"{finding.effect:.3f}",
        finding.minimum_effect,
        finding.unit,
        "–" if before is None else f"{before:.3g}",
        "–" if now is None else f"{now:.3g}",
        f"{finding.smallest:.3f}",
    ]


def explain_table(settings: Drift) -> str:
    return (
        f"An alert needs a p-value of at most {settings.false_alarms:g} and an effect of at least the smallest that "
        f"alerts. p-value: adjusted for all comparisons, from {settings.splits:,} random splits of the same rows. "
        f"Baseline and window: means. Detectable: the true effect found with {percent(settings.power)} power in a "
        f"window of this size."
    )


def state_sensitivity(verdict: DriftVerdict, settings: Drift) -> str:
    """The smallest shifts that a window of this size can show."""
    shifts = {
        "words": "a new word in {} of the prompts",
        "embedding": "new subjects in {} of the prompts",
        "distance": "a Kolmogorov-Smirnov distance of {} between the distributions of a feature",
        "rate": "a rise of the share of refusals or of empty answers by {}",
    }
    detectable = []
    for detector, text in shifts.items():
        smallest = [finding.smallest for finding in verdict.findings if finding.detector == detector]
        if smallest:
            detectable.append(text.format(percent(max(smallest))))
    if not detectable:
        return ""
    return (
        f"Detectable with {percent(settings.power)} power in a window of this size: {'; '.join(detectable)}. "
        "Smaller shifts need more rows."
    )


def list_health(health: Health) -> list[list[Any]]:
    figures = health.figures
    rows = [[name, show_health(key, figures[key])] for key, name in HEALTH_NAMES.items() if key in figures]
    rows += [[f"requests with status {status}", f"{count:,}"] for status, count in health.statuses.items()]
    return rows + [[f"answered by release {name[:12] or 'unknown'}", f"{n:,}"] for name, n in health.releases.items()]


def show_health(key: str, value: float) -> str:
    """A figure with its unit."""
    if "share" in key:
        return percent(value)
    return f"{value:,.0f} ms" if key.endswith("_ms") else f"{value:,.0f}" if value == int(value) else f"{value:,.1f}"


def write_findings(verdict: DriftVerdict, path: Path, headline: Path) -> dict[str, float]:
    """Write every comparison's effect as a multiple of the smallest that raises an alert, as DVC plots them, and the
    headline: 1 for drift, else 0.

    Where nothing was compared there is one row that says so, because DVC draws no plot of none.
    """
    rows: list[dict[str, Any]] = [
        {
            "comparison": finding.probe,
            "relative_effect": round(abs(finding.effect) / max(finding.minimum_effect, 1e-9), 4),
            "p_value": round(finding.adjusted, 4),
            "alert": finding.alert,
        }
        for finding in ranked(verdict)
    ]
    write_json(path, rows or [{"comparison": f"none: {verdict.verdict.replace('_', ' ')}", "relative_effect": 0.0}])
    return write_headline(headline, {"drift": int(verdict.verdict == "drift")})


def write_results(verdict: DriftVerdict, health: Health, verdict_path: Path, metrics_path: Path) -> dict[str, float]:
    """Write the verdict and the stage's figures; returns the figures."""
    # Whose traffic the verdict is about, for who shows it beside other releases.
    subject = {"releases": list(health.releases), "period": health.period}
    write_json(verdict_path, {**verdict_record(verdict), **subject})
    figures = {**verdict.figures, **health.figures}
    write_json(metrics_path, figures)
    return figures
