"""DyLoRA: every rank that is drawn learns, and the adapter cut to it answers as it was trained to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel

from tasks.contracts.errors import PipelineError
from tasks.contracts.manifest import read_json
from tasks.language_models.folder.model_folder import load_model
from tasks.language_models.folder.shape import ModelShape
from tasks.training.methods.dylora import DyLora, cut_adapter
from tasks.training.methods.hooks import RunFacts
from tasks.training.methods.modules.drawn_rank import use_rank

IDS = torch.tensor([list(range(90, 112))])
RANKS = [1, 2, 4, 8]
STEPS = 60


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=IDS, use_cache=False).logits


def loss(model: Any) -> Any:
    return model(input_ids=IDS, labels=IDS).loss


@pytest.fixture(scope="module")
def method(shape: ModelShape) -> DyLora:
    return DyLora(rank=8, ranks=RANKS, served=4).resolve(shape)


@pytest.fixture(scope="module")
def trained(method: DyLora, initial: Path) -> Any:
    torch.manual_seed(0)
    model = method.adapt(load_model(initial))
    hooks = method.hooks(model, RunFacts(steps=STEPS, steps_per_epoch=STEPS, seed=5), initial)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], 1e-3, weight_decay=0.0)
    for step in range(1, STEPS + 1):
        hooks.before(model, step)
        optimizer.zero_grad()
        loss(model).backward()
        optimizer.step()
        hooks.after(model, step)
    return model.eval()


def test_every_drawn_rank_learns_and_none_above_the_step_is_used(
    trained: Any, method: DyLora, initial: Path, tmp_path: Path
) -> None:
    base = loss(load_model(initial)).item()
    losses = []
    for rank in RANKS:
        use_rank(trained, rank, 16.0)
        losses.append(loss(trained).item())
        trained.zero_grad()
        loss(trained).backward()
        gradients = [
            weights.grad if "lora_A" in name else weights.grad.T
            for name, weights in trained.named_parameters()
            if weights.requires_grad
        ]
        assert all(gradient[rank:].count_nonzero() == 0 for gradient in gradients)
        assert any(gradient[rank - 1].count_nonzero() for gradient in gradients)
    use_rank(trained, 4, 16.0)
    assert all(found < base - 0.5 for found in losses), (base, losses)
    assert losses == sorted(losses, reverse=True)


def test_an_adapter_cut_to_a_rank_is_that_adapter(trained: Any, method: DyLora, initial: Path, tmp_path: Path) -> None:
    """With its own scale, alpha / rank; opened by PEFT, which knows nothing of ranks that are drawn."""
    method.save(trained, tmp_path)
    for rank in (*RANKS, 3):
        cut_adapter(tmp_path / "adapter", rank, tmp_path / f"cut-{rank}")
        assert read_json(tmp_path / f"cut-{rank}/adapter_config.json")["r"] == rank
        use_rank(trained, rank, 16.0)
        cut = PeftModel.from_pretrained(load_model(initial), tmp_path / f"cut-{rank}").eval()
        assert torch.equal(logits(cut), logits(trained))
    use_rank(trained, 4, 16.0)
    assert torch.equal(logits(method.load(initial, tmp_path)), logits(trained))
    torch.testing.assert_close(logits(method.merge(initial, tmp_path)), logits(trained), rtol=0, atol=3e-6)
    for rank in (0, 9):
        with pytest.raises(PipelineError, match=f"rank {rank}: .* has rank 8; expected 1 to 8"):
            cut_adapter(tmp_path / "adapter", rank, tmp_path / "never")
    assert not (tmp_path / "never").exists()


def test_the_rank_of_a_step_follows_from_seed_and_step(method: DyLora, initial: Path) -> None:
    def draw(seed: int) -> list[int]:
        hooks: Any = method.hooks(None, RunFacts(steps=STEPS, steps_per_epoch=STEPS, seed=seed), initial)
        return [hooks.draw(step) for step in range(1, 200)]

    assert draw(1) == draw(1) != draw(2)
    counted = [draw(1).count(rank) for rank in RANKS]
    assert all(30 <= count <= 70 for count in counted), counted


def test_ranks_that_do_not_fit_are_refused(shape: ModelShape) -> None:
    assert DyLora(rank=8).problems(shape) == []
    assert DyLora(rank=8).resolve(shape).ranks == list(range(1, 9))
    (problem,) = DyLora(rank=8, ranks=[4, 16], served=4).problems(shape)
    assert problem == "method.ranks: 16 is more than method.rank (8); raise method.rank"
    (problem,) = DyLora(rank=8, ranks=[4, 8], served=6).problems(shape)
    assert problem.endswith("6 is a rank that is never trained; expected one of method.ranks (4, 8)")
    assert DyLora(rank=8, ranks=[]).problems(shape)[0].startswith("method.ranks: empty")
    assert "rank 64" in DyLora(rank=65).problems(shape)[0]
