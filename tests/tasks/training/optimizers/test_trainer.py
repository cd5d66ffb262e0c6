"""What the trainer has to do for an optimizer: change points, measure instead of differentiate, step over all rows."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tasks.contracts.errors import PipelineError
from tasks.fine_tuning.checkpoints import Checkpoints
from tasks.fine_tuning.origin import origin_of
from tasks.fine_tuning.out_of_memory import halve_batch
from tasks.fine_tuning.train import fine_tune
from tasks.fine_tuning.trainer.fine_tuner import FineTuner
from tasks.fine_tuning.trainer.start import make_trainer, reproducible
from tasks.language_models.folder.model_folder import load_model
from tasks.language_models.folder.shape import ModelShape
from tasks.training.memory import Memory
from tasks.training.methods.full import Full
from tasks.training.optimizers import refusals
from tasks.training.optimizers.adamw import AdamW
from tasks.training.optimizers.lomo import Lomo
from tasks.training.optimizers.mezo import MeZO
from tasks.training.optimizers.muon import Muon
from tasks.training.optimizers.optimizer import Optimizer, OptimizerUse
from tasks.training.optimizers.schedule_free import ScheduleFree
from tasks.training.quantization.none import Unquantized
from tasks.training.weights import TrainedWeights
from tasks.training_setup.memory import list_moments
from tests.tasks.training.optimizers.problem import make_plan, read_splits


def make(initial: Path, shape: ModelShape, folder: Path, **changes: Any) -> FineTuner:
    plan, splits = (
        make_plan(initial, shape, **{"max_steps": 4, "schedule": {"name": "constant"}, **changes}),
        read_splits(initial),
    )
    return make_trainer(plan, splits, initial, Checkpoints(folder, origin_of(plan, splits, initial), 9))


def flat(model: torch.nn.Module) -> torch.Tensor:
    return torch.cat([weights.detach().flatten() for weights in model.parameters()])


def test_schedule_free_weights_are_validated_and_written_where_they_are_good(
    initial: Path, shape: ModelShape, tmp_path: Path
) -> None:
    """Gradients are taken at y, between the mean x and the last iterate z; what counts is x."""
    seen: list[FineTuner] = []

    class Keeping(FineTuner):
        def __init__(self, *arguments: Any, **named: Any) -> None:
            super().__init__(*arguments, **named)
            seen.append(self)

    plan = make_plan(
        initial,
        shape,
        optimizer={"name": "schedule_free"},
        schedule={"name": "constant"},
        learning_rate=3e-2,
        checkpoint_every={"steps": 5},
    )
    run = fine_tune(plan, read_splits(initial), initial, tmp_path / "c", tmp_path / "tuned", trainer_class=Keeping)
    trainer = seen[0]
    assert "schedulefree=" in origin_of(plan, trainer.splits, initial).libraries
    optimizer: Any = trainer.optimizer
    written = load_model(tmp_path / "tuned/weights")
    sealed = load_file(next(tmp_path.glob("c/*/step-000016/trained.safetensors")))
    optimizer.train()
    beta = optimizer.param_groups[0]["betas"][0]
    for name, weights in trainer.model.named_parameters():
        y, z = weights.detach(), optimizer.state[weights]["z"]
        x = (y - (1 - beta) * z) / beta
        torch.testing.assert_close(written.get_parameter(name).detach(), x, rtol=0, atol=1e-5)
        torch.testing.assert_close(sealed[name], x, rtol=0, atol=1e-5)
    at_y = flat(trainer.model)
    assert (at_y - flat(written)).abs().max() > 1e-3
    trainer.model.load_state_dict(written.state_dict())
    trainer.optimizer = None
    found = trainer.evaluate()["eval_loss"]
    assert run.curve[-1].eval_loss == pytest.approx(found, abs=1e-5)


def test_lomo_trains_as_sgd_does_also_over_recomputed_activations(
    initial: Path, shape: ModelShape, tmp_path: Path
) -> None:
    """Weights change while the backward pass is under way, tied and recomputed ones too."""
    found = []
    for name, again in (("sgd", False), ("lomo", False), ("lomo", True)):
        changes = {"optimizer": {"name": name}, "clip_norm": 0, "gradient_checkpointing": again, "weight_decay": 0.1}
        trainer = make(initial, shape, tmp_path / f"{name}-{again}", learning_rate=0.1, **changes)
        with reproducible(trainer.plan):
            trainer.train()
        found.append(flat(trainer.model))
    for other in found[1:]:
        torch.testing.assert_close(found[0], other, rtol=0, atol=1e-6)


def test_no_backward_pass_where_none_is_needed(
    initial: Path, shape: ModelShape, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(*_: Any, **__: Any) -> None:
        raise AssertionError("a backward pass")

    monkeypatch.setattr(torch.Tensor, "backward", forbidden)
    changes = {"optimizer": {"name": "mezo"}, "clip_norm": 0, "learning_rate": 1e-3}
    whole = make(initial, shape, tmp_path / "a", batch_size=4, **changes)
    parts = make(initial, shape, tmp_path / "b", batch_size=4, **changes)
    # The same four rows a step, in two batches that hold different numbers of tokens.
    loader = whole.get_train_dataloader()
    halves = [half for batch in loader.dataset for half in (batch[:1], batch[1:])]  # type: ignore[attr-defined]
    parts.args.gradient_accumulation_steps = 2
    parts.plan = parts.plan.model_copy(update={"accumulation_steps": 2})
    same = torch.utils.data.DataLoader(
        halves,
        batch_sampler=[[number] for number in range(len(halves))],
        collate_fn=loader.collate_fn,
    )
    parts.get_train_dataloader = lambda: same  # type: ignore[method-assign]
    before = flat(whole.model)
    for trainer in (whole, parts):
        with reproducible(trainer.plan):
            trainer.train()
    assert (flat(whole.model) - before).abs().max() > 1e-4
    torch.testing.assert_close(flat(whole.model), flat(parts.model), rtol=0, atol=2e-4)
    assert "schedulefree" not in origin_of(whole.plan, whole.splits, initial).libraries
    assert all("grad_norm" not in entry for entry in whole.state.log_history)


def test_a_step_of_gradient_descent_sees_every_row_once(initial: Path, shape: ModelShape, tmp_path: Path) -> None:
    trainer = make(initial, shape, tmp_path, optimizer={"name": "gradient_descent"}, batch_size=12)
    assert (trainer.plan.accumulation_steps, trainer.plan.steps, trainer.plan.epochs) == (4, 4, 4.0)
    batches = iter(trainer.get_train_dataloader().dataset)
    for _ in range(trainer.plan.steps):
        seen = Counter(index for batch in islice(batches, 4) for row in batch for index in row)
        assert seen == Counter(range(40))
    assert next(batches, None) is None


def test_half_the_batch_after_a_shortage_is_the_same_step(initial: Path, shape: ModelShape) -> None:
    def halved(optimizer: str, **changes: Any) -> tuple[int, int] | None:
        plan = make_plan(initial, shape, optimizer={"name": optimizer}, batch_size=16, **changes)
        half = halve_batch(plan.model_copy(update={"auto_batch": True}))
        return half and (half.batch_size, half.accumulation_steps)

    assert halved("sgd") == (8, 2)
    assert halved("gradient_descent") == (8, 5)  # 40 rows: 16 + 16 + 8, and then five times 8
    assert halved("lomo", clip_norm=0) is None


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"optimizer": {"name": "lomo"}}, "clip_norm: 1, but optimizer lomo never has the whole gradient"),
        (
            {"optimizer": {"name": "adalomo"}, "clip_norm": 0, "accumulation_steps": 2},
            "accumulation_steps: 2, but optimizer adalomo updates within each backward pass",
        ),
        ({"optimizer": {"name": "mezo"}}, "clip_norm: 1, but optimizer mezo has no gradient"),
        (
            {"optimizer": {"name": "gradient_descent"}, "accumulation_steps": 3},
            "a step of gradient_descent takes all 40 rows, which are 10 batches",
        ),
        (
            {"optimizer": {"name": "gradient_descent"}, "global_batch_size": 20},
            "global_batch_size: 20, but a step of gradient_descent takes all 40 rows",
        ),
    ],
)
def test_what_an_optimizer_cannot_do_is_refused(
    initial: Path, shape: ModelShape, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(PipelineError) as caught:
        make_plan(initial, shape, **changes)
    assert words in str(caught.value)
    assert "set " in str(caught.value)


@pytest.mark.parametrize(
    ("optimizer", "changes", "words"),
    [
        (ScheduleFree(), {"averaged": True}, "ema_decay: schedule_free averages its weights itself"),
        (MeZO(), {"precision": "fp16"}, "precision: fp16 scales the gradients of a whole step, which optimizer mezo"),
        (Muon(), {"trained": TrainedWeights((), ((9, 9),))}, "optimizer: muon updates matrices inside the blocks"),
    ],
)
def test_what_does_not_go_together_is_refused(optimizer: Optimizer, changes: dict[str, Any], words: str) -> None:
    use = OptimizerUse(
        trained=TrainedWeights(((64, 128),)),
        frozen_base=False,
        device="cuda",
        learning_rate=1e-3,
        schedule="constant",
        accumulation_steps=1,
        clip_norm=0,
        precision="bf16",
        averaged=False,
    )
    assert refusals.list_problems(optimizer, use) == []
    (problem,) = refusals.list_problems(optimizer, replace(use, **changes))
    assert words in problem
    assert refusals.list_problems(AdamW(), replace(use, **changes)) == []


def test_a_missing_package_is_told(initial: Path, shape: ModelShape, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refusals, "find_spec", lambda _: None)
    with pytest.raises(PipelineError, match=r"adamw_8bit needs the package bitsandbytes.*take optimizer adamw, grad"):
        make_plan(initial, shape, optimizer={"name": "adamw_8bit"})
    make_plan(initial, shape, optimizer={"name": "muon"})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"optimizer": {"name": "schedule_free"}}, "schedule: cosine, but schedule_free is made for a constant rate"),
        ({"optimizer": {"name": "paged_adamw", "bits": 8}}, "take optimizer: {name: adamw_8bit}"),
        ({"optimizer": {"name": "galore"}}, "optimizer.rank: 128 is not below the shorter side of any trained matrix"),
        ({"optimizer": {"name": "apollo", "rank": 1}, "method": {"name": "lora", "rank": 8}}, "apollo saves nothing"),
        ({"optimizer": {"name": "lion"}, "learning_rate": 1e-2}, "high for Lion"),
        ({"optimizer": {"name": "adadelta"}}, "low for Adadelta"),
    ],
)
def test_a_doubtful_choice_is_told(
    initial: Path, shape: ModelShape, changes: dict[str, Any], words: str, caplog: pytest.LogCaptureFixture
) -> None:
    make_plan(initial, shape, **changes)
    assert words in caplog.text


def test_memory_of_optimizers_without_all_gradients(initial: Path, shape: ModelShape) -> None:
    def predict(optimizer: Optimizer) -> Memory:
        return list_moments(
            shape,
            Full(),
            Unquantized(weights="fp32"),
            batch_size=1,
            max_tokens=64,
            packed=False,
            supervised_share=1.0,
            precision="fp32",
            optimizer=optimizer,
            gradient_checkpointing=False,
            device="cpu",
        )["backward"]

    usual, inside, none = predict(AdamW()), predict(Lomo()), predict(MeZO())
    assert usual.gradients == 4 * shape.parameters
    assert (inside.gradients, inside.optimizer) == (4 * 600 * 64, 0)  # the embedding's
    assert (none.gradients, none.optimizer, none.activations) == (0, 0, usual.activations // shape.layers)
