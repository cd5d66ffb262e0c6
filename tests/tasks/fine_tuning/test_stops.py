"""What ends a run, what is kept of it, and that an interrupted run ends and keeps the same."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import TrainerCallback

from tasks.contracts.errors import PipelineError
from tasks.contracts.manifest import hash_folder, read_manifest
from tasks.fine_tuning.checkpoints import Checkpoints
from tasks.fine_tuning.loss.batches import order_batches
from tasks.fine_tuning.origin import origin_of
from tasks.fine_tuning.report import measure, write_losses, write_report
from tasks.fine_tuning.rows import Splits
from tasks.fine_tuning.run import Run
from tasks.fine_tuning.train import fine_tune
from tasks.fine_tuning.trainer.start import make_trainer
from tests.tasks.fine_tuning.small import make_plan, make_splits

# Its validation loss falls, then rises again.
OVERSHOOTING = {
    "method": {"name": "full"}, "learning_rate": 1.0, "schedule": {"name": "constant"}, "warmup_steps": 15,
    "evaluate_every_steps": 2, "checkpoint_every_steps": 5, "log_every_steps": 2,
}  # fmt: skip


class Interrupted(Exception):
    """Stands for the end of a machine."""


def run(
    initial: Path, folder: Path, plan: dict[str, Any], splits: Splits | None = None, until: int | None = None
) -> Run:
    def on_metrics(step: int, _: Mapping[str, float]) -> None:
        if step == until:
            raise Interrupted

    rows = splits or make_splits(initial)
    return fine_tune(make_plan(**plan), rows, initial, folder / "checkpoints", folder / "tuned", on_metrics=on_metrics)


def with_infinite_row(initial: Path) -> tuple[Splits, int]:
    """One row of the sixth batch has an infinite weight, and so an infinite loss; its index too."""
    splits = make_splits(initial)
    lengths = splits.train.lengths.tolist()
    index = next(islice(order_batches(lengths, False, 128, batch_size=4, seed=3), 5, None))[0][0]
    weights = np.ones(len(splits.train), dtype=np.float32)
    weights[index] = math.inf
    return replace(splits, train=replace(splits.train, weights=weights)), index


def sealed(folder: Path) -> list[int]:
    return sorted(int(path.name.removeprefix("step-")) for path in folder.glob("checkpoints/*/step-*"))


def test_a_loss_that_is_no_number_stops_with_the_batch_saved(initial: Path, tmp_path: Path) -> None:
    splits, index = with_infinite_row(initial)
    with pytest.raises(
        PipelineError,
        match=r"the training loss is (inf|nan); lower .*, or set on_nan: skip where a batch is at fault; ",
    ) as told:
        run(initial, tmp_path, {"checkpoint_every_steps": 1}, splits)
    file = Path(str(told.value).rpartition("its batch is in ")[2])
    saved = json.loads(file.read_text())
    assert file.parent.parent == tmp_path / "checkpoints"
    rows = [row for batch in saved["batches"] for row in batch["conversations"]]
    (found,) = [row for row in rows if row["row"] == index]
    assert splits.train.ids is not None
    assert found["id"] == splits.train.ids[index]
    assert found["tokens"] == splits.train.row(index)[0].tolist()
    assert "We will help" in found["text"]
    # The checkpoint before it is there, none after.
    assert saved["step"] == 6
    assert sealed(tmp_path) == [4, 5]


class Recorder(TrainerCallback):
    """The trained weights after every step."""

    def __init__(self) -> None:
        self.weights: list[torch.Tensor] = []

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        model = kwargs["model"]
        self.weights.append(torch.cat([p.detach().flatten() for p in model.parameters() if p.requires_grad]).clone())


def test_a_skipped_step_changes_nothing_and_is_no_part_of_the_curve(initial: Path, tmp_path: Path) -> None:
    plan = make_plan(on_nan="skip", accumulation_steps=2, steps=5, batch_size=4, log_every_steps=1)
    splits, index = with_infinite_row(initial)
    store = Checkpoints(tmp_path, origin_of(plan, splits, initial), 2)
    trainer, recorder = make_trainer(plan, splits, initial, store), Recorder()
    trainer.add_callback(recorder)
    trainer.train()
    batches = [trainer.own_batches[number : number + 2] for number in range(0, 10, 2)]
    struck = [step for step, pair in enumerate(batches) if any([index] in batch for batch in pair)]
    assert struck == [2]
    same = [s for s in range(1, 5) if torch.equal(recorder.weights[s], recorder.weights[s - 1])]
    assert same == struck
    assert torch.isfinite(recorder.weights[-1]).all()
    logged = {entry["step"]: entry for entry in trainer.state.log_history if "learning_rate" in entry}
    assert [step for step in logged if "loss" not in logged[step]] == [step + 1 for step in struck]
    assert all(math.isfinite(entry["loss"]) for entry in logged.values() if "loss" in entry)


def test_a_run_with_skipped_steps_is_resumed_to_the_same_bytes(initial: Path, tmp_path: Path) -> None:
    plan, (splits, _) = {"on_nan": "skip", "log_every_steps": 4}, with_infinite_row(initial)
    whole = run(initial, tmp_path / "whole", plan, splits)
    with pytest.raises(Interrupted):
        run(initial, tmp_path / "halves", plan, splits, until=8)
    halves = run(initial, tmp_path / "halves", plan, splits)
    assert halves.resumed_at == 4
    assert halves.curve == whole.curve
    assert halves.skipped == whole.skipped == (6,)
    page = tmp_path / "index.html"
    write_report(whole, splits, tmp_path / "curve.json", page, tmp_path / "metrics.json")
    assert "1 step of 12 changed nothing, since the loss or the gradient was not a number: 6." in page.read_text()
    assert hash_folder(tmp_path / "halves/tuned") == hash_folder(tmp_path / "whole/tuned")


def test_too_many_skipped_steps_stop_the_run(initial: Path, tmp_path: Path) -> None:
    splits = make_splits(initial)
    weights = np.full(len(splits.train), np.nan, dtype=np.float32)
    poisoned = replace(splits, train=replace(splits.train, weights=weights))
    with pytest.raises(PipelineError, match="step 3: 3 steps had a loss or gradient that is not a number; lower"):
        run(initial, tmp_path, {"on_nan": "skip", "nan_limit": 2}, poisoned)


def test_the_best_step_is_kept(initial: Path, tmp_path: Path) -> None:
    """Also by a run that is interrupted after its best step, and one that is opened again when all is done."""
    plan = {**OVERSHOOTING, "keep": "best"}
    whole = run(initial, tmp_path / "whole", plan)
    validated = {point.step: point.eval_loss for point in whole.curve if point.eval_loss is not None and point.step}
    best = min(validated, key=lambda step: validated[step])
    assert 0 < best < 12, "the run was to overshoot"
    assert (whole.kept_step, whole.steps) == (best, 12)
    assert sealed(tmp_path / "whole") == sorted({best, 12})
    manifest = read_manifest(tmp_path / "whole/tuned")
    assert (manifest["kept_step"], manifest["final_validation_loss"]) == (best, validated[best])
    assert measure(whole, make_splits(initial))["validation_loss"] == validated[best]
    files = [tmp_path / name for name in ("training.json", "validation.json", "headline.json")]
    assert write_losses(whole.curve, *files, whole.kept_step)["loss"] == pytest.approx(validated[best], abs=1e-3)
    # The weights are those of a run that ends at that step.
    ended = run(initial, tmp_path / "ended", {**OVERSHOOTING, "steps": best})
    assert ended.curve[-1].eval_loss == validated[best]
    assert hash_weights(tmp_path / "ended") == hash_weights(tmp_path / "whole")
    with pytest.raises(Interrupted):
        run(initial, tmp_path / "halves", plan, until=8)
    halves = run(initial, tmp_path / "halves", plan)
    again = run(initial, tmp_path / "halves", plan)
    assert (halves.resumed_at > 0, again.resumed_at) == (True, 12)
    assert whole.curve == halves.curve == again.curve
    assert hash_folder(tmp_path / "halves/tuned") == hash_folder(tmp_path / "whole/tuned")
    # Its checkpoint is verified before it is opened.
    (kept,) = (tmp_path / "halves").glob(f"checkpoints/*/step-{best:06d}/trained.safetensors")
    content = bytearray(kept.read_bytes())
    content[-1] ^= 1
    kept.write_bytes(content)
    with pytest.raises(PipelineError, match=r"changed since it was written.*; its weights were to be kept; remove "):
        run(initial, tmp_path / "halves", plan)


def hash_weights(folder: Path) -> str:
    return hash_folder(folder / "tuned/weights")


def test_a_run_that_no_longer_improves_ends_and_says_so(
    initial: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    plan = {**OVERSHOOTING, "early_stopping": {"patience": 1}, "keep": "best", "log_every_steps": 5}
    with caplog.at_level(logging.INFO):
        stopped = run(initial, tmp_path, plan)
    told = f"stopped early at step {stopped.steps} of 12: 1 validation without an improvement"
    assert told in caplog.text
    paths = [tmp_path / name for name in ("curve.json", "index.html", "metrics.json")]
    figures = write_report(stopped, make_splits(initial), *paths)
    assert f"It was {told}." in paths[1].read_text()
    assert figures["epochs"] == pytest.approx(stopped.steps / 12)
    assert 0 < stopped.kept_step < stopped.steps < 12
    assert stopped.curve[-1].step == stopped.steps
    assert stopped.curve[-1].loss is not None
    assert read_manifest(tmp_path / "tuned")["steps"] == stopped.steps
    before = hash_folder(tmp_path / "tuned")
    again = run(initial, tmp_path, plan)
    assert (again.resumed_at, again.curve) == (stopped.steps, stopped.curve)
    assert hash_folder(tmp_path / "tuned") == before


def test_a_run_that_diverges_stops_and_keeps_the_checkpoint_before(
    initial: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    plan = {
        **OVERSHOOTING, "steps": 40, "checkpoint_every_steps": 1,
        "log_every_steps": 1, "divergence": {"factor": 1.2, "logs": 4}, "evaluate_every_steps": 40,
    }  # fmt: skip
    with caplog.at_level(logging.INFO), pytest.raises(PipelineError) as told:
        run(initial, tmp_path, plan)
    message = str(told.value)
    assert "has been more than 1.2 times its best" in message
    assert "in 4 logs since step" in message
    since = int(message.partition("since step ")[2].partition(";")[0])
    kept = Path(message.rpartition("is kept: ")[2])
    assert kept.name == f"step-{since - 1:06d}"
    # Two newer ones would have been all that is kept, and they are from after.
    assert since - 1 in sealed(tmp_path)
    assert len(sealed(tmp_path)) == 3


def test_a_model_that_has_lost_all_it_knew_stops(initial: Path, tmp_path: Path) -> None:
    """Its losses are above that of a guess among 600 tokens, and not three times those before."""
    plan = {
        **OVERSHOOTING, "steps": 40, "checkpoint_every_steps": 1,
        "log_every_steps": 1, "divergence": {"factor": 3.0, "logs": 4}, "evaluate_every_steps": 40,
    }  # fmt: skip
    with pytest.raises(PipelineError, match=r"no better than a guess among all tokens, 6\.4, after a best of") as told:
        run(initial, tmp_path, plan)
    assert "in 4 logs since step" in str(told.value)
