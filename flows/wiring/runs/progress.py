"""Training while it runs, in the Prefect UI: an artifact with its progress, losses and speed."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any
from uuid import UUID

import httpx
from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.context import TaskRunContext
from prefect.exceptions import PrefectException

from flows.wiring.runs import addresses

logger = logging.getLogger(__name__)

KEY = "fine-tuning-progress"
EVERY_S = 5.0
# What is shown, in this order, with its format.
SHOWN = {
    "train_loss": ("training loss", ".4f"),
    "validation_loss": ("validation loss", ".4f"),
    "tokens_per_second": ("tokens/s", ",.0f"),
    "learning_rate": ("learning rate", ".2e"),
}

OnMetrics = Callable[[int, Mapping[str, float]], None]


def record_training(steps: int, record: OnMetrics) -> OnMetrics:
    """A listener of a training that records each metric and shows the latest ones in the Prefect UI.

    Args:
        steps: Optimizer steps of the training.
        record: Records the metrics of a step.
    """
    shown = ProgressArtifact(steps)

    def listen(step: int, figures: Mapping[str, float]) -> None:
        record(step, figures)
        shown.update(step, figures)

    return listen


class ProgressArtifact:
    """A progress artifact of the task run at work, brought up to date every few seconds.

    A server that goes away is reported once and does not stop the training.
    """

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.latest: dict[str, float] = {}
        self.artifact: UUID | None = None
        self.updated = float("-inf")
        self.gone = False

    def update(self, step: int, figures: Mapping[str, float]) -> None:
        """Take the metrics of a step."""
        self.latest |= figures
        now = time.monotonic()
        if self.gone or (step < self.steps and now - self.updated < EVERY_S):
            return
        self.updated = now
        percent = 100.0 * step / self.steps
        try:
            if self.artifact is None:
                made: Any = create_progress_artifact(percent, key=KEY, description=self.describe(step))
                self.artifact = made
            else:
                update_progress_artifact(self.artifact, percent, description=self.describe(step))
        except (httpx.HTTPError, PrefectException) as error:
            self.gone = True
            logger.warning("progress is no longer shown in Prefect (%s); the training goes on", type(error).__name__)

    def describe(self, step: int) -> str:
        """The step and the latest metrics as Markdown, with a link to the curves."""
        parts = [f"step {step:,} of {self.steps:,}"]
        parts += [f"{name} {self.latest[key]:{form}}" for key, (name, form) in SHOWN.items() if key in self.latest]
        context = TaskRunContext.get()
        if context and context.task_run.flow_run_id and addresses.has_reports():
            parts.append(f"[curves]({addresses.run_page(str(context.task_run.flow_run_id))})")
        return " · ".join(parts)
