"""``heptune search``: trials of the training with other params, ranked by validation loss.

It reads the prepared data and the initial model, trains beside the pipeline in ``.heptune/search``, and writes
``reports/search``; no out of DVC, no ``dvc.lock`` and no registry is touched. The winner goes through the pipeline like
any change of params.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from flows.wiring.settings import configure

configure()

from prefect import flow  # noqa: E402 - the engines read their settings on import
from prefect.artifacts import create_link_artifact, create_table_artifact  # noqa: E402
from prefect.states import Failed  # noqa: E402

from flows.pipeline import end_recording, environment, server_watched  # noqa: E402
from flows.retraining import step  # noqa: E402
from flows.wiring import artifacts  # noqa: E402
from flows.wiring.lock import one_at_a_time  # noqa: E402
from flows.wiring.overview import write_overview  # noqa: E402
from flows.wiring.params import validate  # noqa: E402
from flows.wiring.params.places import flatten  # noqa: E402
from flows.wiring.processes import leading  # noqa: E402
from flows.wiring.runs import addresses  # noqa: E402
from flows.wiring.runs.recording import REASON, Recorder  # noqa: E402
from flows.wiring.servers.flow_runs import note_run  # noqa: E402
from flows.wiring.servers.server import ensure_server, prefect_at  # noqa: E402
from flows.wiring.staleness import dvc_skips  # noqa: E402
from flows.wiring.trainings.candidates import Candidates  # noqa: E402
from flows.wiring.trainings.trial import PRELOAD, TokenizedData, TrialWork, train_trial  # noqa: E402
from flows.wiring.yaml_file import read_yaml  # noqa: E402
from tasks.contracts.errors import PipelineError, full_disk  # noqa: E402
from tasks.search.child import run_in_child  # noqa: E402
from tasks.search.report import BEST, SearchOutcome, read_outcome, write_best, write_report  # noqa: E402
from tasks.search.run import run_trials  # noqa: E402
from tasks.search.study import TrialStore, count_left, count_planned  # noqa: E402
from tasks.search.trials import OnFigures, SearchTrial, TrialResult  # noqa: E402

logger = logging.getLogger(__name__)

BEFORE = ("data_preparation", "model_initialisation")
INPUTS = (artifacts.TRAIN, artifacts.VALIDATION, artifacts.INITIAL / "manifest.json")
STATUS = {"finished": "FINISHED", "pruned": "KILLED", "failed": "FAILED"}


def search(candidates: Candidates, fresh: bool = False) -> SearchOutcome:
    """Run what is left of a search.

    Args:
        candidates: What is searched, checked.
        fresh: Set the trials of earlier calls aside and begin anew.

    Raises:
        PipelineError: The data or the base are not up to date, a pipeline is at work, or earlier trials are of
            something else.
    """
    os.chdir(configure())
    url = ensure_server()
    with prefect_at(url), server_watched():
        state: Any = search_params(candidates, fresh, return_state=True)
    if not state.is_completed():
        raise PipelineError(state.message or "the search failed")
    outcome: SearchOutcome = state.result()
    return outcome


@flow(name="search", flow_run_name="search", persist_result=False, validate_parameters=False, on_running=[note_run])
def search_params(candidates: Any, fresh: bool) -> Any:
    """Trials one after the other, each in a process of its own, then the page and the best values."""
    try:
        with one_at_a_time(wait=False), leading():
            check_inputs()
            if fresh:
                step(set_aside)(candidates.settings.title)
            store = TrialStore(database(candidates.settings.title), candidates.settings, candidates.describe_origin())
            return run_search(store, candidates)
    except PipelineError as error:
        return Failed(message=str(error))
    except OSError as error:
        if full := full_disk(error):
            return Failed(message=full)
        raise


def run_search(store: TrialStore, candidates: Candidates) -> SearchOutcome:
    """The trials, and what they say so far after each."""
    trainer = TrialTrainer(candidates)
    with environment(**{REASON: f"search {candidates.settings.title}"}):
        whole = Recorder("search", store.key, {"heptune.kind": "search"}, whole=True)
        try:
            begin = partial(RecordedTrial, store.key)
            step(run_trials)(store, trainer.train, begin, partial(publish, store))
        except BaseException:
            whole.finish("KILLED")
            raise
        outcome = publish(store)
        record_search(whole, candidates, outcome.figures)
    show_search(outcome.figures)
    end_recording()
    return outcome


def publish(store: TrialStore) -> SearchOutcome:
    """Write the page and the best values."""
    outcome = read_outcome(store)
    write_best(outcome, best_file())
    write_report(outcome, artifacts.report("search"), artifacts.metrics("search"))
    write_overview()  # which says when the page was made
    return outcome


class TrialTrainer:
    """Trains the trials of a search; the splits are tokenized once for each maximum length.

    Args:
        candidates: What is searched.
        with_answers: Measure each trial on the held-out answers too.
    """

    def __init__(self, candidates: Candidates, with_answers: bool = False) -> None:
        self.candidates = candidates
        long_rows = candidates.params.training_setup.long_rows
        self.data = TokenizedData(candidates.longest, long_rows, candidates.validation_rows)
        self.answers = self.data.held_out_answers() if with_answers else None

    def train(self, changes: Mapping[str, Any], folder: Path, on_figures: OnFigures) -> TrialResult:
        """Train with some params changed, see `tasks.search.trials.RunTrial`."""
        params = self.candidates.params_with(changes)
        counts, splits = self.data.of(params.training_setup)
        work = TrialWork(params, counts, splits, folder, self.answers)
        return run_in_child(train_trial, work, folder, on_figures, PRELOAD)


class RecordedTrial:
    """The MLflow run of a trial, below that of its search."""

    def __init__(self, search: str, number: int, changes: Mapping[str, Any]) -> None:
        self.recorder = Recorder(f"trial {number}", search, {"heptune.kind": "trial"})
        self.recorder.params(flatten(changes))

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        self.recorder.metrics(step, values)

    def finish(self, trial: SearchTrial) -> None:
        reasons = {"heptune.failure": trial.reason} if trial.reason else {}
        self.recorder.tags({"heptune.trial": trial.state, **reasons})
        self.recorder.finish(STATUS[trial.state])

    def stop(self) -> None:
        self.recorder.finish("KILLED")


def read_candidates(file: Path | None = None, values: Mapping[str, Any] | None = None) -> Candidates:
    """What is searched, with every key and value checked.

    Args:
        file: Keys of ``search`` in a file of their own; by default the section of ``params.yaml``.
        values: Keys and values of ``params.yaml``, where they are not to be read.

    Raises:
        PipelineError: There is no such section, or keys or values cannot be.
    """
    present = dict(read_yaml(artifacts.PARAMS) if values is None else values)
    source = str(artifacts.PARAMS)
    if file is not None:
        present, source = {**present, "search": read_yaml(file)}, str(file)
    params = validate(present, source)
    if params.search is None:
        raise PipelineError(
            f"{artifacts.PARAMS}: search is not set; write at least a space, such as "
            "search: {space: {training_setup.learning_rate: {log: [1.0e-4, 1.0e-2]}}}"
        )
    candidates = Candidates(present, params, params.search)
    candidates.check()
    return candidates


def foresee(candidates: Candidates, fresh: bool = False) -> int:
    """Trials that a search would run; nothing is changed.

    Raises:
        PipelineError: The trials so far are of something else.
    """
    file, settings = database(candidates.settings.title), candidates.settings
    # Where the inputs are gone, a search ends before it looks at its trials.
    if fresh or not file.is_file() or not all(path.is_file() for path in INPUTS):
        return count_planned(settings)
    return count_left(file, settings, candidates.describe_origin())


def check_inputs() -> None:
    """The prepared data and the initial model are what params and code make of the raw data.

    Raises:
        PipelineError: They are not.
    """
    if not dvc_skips(BEFORE):
        raise PipelineError(
            f"the prepared data or the initial model are not up to date; run `heptune run {' '.join(BEFORE)}` first"
        )


def database(title: str) -> Path:
    """The file with the trials of a search."""
    return artifacts.STATE / "search" / title / "trials.db"


def best_file() -> Path:
    """The values of the best trial."""
    return artifacts.report("search").with_name(BEST)


def set_aside(title: str) -> None:
    """Keep the trials of earlier calls under another name."""
    folder = database(title).parent
    number = 1
    while (aside := folder.with_name(f"{title}.{number}")).exists():
        number += 1
    if folder.exists():
        folder.rename(aside)
        logger.info("the trials so far are set aside in %s", aside)


def record_search(recorder: Recorder, candidates: Candidates, figures: Mapping[str, float | int]) -> None:
    """End the MLflow run of the search."""
    recorder.params(flatten(candidates.settings.model_dump(mode="json", exclude={"space"})))
    recorder.figures(figures)
    recorder.artifact(artifacts.report("search"))
    recorder.artifact(best_file())
    recorder.finish("FINISHED")


def show_search(figures: Mapping[str, float | int]) -> None:
    """Put the figures and a link to the page into the Prefect UI."""
    rows = [{"figure": name, "value": value} for name, value in figures.items()]
    create_table_artifact(key="search-figures", table=rows, description="Figures of the search")
    create_link_artifact(key="search-report", link=addresses.newest_report("search"), link_text="Page of the search")
