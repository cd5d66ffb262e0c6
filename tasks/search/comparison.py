"""Choices of one kind (methods, optimizers) compared: the same task, budget and seeds, and what each costs.

The trainings are the trials of a grid over the choices, the seeds, and learning rates if there are several: each choice
is shown at the rate that is best for it. A choice is on the Pareto front of a cost where no other is at least as good
and no dearer, and better in one of the two.

Example: full fine-tuning at 1.90 nats with 10.1 million trained weights and LoRA at 1.95 with 0.6 million are both on
the front of trained weights; a method at 1.97 with 0.7 million is not.
"""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.contracts.manifest import write_json
from tasks.pages.page import PALETTE, Page, plot_style
from tasks.pages.text import plot_text, plural
from tasks.search.trials import SearchTrial

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RATE, SEED = "training_setup.learning_rate", "training_setup.seed"
TABLE = "comparison.json"
MIB = 2**20
# What a choice costs: attribute of `ComparedChoice`, and how it is called.
COSTS = {
    "trained": "weights trained at a time",
    "memory_mib": "predicted memory, MiB",
    "seconds": "seconds of a training",
}


@dataclass(frozen=True)
class ChoiceFacts:
    """What a plan says of a choice before it is trained.

    Attributes:
        trained: Weights that get gradients in the same step, at most.
        memory_bytes: Predicted peak of the process.
    """

    trained: int
    memory_bytes: int


@dataclass(frozen=True)
class ComparedChoice:
    """A choice with what its trainings came to.

    Attributes:
        name: The choice.
        rate: Its learning rate, the best of those that were tried.
        losses: Validation loss by seed, nats per supervised token; empty where none finished.
        seconds: Of a training, the mean over the seeds, with the start of its process and its validations.
        facts: What the plan says; None where there is none.
        reason: Why a training failed.
    """

    name: str
    rate: float | None
    losses: Mapping[int, float]
    seconds: float
    facts: ChoiceFacts | None
    reason: str = ""

    @property
    def loss(self) -> float:
        """Mean over the seeds."""
        return statistics.fmean(self.losses.values())

    @property
    def half_width(self) -> float | None:
        """Of the 95% t interval of the mean; None of one seed."""
        if len(self.losses) < 2:
            return None
        from scipy.stats import t

        values = list(self.losses.values())
        return float(t.ppf(0.975, len(values) - 1)) * statistics.stdev(values) / math.sqrt(len(values))

    @property
    def trained(self) -> float:
        return self.facts.trained if self.facts else math.nan

    @property
    def memory_mib(self) -> float:
        return self.facts.memory_bytes / MIB if self.facts else math.nan


@dataclass(frozen=True)
class ChoiceComparison:
    """All choices of a kind.

    Attributes:
        kind: Param that they are of, such as ``training_setup.method``.
        choices: Those with a finished training, the best first, then the others.
        seeds: Number of seeds.
        steps: Optimizer steps of each training.
        watts: Power of the machine while it trains; None where it was not stated.
    """

    kind: str
    choices: Sequence[ComparedChoice]
    seeds: int
    steps: int
    watts: float | None = None

    @property
    def finished(self) -> list[ComparedChoice]:
        return [choice for choice in self.choices if choice.losses]

    def front(self, cost: str) -> list[ComparedChoice]:
        """The choices on the Pareto front of a cost, the cheapest first."""
        found: list[ComparedChoice] = []
        known = [choice for choice in self.finished if math.isfinite(getattr(choice, cost))]
        for choice in sorted(known, key=lambda one: (getattr(one, cost), one.loss)):
            if not found or choice.loss < found[-1].loss:
                found.append(choice)
        return found

    def watt_hours(self, choice: ComparedChoice) -> float | None:
        return None if self.watts is None else choice.seconds * self.watts / 3600


def compare_choices(
    kind: str,
    trials: Sequence[SearchTrial],
    facts: Mapping[str, ChoiceFacts],
    seeds: int,
    steps: int,
    watts: float | None = None,
) -> ChoiceComparison:
    """What the trials of a grid say of its choices.

    Args:
        kind: The param whose choices are compared.
        trials: Those that have ended.
        facts: Name of a choice to what its plan says.
        seeds: Number of seeds.
        steps: Optimizer steps of each training.
        watts: Power of the machine while it trains.
    """
    found: dict[str, dict[float | None, list[SearchTrial]]] = defaultdict(lambda: defaultdict(list))
    for trial in trials:
        if trial.changes:
            found[trial.changes[kind]["name"]][trial.changes.get(RATE)].append(trial)
    choices = [_best_of(name, rates, facts.get(name)) for name, rates in found.items()]
    ranked = sorted(choices, key=lambda one: (not one.losses, one.loss if one.losses else 0.0, one.name))
    return ChoiceComparison(kind, ranked, seeds, steps, watts)


def _best_of(
    name: str, rates: Mapping[float | None, Sequence[SearchTrial]], facts: ChoiceFacts | None
) -> ComparedChoice:
    """A choice at the rate with the lowest loss; of those rates that finished with the most seeds."""
    tried = []
    for rate, trials in rates.items():
        finished = [trial for trial in trials if trial.state == "finished" and trial.loss is not None]
        losses = {int(trial.changes.get(SEED, 0)): float(trial.loss or 0.0) for trial in finished}
        seconds = statistics.fmean(trial.seconds for trial in finished) if finished else 0.0
        reason = next((trial.reason for trial in trials if trial.reason), "")
        tried.append(ComparedChoice(name, rate, losses, seconds, facts, "" if finished else reason))
    return min(tried, key=lambda one: (-len(one.losses), one.loss if one.losses else 0.0))


def write_comparison(found: ChoiceComparison, page_path: Path, metrics_path: Path) -> dict[str, float | int]:
    """Write ``index.html``, ``comparison.json`` with the table, and ``metrics.json``; returns the figures."""
    figures: dict[str, float | int] = {f"{choice.name}_loss": round(choice.loss, 6) for choice in found.finished}
    write_json(metrics_path, figures)
    write_json(page_path.with_name(TABLE), as_json(found))
    name = found.kind.partition(".")[2]
    page = Page(f"Comparison: {name}", describe_comparison(found), stage="comparison")
    page.cards({"choices": len(found.choices), "seeds": found.seeds, "steps of each training": found.steps})
    page.table("Ranked by validation loss", *list_rows(found))
    for cost, words in COSTS.items():
        if found.finished:
            page.figure(
                plot_front(found, cost, words),
                f"Validation loss against {words}",
                "Bars are 95% intervals over the seeds. On the Pareto front: "
                + ", ".join(choice.name for choice in found.front(cost))
                + ".",
            )
    failed = [[choice.name, choice.reason] for choice in found.choices if not choice.losses]
    if failed:
        page.table("Not trained", ["choice", "why"], failed)
    page.link(TABLE, f"The table as a file ({TABLE})")
    page.write(page_path)
    return figures


def describe_comparison(found: ChoiceComparison) -> str:
    """The result in a sentence or two."""
    if not found.finished:
        return f"None of {plural(len(found.choices), 'choice')} was trained."
    best = found.finished[0]
    width = f" ± {best.half_width:.3f}" if best.half_width is not None else ""
    near = [choice.name for choice in found.finished[1:] if overlaps(best, choice)]
    doubt = f" The intervals of {', '.join(near)} reach it." if near else ""
    return (
        f"{best.name} has the lowest validation loss after {plural(found.steps, 'step')}: {best.loss:.3f}{width} nats "
        f"per token, over {plural(len(best.losses), 'seed')}.{doubt}"
    )


def overlaps(one: ComparedChoice, other: ComparedChoice) -> bool:
    """Whether the intervals of two choices meet."""
    return abs(one.loss - other.loss) <= (one.half_width or 0.0) + (other.half_width or 0.0)


def list_rows(found: ChoiceComparison) -> tuple[list[str], list[list[Any]], str]:
    """Columns, rows and note of the table."""
    energy = found.watts is not None
    columns = ["choice", "validation loss", "rate", "trained at a time", "memory, MiB", "seconds"]
    columns += ["Wh"] if energy else []
    columns += ["on the front of"]
    fronts = {cost: found.front(cost) for cost in COSTS}
    short = {"trained": "weights", "memory_mib": "memory", "seconds": "time"}
    rows = []
    for choice in found.finished:
        width = f" ± {choice.half_width:.3f}" if choice.half_width is not None else ""
        rows.append(
            [
                choice.name,
                f"{choice.loss:.3f}{width}",
                "–" if choice.rate is None else f"{choice.rate:g}",
                int(choice.trained) if choice.facts else "–",
                round(choice.memory_mib) if choice.facts else "–",
                f"{choice.seconds:.1f}",
                *([f"{found.watt_hours(choice):.2f}"] if energy else []),
                ", ".join(short[cost] for cost, front in fronts.items() if choice in front),
            ]
        )
    power = f" Energy at the stated {found.watts:g} W." if energy else ""
    note = (
        "Mean and 95% t interval over the seeds. Memory is the plan's prediction; seconds are those of a whole trial, "
        f"the start of its process and its validations among them.{power}"
    )
    return columns, rows, note


def as_json(found: ChoiceComparison) -> dict[str, Any]:
    """Everything the page shows, for programs."""
    return {
        "kind": found.kind,
        "seeds": found.seeds,
        "steps": found.steps,
        "watts": found.watts,
        "fronts": {cost: [choice.name for choice in found.front(cost)] for cost in COSTS},
        "choices": [
            {
                "name": choice.name,
                "learning_rate": choice.rate,
                "losses": {str(seed): loss for seed, loss in sorted(choice.losses.items())},
                "loss": choice.loss if choice.losses else None,
                "half_width": choice.half_width,
                "seconds": choice.seconds,
                "watt_hours": found.watt_hours(choice),
                "trained": choice.facts.trained if choice.facts else None,
                "memory_bytes": choice.facts.memory_bytes if choice.facts else None,
                "reason": choice.reason,
            }
            for choice in found.choices
        ],
    }


def plot_front(found: ChoiceComparison, cost: str, words: str) -> Figure:
    """Loss against a cost, a point for each choice, and the Pareto front as a line."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(plot_style()):
        figure = Figure(figsize=(7.2, 3.6))
        axes = figure.subplots()
        front = found.front(cost)
        axes.plot(
            [getattr(choice, cost) for choice in front],
            [choice.loss for choice in front],
            drawstyle="steps-post",
            color=PALETTE[0],
            linewidth=1.0,
            zorder=1,
        )
        for choice in found.finished:
            colour = PALETTE[0] if choice in front else PALETTE[5]
            axes.errorbar(
                getattr(choice, cost), choice.loss, yerr=choice.half_width, fmt="o", color=colour, markersize=5,
                linewidth=1.0, capsize=2,
            )  # fmt: skip
            axes.annotate(
                plot_text(choice.name), (getattr(choice, cost), choice.loss), xytext=(5, 4),
                textcoords="offset points", fontsize=8,
            )  # fmt: skip
        axes.set_xscale("log")
        axes.margins(x=0.15)
        axes.set_xlabel(plot_text(words))
        axes.set_ylabel("validation loss")
    return figure
