"""``heptune best-of-n``: a model answers prompts many times, its answers are rewarded, and the best become rows.

As of a synthesis, the result enters the pipeline as a file, ``data/raw/synthetic/TITLE.jsonl``, which a source of kind
``jsonl`` reads.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from flows.wiring.settings import configure

configure()

from prefect import flow  # noqa: E402 - the engines read their settings on import

from flows.retraining import step  # noqa: E402
from flows.wiring import artifacts  # noqa: E402
from flows.wiring.lock import one_at_a_time  # noqa: E402
from flows.wiring.overview import write_overview  # noqa: E402
from flows.wiring.params import read_params  # noqa: E402
from flows.wiring.servers.flow_runs import note_run  # noqa: E402
from flows.written_rows import SPLITS, Figures, record_run, run_for_rows, write_alone  # noqa: E402
from tasks.contracts.errors import PipelineError  # noqa: E402
from tasks.synthesis.sampling.choice import check_rewards, reward_all  # noqa: E402
from tasks.synthesis.sampling.draws import draw_all  # noqa: E402
from tasks.synthesis.sampling.params import AnswerSampling  # noqa: E402
from tasks.synthesis.sampling.prompts import read_prompts  # noqa: E402
from tasks.synthesis.sampling.publish import write_report, write_sampled  # noqa: E402


def sample() -> Figures:
    """Write the rows of ``sampling``; returns the figures.

    Raises:
        PipelineError: It is not configured, another one is running, the model or a reward fails, or nothing is kept.
    """
    os.chdir(configure())
    read_settings()
    return run_for_rows("sampling", sampling)


@flow(name="sampling", flow_run_name="sampling", persist_result=False, on_running=[note_run])
def sampling() -> Any:
    """Prompts, answers, rewards, the choice, then files and a page."""
    return write_alone("sampling", "its answers are kept", lambda: write(read_settings()))


def write(settings: AnswerSampling) -> Figures:
    """The steps of a run."""
    prompts = step(read_prompts)(settings, SPLITS, Path())
    step(check_rewards)(settings, prompts)
    drawn = step(draw_all)(settings, prompts, artifacts.SAMPLED)
    sampled = step(reward_all)(settings, prompts, drawn, artifacts.SAMPLED / "rewards")
    page = artifacts.report("sampling")
    files = page, page.with_name("samples.jsonl"), artifacts.metrics("sampling")
    figures: Figures = step(write_report)(settings, sampled, *files)
    record_run("sampling", settings, figures, page)
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
