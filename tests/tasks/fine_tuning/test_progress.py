"""What a training says of itself while it runs."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from transformers import TrainerControl, TrainerState, TrainingArguments

from tasks.fine_tuning.trainer.progress import LogProgress, ReportMetrics, describe
from tasks.fine_tuning.trainer.start import describe_device
from tests.tasks.fine_tuning.small import make_plan


def test_a_line_has_step_losses_speed_and_time_left() -> None:
    figures = {"train_loss": 1.23456, "validation_loss": 1.3, "tokens_per_second": 1250.0}
    assert describe(120, 400, figures, 500.0) == (
        "step 120 of 400: loss 1.235, validation 1.300, 1,250 tokens/s, about 2 min left"
    )
    assert describe(400, 400, {"train_loss": 1.0}, 500.0) == "step 400 of 400: loss 1.000"


def test_the_log_gets_a_line_a_minute(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    clock = iter([0.0, 1.0, 30.0, 61.0, 62.0])
    monkeypatch.setattr("tasks.fine_tuning.trainer.progress.time.monotonic", lambda: next(clock))
    listener = LogProgress(make_plan())
    with caplog.at_level(logging.INFO):
        listener(0, {"validation_loss": 2.0})
        listener(1, {"train_loss": 2.5})
        listener(2, {"train_loss": 2.0})
        listener(3, {"train_loss": 1.5})
        listener(12, {"validation_loss": 1.75})
    assert [record.message for record in caplog.records] == [
        "step 1 of 12: loss 2.500, validation 2.000",
        "step 3 of 12: loss 1.500",
        "step 12 of 12: loss 1.500, validation 1.750",
    ]


def test_the_device_is_named() -> None:
    plan = make_plan()
    assert describe_device(plan) == "cpu, 1 thread"
    assert describe_device(plan.model_copy(update={"threads": 4})) == "cpu, 4 threads"
    made_for = plan.made_for.model_copy(update={"accelerator": "NVIDIA H200"})
    gpu = plan.model_copy(update={"device": "cuda", "made_for": made_for, "world_size": 2})
    assert describe_device(gpu) == "cuda, NVIDIA H200, 2 processes"


def test_what_was_made_before_the_first_step_is_in_no_share_of_the_time(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    clock, made = iter([0.0, 10.0]), iter([12.0, 4.0])
    monkeypatch.setattr("tasks.fine_tuning.trainer.progress.time.monotonic", lambda: next(clock))
    told: list[float] = []
    reporting = ReportMetrics(make_plan(), [lambda _, figures: told.append(figures["generation_share"])])
    reporting.take_making = lambda: next(made)
    arguments, state, control = TrainingArguments(tmp_path, use_cpu=True), TrainerState(), TrainerControl()
    reporting.on_train_begin(arguments, state, control)
    state.global_step = 1
    reporting.on_log(arguments, state, control, logs={"loss": 1.0})
    assert told == [0.4]
