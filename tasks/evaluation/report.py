"""The evaluation page: the verdict with its reasons, the comparisons, and answers that changed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tasks.evaluation.bias import bias_table
from tasks.evaluation.changes import Change, find_changes
from tasks.evaluation.items import ItemSet
from tasks.evaluation.plots import MAXIMUM_LABELS, plot_differences, plot_labels, plot_losses, plot_scores
from tasks.evaluation.scoring import Scoreboard
from tasks.evaluation.slices import Slice
from tasks.evaluation.verdict import PromotionVerdict
from tasks.evaluation.wording import inside_sentence, show_p, signed
from tasks.pages.page import Page, Tone
from tasks.pages.text import show_score

# Longer texts would push the next example off the screen; predictions.parquet has them in full.
MAXIMUM_CHARACTERS = 600


def write_report(
    selected: ItemSet, board: Scoreboard, verdict: PromotionVerdict, slices: Sequence[Slice], examples: int, path: Path
) -> None:
    """Write the page.

    Args:
        selected: The items and the number of rows left out.
        board: Scores and comparisons.
        verdict: The decision.
        slices: Scores by source and label.
        examples: Changed answers to show, improved and worsened each.
        path: The page to write.
    """
    page = _open_page(board, verdict)
    page.cards(_cards(board, verdict))
    page.listing([f"{reason[0].upper()}{reason[1:]}." for reason in verdict.reasons], "Why")
    page.figure(
        plot_differences(board),
        "Candidate against the other models",
        f"Differences with {board.confidence:.0%} intervals (paired bootstrap); on the green side the candidate is "
        "better. The candidate is proven better or worse where the interval excludes zero, the line in the middle.",
    )
    page.table("Differences", *_difference_table(board))
    page.figure(
        plot_scores(board),
        "Scores",
        f"Bars with {board.confidence:.0%} intervals; ↑ higher is better, ↓ lower is better."
        + (" Dashed: accuracy of the intent classifier on the reference answers." if board.ceiling else ""),
    )
    page.figure(plot_losses(board), "Loss by item", "Dashed: medians. The last bin includes all larger losses.")
    _add_slices(page, board, verdict, slices)
    if probe := bias_table(board.outcomes):
        page.table("Bias probe", *probe)
    page.table("Other tests of the differences", *_check_table(board))
    _add_examples(page, board, verdict, examples)
    page.listing(_method(selected, board), "How this was measured")
    page.link("predictions.parquet", "All answers, item by item (predictions.parquet)")
    page.write(path)


def _open_page(board: Scoreboard, verdict: PromotionVerdict) -> Page:
    tone: Tone = "good" if verdict.verdict == "promote" else "warn"
    *others, candidate = board.outcomes
    models = f"{', '.join(others)} and {candidate}".capitalize()
    result = {
        "promote": f"is proven better than the {board.opponent}",
        "keep": f"does not replace the {board.opponent}",
        "undecided": f"may be better than the {board.opponent}, but these items do not prove it",
    }[verdict.verdict]
    return Page(
        "Evaluation",
        f"{models} answered the same {len(board.items):,} held-out items. The candidate {result}.",
        verdict.verdict,
        tone,
        stage="evaluation",
    )


def _cards(board: Scoreboard, verdict: PromotionVerdict) -> dict[str, str | int | float]:
    primary = board.against_opponent[verdict.primary]
    title = inside_sentence(board.metrics[verdict.primary].title)
    cards: dict[str, str | int | float] = {"items": len(board.items)}
    for model in board.outcomes:
        cards[f"{title}, {model}"] = show_score(board.estimates[(model, verdict.primary)].value)
    cards[f"difference to the {board.opponent}"] = signed(primary.difference)
    cards["smallest detectable difference"] = show_score(primary.detectable)
    return cards


def _difference_table(board: Scoreboard) -> tuple[list[str], list[list[Any]], str]:
    columns = [
        "metric",
        "against",
        "result",
        "candidate",
        "other model",
        "difference",
        f"{board.confidence:.0%} interval",
        "detectable",
        "items",
    ]
    rows: list[list[Any]] = [
        [
            board.metrics[name].title,
            pair.removeprefix("candidate_vs_"),
            one.result,
            show_score(one.mean_a),
            show_score(one.mean_b),
            signed(one.difference),
            f"[{signed(one.low)}, {signed(one.high)}]".replace(" ", "\N{NO-BREAK SPACE}"),
            show_score(one.detectable),
            one.items,
        ]
        for pair, by_metric in board.comparisons.items()
        for name, one in by_metric.items()
    ]
    missing = [f"{name}: {why}" for name, why in {**board.not_applicable, **board.incomparable}.items()]
    note = "Result: whether the candidate is better, worse, or undecided, the interval containing zero."
    note += " Not compared: " + "; ".join(missing) + "." if missing else ""
    return columns, rows, note


def _check_table(board: Scoreboard) -> tuple[list[str], list[list[Any]], str]:
    columns = ["metric", "against", "better on", "worse on", "same on", "permutation p", "Wilcoxon p", "McNemar p"]
    rows: list[list[Any]] = [
        [
            board.metrics[name].title,
            pair.removeprefix("candidate_vs_"),
            one.checks.better,
            one.checks.worse,
            one.checks.ties,
            *(
                "–" if p is None else show_p(p)
                for p in (one.checks.permutation, one.checks.wilcoxon, one.checks.mcnemar)
            ),
        ]
        for pair, by_metric in board.comparisons.items()
        for name, one in by_metric.items()
        if one.checks
    ]
    note = (
        "Items on which the candidate scores better, worse or the same, near duplicates as one. The verdict rests on "
    )
    return columns, rows, f"{note}the intervals above.{''.join(_doubts(board))}"


def _doubts(board: Scoreboard) -> list[str]:
    """Where another test of the same difference sees it otherwise than the interval."""
    found = [
        (board.metrics[name].title, one.checks.disagree(one.result != "undecided", board.confidence))
        for name, one in board.against_opponent.items()
        if one.checks
    ]
    return [f" {title}: other tests see it otherwise ({', '.join(tests)})." for title, tests in found if tests]


def _add_slices(page: Page, board: Scoreboard, verdict: PromotionVerdict, slices: Sequence[Slice]) -> None:
    title = board.metrics[verdict.primary].title
    sources = [part for part in slices if part.dimension == "source"]
    labels = [part for part in slices if part.dimension == "label"]
    page.table(f"{title} by source", *_slice_table(board, sources))
    if not labels:
        return
    page.figure(
        plot_labels(board, verdict.primary, labels),
        f"{title} by label"
        + (f": the {MAXIMUM_LABELS} lowest of {len(labels)}" if len(labels) > MAXIMUM_LABELS else ""),
        "The number of items is in brackets.",
    )
    columns, rows, _ = _slice_table(board, labels[:10])
    note = "Slices do not enter the verdict: among many small ones, some differ by chance."
    page.table("Labels on which the candidate is weakest", columns, rows, note)


def _slice_table(board: Scoreboard, parts: Sequence[Slice]) -> tuple[list[str], list[list[Any]], str]:
    columns = [
        parts[0].dimension if parts else "slice",
        f"difference to the {board.opponent}",
        "interval",
        *board.outcomes,
        "items",
    ]
    rows: list[list[Any]] = [
        [
            part.name,
            signed(part.difference),
            f"[{signed(part.low)}, {signed(part.high)}]" if part.low < part.high else "–",
            *(show_score(part.values[model]) for model in board.outcomes),
            part.items,
        ]
        for part in parts
    ]
    return columns, rows, ""


def _add_examples(page: Page, board: Scoreboard, verdict: PromotionVerdict, examples: int) -> None:
    better, worse = find_changes(board, verdict.primary)
    title = inside_sentence(board.metrics[verdict.primary].title)
    binary = verdict.primary in ("intent_accuracy", "exact_match")
    names = ("Right to wrong", "Wrong to right") if binary else ("Worse than before", "Better than before")
    for name, changes in ((names[0], worse), (names[1], better)):
        page.heading(f"{name}: {len(changes):,} of {len(board.items):,}")
        if not changes:
            page.text(f"No item, judged by {title}.")
        for change in changes[:examples]:
            page.conversation(_turns(change, binary))


def _turns(change: Change, binary: bool) -> list[tuple[str, str]]:
    label = f" · {change.item.label}" if change.item.label else ""
    turns = [(turn["role"], _truncate(turn["content"])) for turn in change.item.prompt]
    turns.append((f"reference{label}", _truncate(change.item.reference)))
    for model, answer in change.answers.items():
        value = change.values[model]
        score = ("right" if value else "wrong") if binary else show_score(value)
        turns.append((f"{model} · {score}", _truncate(answer)))
    return turns


def _truncate(text: str) -> str:
    text = text.strip() or "(empty)"
    return text if len(text) <= MAXIMUM_CHARACTERS else text[:MAXIMUM_CHARACTERS].rstrip() + " …"


def _method(selected: ItemSet, board: Scoreboard) -> list[str]:
    left_out = []
    if selected.too_long:
        left_out.append(f"{selected.too_long:,} longer than a model's context")
    for reason, count in selected.refused.items():
        left_out.append(f"{count:,} that a chat template refuses ({reason})")
    if selected.duplicates:
        left_out.append(f"{selected.duplicates:,} that repeat an item")
    if selected.unanswerable:
        left_out.append(f"{selected.unanswerable:,} without a prompt or an answer")
    truncated = {model: int((~outcome.finished).sum()) for model, outcome in board.outcomes.items()}
    method = [
        f"{len(board.items):,} of {selected.held_out:,} held-out rows, selected by a hash of their content"
        + (f"; left out: {', '.join(left_out)}." if left_out else "; none was left out."),
        "The last answer of a conversation is the item, everything before it the prompt, rendered by each "
        "model's own chat template and answered greedily.",
        "Answers truncated at the maximum length: "
        + ", ".join(f"{model} {count:,}" for model, count in truncated.items())
        + ".",
        "Differences are paired: both models are scored on the same resampled items, and near-duplicates are drawn "
        "together. Perplexities are computed in each resample before they are subtracted.",
        f'"Detectable" is the smallest true difference that these items show with {board.power:.0%} power; '
        "a smaller one may exist and go unnoticed.",
    ]
    method += [
        f"{name}: {count:,} items are scored for some models only and are left out for all."
        for name, count in board.unpaired.items()
    ]
    if board.ceiling is not None:
        method.append(
            "The intent of an answer is the label that it names, or the one that a classifier of words predicts, which "
            f"was fitted on the training answers. It is right on {board.ceiling:.1%} of the held-out reference "
            "answers, which is the ceiling of intent accuracy, and abstains from answers that are less like those of "
            "any label than right answers are. These count as wrong: "
            + ", ".join(f"{model} {count:,}" for model, count in board.abstained.items())
            + ". Intent accuracy does not measure whether what an answer says is true."
        )
    return method
