"""The evaluation page: the verdict with its reasons, the comparisons, answers that changed, and all behind them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tasks.evaluation.bias import bias_table
from tasks.evaluation.items import ItemSet
from tasks.evaluation.report.background import SHOWN_DIGITS, Background, list_costs, plot_curve, shorten_hash
from tasks.evaluation.report.blocks import ReportBlock, add_block
from tasks.evaluation.report.changes import find_changes, is_binary
from tasks.evaluation.report.everything import write_everything
from tasks.evaluation.report.examples import choose_examples, show_change
from tasks.evaluation.report.plots import (
    MAXIMUM_LABELS,
    plot_differences,
    plot_losses,
    plot_scores,
    plot_slices,
)
from tasks.evaluation.report.sentences import list_turning_points, summarise
from tasks.evaluation.report.tables import describe_method, tabulate_checks, tabulate_differences, tabulate_slices
from tasks.evaluation.scoring import Scoreboard
from tasks.evaluation.slices.groups import Groupings
from tasks.evaluation.slices.names import LABEL
from tasks.evaluation.slices.scores import MINIMUM_UNITS, Slice
from tasks.evaluation.verdict import PromotionVerdict
from tasks.evaluation.wording import inside_sentence, signed
from tasks.pages.page import Page, Tone
from tasks.pages.text import as_sentence, show_score

MAXIMUM_SLICES = 20
EVERYTHING = "report.json"


def write_report(
    selected: ItemSet,
    board: Scoreboard,
    verdict: PromotionVerdict,
    groupings: Groupings,
    slices: Sequence[Slice],
    background: Background,
    settings: Mapping[str, Any],
    blocks: Sequence[ReportBlock],
    path: Path,
) -> None:
    """Write the page and, beside it, ``report.json``.

    Args:
        selected: The items and the number of rows left out.
        board: Scores and comparisons.
        verdict: The decision.
        groupings: What the items are grouped by.
        slices: Scores of the groups.
        background: What is behind the models.
        settings: Params of the stage, defaults included: ``gate`` and ``examples``, changed answers to show, improved
            and worsened each.
        blocks: What other rooms measured, in the order of the page.
        path: The page to write.
    """
    gate = settings["gate"]
    sentence = summarise(board, verdict)
    turning_points = list_turning_points(board, verdict, gate["minimum_items"], gate["must_not_worsen"])
    better, worse = find_changes(board, verdict.primary)
    examples = choose_examples(better, worse, settings["examples"])
    tone: Tone = "good" if verdict.verdict == "promote" else "warn"
    page = Page("Evaluation", sentence, verdict.verdict, tone, stage="evaluation")
    page.cards(_cards(board, verdict))
    page.contents()
    page.listing([as_sentence(reason) for reason in verdict.reasons], "Why")
    page.listing(turning_points, "What would change it")
    _add_scores(page, board)
    _add_slices(page, board, verdict, groupings, slices)
    page.heading("Answers that changed")
    _describe_changes(page, board, verdict, len(better), len(worse), len(examples))
    if examples:
        places = {item.id: place for place, item in enumerate(board.items)}
        models, binary = (
            (board.opponent, "candidate"),
            is_binary(board.scores[model, verdict.primary] for model in board.outcomes),
        )
        page.changes([show_change(one, models, groupings, places, binary) for one in examples])
    for block in blocks:
        add_block(page, block)
    if background.curve:
        page.figure(plot_curve(background), "Loss while it was trained", str(background.diagnosis.get("text", "")))
    if any(outcome.tokens.any() for outcome in board.outcomes.values()):  # of vectors nothing has a loss
        page.figure(plot_losses(board), "Loss by item", "Dashed: medians. The last bin includes all larger losses.")
    if probe := bias_table(board.outcomes):
        page.table("Bias probe", *probe)
    page.table("Other tests of the differences", *tabulate_checks(board))
    page.table(
        "What it took",
        ["what", "how much"],
        list_costs(background, board.outcomes),
        "Seconds vary from run to run: how long a stage took stands at the top of its page and in MLflow. Energy is "
        "not measured; `heptune plan --watts` states it for a machine of known power.",
    )
    rows = [[name, shorten_hash(text)] for name, text in background.lineage.items()]
    rows += [[f"library {name}", text] for name, text in background.libraries.items()]
    note = f"The first {SHOWN_DIGITS} digits of SHA-256 hashes; all of them are in {EVERYTHING}."
    page.table("Where it came from", ["what", "which"], rows, note)
    page.listing(describe_method(selected, board), "How this was measured")
    page.link("predictions.parquet", "All answers, item by item (predictions.parquet)")
    page.link(EVERYTHING, f"Everything on this page as JSON ({EVERYTHING})")
    page.write(path)
    write_everything(
        board,
        verdict,
        sentence,
        turning_points,
        slices,
        examples,
        background,
        settings,
        blocks,
        path.with_name(EVERYTHING),
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


def _add_scores(page: Page, board: Scoreboard) -> None:
    page.figure(
        plot_differences(board),
        "Candidate against the other models",
        f"Differences with {board.confidence:.0%} intervals (paired bootstrap); on the green side the candidate is "
        "better. The candidate is proven better or worse where the interval excludes zero, the line in the middle.",
    )
    page.table("Differences", *tabulate_differences(board))
    page.figure(
        plot_scores(board),
        "Scores",
        f"Bars with {board.confidence:.0%} intervals; ↑ higher is better, ↓ lower is better."
        + (" Dashed: accuracy of the intent classifier on the reference answers." if board.ceiling else ""),
    )


def _add_slices(
    page: Page, board: Scoreboard, verdict: PromotionVerdict, groupings: Groupings, slices: Sequence[Slice]
) -> None:
    title = board.metrics[verdict.primary].title
    for grouping in groupings.found:
        parts = [part for part in slices if part.dimension == grouping.name]
        if grouping.name == LABEL and parts:
            page.figure(
                plot_slices(board, verdict.primary, parts),
                f"{title} by label"
                + (f": the {MAXIMUM_LABELS} lowest of {len(parts)}" if len(parts) > MAXIMUM_LABELS else ""),
                "The number of items is in brackets.",
            )
            heading = "Labels on which the candidate is weakest"
        else:
            heading = f"{title} by {grouping.name}"
        page.table(heading, *tabulate_slices(board, parts, MAXIMUM_SLICES))
    if slices:
        page.text(
            "Slices do not enter the verdict: among many small ones, some differ by chance. One that stands out "
            f"differs clearly among all {len(slices):,} (Holm's method). Too small means fewer than "
            f"{slices[0].enough:,} items, which it takes to show a difference like that of all items, or fewer than "
            f"{MINIMUM_UNITS} that are no near-duplicates."
        )
    for name, why in groupings.missing.items():
        page.text(f"Not sliced by {name}: {why}.")


def _describe_changes(
    page: Page, board: Scoreboard, verdict: PromotionVerdict, better: int, worse: int, shown: int
) -> None:
    title = inside_sentence(board.metrics[verdict.primary].title)
    names = (
        ("Wrong to right", "Right to wrong")
        if is_binary(board.scores[model, verdict.primary] for model in board.outcomes)
        else ("Better", "Worse")
    )
    counts = "; ".join(
        f"{name}: {count:,} of {len(board.items):,}" for name, count in zip(names, (better, worse), strict=True)
    )
    some = f" {shown:,} of them are below, the largest changes first." if shown < better + worse else ""
    page.text(
        f"{counts}, judged by {title}.{some} Marked in red: what only the {board.opponent} says; in green: what only "
        "the candidate says."
    )
