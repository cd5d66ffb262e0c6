"""``heptune synthesize``: a teacher writes rows, which are checked and written to a file for a source.

Its result costs money and differs every time, so it is no function of files and no stage: it enters the pipeline as a
file, ``data/raw/synthetic/TITLE.jsonl``, which a source of kind ``jsonl`` reads.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flows.wiring.settings import configure

configure()

from prefect import flow  # noqa: E402 - the engines read their settings on import

from flows.retraining import step  # noqa: E402
from flows.wiring import artifacts  # noqa: E402
from flows.wiring.lock import one_at_a_time  # noqa: E402
from flows.wiring.overview import write_overview  # noqa: E402
from flows.wiring.params import Params, read_params  # noqa: E402
from flows.wiring.servers.flow_runs import note_run  # noqa: E402
from flows.written_rows import SPLITS, Figures, record_run, run_for_rows, write_alone  # noqa: E402
from tasks.contracts.errors import PipelineError  # noqa: E402
from tasks.synthesis.estimate import CostEstimate, estimate  # noqa: E402
from tasks.synthesis.params import Synthesis  # noqa: E402
from tasks.synthesis.publish import write_figures, write_synthetic  # noqa: E402
from tasks.synthesis.report import write_report  # noqa: E402
from tasks.synthesis.rounds import write_rows  # noqa: E402
from tasks.synthesis.seeds import read_known, read_seeds  # noqa: E402

logger = logging.getLogger(__name__)


def synthesize() -> Figures:
    """Write the rows of ``synthesis``; returns the figures.

    Raises:
        PipelineError: It is not configured, another one is running, a model does not answer, or no row was accepted.
    """
    os.chdir(configure())
    read_settings()
    return run_for_rows("synthesis", synthesis)


@flow(name="synthesis", flow_run_name="synthesis", persist_result=False, on_running=[note_run])
def synthesis() -> Any:
    """Seeds, then topics, prompts, answers, critique and rewriting in rounds, then files and a page."""
    return write_alone("synthesis", "its answers are cached", lambda: write(read_settings()))


def write(settings: Synthesis) -> Figures:
    """The steps of a run."""
    seeds = step(read_seeds)(settings, SPLITS, Path())
    known = step(read_known)(settings, seeds, SPLITS, Path())
    written = step(write_rows)(settings, seeds, known, artifacts.WRITTEN, Path())
    page, refused = artifacts.report("synthesis"), artifacts.report("synthesis").with_name("refused.jsonl")
    step(write_report)(settings, written, page, refused)
    figures: Figures = step(write_figures)(written, artifacts.metrics("synthesis"))
    record_run("synthesis", settings, figures, page)
    with one_at_a_time(wait=True):
        step(write_synthetic)(settings, written, target(settings), refused)
        write_overview()
    return figures


def preview(settings: Synthesis, shares: Sequence[float]) -> list[list[CostEstimate]]:
    """Estimated calls and cost of a run, for each assumed share of accepted drafts."""
    os.chdir(configure())
    seeds = read_seeds(settings, SPLITS, Path())
    known = read_known(settings, seeds, SPLITS, Path())
    return [estimate(settings, seeds, known, Path(), share) for share in shares]


def read_settings(params: Params | None = None) -> Synthesis:
    """The section of the params, by default of those in the file.

    Raises:
        PipelineError: It is not set.
    """
    settings = (params or read_params()).synthesis
    if settings is None:
        raise PipelineError(
            f"{artifacts.PARAMS}: synthesis is not set; name at least a teacher, such as "
            '{name: openai, url: "http://127.0.0.1:8000/v1", model: heptune}'
        )
    return settings


def target(settings: Synthesis) -> Path:
    """The file of the accepted rows."""
    return artifacts.SYNTHETIC / f"{settings.title}.jsonl"
