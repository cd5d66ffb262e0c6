"""Schedules are those of transformers where it has them, to the last bit, and keep to their floors and shares."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import get_scheduler

from tasks.training import schedules
from tasks.training.schedules import SCHEDULES
from tasks.training.schedules.constant import Constant
from tasks.training.schedules.cosine import Cosine
from tasks.training.schedules.cosine_restarts import CosineRestarts
from tasks.training.schedules.inverse_sqrt import InverseSquareRoot
from tasks.training.schedules.linear import Linear
from tasks.training.schedules.polynomial import Polynomial
from tasks.training.schedules.schedule import LearningRateSchedule, share_of_peak
from tasks.training.schedules.wsd import WarmupStableDecay
from tasks.training_setup.params import TrainingSetup

STEPS, WARMUP = 40, 7
ORACLES: list[tuple[LearningRateSchedule, str, dict[str, Any]]] = [
    (Constant(), "constant_with_warmup", {}),
    (Linear(), "linear", {}),
    (Cosine(), "cosine", {}),
    (Cosine(minimum_share=0.1), "cosine_with_min_lr", {"min_lr_rate": 0.1}),
    (CosineRestarts(cycles=3), "cosine_with_restarts", {"num_cycles": 3}),
    (Polynomial(power=3.0), "polynomial", {"power": 3.0, "lr_end": 0.0}),
    (InverseSquareRoot(), "inverse_sqrt", {}),
    (WarmupStableDecay(decay_share=0.25), "warmup_stable_decay", {"num_decay_steps": 10, "decay_type": "1-sqrt"}),
    (
        WarmupStableDecay(decay_share=0.25, decay="linear"),
        "warmup_stable_decay",
        {"num_decay_steps": 10, "decay_type": "linear"},
    ),
    (
        WarmupStableDecay(decay_share=0.25, decay="cosine"),
        "warmup_stable_decay",
        {"num_decay_steps": 10, "decay_type": "cosine"},
    ),
]
MEMBERS = [member() for member in SCHEDULES]
EVERY = pytest.mark.parametrize("schedule", MEMBERS, ids=[schedule.name for schedule in MEMBERS])


def shares(schedule: LearningRateSchedule, warmup: int = WARMUP) -> list[float]:
    return [share_of_peak(schedule, warmup, STEPS, step) for step in range(STEPS)]


@pytest.mark.parametrize(("schedule", "name", "options"), ORACLES, ids=[one.describe() for one, _, _ in ORACLES])
def test_as_transformers_has_them(schedule: LearningRateSchedule, name: str, options: dict[str, Any]) -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = get_scheduler(name, optimizer, WARMUP, STEPS, scheduler_specific_kwargs=options)
    found = []
    for _ in range(STEPS):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    # Those that runs were trained with before they were ours are the same bits.
    exact = schedule in (Constant(), Linear(), Cosine())
    assert shares(schedule) == (found if exact else pytest.approx(found, abs=1e-12))


@EVERY
def test_from_zero_to_the_peak_and_never_below_the_floor(schedule: Any) -> None:
    floored = schedule
    if "minimum_share" in type(schedule).model_fields:
        floored = schedule.model_copy(update={"minimum_share": 0.2})
        assert "20%" in floored.describe()
    found = shares(floored)
    assert found[:WARMUP] == [step / WARMUP for step in range(WARMUP)]
    assert max(found) == found[WARMUP] == 1.0
    assert min(found[WARMUP:]) >= (0.0 if schedule == floored else 0.2)
    if schedule.problems(0.0) == []:
        assert shares(schedule, warmup=0)[0] == 1.0


@EVERY
def test_one_step_and_a_warm_up_as_long_as_the_run(schedule: LearningRateSchedule) -> None:
    assert share_of_peak(schedule, 1, 1, 0) == 0.0
    assert 0.0 <= share_of_peak(schedule, 1, 1, 1) <= 1.0


@EVERY
def test_params_survive_json(schedule: Any) -> None:
    values = json.loads(json.dumps(schedule.model_dump(mode="json")))
    assert TrainingSetup.model_validate({"schedule": values}).schedule == schedule
    assert schedule.problems(0.05) == []


def test_shares_that_are_more_than_the_run_are_refused() -> None:
    assert WarmupStableDecay(decay_share=0.97).problems(0.05) == [
        "schedule.decay_share: 0.97 and warmup_share 0.05 are more than all steps; set decay_share to at most 0.95"
    ]
    assert "warmup_share is 0; set warmup_share" in InverseSquareRoot().problems(0.0)[0]


def test_every_file_is_in_the_union() -> None:
    files = {path.stem for path in Path(schedules.__path__[0]).glob("*.py")} - {"__init__", "schedule"}
    assert files == {schedule.name for schedule in MEMBERS}
