"""AdaLoRA moves its ranks: without the call after each step, as with plain TRL, every layer keeps its first rank."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tasks.contracts.errors import PipelineError
from tasks.contracts.manifest import hash_folder, read_json
from tasks.fine_tuning.run import Run
from tasks.fine_tuning.train import fine_tune
from tasks.fine_tuning.trainer import start
from tasks.language_models.folder.model_folder import load_model
from tasks.language_models.folder.shape import ModelShape
from tasks.training.methods.adapters.adalora import AdaLora
from tasks.training.methods.hooks import RunFacts, StepHooks
from tests.tasks.fine_tuning.small import make_plan, make_splits

METHOD = AdaLora(rank=4, start_rank=6, targets=["q_proj", "v_proj"])
LAYERS = 4  # of two blocks


class Stopped(Exception):
    pass


def run(initial: Path, folder: Path, shape: ModelShape, stop_at: int = -1) -> Run:
    plan = make_plan(method=METHOD.resolve(shape).model_dump(), steps=10, log_every_steps=1, checkpoint_every_steps=4)

    def on_metrics(step: int, _: Any) -> None:
        if step == stop_at:
            raise Stopped

    splits = make_splits(initial, rows=12)
    return fine_tune(plan, splits, initial, folder / "checkpoints", folder / "tuned", on_metrics=on_metrics)


def ranks_saved(folder: Path) -> list[int]:
    weights = load_file(folder / "tuned/adapter/adapter_model.safetensors")
    return sorted(len(one) for name, one in weights.items() if ".lora_E" in name)


def test_ranks_go_where_they_matter(initial: Path, shape: ModelShape, tmp_path: Path) -> None:
    whole = run(initial, tmp_path / "whole", shape)
    ranks = ranks_saved(tmp_path / "whole")
    assert sum(ranks) == METHOD.rank * LAYERS
    assert whole.outcome["mean rank of all layers"] == "4"
    told = [int(rank) for name, one in whole.outcome.items() if "block" in name for rank in one.split(", ")]
    assert sorted(told) == ranks
    # Taken up after step 4, in the middle of the moving, where its averages decide what goes next.
    with pytest.raises(Stopped):
        run(initial, tmp_path / "halves", shape, stop_at=6)
    assert run(initial, tmp_path / "halves", shape).resumed_at == 4
    assert hash_folder(tmp_path / "halves/tuned") == hash_folder(tmp_path / "whole/tuned")
    opened = whole.plan.method.load(initial, tmp_path / "whole/tuned").eval()
    merged = whole.plan.method.merge(initial, tmp_path / "whole/tuned").eval()
    ids = torch.tensor([list(range(90, 104))])
    with torch.no_grad():
        torch.testing.assert_close(opened(input_ids=ids).logits, merged(input_ids=ids).logits, rtol=0, atol=3e-6)


def test_without_the_call_after_each_step_no_rank_moves(
    initial: Path, shape: ModelShape, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(start, "make_hooks", lambda *_: StepHooks())
    run(initial, tmp_path, shape)
    assert ranks_saved(tmp_path) == [METHOD.start_rank] * LAYERS
    assert read_json(tmp_path / "tuned/adapter/adapter_config.json")["init_r"] == METHOD.start_rank


def test_the_term_of_the_loss_is_zero_for_orthogonal_vectors_and_as_pefts_else(
    initial: Path, shape: ModelShape
) -> None:
    torch.manual_seed(0)
    method = METHOD.resolve(shape)
    model = method.adapt(load_model(initial))
    hooks = method.hooks(model, RunFacts(10, 10, 0), initial)
    ids = torch.tensor([list(range(90, 104))])
    plain = model.get_base_model()(input_ids=ids, labels=ids).loss
    # PEFT adds it to a loss that the model itself computes.
    assert (model(input_ids=ids, labels=ids).loss - plain).item() == pytest.approx(
        hooks.extra_loss(model, 1).item(), rel=1e-5
    )
    for name, weights in model.named_parameters():
        if ".lora_A." in name or ".lora_B." in name:
            torch.nn.init.orthogonal_(weights)
    assert hooks.extra_loss(model, 1).item() == pytest.approx(0, abs=1e-5)


def test_a_run_that_is_too_short_to_move_ranks_is_refused(initial: Path, shape: ModelShape) -> None:
    method = METHOD.resolve(shape)
    with pytest.raises(PipelineError, match="between steps 0 and 1 of 1, which are too few; raise epochs"):
        method.hooks(method.adapt(load_model(initial)), RunFacts(1, 1, 0), initial)
