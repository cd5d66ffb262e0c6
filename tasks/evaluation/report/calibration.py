"""The block of the page that shows whether models are right as often as they are sure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from tasks.evaluation.metrics.certainty.calibration import BINS, BrierScore, CalibrationError, read_confidence
from tasks.evaluation.metrics.metric import Evidence, Floats, Metric
from tasks.evaluation.outcomes import ModelName, Outcome
from tasks.evaluation.probes.confidence import LABELS, ConfidenceProbe
from tasks.evaluation.report.blocks import BlockFigure, BlockTable, ReportBlock
from tasks.evaluation.report.plots import COLOURS
from tasks.evaluation.scoring import Estimate, Key
from tasks.pages.page import PALETTE, plot_style
from tasks.pages.text import plot_text, show_score

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Answers, mean confidence and share right of each bin, (bins, 3).
Bins = Mapping[ModelName, Floats]


class Scored(Protocol):
    """What was scored: in the stage a `tasks.evaluation.scoring.Scoreboard`, elsewhere a
    `tasks.evaluation.ranking.ModelRanking`."""

    @property
    def outcomes(self) -> Mapping[ModelName, Outcome]: ...
    @property
    def metrics(self) -> Mapping[str, Metric]: ...
    @property
    def estimates(self) -> Mapping[Key, Estimate]: ...


def describe_calibration(evidence: Evidence, scored: Scored) -> list[ReportBlock]:
    """The block; none where no metric asked how sure the models are.

    Args:
        evidence: The items.
        scored: The models, in their order.
    """
    measured = {m: one.probes.get(ConfidenceProbe().key) for m, one in scored.outcomes.items()}
    names = {CalibrationError().name, BrierScore().name} & scored.metrics.keys()
    if not names or any(one is None for one in measured.values()):
        return []
    first = next(iter(measured.values())) or {}
    means = (
        "the probability of the label that the model finds most likely, among all labels"
        if first.get("of") == LABELS
        else "the mean (geometric) probability of the tokens of its answer, as answers are no names of labels"
    )
    asked = np.array([bool(item.prompt) for item in evidence.items])
    pairs = {model: read_confidence(evidence, outcome) for model, outcome in scored.outcomes.items()}
    bins = {model: count_bins(confidence[asked], right[asked]) for model, (confidence, right) in pairs.items()}
    sure = {model: float((b[:, 0] * b[:, 1]).sum() / b[:, 0].sum()) for model, b in bins.items()}
    right = {model: float((b[:, 0] * b[:, 2]).sum() / b[:, 0].sum()) for model, b in bins.items()}
    shown = ["candidate"] if "candidate" in sure else list(sure)
    rows = [
        [model, show_score(sure[model]), show_score(right[model]), *(
            show_score(scored.estimates[model, name].value) for name in sorted(names)
        )]
        for model in scored.outcomes
    ]  # fmt: skip
    return [
        ReportBlock(
            "Calibration",
            f"{' '.join(_judge(model, sure[model], right[model]) for model in shown)} Confidence here is {means}.",
            (
                BlockTable(
                    "", ["model", "mean confidence", "right", *(scored.metrics[n].title for n in sorted(names))], rows
                ),
            ),
            (
                BlockFigure(
                    "Right answers by confidence",
                    lambda: plot_reliability(bins),
                    "On the diagonal a model is right as often as it is sure; below it, it is too sure. Larger points "
                    "stand for more answers.",
                ),
            ),
            values={
                "of": first.get("of"),
                "bins": {model: b[b[:, 0] > 0].tolist() for model, b in bins.items()},
                "mean_confidence": sure,
                "right": right,
            },
        )
    ]


def _judge(model: ModelName, sure: float, right: float) -> str:
    """A sentence about one model."""
    gap = sure - right
    verdict = "about as often right as it is sure" if abs(gap) < 0.05 else "too sure" if gap > 0 else "too unsure"
    name = "The candidate" if model == "candidate" else model
    return (
        f"{name} is {verdict}: its mean confidence is {show_score(sure)}, and {show_score(right)} of its answers are "
        "right."
    )


def count_bins(confidence: Floats, right: Floats) -> Floats:
    """Answers, mean confidence and share of right ones by confidence, (bins, 3)."""
    places = np.minimum((confidence * BINS).astype(np.int64), BINS - 1)
    counts = np.bincount(places, minlength=BINS).astype(np.float64)
    sums = [np.bincount(places, weights, minlength=BINS) for weights in (confidence, right)]
    return np.column_stack([counts, *(total / np.maximum(counts, 1) for total in sums)])


def plot_reliability(bins: Bins) -> Figure:
    """Share of right answers over mean confidence, a line a model (DeGroot and Fienberg, The Statistician 1983)."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(plot_style()):
        figure = Figure(figsize=(5.4, 4.2), layout="constrained")
        axes: Any = figure.subplots()
        axes.plot([0, 1], [0, 1], color="#9ca3af", lw=1, ls=(0, (4, 3)))
        for place, (model, counted) in enumerate(bins.items()):
            colour = COLOURS.get(model, PALETTE[place % len(PALETTE)])
            shown = counted[counted[:, 0] > 0]
            sizes = 16 + 120 * shown[:, 0] / shown[:, 0].sum()
            axes.plot(shown[:, 1], shown[:, 2], color=colour, lw=1.4)
            axes.scatter(shown[:, 1], shown[:, 2], s=sizes, color=colour, label=plot_text(model))
        axes.set_xlim(-0.02, 1.02)
        axes.set_ylim(-0.02, 1.02)
        axes.set_xlabel("mean confidence")
        axes.set_ylabel("share of right answers")
        axes.legend()
    return figure
