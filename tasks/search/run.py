"""The trials of a search, one after the other, until there are enough."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tasks.contracts.errors import PipelineError
from tasks.pages.page import show
from tasks.pages.text import plural
from tasks.search.space import Labels
from tasks.search.study import TrialStore
from tasks.search.trials import INTERRUPTED, LOSS, BeginRecord, DeadTrial, PrunedTrial, RunTrial, SearchTrial

logger = logging.getLogger(__name__)


# The labels of the next trial after those that have ended; None when there are enough.
Propose = Callable[[Sequence[SearchTrial]], Labels | None]


def run_trials(
    store: TrialStore,
    train: RunTrial,
    begin: BeginRecord,
    show_so_far: Callable[[], object],
    propose: Propose | None = None,
) -> None:
    """Run what is left of a search.

    Args:
        store: The search.
        train: Trains with some params changed.
        begin: Begins to show a trial.
        show_so_far: Called after each trial but the last.
        propose: Names each trial, in place of the search's own method.
    """
    while (trial := ask_next(store, propose)) is not None:
        run_trial(store, trial, train, begin)
        ended = store.show(trial.number)
        left = f"; {plural(store.left, 'trial')} left" if propose is None else ""
        logger.info("%s%s", describe_trial(ended), left)
        if store.left or propose is not None:
            show_so_far()


def ask_next(store: TrialStore, propose: Propose | None) -> Any:
    """The next trial, with its values; None when there are enough."""
    if propose is not None and not store.waiting:
        labels = propose(store.list_trials())
        if labels is None:
            return None
        store.enqueue(labels)
    return store.ask()


def run_trial(store: TrialStore, trial: Any, train: RunTrial, begin: BeginRecord) -> None:
    """Run one trial and keep how it ended; one that is interrupted is repeated by the next call.

    Args:
        store: The search.
        trial: As `TrialStore.ask` gave it.
        train: Trains with some params changed.
        begin: Begins to show the trial.
    """
    number = trial.number
    changes = store.changes_of(dict(trial.params))
    folder = folder_of(store, store.first_of(number))
    record = begin(number, changes)
    kept, reported = False, set[int]()

    def on_figures(step: int, figures: Mapping[str, float]) -> None:
        record.metrics(step, figures)
        if LOSS in figures and step:
            trial.report(figures[LOSS], step)
            reported.add(step)
            if trial.should_prune():
                raise PrunedTrial

    try:
        result = train(changes, folder, on_figures)
        record.metrics(result.steps, {LOSS: result.loss, **result.figures})
        if result.steps not in reported:
            trial.report(result.loss, result.steps)
        if result.rows is not None:
            write_rows(store, number, result.rows)
        store.finish(number, result.loss, result.steps, result.figures)
    except PrunedTrial:
        store.prune(number)
    except DeadTrial as death:
        kept = store.fail(number, str(death), died=True)
    except PipelineError as error:
        store.fail(number, " ".join(str(error).split()))
    except BaseException:
        store.fail(number, INTERRUPTED, again=True)
        record.stop()
        raise
    if not kept:
        shutil.rmtree(folder, ignore_errors=True)
    record.finish(store.show(number))


def folder_of(store: TrialStore, number: int) -> Path:
    """Where a trial and its repetitions keep their checkpoints while they run."""
    return store.path.with_name(f"trial-{number:04d}")


def rows_of(store: TrialStore, number: int) -> Path:
    return store.path.with_name(f"rows-{number:04d}.npy")


def write_rows(store: TrialStore, number: int, rows: Any) -> None:
    """Keep the loss of each validation row of a trial, for comparisons row by row."""
    np.save(rows_of(store, number), np.asarray(rows, dtype=np.float64), allow_pickle=False)


def read_rows(store: TrialStore, number: int) -> np.ndarray | None:
    """The loss of each validation row of a trial, (rows, 2): sum over its supervised tokens, and their number."""
    path = rows_of(store, number)
    return np.load(path, allow_pickle=False) if path.is_file() else None


def describe_trial(trial: SearchTrial) -> str:
    """A trial that has ended, in one line."""
    values = ", ".join(f"{short_key(key)} {show_value(value)}" for key, value in trial.changes.items())
    ends = {
        "finished": f"validation loss {show(trial.loss)} after {trial.steps or 0:,} steps",
        "pruned": f"pruned at step {max(trial.losses, default=0):,} with {show(trial.loss)}",
        "failed": f"failed: {trial.reason}",
    }
    again = f" (trial {trial.again_of} again)" if trial.again_of is not None else ""
    return f"trial {trial.number}{again}: {ends[trial.state]}; {values}"


def short_key(key: str) -> str:
    """A key without its stage."""
    return key.partition(".")[2]


def show_value(value: Any) -> str:
    """A value as people write it: a section by its name and keys."""
    if isinstance(value, dict):
        rest = ", ".join(f"{key}: {show_value(inner)}" for key, inner in value.items() if key != "name")
        name = str(value.get("name", ""))
        return f"{name} ({rest})" if name and rest else name or rest
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(show_value, value)) + "]"
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    return f"{value:.4g}" if isinstance(value, float) else str(value)
