"""Choices of one kind (methods, optimizers, objectives) compared: the same task, budget and seeds, and what each costs.

They are ranked by the validation loss; objectives, whose losses are of different things, by what each makes of the same
held-out answers. The trainings are the trials of a grid over the choices, the seeds, and learning rates if there are
several: each choice is shown at the rate of its own lowest validation loss, whatever choices are ranked by. A choice is
on the Pareto front of a cost where no other is at least as good and no dearer, and better in one of the two.

Example: full fine-tuning at 1.90 nats with 10.1 million trained weights and LoRA at 1.95 with 0.6 million are both on
the front of trained weights; a method at 1.97 with 0.7 million is not.
"""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.contracts.manifest import write_json
from tasks.pages.page import PALETTE, Page, plot_style
from tasks.pages.text import plot_text, plural
from tasks.search.trials import ANSWER_LOSS, LOSS, PREFERENCES, SearchTrial

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RATE, SEED = "training_setup.learning_rate", "training_setup.seed"
TABLE = "comparison.json"
MIB = 2**20
NAMED = 20  # choices of which each has its name in a plot; of more those on the front have
RADIUS = 3  # of a point, pixels
# Of a name beside it, points to the right and up, in the order in which they are tried.
PLACES = ((5, 3), (5, -3), (0, 6), (0, -6), (-5, 3), (-5, -3), (5, 12), (5, -12), (-5, 12), (-5, -12))
WIDE = 10.0  # costs further apart are shown on a logarithmic axis
# What a choice costs: attribute of `ComparedChoice`, and how it is called.
COSTS = {
    "trained": "weights trained at a time",
    "memory_mib": "predicted memory, MiB",
    "seconds": "seconds of a training",
}


@dataclass(frozen=True)
class RankedBy:
    """The figure by which choices are ranked.

    Attributes:
        name: As trials have it.
        words: How it is called.
        unit: What it is counted in.
        higher_is_better: Whether a larger one is better.
    """

    name: str
    words: str
    unit: str
    higher_is_better: bool = False

    def of(self, trial: SearchTrial) -> float | None:
        """That of a trial; None where it has none."""
        return trial.loss if self.name == LOSS else trial.figures.get(self.name)

    def worse_by(self, value: float, other: float) -> float:
        """How much worse a value is than another."""
        return other - value if self.higher_is_better else value - other


BY_LOSS = RankedBy(LOSS, "validation loss", "nats per token")
BY_ANSWERS = RankedBy(ANSWER_LOSS, "loss of the answers", "nats per token")
BY_PREFERENCES = RankedBy(PREFERENCES, "preferences held", "share of pairs", higher_is_better=True)


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
        values: By seed, the figure that choices are ranked by; empty where none finished.
        seconds: Of a training, the mean over the seeds, with the start of its process and its validations.
        facts: What the plan says; None where there is none.
        reason: Why a training failed.
        figures: Name to the mean over the seeds of what else was measured.
    """

    name: str
    rate: float | None
    values: Mapping[int, float]
    seconds: float
    facts: ChoiceFacts | None
    reason: str = ""
    figures: Mapping[str, float] = field(default_factory=dict)

    @property
    def value(self) -> float:
        """Mean over the seeds."""
        return statistics.fmean(self.values.values())

    @property
    def half_width(self) -> float | None:
        """Of the 95% t interval of the mean; None of one seed."""
        return half_width(list(self.values.values()))

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
        ranked_by: The figure by which they are ranked.
    """

    kind: str
    choices: Sequence[ComparedChoice]
    seeds: int
    steps: int
    watts: float | None = None
    ranked_by: RankedBy = BY_LOSS

    @property
    def finished(self) -> list[ComparedChoice]:
        return [choice for choice in self.choices if choice.values]

    def behind(self, choice: ComparedChoice) -> tuple[float, float | None]:
        """How much worse a choice is than the best, and the half width of the 95% interval, paired by seed."""
        best = self.finished[0].values
        differences = [
            self.ranked_by.worse_by(choice.values[seed], best[seed]) for seed in choice.values if seed in best
        ]
        if not differences:
            return self.ranked_by.worse_by(choice.value, self.finished[0].value), None
        return statistics.fmean(differences), half_width(differences)

    def front(self, cost: str) -> list[ComparedChoice]:
        """The choices on the Pareto front of a cost, the cheapest first."""
        found: list[ComparedChoice] = []
        known = [choice for choice in self.finished if math.isfinite(getattr(choice, cost))]
        place = {choice.name: number for number, choice in enumerate(self.finished)}
        for choice in sorted(known, key=lambda one: (getattr(one, cost), place[one.name])):
            if not found or self.ranked_by.worse_by(found[-1].value, choice.value) > 0:
                found.append(choice)
        return found

    @property
    def costs(self) -> dict[str, str]:
        """The costs that tell the finished choices apart, with their words."""
        return {cost: words for cost, words in COSTS.items() if len({getattr(one, cost) for one in self.finished}) > 1}

    @property
    def figures(self) -> dict[str, float]:
        """Of every finished choice."""
        return {f"{choice.name}_{self.ranked_by.name}": round(choice.value, 6) for choice in self.finished}

    def watt_hours(self, choice: ComparedChoice) -> float | None:
        return None if self.watts is None else choice.seconds * self.watts / 3600


def compare_choices(
    kind: str,
    trials: Sequence[SearchTrial],
    facts: Mapping[str, ChoiceFacts],
    seeds: int,
    steps: int,
    watts: float | None = None,
    ranked_by: RankedBy = BY_LOSS,
) -> ChoiceComparison:
    """What the trials of a grid say of its choices.

    Args:
        kind: The param whose choices are compared.
        trials: Those that have ended.
        facts: Name of a choice to what its plan says.
        seeds: Number of seeds.
        steps: Optimizer steps of each training.
        watts: Power of the machine while it trains.
        ranked_by: The figure by which they are ranked.
    """
    found: dict[str, dict[float | None, list[SearchTrial]]] = defaultdict(lambda: defaultdict(list))
    for trial in trials:
        if trial.changes:
            found[trial.changes[kind]["name"]][trial.changes.get(RATE)].append(trial)
    choices = [_best_of(name, rates, facts.get(name), ranked_by) for name, rates in found.items()]

    def place(choice: ComparedChoice) -> tuple[bool, float, str]:
        return not choice.values, ranked_by.worse_by(choice.value, 0.0) if choice.values else 0.0, choice.name

    return ChoiceComparison(kind, sorted(choices, key=place), seeds, steps, watts, ranked_by)


def _best_of(
    name: str, rates: Mapping[float | None, Sequence[SearchTrial]], facts: ChoiceFacts | None, ranked_by: RankedBy
) -> ComparedChoice:
    """A choice at the rate of its own lowest validation loss; of those rates that finished with the most seeds."""
    tried: list[tuple[int, float, ComparedChoice]] = []
    for rate, trials in rates.items():
        finished = [trial for trial in trials if trial.state == "finished"]
        by_seed = {int(trial.changes.get(SEED, 0)): ranked_by.of(trial) for trial in finished}
        values = {seed: value for seed, value in by_seed.items() if value is not None}
        seconds = statistics.fmean(trial.seconds or 0.0 for trial in finished) if finished else 0.0
        reason = next((trial.reason for trial in trials if trial.reason), "")
        names = sorted({key for trial in finished for key in trial.figures})
        figures = {
            key: statistics.fmean(trial.figures[key] for trial in finished if key in trial.figures) for key in names
        }
        losses = [trial.loss for trial in finished if trial.loss is not None]
        choice = ComparedChoice(name, rate, values, seconds, facts, "" if values else reason, figures)
        tried.append((-len(values), statistics.fmean(losses) if losses else math.inf, choice))
    return min(tried, key=lambda one: one[:2])[2]


def half_width(values: Sequence[float]) -> float | None:
    """Of the 95% t interval of the mean; None of one value."""
    if len(values) < 2:
        return None
    from scipy.stats import t

    return float(t.ppf(0.975, len(values) - 1)) * statistics.stdev(values) / math.sqrt(len(values))


def write_comparison(found: ChoiceComparison, page_path: Path, metrics_path: Path) -> dict[str, float]:
    """Write ``index.html``, ``comparison.json`` with the table, and ``metrics.json``; returns the figures."""
    figures = found.figures
    write_json(metrics_path, figures)
    write_json(page_path.with_name(TABLE), as_json(found))
    name = found.kind.partition(".")[2]
    page = Page(f"Comparison: {name}", describe_comparison(found), stage="comparison")
    page.cards({"choices": len(found.choices), "seeds": found.seeds, "steps of each training": found.steps})
    page.table(f"Ranked by {found.ranked_by.words}", *list_rows(found))
    for cost, words in found.costs.items():
        page.figure(
            plot_front(found, cost, words),
            f"{found.ranked_by.words.capitalize()} against {words}",
            "Bars are 95% intervals over the seeds; long ones go on beyond the plot. On the Pareto front: "
            + ", ".join(choice.name for choice in found.front(cost))
            + ".",
        )
    failed = [[choice.name, choice.reason] for choice in found.choices if not choice.values]
    if failed:
        page.table("Not trained", ["choice", "why"], failed)
    page.link(TABLE, f"The table as a file ({TABLE})")
    page.write(page_path)
    return figures


def describe_comparison(found: ChoiceComparison) -> str:
    """The result in a sentence or two."""
    if not found.finished:
        return f"None of {plural(len(found.choices), 'choice')} was trained."
    best, measure = found.finished[0], found.ranked_by
    width = f" ± {best.half_width:.3f}" if best.half_width is not None else ""
    near = [choice.name for choice in found.finished[1:] if not clearly_behind(found, choice)]
    doubt = f" Not clearly behind it: {', '.join(near)}." if near else ""
    return (
        f"{best.name} is first by {measure.words} after {plural(found.steps, 'step')}: {best.value:.3f}{width} "
        f"{measure.unit}, over {plural(len(best.values), 'seed')}.{doubt}"
    )


def clearly_behind(found: ChoiceComparison, choice: ComparedChoice) -> bool:
    """Whether a choice is worse than the best by more than its interval, seed by seed."""
    difference, width = found.behind(choice)
    return width is not None and difference > width


def list_rows(found: ChoiceComparison) -> tuple[list[str], list[list[Any]], str]:
    """Columns, rows and note of the table."""
    energy = found.watts is not None
    measure = found.ranked_by
    others = [one for one in (BY_PREFERENCES, BY_ANSWERS) if one != measure and _any_has(found, one)]
    columns = ["choice", measure.words, "behind the first", *(one.words for one in others)]
    columns += ["rate", "trained at a time", "memory, MiB", "seconds", *(["Wh"] if energy else []), "on the front of"]
    fronts = {cost: found.front(cost) for cost in found.costs}
    short = {"trained": "weights", "memory_mib": "memory", "seconds": "time"}
    rows = []
    for choice in found.finished:
        width = f" ± {choice.half_width:.3f}" if choice.half_width is not None else ""
        rows.append(
            [
                choice.name,
                f"{choice.value:.3f}{width}",
                "" if choice is found.finished[0] else _show_difference(*found.behind(choice)),
                *(f"{choice.figures[one.name]:.3f}" if one.name in choice.figures else "–" for one in others),
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
        f"{measure.words.capitalize()}: {measure.unit}, mean and 95% t interval over the seeds; the differences are "
        "paired by seed. Memory is the plan's prediction; seconds are those of a whole trial, "
        f"the start of its process and its validations among them.{power}"
    )
    return columns, rows, note


def _any_has(found: ChoiceComparison, measure: RankedBy) -> bool:
    return any(measure.name in choice.figures for choice in found.finished)


def _show_difference(difference: float, width: float | None) -> str:
    return f"{difference:.3f}" + (f" ± {width:.3f}" if width is not None else "")


def as_json(found: ChoiceComparison) -> dict[str, Any]:
    """Everything the page shows, for programs."""
    return {
        "kind": found.kind,
        "seeds": found.seeds,
        "steps": found.steps,
        "watts": found.watts,
        "ranked_by": found.ranked_by.name,
        "fronts": {cost: [choice.name for choice in found.front(cost)] for cost in COSTS},
        "choices": [
            {
                "name": choice.name,
                "learning_rate": choice.rate,
                "values": {str(seed): value for seed, value in sorted(choice.values.items())},
                "value": choice.value if choice.values else None,
                "half_width": choice.half_width,
                "figures": choice.figures,
                "seconds": choice.seconds,
                "watt_hours": found.watt_hours(choice),
                "trained": choice.facts.trained if choice.facts else None,
                "memory_bytes": choice.facts.memory_bytes if choice.facts else None,
                "reason": choice.reason,
            }
            for choice in found.choices
        ],
    }


def name_points(axes: Any, choices: Sequence[ComparedChoice], cost: str) -> None:
    """Names beside points, each where it covers no point and no other name; one without room is left out.

    Args:
        axes: Where the points are, with its limits set.
        choices: What is named, the most important first.
        cost: Attribute of a choice that is across.
    """
    from matplotlib.transforms import Bbox

    named = [choice for choice in choices if math.isfinite(getattr(choice, cost))]
    at = {choice.name: axes.transData.transform((getattr(choice, cost), choice.value)) for choice in named}
    room = axes.get_window_extent()
    taken = [Bbox.from_bounds(x - RADIUS, y - RADIUS, 2 * RADIUS, 2 * RADIUS) for x, y in at.values()]
    for choice in named:
        point = getattr(choice, cost), choice.value
        text = axes.annotate(plot_text(choice.name), point, (0, 0), textcoords="offset points", fontsize=8)
        for x, y in PLACES:
            across = "center" if x == 0 else "left" if x > 0 else "right"
            text.set(position=(x, y), ha=across, va="bottom" if y > 0 else "top")
            box = text.get_window_extent()
            if room.containsx(box.x0) and room.containsx(box.x1) and not any(box.overlaps(one) for one in taken):
                taken.append(box)
                break
        else:
            text.remove()


def plot_front(found: ChoiceComparison, cost: str, words: str) -> Figure:
    """The figure they are ranked by against a cost, a point for each choice, and the Pareto front as a line."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(plot_style()):
        figure = Figure(figsize=(7.2, 3.6))
        axes = figure.subplots()
        front = found.front(cost)
        axes.plot(
            [getattr(choice, cost) for choice in front],
            [choice.value for choice in front],
            drawstyle="steps-post",
            color=PALETTE[0],
            alpha=0.25,
            linewidth=4.0,  # broad and pale: where it goes down it is not to be taken for a bar
            zorder=1,
        )
        for choice in found.finished:
            colour = PALETTE[0] if choice in front else PALETTE[5]
            axes.errorbar(
                getattr(choice, cost), choice.value, yerr=choice.half_width, fmt="o", color=colour, markersize=5,
                linewidth=1.0, capsize=2, alpha=1.0 if choice in front else 0.5, zorder=3 if choice in front else 2,
            )  # fmt: skip
        costs = [getattr(choice, cost) for choice in found.finished if math.isfinite(getattr(choice, cost))]
        if max(costs, default=1.0) > WIDE * min(costs, default=1.0):
            axes.set_xscale("log")
        axes.margins(x=0.15)
        # A bar that is far longer than the values are apart would press them into a corner; it goes on beyond the plot.
        values = [choice.value for choice in found.finished]
        if spread := max(values) - min(values):
            low, high = axes.get_ylim()
            axes.set_ylim(max(low, min(values) - spread / 2), min(high, max(values) + spread / 2))
        others = [] if len(found.finished) > NAMED else [one for one in found.finished if one not in front]
        name_points(axes, [*front, *others], cost)
        axes.set_xlabel(plot_text(words))
        axes.set_ylabel(plot_text(found.ranked_by.words))
    return figure
