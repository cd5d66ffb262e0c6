"""The page of a search, and its best values as a file of params."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.contracts.manifest import write_bytes, write_json
from tasks.pages.page import Page, Tone, show
from tasks.pages.text import plural, show_score
from tasks.search.params import ParamSearch
from tasks.search.plots import plot_history, plot_importances, plot_parallel
from tasks.search.ranking import Gap, compare, rank
from tasks.search.run import read_rows, short_key, show_value
from tasks.search.study import TrialStore
from tasks.search.trials import SearchTrial

# Below, importances and the parallel coordinates show chance.
FEWEST_FOR_IMPORTANCE = 8
BEST = "best.yaml"


@dataclass(frozen=True)
class SearchOutcome:
    """What a search found so far.

    Attributes:
        settings: What was searched.
        trials: All trials that have ended.
        ranked: The finished ones, the best first.
        gap: How far the best two are apart; None where their rows are not at hand.
        importances: Share of each key, the largest first.
        left: Trials that have not begun.
    """

    settings: ParamSearch
    trials: Sequence[SearchTrial]
    ranked: Sequence[SearchTrial]
    gap: Gap | None
    importances: Mapping[str, float]
    left: int

    @property
    def through(self) -> Sequence[SearchTrial]:
        """Trials with an end of their own, each once: the last attempt of one that was repeated."""
        last = {trial.number if trial.again_of is None else trial.again_of: trial for trial in self.trials}
        return [trial for trial in last.values() if not trial.interrupted]

    @property
    def figures(self) -> dict[str, float | int]:
        counts = {
            state: sum(trial.state == state for trial in self.through) for state in ("finished", "pruned", "failed")
        }
        best = (
            {"validation_loss": self.ranked[0].loss or 0.0, "best_trial": self.ranked[0].number} if self.ranked else {}
        )
        gap = {"gap_to_second": self.gap.difference} if self.gap else {}
        return {**counts, **best, **gap}


def read_outcome(store: TrialStore) -> SearchOutcome:
    """What a search found so far."""
    trials = store.list_trials()
    ranked = rank(trials)
    rows = [found for trial in ranked[:2] if (found := read_rows(store, trial.number)) is not None]
    gap = compare(rows[0], rows[1]) if len(rows) == 2 else None
    importances = store.importances() if len(ranked) >= FEWEST_FOR_IMPORTANCE else {}
    return SearchOutcome(store.settings, trials, ranked, gap, importances, store.left)


def write_best(outcome: SearchOutcome, path: Path) -> Mapping[str, Any]:
    """Write the values of the best trial, one line a key as ``-S`` takes it; nothing where no trial has finished.

    Returns:
        The values.
    """
    if not outcome.ranked:
        return {}
    best = outcome.ranked[0]
    head = (
        f'# Best of {plural(len(outcome.through), "trial")} of search "{outcome.settings.title}": trial {best.number}, '
        f"validation loss {show(best.loss)}.\n# `heptune search --apply` writes it into params.yaml.\n"
    )
    lines = [f"{key}: {json.dumps(value)}\n" for key, value in best.changes.items()]
    write_bytes(path, (head + "".join(lines)).encode())
    return best.changes


def write_report(outcome: SearchOutcome, page_path: Path, metrics_path: Path) -> dict[str, float | int]:
    """Write ``index.html`` and ``metrics.json``; returns the figures."""
    figures = outcome.figures
    write_json(metrics_path, figures)
    verdict, tone = judge(outcome)
    page = Page("Search", describe_outcome(outcome), verdict, tone, stage="search")
    names = {"finished": "trials finished", "pruned": "pruned", "failed": "failed"}
    page.cards({names.get(key, key.replace("_", " ")): value for key, value in figures.items()})
    if outcome.ranked:
        best = outcome.ranked[0]
        rows = [[key, show_value(value)] for key, value in best.changes.items()]
        page.table(f"Best: trial {best.number}", ["key", "value"], rows, "`heptune search --apply` writes them.")
        page.link(BEST, f"These values as a file ({BEST})")
        page.heading("How sure the order is")
        page.text(describe_gap(outcome))
        page.figure(
            plot_history(outcome.trials),
            "Validation loss of the trials",
            "Nats per supervised token, all trials on the same validation rows.",
        )
        add_influence(page, outcome)
    page.table("Trials", *list_rows(outcome))
    page.write(page_path)
    return figures


def add_influence(page: Page, outcome: SearchOutcome) -> None:
    """What the keys have to do with the losses."""
    if outcome.importances:
        page.figure(
            plot_importances(outcome.importances),
            "Importance of the keys",
            f"Share of each key in what tells good from bad trials (PED-ANOVA), from {len(outcome.ranked)} finished "
            "trials; keys whose values did not vary are left out. Few trials say little.",
        )
    else:
        page.text(
            f"Importance of the keys: {plural(len(outcome.ranked), 'finished trial')} with different losses and "
            f"values would be needed beyond {FEWEST_FOR_IMPORTANCE - 1}."
            if len(outcome.ranked) >= FEWEST_FOR_IMPORTANCE
            else f"Importance of the keys: not computed from {plural(len(outcome.ranked), 'finished trial')}; "
            f"{FEWEST_FOR_IMPORTANCE} are the least that say anything."
        )
    if len(outcome.ranked) > 1:
        page.figure(
            plot_parallel(outcome.trials, outcome.settings.space),
            "Finished trials, key by key",
            "A line for each trial, the darker the lower its loss; the thick one is the best.",
        )


def judge(outcome: SearchOutcome) -> tuple[str, Tone]:
    """A word about the order of the best two, and its colour."""
    if not outcome.ranked:
        return "no trial finished", "bad"
    if outcome.gap is None:
        return "", "plain"
    return ("clear", "good") if outcome.gap.is_clear else ("close", "warn")


def describe_outcome(outcome: SearchOutcome) -> str:
    """The result in a sentence or two."""
    left = f" {plural(outcome.left, 'trial')} left: `heptune search` goes on." if outcome.left else ""
    if not outcome.ranked:
        return f"None of {plural(len(outcome.through), 'trial')} finished.{left}"
    best = outcome.ranked[0]
    values = ", ".join(f"{short_key(key)} {show_value(value)}" for key, value in best.changes.items())
    return (
        f"Of {plural(len(outcome.through), 'trial')} ({outcome.settings.method.name}), trial {best.number} has the "
        f"lowest validation loss, {show(best.loss)}: {values}.{left}"
    )


def describe_gap(outcome: SearchOutcome) -> str:
    """How far the best two trials are apart, and what that does not say."""
    ranked, gap = outcome.ranked, outcome.gap
    if len(ranked) < 2:
        return "One trial finished, so there is nothing to compare it with."
    first, second = ranked[0], ranked[1]
    losses = f"Trial {first.number} ({show(first.loss)}) and trial {second.number}"
    apart = f"{losses} ({show(second.loss)})"
    if gap is None:
        return (
            f"{apart}: the losses of their validation rows are not at hand, so it is not known whether chance explains "
            "the difference."
        )
    interval = f"{show_score(gap.difference)} [{show_score(gap.low)}, {show_score(gap.high)}] nats per token"
    meaning = (
        "the order is clear on rows like these"
        if gap.is_clear
        else "the interval contains zero, so other rows may well put them the other way round"
    )
    return (
        f"{apart} differ by {interval}, paired over {plural(gap.rows, 'validation row')}: {meaning}. Each trial is one "
        "training, so the luck of its seed is not in the interval; a list of values for training_setup.seed shows how "
        "large that is. The lowest of many losses is also lower than it would be on new rows: evaluation on the test "
        "split says what the winner is worth."
    )


def list_rows(outcome: SearchOutcome) -> tuple[list[str], list[list[Any]], str]:
    """Columns, rows and note of the table of trials: finished ones by rank, then the others."""
    ranked = list(outcome.ranked)
    others = [trial for trial in outcome.trials if trial not in ranked]
    keys = list(dict.fromkeys(key for trial in outcome.trials for key in trial.changes))
    columns = ["trial", "state", "loss", *map(short_key, keys), "steps", "seconds", "why"]
    rows = [
        [
            str(trial.number) if trial.again_of is None else f"{trial.number} ({trial.again_of} again)",
            "interrupted" if trial.interrupted else trial.state,
            trial.loss,
            *(show_value(trial.changes[key]) if key in trial.changes else "–" for key in keys),
            trial.steps or max(trial.losses, default=None),
            None if trial.seconds is None else round(trial.seconds, 1),
            trial.reason,
        ]
        for trial in [*ranked, *others]
    ]
    return columns, rows, "A pruned trial shows its last loss, which is not comparable with those at the end."
