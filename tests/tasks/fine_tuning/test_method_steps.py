"""Hooks of a method are called at every step, decide what it trains, and a resumed run goes on with what they keep."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tasks.fine_tuning.rows import Splits
from tasks.fine_tuning.run import Run
from tasks.fine_tuning.train import fine_tune
from tasks.fine_tuning.trainer import start
from tasks.training.methods.hooks import STATE, StepHooks
from tests.tasks.fine_tuning.small import make_plan, make_splits

STEPS = 6


class Alternating(StepHooks):
    """Trains the first block in steps 1, 2, 5 and 6, the second one in 3 and 4; keeps a sum of its gradients."""

    keeps_state = True

    def __init__(self, model: Any) -> None:
        self.blocks = [
            frozenset(name for name, _ in model.named_parameters() if f".layers.{block}." in name) for block in (0, 1)
        ]
        self.total = torch.zeros(1)
        self.before_steps: list[int] = []
        self.after_steps: list[int] = []

    def trained(self, step: int) -> frozenset[str]:
        return self.blocks[(step - 1) // 2 % 2]

    def before(self, model: Any, step: int) -> None:
        self.before_steps.append(step)
        assert {name for name, w in model.named_parameters() if w.requires_grad} == self.trained(step)

    def after(self, model: Any, step: int) -> None:
        self.after_steps.append(step)
        found = {name: weights.grad for name, weights in model.named_parameters() if weights.grad is not None}
        assert found.keys() == self.trained(step)
        self.total += sum(gradient.abs().sum() for gradient in found.values())

    def extra_loss(self, model: Any, step: int) -> torch.Tensor:
        # Grows with what is kept, so that a resumed run without it would end with other weights.
        return 1e-4 * self.total[0] * model.model.layers[(step - 1) // 2 % 2].mlp.up_proj.weight.square().sum()

    def state(self, model: Any) -> dict[str, torch.Tensor]:
        return {"total": self.total}

    def load_state(self, model: Any, state: Mapping[str, torch.Tensor]) -> None:
        self.total = state["total"].clone()


@pytest.fixture(scope="module")
def splits(initial: Path) -> Splits:
    return make_splits(initial, rows=24)


@pytest.fixture
def hooks(monkeypatch: pytest.MonkeyPatch) -> list[Alternating]:
    """Those of each run, whose method they stand for."""
    made: list[Alternating] = []

    def make(_method: Any, model: Any, _run: Any, _initial: Path) -> Alternating:
        made.append(Alternating(model))
        return made[-1]

    monkeypatch.setattr(start, "make_hooks", make)
    return made


class Stopped(Exception):
    pass


def run(
    initial: Path,
    splits: Splits,
    folder: Path,
    every: int,
    stop_at: int = -1,
    after: Callable[[Any], None] | None = None,
) -> Run:
    def on_metrics(step: int, _: Mapping[str, float]) -> None:
        if step == stop_at:
            raise Stopped

    changes: dict[str, Any] = {"steps": STEPS, "log_every_steps": 1, "checkpoint_every_steps": every}
    plan = make_plan(method={"name": "full"}, accumulation_steps=2, batch_size=2, **changes)
    return fine_tune(
        plan, splits, initial, folder / "checkpoints", folder / "tuned", 3, on_metrics=on_metrics, on_trained=after
    )


def sealed(folder: Path, step: int) -> dict[str, torch.Tensor]:
    found = next(folder.glob(f"checkpoints/*/step-{step:06d}"))
    return {**load_file(found / "trained.safetensors"), **load_file(found / STATE)}


def test_each_step_trains_its_weights_and_a_resumed_run_is_exact(
    initial: Path, splits: Splits, hooks: list[Alternating], tmp_path: Path
) -> None:
    """Stopped just before the trained weights change, and just after."""
    kept: list[int] = []
    whole = run(
        initial, splits, tmp_path / "whole", STEPS, after=lambda trainer: kept.append(len(trainer.optimizer.state))
    )
    assert hooks[0].before_steps == hooks[0].after_steps == list(range(1, STEPS + 1))
    assert kept == [len(hooks[0].blocks[0])], "states of weights that are no longer trained stay"
    assert whole.trained == sum(weights.numel() for weights in load_file(next(
        (tmp_path / "whole").glob("checkpoints/*/*/trained.safetensors"))).values())  # fmt: skip
    expected = sealed(tmp_path / "whole", STEPS)
    base = load_file(initial / "model.safetensors")
    changed = {name for name, weights in expected.items() if name in base and not torch.equal(weights, base[name])}
    assert changed == hooks[0].blocks[0] | hooks[0].blocks[1]
    for every, stop_at in ((4, 5), (5, 6)):
        folder = tmp_path / f"stopped-{stop_at}"
        with pytest.raises(Stopped):
            run(initial, splits, folder, every, stop_at)
        assert run(initial, splits, folder, every).resumed_at == every
        found = sealed(folder, STEPS)
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_a_damaged_state_is_not_resumed(
    initial: Path, splits: Splits, hooks: list[Alternating], tmp_path: Path
) -> None:
    with pytest.raises(Stopped):
        run(initial, splits, tmp_path, 4, stop_at=5)
    file = next(tmp_path.glob(f"checkpoints/*/step-000004/{STATE}"))
    file.write_bytes(file.read_bytes()[:-1] + b"\x7f")
    assert run(initial, splits, tmp_path, 4).resumed_at == 0


def test_the_term_is_added_to_the_loss_of_training_only(
    initial: Path, splits: Splits, hooks: list[Alternating], tmp_path: Path
) -> None:
    terms: list[float] = []

    def measure(trainer: Any) -> None:
        (inputs,) = [trainer._prepare_inputs(next(iter(trainer.get_train_dataloader())))]
        trainer.own_batches = []  # the guard has seen its last step
        for mode in (True, False):
            trainer.model.train(mode)
            own = trainer.batch_loss.sum(trainer.model, inputs, trainer.plan.loss, 1)
            terms.append((trainer.compute_loss(trainer.model, inputs) - own.total / own.tokens).item())

    run(initial, splits, tmp_path, STEPS, after=measure)
    weights = load_file(next(tmp_path.glob("checkpoints/*/*/trained.safetensors")))
    # The step after the last one trains the second block; two accumulated batches.
    up = weights["model.layers.1.mlp.up_proj.weight"].square().sum()
    assert terms[0] == pytest.approx((1e-4 * hooks[0].total[0] * up / 2).item(), rel=1e-3)
    assert terms[1] == pytest.approx(0.0, abs=1e-6)
