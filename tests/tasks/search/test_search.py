"""Trials until there are enough, whatever happens to them and to the search; then the page and the best values."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

from tasks.contracts.errors import PipelineError
from tasks.search.pruners import AnyPruner
from tasks.search.report import describe_gap, read_outcome, write_best, write_report
from tasks.search.run import read_rows, run_trials
from tasks.search.samplers import AnySampler
from tasks.search.study import count_left
from tasks.search.trials import DeadTrial
from tests.tasks.search.fakes import ORIGIN, RANK, RATE, Bowl, Records, make_settings, open_store


def quiet() -> None:
    """Nobody looks."""


SAMPLERS, PRUNERS = (get_args(get_args(union)[0]) for union in (AnySampler, AnyPruner))
GRID = {"space": {RATE: {"log": [1e-4, 1e-2], "points": 3}, RANK: [8, 16]}, "method": {"name": "grid"}}


@pytest.mark.parametrize("pruner", PRUNERS, ids=lambda one: one().name)
@pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda one: one().name)
def test_every_sampler_and_pruner_runs_the_trials_that_it_says(tmp_path: Path, sampler: Any, pruner: Any) -> None:
    settings = make_settings(space=GRID["space"], method={"name": sampler().name}, pruning={"name": pruner().name})
    store, bowl = open_store(tmp_path, settings), Bowl()
    run_trials(store, bowl, Records(), quiet)
    assert len(bowl.seen) == store.planned == (6 if sampler().name == "grid" else 4)
    assert store.left == 0
    assert [trial.state for trial in store.list_trials()].count("failed") == 0
    # There is nothing left to do, and nothing is done.
    run_trials(open_store(tmp_path, settings), bowl, Records(), quiet)
    assert len(bowl.seen) == store.planned


def test_a_grid_finds_the_best_of_its_combinations(tmp_path: Path) -> None:
    store, bowl, records = open_store(tmp_path, make_settings(**GRID, pruning={"name": "none"})), Bowl(), Records()
    run_trials(store, bowl, records, quiet)
    assert sorted((seen[RATE], seen[RANK]) for seen in bowl.seen) == [
        (rate, rank) for rate in (0.0001, 0.001, 0.01) for rank in (8, 16)
    ]
    outcome = read_outcome(store)
    assert [dict(trial.changes) for trial in outcome.ranked[:2]] == [{RATE: 0.001, RANK: 8}, {RATE: 0.001, RANK: 16}]
    assert outcome.ranked[0].losses == {10: pytest.approx(1.108), 20: pytest.approx(1.058), 30: pytest.approx(1.008)}
    assert records.lines[:4] == [
        f"0 {[RATE, RANK]}",
        "10 ['train_loss', 'validation_loss']",
        "20 ['train_loss', 'validation_loss']",
        "30 ['validation_loss']",
    ]
    assert [trial.state for trial in records.ended if trial] == ["finished"] * 6
    assert not any(folder.exists() for folder in bowl.folders), "checkpoints of a finished trial"


@pytest.mark.parametrize("method", ["random", "tpe", "grid"])
def test_an_interrupted_search_goes_on_with_the_values_it_would_have_had(tmp_path: Path, method: str) -> None:
    settings = make_settings(space=GRID["space"], trials=6, pruning={"name": "none"}, method={"name": method})
    whole, interrupted, records = Bowl(), Bowl({3: KeyboardInterrupt()}), Records()
    run_trials(open_store(tmp_path / "whole", settings), whole, Records(), quiet)
    with pytest.raises(KeyboardInterrupt):
        run_trials(open_store(tmp_path / "interrupted", settings), interrupted, records, quiet)
    assert records.ended[-1] is None
    store = open_store(tmp_path / "interrupted", settings)
    assert store.left == 3
    assert interrupted.folders[-1].exists(), "the checkpoints that it goes on from"
    run_trials(store, interrupted, Records(), quiet)
    # What is planned from the start is in the file before the repetition is.
    again_at = -1 if method == "grid" else 4
    assert interrupted.folders[3] == interrupted.folders[again_at]
    assert interrupted.seen.pop(again_at) == interrupted.seen[3]
    assert interrupted.seen == whole.seen
    again = next(trial for trial in store.list_trials() if trial.again_of is not None)
    assert (again.again_of, again.state) == (3, "finished")


def test_a_killed_search_repeats_the_trial_that_was_running(tmp_path: Path) -> None:
    """Killed, it cannot say a word: the trial is still running in its file, and is not to blame."""
    settings = make_settings(trials=1)
    for attempt in (0, 1, 2):
        store = open_store(tmp_path, settings)
        trial = store.ask()
        assert trial is not None
        assert (trial.number, store.first_of(trial.number)) == (attempt, 0)
        assert count_left(store.path, settings, ORIGIN) == 1
    store, bowl = open_store(tmp_path, settings), Bowl()
    run_trials(store, bowl, Records(), quiet)
    trials = store.list_trials()
    assert [trial.state for trial in trials] == ["failed", "failed", "failed", "finished"]
    assert {(trial.reason, trial.seconds) for trial in trials[:3]} == {("the search was killed while it ran", None)}
    assert len({str(trial.changes) for trial in trials}) == 1
    assert count_left(store.path, settings, ORIGIN) == 0
    outcome = read_outcome(store)
    assert outcome.figures.items() >= {"finished": 1, "failed": 0}.items()
    write_report(outcome, tmp_path / "index.html", tmp_path / "metrics.json")
    page = (tmp_path / "index.html").read_text()
    assert "Of 1 trial (random), trial 3 has the lowest" in page
    assert page.count("interrupted") == 3
    assert "3 (0 again)" in page


@pytest.mark.parametrize("method", ["grid", "random"])
def test_a_search_that_was_killed_while_it_drew_values_goes_on(tmp_path: Path, method: str) -> None:
    settings = make_settings(**GRID) if method == "grid" else make_settings(trials=3)
    store = open_store(tmp_path, settings)
    planned = store.left
    running = store.study.ask()
    running.suggest_float(RATE, 1e-4, 1e-2, log=True)  # and is killed before the rank
    store, bowl = open_store(tmp_path, settings), Bowl()
    run_trials(store, bowl, Records(), quiet)
    assert len(bowl.seen) == planned
    assert len({str(changes) for changes in bowl.seen}) == planned
    outcome = read_outcome(store)
    write_report(outcome, tmp_path / "index.html", tmp_path / "metrics.json")
    assert outcome.trials[0].changes == {}


def test_a_trial_that_cannot_work_fails_and_one_whose_process_died_is_repeated_once(tmp_path: Path) -> None:
    died = DeadTrial("its process was ended by SIGKILL, maybe for lack of memory")
    bowl = Bowl({0: PipelineError("memory: about 9 GiB needed\n  - try less"), 1: died, 2: died, 3: died})
    store = open_store(tmp_path, make_settings(trials=3, pruning={"name": "none"}))
    run_trials(store, bowl, Records(), quiet)
    trials = store.list_trials()
    assert [(trial.state, trial.again_of) for trial in trials] == [
        ("failed", None),
        ("failed", None),
        ("failed", 1),
        ("failed", None),
        ("finished", 3),
    ]
    assert trials[0].reason == "memory: about 9 GiB needed - try less"
    assert trials[1].reason == str(died)
    assert [dict(trial.changes) for trial in trials[1:3]] == [bowl.seen[1]] * 2
    outcome = read_outcome(store)
    assert outcome.figures["failed"] == 2, "each trial counts once, as it ended at last"
    assert outcome.figures["finished"] == 1
    write_report(outcome, tmp_path / "index.html", tmp_path / "metrics.json")
    assert "maybe for lack of memory" in (tmp_path / "index.html").read_text()


def test_bad_trials_are_given_up(tmp_path: Path) -> None:
    settings = make_settings(**GRID, pruning={"name": "median", "finished_trials": 2})
    store, bowl = open_store(tmp_path, settings), Bowl()
    run_trials(store, bowl, Records(), quiet)
    states = {(trial.changes[RATE], trial.changes[RANK]): trial.state for trial in store.list_trials()}
    assert "pruned" in states.values()
    assert states[0.001, 8] == "finished"
    pruned = next(trial for trial in store.list_trials() if trial.state == "pruned")
    assert set(pruned.losses) == {10}


@pytest.mark.parametrize(
    ("changed", "words"),
    [("data", "other data"), ("space", "another space"), ("base", "another base model"), ("params", "other params")],
)
def test_trials_of_something_else_are_not_mixed(tmp_path: Path, changed: str, words: str) -> None:
    open_store(tmp_path)
    assert open_store(tmp_path).key == open_store(tmp_path).key
    with pytest.raises(PipelineError, match=rf"has trials of {words}.*--fresh"):
        open_store(tmp_path, **{changed: "other"})
    with pytest.raises(PipelineError, match=rf"has trials of {words}.*--fresh"):
        count_left(tmp_path / "trials.db", make_settings(), {**ORIGIN, changed: "other"})


def test_the_best_values_are_a_file_and_the_page_says_how_sure_it_is(tmp_path: Path) -> None:
    store = open_store(tmp_path, make_settings(trials=12, pruning={"name": "none"}))
    run_trials(store, Bowl(), Records(), quiet)
    outcome = read_outcome(store)
    best = write_best(outcome, tmp_path / "best.yaml")
    assert yaml.safe_load((tmp_path / "best.yaml").read_text()) == dict(best) == dict(outcome.ranked[0].changes)
    # Only the learning rate matters.
    assert next(iter(outcome.importances)) == RATE
    assert sum(outcome.importances.values()) == pytest.approx(1)
    rows = [read_rows(store, trial.number) for trial in outcome.ranked[:2]]
    assert rows[0] is not None
    assert rows[1] is not None
    assert outcome.gap is not None
    assert outcome.gap.difference == pytest.approx(
        rows[1][:, 0].sum() / rows[1][:, 1].sum() - rows[0][:, 0].sum() / rows[0][:, 1].sum()
    )
    assert "paired over 3 validation rows" in describe_gap(outcome)
    figures = write_report(outcome, tmp_path / "index.html", tmp_path / "metrics.json")
    page = (tmp_path / "index.html").read_text()
    assert figures["validation_loss"] == outcome.ranked[0].loss
    assert page.count("<svg") == 3
    assert "luck of its seed" in page


def test_without_a_finished_trial_there_is_no_best(tmp_path: Path) -> None:
    store = open_store(tmp_path, make_settings(trials=1))
    run_trials(store, Bowl({0: PipelineError("no")}), Records(), quiet)
    outcome = read_outcome(store)
    assert write_best(outcome, tmp_path / "best.yaml") == {}
    assert not (tmp_path / "best.yaml").exists()
    write_report(outcome, tmp_path / "index.html", tmp_path / "metrics.json")
    assert "None of 1 trial finished" in (tmp_path / "index.html").read_text()
