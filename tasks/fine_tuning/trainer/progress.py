"""Progress of a run: a bar on a terminal, a line a minute in the log, and metrics for the caller to record."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from tasks.contracts.progress import LINE_EVERY_S, ON_BAR, say_time
from tasks.training.plan import Plan

logger = logging.getLogger(__name__)

OnMetrics = Callable[[int, Mapping[str, float]], None]

METRIC_NAMES = {
    "loss": "train_loss",
    "eval_loss": "validation_loss",
    "learning_rate": "learning_rate",
    "grad_norm": "grad_norm",
}


class Progressing(Protocol):
    """Where the steps of a training are shown."""

    def begin(self, step: int) -> None: ...

    def advance(self, step: int) -> None: ...

    def tell(self, logs: Mapping[str, float]) -> None: ...

    def stop(self) -> None: ...


class ProgressBar:
    """A progress bar with the losses; disabled where stderr is no terminal."""

    def __init__(self, steps: int) -> None:
        console = Console(stderr=True)
        self.bar = Progress(
            TextColumn("fine-tuning"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("loss {task.fields[loss]}  validation {task.fields[validation]}"),
            console=console,
            disable=not console.is_terminal,
        )
        self.row = self.bar.add_task("fine-tuning", total=steps, loss="–", validation="–")

    def begin(self, step: int) -> None:
        self.bar.update(self.row, completed=step)
        self.bar.start()

    def advance(self, step: int) -> None:
        self.bar.update(self.row, completed=step)

    def tell(self, logs: Mapping[str, float]) -> None:
        if "loss" in logs:
            self.bar.update(self.row, loss=f"{logs['loss']:.3f}")
        if "eval_loss" in logs:
            self.bar.update(self.row, validation=f"{logs['eval_loss']:.3f}")

    def stop(self) -> None:
        self.bar.stop()


class ShowProgress(TrainerCallback):
    """Tells where the steps are shown how far the trainer is."""

    def __init__(self, shown: Progressing) -> None:
        self.shown = shown

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.shown.begin(state.global_step)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self.shown.advance(state.global_step)

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self.shown.tell(kwargs["logs"])


class ReportMetrics(TrainerCallback):
    """Pass on each logged metric, with the tokens trained and their rate since the last one.

    Args:
        plan: The plan of the run.
        listeners: Each is told the step and its metrics.
    """

    def __init__(self, plan: Plan, listeners: Sequence[OnMetrics]) -> None:
        self.listeners = listeners
        own = plan.figures
        self.names = {**METRIC_NAMES, **{name: name for name in own}}
        self.names |= {f"eval_{name}": f"validation_{name}" for name in own}
        self.tokens_per_step = plan.tokens / plan.steps_per_epoch
        self.last_log: tuple[int, float] | None = None
        self.take_making: Callable[[], float] | None = None  # seconds that went into making batches

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.last_log = (state.global_step, time.monotonic())
        if self.take_making:
            self.take_making()  # what was made before is in no interval

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        figures = {self.names[key]: value for key, value in kwargs["logs"].items() if key in self.names}
        if "train_loss" in figures:
            step, now = state.global_step, time.monotonic()
            figures["tokens"] = step * self.tokens_per_step
            if self.last_log and now > self.last_log[1]:
                rate = (step - self.last_log[0]) * self.tokens_per_step / (now - self.last_log[1])
                figures["tokens_per_second"] = rate
                if self.take_making:
                    figures["generation_share"] = self.take_making() / (now - self.last_log[1])
            self.last_log = (step, now)
        if figures:
            for listener in self.listeners:
                listener(state.global_step, figures)


class LogProgress:
    """Log a line a minute on how far the training is, how good, and how fast; the first after the first metrics.

    A validation loss is told once, in the first line after it was measured; the last one has a line of its own.
    """

    def __init__(self, plan: Plan) -> None:
        self.steps = plan.steps
        self.tokens_per_step = plan.tokens / plan.steps_per_epoch
        self.latest: dict[str, float] = {}
        self.told: float | None = None

    def __call__(self, step: int, figures: Mapping[str, float]) -> None:
        self.latest |= figures
        now = time.monotonic()
        is_last = step == self.steps and "validation_loss" in figures
        is_early = self.told is not None and now - self.told < LINE_EVERY_S
        if "train_loss" not in self.latest or (is_early and not is_last):
            return
        self.told = now
        logger.info("%s", describe(step, self.steps, self.latest, self.tokens_per_step), extra=ON_BAR)
        self.latest.pop("validation_loss", None)


def describe(step: int, steps: int, figures: Mapping[str, float], tokens_per_step: float) -> str:
    """How far a training is, in one line.

    Args:
        step: Optimizer steps done.
        steps: Steps in all.
        figures: The latest metrics, by the names of `METRIC_NAMES`, with ``tokens_per_second``.
        tokens_per_step: Mean number of tokens of a step.
    """
    parts = [f"loss {figures['train_loss']:.3f}"] if "train_loss" in figures else []
    if "validation_loss" in figures:
        parts.append(f"validation {figures['validation_loss']:.3f}")
    if rate := figures.get("tokens_per_second"):
        parts.append(f"{rate:,.0f} tokens/s")
        if "generation_share" in figures:
            parts.append(f"{figures['generation_share']:.0%} of the time in generation and rewards")
        if step < steps:
            parts.append(f"about {say_time((steps - step) * tokens_per_step / rate)} left")
    return f"step {step:,} of {steps:,}: {', '.join(parts)}"
