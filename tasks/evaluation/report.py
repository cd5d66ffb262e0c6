"""The evaluation page: the verdict and why, the evidence, and answers to read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tasks.evaluation.changes import Change, find_changes
from tasks.evaluation.items import ItemSet
from tasks.evaluation.plots import LABELS, plot_differences, plot_labels, plot_losses, plot_scores
from tasks.evaluation.scoring import Scoreboard
from tasks.evaluation.slices import Slice
from tasks.evaluation.verdict import Verdict
from tasks.evaluation.wording import signed
from tasks.pages.page import Page, Tone

# Longer texts would push the next example off the screen; predictions.parquet holds them whole.
SHOWN = 600


def write_report(
    chosen: ItemSet, board: Scoreboard, verdict: Verdict, slices: Sequence[Slice], examples: int, path: Path
) -> None:
    """Write the page.

    Args:
        chosen: The items and what was left out.
        board: Scores and comparisons.
        verdict: The decision.
        slices: Scores by source and label.
        examples: Changed answers to show of each kind.
        path: Where the page goes.
    """
    page = _open_page(board, verdict)
    page.cards(_cards(board, verdict))
    page.listing([f"{reason[0].upper()}{reason[1:]}." for reason in verdict.reasons], "Why")
    page.figure(
        plot_differences(board),
        "Candidate against the others",
        f"Differences with {board.confidence:.0%} intervals (paired bootstrap); on the green side the candidate is "
        "better. An interval clear of the line in the middle is a proven difference.",
    )
    page.table("Differences", *_difference_table(board))
    page.figure(
        plot_scores(board),
        "Scores",
        f"Bars with {board.confidence:.0%} intervals; ↑ higher is better, ↓ lower is better."
        + (" Dashed: what the intent classifier reads right in the reference answers." if board.ceiling else ""),
    )
    page.figure(plot_losses(board), "Loss by item", "Dashed: medians. The last bin holds all larger losses.")
    _add_slices(page, board, verdict, slices)
    _add_examples(page, board, verdict, examples)
    page.listing(_method(chosen, board), "How this was measured")
    page.link("predictions.parquet", "All answers, item by item (predictions.parquet)")
    page.write(path)


def _open_page(board: Scoreboard, verdict: Verdict) -> Page:
    promote = verdict.verdict == "promote"
    tone: Tone = "good" if promote else "warn"
    who = ", ".join(board.outcomes)
    said = f"is proven better than the {board.opponent}" if promote else f"does not replace the {board.opponent}"
    return Page(
        "Evaluation",
        f"{who.capitalize()} answered the same {len(board.items):,} held-out items. The candidate {said}.",
        verdict.verdict,
        tone,
    )


def _cards(board: Scoreboard, verdict: Verdict) -> dict[str, str | int | float]:
    primary = board.against_opponent[verdict.primary]
    title = board.metrics[verdict.primary].title.lower()
    cards: dict[str, str | int | float] = {"items": len(board.items)}
    for model in board.outcomes:
        cards[f"{title}, {model}"] = f"{board.estimates[(model, verdict.primary)].value:.3g}"
    cards[f"difference to the {board.opponent}"] = signed(primary.difference)
    cards["smallest visible difference"] = f"{primary.detectable:.2g}"
    return cards


def _difference_table(board: Scoreboard) -> tuple[list[str], list[list[Any]], str]:
    columns = [
        "metric",
        "against",
        "candidate",
        "other",
        "difference",
        "interval",
        "visible from",
        "items",
        "result",
    ]
    rows: list[list[Any]] = [
        [
            board.metrics[name].title,
            pair.removeprefix("candidate_vs_"),
            one.mean_a,
            one.mean_b,
            signed(one.difference),
            f"{signed(one.low)} to {signed(one.high)}",
            one.detectable,
            one.items,
            one.result,
        ]
        for pair, by_metric in board.comparisons.items()
        for name, one in by_metric.items()
    ]
    missing = [f"{name}: {why}" for name, why in {**board.absent, **board.incomparable}.items()]
    note = "Not compared: " + "; ".join(missing) + "." if missing else ""
    return columns, rows, note


def _add_slices(page: Page, board: Scoreboard, verdict: Verdict, slices: Sequence[Slice]) -> None:
    title = board.metrics[verdict.primary].title
    sources = [part for part in slices if part.cut == "source"]
    labels = [part for part in slices if part.cut == "label"]
    page.table(f"{title} by source", *_slice_table(board, sources))
    if not labels:
        return
    page.figure(
        plot_labels(board, verdict.primary, labels),
        f"{title} by label" + (f": the {LABELS} lowest of {len(labels)}" if len(labels) > LABELS else ""),
        "Number of items in brackets.",
    )
    columns, rows, _ = _slice_table(board, labels[:10])
    note = "Slices are for looking, not for judging: with many small ones, some differ by chance."
    page.table("Labels the candidate is worst at", columns, rows, note)


def _slice_table(board: Scoreboard, parts: Sequence[Slice]) -> tuple[list[str], list[list[Any]], str]:
    columns = ["slice", "items", *board.outcomes, f"difference to the {board.opponent}", "interval"]
    rows: list[list[Any]] = [
        [
            part.name,
            part.items,
            *(part.values[model] for model in board.outcomes),
            signed(part.difference),
            f"{signed(part.low)} to {signed(part.high)}" if part.low < part.high else "–",
        ]
        for part in parts
    ]
    return columns, rows, ""


def _add_examples(page: Page, board: Scoreboard, verdict: Verdict, examples: int) -> None:
    better, worse = find_changes(board, verdict.primary)
    title = board.metrics[verdict.primary].title.lower()
    binary = verdict.primary in ("intent_accuracy", "exact_match")
    names = ("Right to wrong", "Wrong to right") if binary else ("Worse than before", "Better than before")
    for name, changes in ((names[0], worse), (names[1], better)):
        page.heading(f"{name}: {len(changes):,} of {len(board.items):,}")
        if not changes:
            page.text(f"No item, going by {title}.")
        for change in changes[:examples]:
            page.conversation(_turns(change, binary))


def _turns(change: Change, binary: bool) -> list[tuple[str, str]]:
    label = f" · {change.item.label}" if change.item.label else ""
    turns = [(turn["role"], _cut(turn["content"])) for turn in change.item.prompt]
    turns.append((f"reference{label}", _cut(change.item.reference)))
    for model, answer in change.answers.items():
        value = change.values[model]
        said = ("right" if value else "wrong") if binary else f"{value:.3g}"
        turns.append((f"{model} · {said}", _cut(answer)))
    return turns


def _cut(text: str) -> str:
    kept = text.strip() or "(nothing)"
    return kept if len(kept) <= SHOWN else kept[:SHOWN].rstrip() + " …"


def _method(chosen: ItemSet, board: Scoreboard) -> list[str]:
    left_out = []
    if chosen.too_long:
        left_out.append(f"{chosen.too_long:,} longer than a model's context")
    if chosen.unanswerable:
        left_out.append(f"{chosen.unanswerable:,} without a prompt or an answer")
    cut = {model: int((~outcome.finished).sum()) for model, outcome in board.outcomes.items()}
    method = [
        f"{len(board.items):,} of {chosen.held_out:,} held-out rows, chosen by a hash of their content"
        + (f"; left out: {', '.join(left_out)}." if left_out else "; none was left out."),
        "The last answer of a conversation is the item, everything before it the prompt, rendered by each "
        "model's own chat template and answered greedily.",
        "Answers cut off at the longest allowed length: "
        + ", ".join(f"{model} {count:,}" for model, count in cut.items())
        + ".",
        "Differences are paired: both models are scored on the same resampled items, near-duplicates drawn "
        "together. Perplexities are exponentiated in each resample before they are subtracted.",
        f'"Visible from" is the smallest true difference that would be seen with {board.power:.0%} power on these '
        "items; a smaller one may exist and not show.",
    ]
    if board.ceiling is not None:
        method.append(
            f"Intents are read by a classifier fitted on the training answers. It reads {board.ceiling:.1%} of the "
            "held-out reference answers right, which is the ceiling of intent accuracy."
        )
    return method
