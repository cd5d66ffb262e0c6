"""Progress of a run: a bar on stderr, and metrics for the caller to record."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from tasks.training.plan import Plan

OnMetrics = Callable[[int, Mapping[str, float]], None]

METRIC_NAMES = {
    "loss": "train_loss",
    "eval_loss": "validation_loss",
    "learning_rate": "learning_rate",
    "grad_norm": "grad_norm",
}


class ShowProgress(TrainerCallback):
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

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.bar.update(self.row, completed=state.global_step)
        self.bar.start()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self.bar.update(self.row, completed=state.global_step)

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        logs = kwargs["logs"]
        if "loss" in logs:
            self.bar.update(self.row, loss=f"{logs['loss']:.3f}")
        if "eval_loss" in logs:
            self.bar.update(self.row, validation=f"{logs['eval_loss']:.3f}")

    def stop(self) -> None:
        self.bar.stop()


class ReportMetrics(TrainerCallback):
    """Pass on each logged metric, with the tokens trained and their rate since the last one."""

    def __init__(self, plan: Plan, on_metrics: OnMetrics) -> None:
        self.on_metrics = on_metrics
        self.tokens_per_step = plan.tokens / plan.steps_per_epoch
        self.last_log: tuple[int, float] | None = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.last_log = (state.global_step, time.monotonic())

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        figures = {METRIC_NAMES[key]: value for key, value in kwargs["logs"].items() if key in METRIC_NAMES}
        if "train_loss" in figures:
            step, now = state.global_step, time.monotonic()
            figures["tokens"] = step * self.tokens_per_step
            if self.last_log and now > self.last_log[1]:
                rate = (step - self.last_log[0]) * self.tokens_per_step / (now - self.last_log[1])
                figures["tokens_per_second"] = rate
            self.last_log = (step, now)
        if figures:
            self.on_metrics(state.global_step, figures)
