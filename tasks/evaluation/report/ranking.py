"""The page of a ranking: a table of scores, the differences to the reference, and what both mean."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.contracts.manifest import write_json
from tasks.evaluation.ranking import ModelRanking
from tasks.evaluation.report.blocks import ReportBlock, add_block
from tasks.evaluation.report.differences import ModelDifference
from tasks.evaluation.report.plots import BAD, GOOD, RESULT_COLOURS
from tasks.evaluation.wording import show_p, signed
from tasks.pages.page import Page, plot_style
from tasks.pages.text import plot_text, plural, show_score

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def write_ranking(
    ranking: ModelRanking,
    title: str,
    notes: Sequence[str],
    page_path: Path,
    figures_path: Path,
    differences: Sequence[ModelDifference] = (),
    blocks: Sequence[ReportBlock] = (),
) -> None:
    """Write the page and, as JSON, its figures.

    Args:
        ranking: The models.
        title: Heading of the page.
        notes: What is to be known about the items and the models, a sentence each.
        page_path: The page to write.
        figures_path: File of the figures.
        differences: What else differs between the reference and other models, origins and answers.
        blocks: What other rooms measured, in the order of the page.
    """
    values = {"models": list(ranking.models), "reference": ranking.reference, **ranking.figures}
    more: dict[str, Any] = {"differences": [one.values for one in differences]} if differences else {}
    if blocks:
        more["blocks"] = [{"title": one.title, "summary": one.summary, **one.values} for one in blocks]
    write_json(figures_path, values | more)
    page = Page(title, describe_ranking(ranking), stage=page_path.parent.name)
    page.table("Scores", *tabulate_scores(ranking), f"With {ranking.confidence:.0%} intervals.")
    name = next(iter(ranking.metrics))
    if len(ranking.models) > 1:
        metric = ranking.metrics[name]
        page.figure(
            plot_ranking(ranking, name),
            f"{metric.title}, difference to {ranking.reference}",
            "Paired: both models answered the same items, and near duplicates count as one.",
        )
        page.table(f"Differences to {ranking.reference}", *tabulate_differences(ranking))
    for block in blocks:
        add_block(page, block)
    for one in differences:
        one.add_to(page, ranking)
    page.listing([*notes, *(f"{one}: {why}." for one, why in ranking.not_applicable.items())], "About these numbers")
    page.link(figures_path.name, f"All figures as JSON ({figures_path.name})")
    page.write(page_path)


def describe_ranking(ranking: ModelRanking) -> str:
    """The result in a sentence or two."""
    metric = next(iter(ranking.metrics.values()))
    best = ranking.models[0]
    count = plural(len(ranking.models), "model")
    items = f"{len(ranking.items):,} held-out items"
    score = show_score(ranking.estimates[best, metric.name].value)
    text = f"{count} on the same {items}. Best on {metric.title.lower()}: {best} ({score})."
    proven = [one for one in ranking.models if _result(ranking, one, metric.name) == "better"]
    if len(ranking.models) == 1:
        return text
    if not proven:
        return f"{text} None is proven better than {ranking.reference}."
    return f"{text} Proven better than {ranking.reference}: {', '.join(proven)}."


def _result(ranking: ModelRanking, model: str, metric: str) -> str:
    one = ranking.comparisons.get((model, metric))
    return one.result if one else ""


def tabulate_scores(ranking: ModelRanking) -> tuple[list[str], list[list[Any]]]:
    """Columns and rows: a model a row, a metric a column."""
    columns = ["model", *(metric.title for metric in ranking.metrics.values())]
    rows: list[list[Any]] = []
    for model in ranking.models:
        cells = []
        for name in ranking.metrics:
            one = ranking.estimates[model, name]
            cells.append(f"{show_score(one.value)} [{show_score(one.low)}, {show_score(one.high)}]")
        rows.append([model, *cells])
    return columns, rows


def tabulate_differences(ranking: ModelRanking) -> tuple[list[str], list[list[Any]]]:
    """Columns and rows: a model and a metric a row."""
    columns = ["model", "metric", "result", "difference", f"{ranking.confidence:.0%} interval", "permutation p"]
    rows: list[list[Any]] = []
    for model in ranking.models:
        for name, metric in ranking.metrics.items():
            if model == ranking.reference:
                continue
            one = ranking.comparisons.get((model, name))
            if one is None:
                rows.append([model, metric.title, "other tokens: not comparable", "–", "–", "–"])
                continue
            ends = f"[{signed(one.low)}, {signed(one.high)}]".replace(" ", "\N{NO-BREAK SPACE}")
            p = show_p(one.checks.permutation) if one.checks else "–"
            rows.append([model, metric.title, one.result, signed(one.difference), ends, p])
    return columns, rows


def plot_ranking(ranking: ModelRanking, name: str) -> Figure:
    """The differences to the reference on one metric, a model a line, the best on top."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    shown = [model for model in reversed(ranking.models) if (model, name) in ranking.comparisons]
    with rc_context(plot_style()):
        figure = Figure(figsize=(7.6, 0.42 * len(shown) + 0.9), layout="constrained")
        axes = figure.subplots()
        ends = [end for model in shown for end in _ends(ranking, model, name)]
        limit = max((abs(end) for end in ends), default=0.0) * 1.1 or 1.0
        better = 1 if ranking.metrics[name].higher_is_better else -1
        axes.axvspan(0, better * limit, color=GOOD, lw=0)
        axes.axvspan(0, -better * limit, color=BAD, lw=0)
        axes.axvline(0, color="#6b7280", lw=1)
        for place, model in enumerate(shown):
            one = ranking.comparisons[model, name]
            colour = RESULT_COLOURS[one.result]
            axes.plot([one.low, one.high], [place, place], color=colour, lw=3, solid_capstyle="butt")
            axes.plot([one.difference], [place], "o", color=colour, ms=6)
        axes.grid(visible=False)
        axes.set_xlim(-limit, limit)
        axes.set_ylim(-0.7, len(shown) - 0.3)
        axes.set_yticks(range(len(shown)), [plot_text(model) for model in shown])
        axes.set_xlabel(plot_text(f"{ranking.metrics[name].title}, minus that of {ranking.reference}"))
    return figure


def _ends(ranking: ModelRanking, model: str, name: str) -> tuple[float, float]:
    one = ranking.comparisons[model, name]
    return one.low, one.high
