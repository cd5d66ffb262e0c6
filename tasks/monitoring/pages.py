"""The stage's page, figures and verdict file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tasks.contracts.manifest import write_json
from tasks.monitoring.calibration import Finding
from tasks.monitoring.drift import Verdict, surest, verdict_record
from tasks.monitoring.explanation import averages, percent
from tasks.monitoring.health import Health
from tasks.monitoring.params import Drift
from tasks.monitoring.plots import draw_embeddings, draw_features, draw_words
from tasks.pages.page import Page, Tone

TONES: dict[str, Tone] = {"drift": "bad", "no_drift": "good", "too_few": "warn", "no_data": "plain"}


def write_page(found: Verdict, health: Health, settings: Drift, evidently: str, path: Path) -> None:
    """Write the report page.

    Args:
        found: The verdict with all findings.
        health: Figures of the window's serving.
        settings: The section the verdict was made with.
        evidently: Name of Evidently's report beside the page.
        path: The HTML file.
    """
    page = Page("Monitoring", describe(found), found.verdict.replace("_", " "), TONES[found.verdict])
    page.cards(give_cards(found, health))
    page.listing(found.reasons, "Why")
    if found.examples:
        page.listing(found.examples, "Prompts of the new traffic")
    if found.words:
        shares = [(word.word, word.baseline, word.window) for word in found.words]
        page.figure(
            draw_words(shares),
            "Words most typical of the new traffic",
            "Share of prompts that hold the word. 0 stands for anything with a digit.",
        )
    if found.sample is not None:
        page.table("Comparisons", COLUMNS, [compare(found, f) for f in ranked(found)], explain_table(settings))
        page.figure(
            draw_features(found.sample),
            "Features, baseline and window",
            "Share of the rows. The highest hundredth is drawn in the last bin.",
        )
        page.figure(
            draw_embeddings(found.sample),
            "Meaning of the prompts",
            "Each point is a prompt, placed by its words; near points ask for like things.",
        )
        page.text(state_sensitivity(found, settings))
    if health.figures.get("requests"):
        page.table("Health of the window", ["figure", "value"], list_health(health))
    page.link(evidently, "Evidently's report on the same features")
    page.write(path)


COLUMNS = ("compared", "detector", "baseline", "window", "effect", "alerts from", "seen from", "chance", "alert")


def describe(found: Verdict) -> str:
    """One sentence on the whole."""
    size = f"{found.rows:,} answered requests against {found.baseline_rows:,} of the baseline"
    return {
        "drift": f"The traffic is not what the model was promoted for: {size}.",
        "no_drift": f"The traffic is what the model was promoted for: {size}.",
        "too_few": f"There is too little to tell: {size}.",
        "no_data": "There was no traffic to look at yet.",
    }[found.verdict]


def give_cards(found: Verdict, health: Health) -> dict[str, str | int | float]:
    cards: dict[str, str | int | float] = {"answered requests": found.rows, "baseline rows": found.baseline_rows}
    if found.findings:
        cards["comparisons with alert"] = f"{len(found.alerts)} of {len(found.findings)}"
    if "latency_p95_ms" in health.figures:
        cards["latency, 95th percentile"] = f"{health.figures['latency_p95_ms']:,.0f} ms"
    if "error_share" in health.figures:
        cards["server errors"] = percent(health.figures["error_share"])
    return cards


def ranked(found: Verdict) -> list[Finding]:
    return sorted(found.findings, key=lambda f: (not f.alert, *surest(f)))


def compare(found: Verdict, finding: Finding) -> list[Any]:
    """A row of the comparison table."""
    before: float | None = None
    now: float | None = None
    if found.sample and finding.subject in {**found.sample.numbers, **found.sample.flags}:
        before, now = averages(finding.subject, found.sample)
    return [
        finding.subject,
        f"{finding.detector} ({finding.unit})",
        "–" if before is None else before,
        "–" if now is None else now,
        round(finding.effect, 4),
        finding.minimum_effect,
        round(finding.smallest, 4),
        round(finding.adjusted, 4),
        finding.alert,
    ]


def explain_table(settings: Drift) -> str:
    return (
        f"Chance: how often a window without drift shows as much in any comparison, from {settings.splits:,} A/A "
        f"windows drawn from the baseline. An alert needs a chance of at most {percent(settings.false_alarms)} and an "
        f"effect of at least the one in “alerts from”. Seen from: the true effect noticed in "
        f"{percent(settings.power)} of windows of this size."
    )


def state_sensitivity(found: Verdict, settings: Drift) -> str:
    """The smallest shift that this window could show."""
    parts = [f"With windows of this size, in {percent(settings.power)} of them"]
    wanted = {
        "words": "a new word is noticed when {} of the prompts hold it",
        "embedding": "unknown subjects when {} of the prompts are about them",
        "distance": "a feature when its distribution moves by {}",
        "rate": "refusals or empty answers when their share rises by {}",
    }
    seen = []
    for detector, text in wanted.items():
        smallest = [finding.smallest for finding in found.findings if finding.detector == detector]
        if smallest:
            seen.append(text.format(percent(max(smallest))))
    return f"{parts[0]} {'; '.join(seen)}. Smaller shifts need more rows." if seen else ""


def list_health(health: Health) -> list[list[Any]]:
    rows: list[list[Any]] = [[name.replace("_", " "), value] for name, value in sorted(health.figures.items())]
    rows += [[f"requests with status {status}", count] for status, count in health.statuses.items()]
    return rows + [[f"answered by release {name[:12] or 'unknown'}", n] for name, n in health.releases.items()]


def write_results(found: Verdict, health: Health, verdict: Path, metrics: Path) -> dict[str, float]:
    """Write the verdict and the stage's figures; returns the figures."""
    write_json(verdict, verdict_record(found))
    figures = {**found.figures, **health.figures}
    write_json(metrics, figures)
    return figures
