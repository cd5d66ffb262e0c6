"""Memory that runs out: half an automatic batch is tried once, the same rows a step; else the params that save most."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch

from tasks.contracts.errors import PipelineError
from tasks.contracts.manifest import hash_file, read_manifest
from tasks.fine_tuning.out_of_memory import halve_batch, is_shortage
from tasks.fine_tuning.report import write_report
from tasks.fine_tuning.run import Run
from tasks.fine_tuning.train import fine_tune
from tasks.fine_tuning.trainer.fine_tuner import FineTuner
from tasks.training.plan import Plan
from tests.tasks.fine_tuning.small import make_plan, make_splits

REMEDIES = [
    {"change": "batch_size: 2", "saved_bytes": 3 * 2**29},
    {"change": "gradient_checkpointing: true", "saved_bytes": 2**30},
    {"change": "max_tokens: 64", "saved_bytes": 2**29},
]


class Short(FineTuner):
    """Has memory for so many rows of a forward pass, and asks the allocator for more than there is above."""

    rows = 2

    def compute_loss(self, model: Any, inputs: Any, *arguments: Any, **options: Any) -> Any:
        if len(inputs["input_ids"]) > self.rows:
            torch.empty(1 << 58)
        return super().compute_loss(model, inputs, *arguments, **options)


class Shorter(Short):
    rows = 1


def run(plan: Plan, initial: Path, folder: Path, trainer_class: type[FineTuner] = Short) -> Run:
    splits = make_splits(initial)
    return fine_tune(plan, splits, initial, folder / "checkpoints", folder / "tuned", trainer_class=trainer_class)


def small_plan(**changes: Any) -> Plan:
    return make_plan(**{"steps": 4, "remedies": REMEDIES, **changes})


def test_an_automatic_batch_is_halved_once(initial: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """To the weights of a plan that had the half from the beginning."""
    caplog.set_level(logging.WARNING)
    done = run(small_plan(auto_batch=True), initial, tmp_path / "short")
    assert (done.plan.batch_size, done.plan.accumulation_steps, done.plan.batch_halved) == (2, 2, True)
    assert "trying once more with 2 rows a forward pass instead of 4, and 2 accumulated" in caplog.text
    manifest = read_manifest(tmp_path / "short/tuned")
    assert (manifest["batch_size"], manifest["accumulation_steps"]) == (2, 2)
    page = tmp_path / "index.html"
    write_report(done, make_splits(initial), tmp_path / "curve.json", page, tmp_path / "metrics.json")
    assert "Memory ran out with 4 rows a forward pass" in page.read_text()

    whole = run(small_plan(batch_size=2, accumulation_steps=2), initial, tmp_path / "half")
    assert whole.curve == done.curve
    weights = [hash_file(tmp_path / name / "tuned/adapter/adapter_model.safetensors") for name in ("short", "half")]
    assert weights[0] == weights[1]


def test_a_given_batch_is_not_and_the_message_says_what_saves_how_much(initial: Path, tmp_path: Path) -> None:
    with pytest.raises(PipelineError) as failed:
        run(small_plan(predicted_memory_bytes=2**29), initial, tmp_path)
    message = str(failed.value)
    assert message.startswith("out of memory on cpu (")
    assert "can't allocate memory" in message
    assert message.endswith(
        "where the plan foresaw 0.50 of 1.00 GiB; set training_setup.batch_size: 2 (1.50 GiB less), or "
        "training_setup.gradient_checkpointing: true (1.00 GiB less), or training_setup.max_tokens: 64 (0.50 GiB less)"
    )
    assert "\n" not in message
    assert not (tmp_path / "tuned").exists()


def test_the_half_may_be_too_much_too(initial: Path, tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match=r"out of memory on cpu .*batch_size"):
        run(small_plan(auto_batch=True), initial, tmp_path, Shorter)


@pytest.mark.parametrize(
    ("error", "short"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has"), True),
        (MemoryError(), True),
        (PipelineError("rank 1: OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_what_says_that_memory_ran_out(error: Exception, short: bool) -> None:
    assert is_shortage(error) == short


def test_an_odd_batch_has_no_half() -> None:
    assert halve_batch(make_plan(auto_batch=True, batch_size=3)) is None
    assert halve_batch(make_plan(auto_batch=True, batch_size=1)) is None
    assert halve_batch(make_plan(batch_size=4)) is None
