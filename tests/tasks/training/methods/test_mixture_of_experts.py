"""A mixture of experts begins at the base, weighs its experts as Mixtral does, and keeps its tokens spread."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.checkpoint import checkpoint
from transformers import AutoTokenizer, MixtralForCausalLM
from transformers.models.mixtral.modeling_mixtral import load_balancing_loss_func

from tasks.gateway.answering import answer_all
from tasks.language_models.folder.model_folder import load_model
from tasks.language_models.folder.shape import ModelShape
from tasks.language_models.generation import generate_answers
from tasks.training.combinations import find_reasons
from tasks.training.distribution.zero import Zero
from tasks.training.methods.hooks import RunFacts, make_hooks
from tasks.training.methods.mixture_of_experts import MixtureOfExperts
from tasks.training.methods.modules.sparse_feed_forward import find_experts, measure_routers

IDS = torch.tensor([list(range(90, 112)), list(range(200, 222))])
METHOD = MixtureOfExperts(experts=3, top_k=2)


def logits(model: Any, **inputs: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=IDS, use_cache=False, **inputs).logits


@pytest.fixture
def model(initial: Path) -> Any:
    torch.manual_seed(0)
    return METHOD.adapt(load_model(initial))


def test_it_begins_at_the_base(model: Any, initial: Path) -> None:
    torch.testing.assert_close(logits(model), logits(load_model(initial)), rtol=0, atol=2e-6)


def test_the_release_is_mixtral_and_opens_to_the_same(model: Any, initial: Path, tmp_path: Path) -> None:
    for name, weights in model.named_parameters():
        if ".mlp." in name:
            weights.data += 0.05 * torch.randn_like(weights)
    METHOD.save(model, tmp_path)
    release, tokenizer = tmp_path / "release", AutoTokenizer.from_pretrained(initial)
    METHOD.merge(initial, tmp_path).save_pretrained(release)
    tokenizer.save_pretrained(release)
    released = load_model(release).eval()
    assert isinstance(released, MixtralForCausalLM)
    torch.testing.assert_close(logits(released), logits(model), rtol=0, atol=3e-6)
    assert not torch.allclose(logits(released), logits(load_model(initial)), atol=1e-2)
    turns = [[{"role": "user", "content": text}] for text in ("Where is my parcel?", "stone")]
    expected = [list(answer.tokens) for answer in generate_answers(model.eval(), tokenizer, turns, 12)]
    assert [answer for _, answer in answer_all(release, turns, 12)] == expected


def test_the_terms_of_the_loss() -> None:
    torch.manual_seed(0)
    scores = torch.randn(40, 4)
    chosen = scores.topk(2).indices
    balance, z, largest, smallest = measure_routers([(scores[:15], chosen[:15]), (scores[15:], chosen[15:])])
    # Mixtral's counts each of the top-k choices of a token whole.
    torch.testing.assert_close(balance, load_balancing_loss_func((scores,), 4, 2) / 2)
    torch.testing.assert_close(z, torch.logsumexp(scores, dim=1).square().mean())
    counts = chosen.flatten().bincount().tolist()
    assert (largest, smallest) == (pytest.approx(max(counts) / 80), pytest.approx(min(counts) / 80))
    even = torch.arange(8).reshape(4, 2) % 4
    assert float(measure_routers([(torch.zeros(4, 4), even)])[0]) == pytest.approx(1.0)
    alone = torch.tensor([[9.0, 0, 0, 0]] * 4)
    assert float(measure_routers([(alone, torch.zeros(4, 1, dtype=torch.long))])[0]) > 3.9


def test_routers_are_watched_in_training_without_padding_and_once(model: Any) -> None:
    hooks = make_hooks(METHOD, model, RunFacts(1, 1, 0), Path())
    parts = list(find_experts(model))
    model.eval()
    logits(model)
    assert hooks.extra_loss(model, 1) is None
    model.train()
    mask = torch.ones_like(IDS)
    mask[1, 10:] = 0
    model(input_ids=IDS, attention_mask=mask, use_cache=False)
    extra = hooks.extra_loss(model, 1)
    assert extra.requires_grad
    figures = hooks.take_figures()
    expected = METHOD.load_balance * figures["load_balance"][0] + METHOD.z * figures["router_z"][0]
    torch.testing.assert_close(extra.detach(), expected)
    hooks.after(model, 1)
    assert [int(part.use.sum()) for part in parts] == [2 * int(mask.sum())] * 2
    assert [int(part.chosen.sum()) for part in parts] == [0, 0]
    # Of two ranks that saw as many tokens.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.distributed, "is_initialized", lambda: True)
        patch.setattr(torch.distributed, "all_reduce", lambda counts: counts.mul_(2))
        model(input_ids=IDS, attention_mask=mask, use_cache=False)
        hooks.extra_loss(model, 2)
        hooks.after(model, 2)
    assert [int(part.use.sum()) for part in parts] == [3 * 2 * int(mask.sum())] * 2
    assert hooks.extra_loss(model, 2) is None
    # What gradient checkpointing computes again is not counted again.
    part, states = parts[0], torch.randn(1, 5, 64, requires_grad=True)
    checkpoint(part, states, use_reentrant=False).sum().backward()
    assert len(part.take()) == 1
    told = METHOD.outcome(model)["tokens by expert, block 1"]
    assert sum(float(share.rstrip("%")) for share in told.split(", ")) == pytest.approx(100, abs=0.2)
    fresh = METHOD.adapt(load_model(Path(model.config.name_or_path)))
    hooks.load_state(fresh, hooks.state(model))
    assert METHOD.outcome(fresh) == METHOD.outcome(model)


def test_every_expert_has_a_gradient_of_its_own(model: Any) -> None:
    part = next(find_experts(model))
    part.router.weight.data.zero_()
    part.router.weight.data[2] = -1e3  # nobody chooses it
    part(torch.ones(1, 4, 64)).sum().backward()
    grads = [float(expert.down_proj.weight.grad.abs().sum()) for expert in part.experts]
    assert grads[0] > 0
    assert grads[2] == 0.0


def test_what_does_not_fit_is_refused(shape: ModelShape) -> None:
    assert METHOD.problems(shape) == []
    (problem,) = METHOD.problems(replace(shape, architecture="Qwen2ForCausalLM"))
    assert problem.startswith("method.name: mixture_of_experts writes MixtralForCausalLM")
    assert "the base is Qwen2ForCausalLM; take such a base" in problem
    blocks = tuple({**block, "self_attn.q_proj.bias": (64,)} for block in shape.layout.blocks)
    assert "without biases" in METHOD.problems(replace(shape, layout=replace(shape.layout, blocks=blocks)))[0]
    assert MixtureOfExperts(experts=2, top_k=3).problems(shape) == [
        "method.top_k: 3 of 2 experts; set at most 2, or more experts"
    ]
    assert "top_k: 1 leaves a router" in MixtureOfExperts(top_k=1).unusual(shape)[0]
    assert find_reasons(("method", "distribution"), METHOD, Zero(stage=3))
    assert not find_reasons(("method", "distribution"), METHOD, Zero(stage=2))
