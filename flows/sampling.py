"""``heptune best-of-n``: a model answers prompts many times, its answers are rewarded, and the best become rows.

As of a synthesis, the result enters the pipeline as a file, ``data/raw/synthetic/TITLE.jsonl``, which a source of kind
``jsonl`` reads.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flows.wiring.settings import configure

configure()

from filelock import FileLock, Timeout  # noqa: E402 - the engines read their settings on import
from prefect import flow  # noqa: E402
from prefect.artifacts import create_link_artifact, create_table_artifact  # noqa: E402
from prefect.states import Failed  # noqa: E402

from flows.pipeline import end_recording, server_watched  # noqa: E402
from flows.retraining import step  # noqa: E402
from flows.wiring import artifacts  # noqa: E402
from flows.wiring.flow_runs import note_run  # noqa: E402
from flows.wiring.lock import one_at_a_time  # noqa: E402
from flows.wiring.overview import write_overview  # noqa: E402
from flows.wiring.params import read_params  # noqa: E402
from flows.wiring.params.places import flatten  # noqa: E402
from flows.wiring.recording import Recorder  # noqa: E402
from flows.wiring.runs import addresses  # noqa: E402
from flows.wiring.server import ensure_server, prefect_at  # noqa: E402
from tasks.contracts.errors import PipelineError  # noqa: E402
from tasks.synthesis.sampling.choice import check_rewards, reward_all  # noqa: E402
from tasks.synthesis.sampling.draws import draw_all  # noqa: E402
from tasks.synthesis.sampling.params import AnswerSampling  # noqa: E402
from tasks.synthesis.sampling.prompts import read_prompts  # noqa: E402
from tasks.synthesis.sampling.publish import write_report, write_sampled  # noqa: E402

LOCK = artifacts.STATE / "sampling.lock"
SPLITS = {"train": artifacts.TRAIN, "validation": artifacts.VALIDATION, "test": artifacts.TEST}

Figures = dict[str, int | float]


def sample() -> Figures:
    """Write the rows of ``sampling``; returns the figures.

    Raises:
        PipelineError: It is not configured, another one is running, the model or a reward fails, or nothing is kept.
    """
    os.chdir(configure())
    read_settings()
    url = ensure_server()
    with prefect_at(url), server_watched():
        state: Any = sampling(return_state=True)
    if not state.is_completed():
        raise PipelineError(state.message or "the sampling failed")
    figures: Figures = state.result()
    return figures


@flow(name="sampling", flow_run_name="sampling", persist_result=False, on_running=[note_run])
def sampling() -> Any:
    """Prompts, answers, rewards, the choice, then files and a page."""
    os.chdir(configure())
    LOCK.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(LOCK, timeout=0):
            return write(read_settings())
    except Timeout:
        return Failed(message="another sampling is running in this checkout; wait for it, its answers are kept")
    except PipelineError as error:
        return Failed(message=str(error))


def write(settings: AnswerSampling) -> Figures:
    """The steps of a run."""
    prompts = step(read_prompts)(settings, SPLITS, Path())
    step(check_rewards)(settings, prompts)
    drawn = step(draw_all)(settings, prompts, artifacts.SAMPLED)
    sampled = step(reward_all)(settings, prompts, drawn, artifacts.SAMPLED / "rewards")
    page = artifacts.report("sampling")
    files = page, page.with_name("samples.jsonl"), artifacts.metrics("sampling")
    figures: Figures = step(write_report)(settings, sampled, *files)
    record_run(settings, figures, page)
    with one_at_a_time(wait=True):
        step(write_sampled)(settings, sampled, target(settings))
        write_overview()
    return figures


def read_settings() -> AnswerSampling:
    """The section of the params.

    Raises:
        PipelineError: It is not set.
    """
    settings = read_params().sampling
    if settings is None:
        raise PipelineError(
            f"{artifacts.PARAMS}: sampling is not set; name at least a model, such as "
            "sampling: {model: {name: local, path: models/release/model}}"
        )
    return settings


def target(settings: AnswerSampling) -> Path:
    """The file of the rows."""
    return artifacts.SYNTHETIC / f"{settings.title}.jsonl"


def record_run(settings: AnswerSampling, figures: Mapping[str, int | float], page: Path) -> None:
    """Record the figures in the Prefect UI and in an MLflow run."""
    rows = [{"figure": name, "value": value} for name, value in figures.items()]
    create_table_artifact(key="sampling-figures", table=rows, description="Figures of the sampling")
    create_link_artifact(
        key="sampling-report", link=addresses.newest_report("sampling"), link_text="Report of the sampling"
    )
    recorder = Recorder("sampling", None, {"heptune.kind": "sampling"})
    recorder.params(flatten(settings.model_dump(mode="json")))
    recorder.metrics(0, figures)
    recorder.artifact(page)
    recorder.finish("FINISHED")
    end_recording()
