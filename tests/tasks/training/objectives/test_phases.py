"""Supervised first, preferences next: one run, killed in either phase, ends with the same bytes."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tasks.contracts.errors import PipelineError
from tasks.fine_tuning.report import write_report
from tasks.fine_tuning.rows import Splits, tokenize_splits
from tasks.fine_tuning.run import Run
from tasks.fine_tuning.train import fine_tune
from tasks.language_models.folder.shape import ModelShape
from tasks.training.plan import Plan
from tasks.training_setup.params import TrainingSetup
from tasks.training_setup.phases import count_phases, resolve_phases
from tests.tasks.training.methods.test_contract import Interrupted, hash_folder, interrupt_at
from tests.tasks.training.objectives import rows
from tests.tasks.training.objectives.test_contract import MACHINE

SETTINGS: dict[str, Any] = {
    "method": {"name": "lora", "rank": 4, "dropout": 0.1},
    "max_tokens": 96,
    "max_steps": 4,
    "batch_size": 2,
    "learning_rate": 1e-2,
    "precision": "fp32",
    "threads": 1,
    "checkpoint_every": {"steps": 2},
    "evaluate_every": {"steps": 2},
    "log_every_steps": 1,
    "phases": [{"objective": {"name": "supervised"}}, {"objective": {"name": "dpo"}, "learning_rate": 5e-3}],
}


def plan_of(initial: Path, shape: ModelShape, **changes: Any) -> Plan:
    settings = TrainingSetup.model_validate({**SETTINGS, **changes})
    counts = count_phases(settings, rows.examples("train"), rows.examples("validation"), initial, rows.answers())
    plan = resolve_phases(settings, shape, counts.each, MACHINE).plan
    assert plan.before is not None
    small = {"predicted_memory_bytes": 2**20}  # the machine of the tests may have less
    return plan.model_copy(update={**small, "before": plan.before.model_copy(update=small)})


def tokenizer_of(initial: Path) -> Callable[[Plan], Splits]:
    def tokenize(phase: Plan) -> Splits:
        tables = rows.examples("train"), rows.examples("validation")
        return tokenize_splits(*tables, initial, 96, 8, objective=phase.objective, answers=rows.answers())

    return tokenize


def test_one_run_of_two_phases_goes_on_in_either(initial: Path, shape: ModelShape, tmp_path: Path) -> None:
    plan, tokenize = plan_of(initial, shape), tokenizer_of(initial)
    assert [phase.objective.name for phase in plan.phases] == ["supervised", "dpo"]
    assert plan.all_steps == 8

    def run(folder: str, on_metrics: Any = None) -> Run:
        places = tmp_path / folder / "checkpoints", tmp_path / folder / "tuned"
        return fine_tune(plan, tokenize(plan), initial, *places, on_metrics=on_metrics, tokenize=tokenize)

    whole = run("whole")
    assert (whole.steps, whole.kept_step, whole.borders[0][0]) == (8, 8, 4)
    losses = [point.eval_loss for point in whole.curve if point.eval_loss is not None]
    supervised, preferred = losses[:3], losses[3:]
    assert supervised[-1] < supervised[0]
    # The reference of the second phase is what the first one left, so its loss begins at ln 2.
    assert preferred[0] == pytest.approx(0.693147, abs=1e-6)
    assert preferred[-1] < preferred[0]
    for killed_at, resumed_at in ((3, 2), (7, 6)):
        folder = f"killed-{killed_at}"
        with pytest.raises(Interrupted):
            run(folder, interrupt_at(killed_at))
        again = run(folder)
        assert again.resumed_at == resumed_at
        assert again.curve == whole.curve
        assert hash_folder(tmp_path / folder / "tuned") == hash_folder(tmp_path / "whole/tuned")
    # Opened again, neither phase trains.
    shutil.rmtree(tmp_path / "whole/tuned")
    told: list[int] = []
    run("whole", lambda step, _: told.append(step))
    assert not told
    assert hash_folder(tmp_path / "whole/tuned") == hash_folder(tmp_path / "killed-3/tuned")
    figures = write_report(whole, tokenize(plan), *(tmp_path / name for name in ("curve", "page.html", "figures")))
    assert figures["validation_loss_before"] == preferred[0]
    assert "supervised: the assistant&#39;s turns, then direct preference" in (tmp_path / "page.html").read_text()


def test_what_a_phase_cannot_change_is_refused(initial: Path, shape: ModelShape) -> None:
    with pytest.raises(ValueError, match="phases: phase 1 changes method, which holds for the whole run or is no key"):
        TrainingSetup.model_validate({"phases": [{"method": {"name": "full"}}]})
    with pytest.raises(ValueError, match="greater than 0"):
        TrainingSetup.model_validate({"phases": [{"epochs": -1}]})
    with pytest.raises(PipelineError, match=r"phases: half .*begin anew in each phase; take method full or"):
        plan_of(initial, shape, method={"name": "half"}, learning_rate=1e-3)
