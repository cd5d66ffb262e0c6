"""The suites on the page: one table, and what could not be asked or scored."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tasks.evaluation.report.blocks import BlockTable, ReportBlock
from tasks.evaluation.wording import signed
from tasks.pages.text import show_score

if TYPE_CHECKING:
    from tasks.evaluation.suites.scoring import SuiteBoard, SuiteResult

SHOWN_FAILURES = 5
SHOWN_CHARACTERS = 160


def describe_suites(board: SuiteBoard) -> list[ReportBlock]:
    """The block of the page; none where there are no suites."""
    if not board.results:
        return []
    measured = [key for key, result in board.results.items() if not result.failure]
    failed = [key for key in board.results if key not in measured]
    summary = f"All models were asked the same questions of {len(board.results):,} suites beside the held-out items."
    if failed:
        summary += f" Of {', '.join(failed)} nothing came."
    return [ReportBlock("Suites", summary, (_tabulate(board),), notes=list_troubles(board), values=board.figures)]


def _tabulate(board: SuiteBoard) -> BlockTable:
    """Each measure of each suite, one model against another; the one is the candidate in the stage."""
    pairs = {pair for result in board.results.values() for pair in result.comparisons}
    alone = any(result.estimates and not result.comparisons for result in board.results.values())
    staged = not alone and all(pair.startswith("candidate_vs_") for pair in pairs)
    columns = [
        "suite",
        "measure",
        "role",
        *([] if staged else ["model"]),
        "against",
        "result",
        "candidate" if staged else "score",
        "other model",
        "difference",
        f"{board.confidence:.0%} interval",
        "detectable",
        "questions",
    ]
    rows: list[list[Any]] = []
    for key, result in board.results.items():
        role = "shown" if result.suite.role == "shown" else f"guard, margin {result.suite.margin:g}"
        for pair, by_measure in result.comparisons.items():
            for place, (name, one) in enumerate(by_measure.items()):
                model, _, other = pair.partition("_vs_")
                ends = f"[{signed(one.low)}, {signed(one.high)}]".replace(" ", "\N{NO-BREAK SPACE}")
                rows.append(
                    [
                        key,
                        result.suite.measures[name].title,
                        role if place == 0 else "shown",
                        *([] if staged else [model]),
                        other,
                        one.result,
                        show_score(one.mean_a),
                        show_score(one.mean_b),
                        signed(one.difference),
                        ends,
                        show_score(one.detectable),
                        one.items,
                    ]
                )
        if not result.comparisons:
            for (model, name), score in result.estimates.items():
                ends = f"[{show_score(score.low)}, {show_score(score.high)}]"
                title = result.suite.measures[name].title
                rows.append(
                    [key, title, role, model, "–", "–", show_score(score.value), "–", "–", ends, "–", result.scored]
                )
        if result.failure:
            rows.append([key, "–", role, *["–"] * (len(columns) - 10), "failed", *["–"] * 5, result.questions])
    note = (
        "A guard rules out a worsening of its first measure by more than its "
        "margin, and counts against the candidate where it failed."
    )
    return BlockTable("", columns, rows, note)


def list_troubles(board: SuiteBoard) -> list[str]:
    """A sentence for each thing that went wrong or limits what the numbers say."""
    return [sentence for key, result in board.results.items() for sentence in _troubles(key, result)]


def _troubles(key: str, result: SuiteResult) -> list[str]:
    found = [f"{key} failed: {result.failure}."] if result.failure else []
    for reason, count in result.unfit.items():
        found.append(f"{key}: {count:,} of {result.questions:,} questions are left out for all models: {reason}.")
    for name, reason in list(result.failed.items())[:SHOWN_FAILURES]:
        question = " ".join(name.split())[:SHOWN_CHARACTERS]
        found.append(f'{key}: "{question}" could not be scored: {reason}.')
    if len(result.failed) > SHOWN_FAILURES:
        found.append(f"{key}: {len(result.failed):,} questions in all could not be scored.")
    for what, counts in (
        ("prompts did not fit into the context, and their beginning was cut off", result.truncated),
        ("answers ran into the limit of tokens or time", result.cut_off),
    ):
        if any(counts.values()):
            numbers = ", ".join(f"{model} {count:,}" for model, count in counts.items())
            found.append(f"{key}: {what}: {numbers} of {result.questions:,}.")
    return found
