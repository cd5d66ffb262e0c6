"""Bottleneck adapters compute what their paper says, begin at the base's own answers, and are refused where a model has
no place for them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, OPTConfig, OPTForCausalLM

from tasks.contracts.errors import PipelineError
from tasks.language_models.folder.model_folder import load_model
from tasks.language_models.folder.shape import ModelShape, describe_shape
from tasks.training.methods.bottleneck import Bottleneck
from tasks.training.quantization.nf4 import Nf4

IDS = torch.tensor([list(range(90, 112))])
FORMS = [Bottleneck(size=8), Bottleneck(form="parallel", size=8, at=["attention", "feed_forward"], activation="gelu")]
forms = pytest.mark.parametrize("method", FORMS, ids=lambda method: method.form)


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=IDS, use_cache=False).logits


def randomise(model: Any) -> Any:
    torch.manual_seed(5)
    for weights in model.parameters():
        if weights.requires_grad:
            torch.nn.init.normal_(weights, std=0.2)
    return model


@forms
@pytest.mark.parametrize("architecture", ["llama", "gpt2", "opt"])
def test_training_begins_at_the_base(method: Bottleneck, architecture: str, initial: Path) -> None:
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"vocab_size": 600, "num_hidden_layers": 2}
    if architecture == "llama":
        model: Any = load_model(initial)
    elif architecture == "gpt2":
        model = GPT2LMHeadModel(GPT2Config(n_embd=32, n_head=2, n_positions=64, **sizes)).eval()
    else:
        config = OPTConfig(hidden_size=32, ffn_dim=64, num_attention_heads=2, word_embed_proj_dim=32, **sizes)
        model = OPTForCausalLM(config).eval()
        if method.form == "parallel":
            with pytest.raises(PipelineError, match="0 output layers of the feed-forward part in 2 blocks of OPT"):
                method.adapt(model)
            return
    before = logits(model)
    assert torch.equal(logits(method.adapt(model)), before)
    assert not torch.allclose(logits(randomise(model)), before, atol=1e-2)


def test_a_serial_adapter_follows_its_part(initial: Path) -> None:
    model = randomise(Bottleneck(size=8, scale=0.5).adapt(load_model(initial)))
    layer = model.model.layers[1].mlp.down_proj
    inputs = torch.randn(3, layer.in_features)
    part = torch.nn.functional.linear(inputs, layer.weight)
    down, up = layer.adapter.down, layer.adapter.up
    expected = part + 0.5 * ((part @ down.weight.T + down.bias).clamp(min=0) @ up.weight.T + up.bias)
    torch.testing.assert_close(layer(inputs), expected)
    assert hasattr(model.model.layers[1].self_attn.o_proj, "adapter")


def test_a_parallel_adapter_reads_what_its_part_reads(initial: Path) -> None:
    base = load_model(initial)
    model = randomise(Bottleneck(form="parallel", size=8).adapt(load_model(initial)))
    part, plain = model.model.layers[1].mlp, base.model.layers[1].mlp
    inputs = torch.randn(3, 64)
    down, up = part.adapter.down, part.adapter.up
    added = 4.0 * ((inputs @ down.weight.T + down.bias).clamp(min=0) @ up.weight.T + up.bias)
    torch.testing.assert_close(part(inputs), plain(inputs) + added)
    assert not hasattr(model.model.layers[1].self_attn, "adapter")


@forms
def test_what_is_saved_loads_to_the_same_logits(method: Bottleneck, initial: Path, tmp_path: Path) -> None:
    model = randomise(method.adapt(load_model(initial)))
    (file,) = method.save(model, tmp_path)
    assert torch.equal(logits(method.load(initial, tmp_path)), logits(model))
    other = method.model_copy(update={"size": 4})
    with pytest.raises(PipelineError, match=f"{file}: holds other weights than the method adds"):
        other.load(initial, tmp_path)


@forms
def test_a_base_in_four_bits_stays_as_it_is(method: Bottleneck, initial: Path, shape: ModelShape) -> None:
    model = Nf4().resolve(True, "fp32").load(initial, "fp32", "cpu")
    before = logits(model)
    adapted = method.adapt(model)
    assert torch.equal(logits(adapted), before)
    optimizer = torch.optim.AdamW([p for p in adapted.parameters() if p.requires_grad], 1e-2)
    losses = []
    for _ in range(3):
        optimizer.zero_grad()
        loss = adapted(input_ids=IDS, labels=IDS).loss
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[2] < losses[0] - 0.05
    trained = sum(p.numel() for p in adapted.parameters() if p.requires_grad)
    assert trained == method.trainable(shape)


def test_models_and_params_that_do_not_fit_are_refused(shape: ModelShape, tmp_path: Path) -> None:
    OPTConfig(hidden_size=32, ffn_dim=64, num_hidden_layers=2, num_attention_heads=2).save_pretrained(tmp_path)
    opt = describe_shape(tmp_path, 64)
    assert Bottleneck().problems(opt) == []
    (problem,) = Bottleneck(form="parallel").problems(opt)
    assert problem.startswith("method.at: no output layer of the feed-forward part among the model's linear layers (f")
    assert "expected down_proj or fc_out or" in problem
    # Experts: more than one such layer in a block.
    experts = replace(shape, linear={**shape.linear, "down_proj": shape.linear["down_proj"] * 4})
    assert len(Bottleneck().problems(experts)) == 1
    for at in ([], ["attention", "attention"]):
        (problem,) = Bottleneck(at=at).problems(shape)  # type: ignore[arg-type]
        assert "expected attention, feed_forward or both, each once" in problem
    assert Bottleneck(size=1000).unusual(shape) == [
        "method.size: 1000 is more than the model's width (64): nothing is narrowed"
    ]
    with pytest.raises(PipelineError, match="are not linear, so they do not merge"):
        Bottleneck().merge(tmp_path, tmp_path)
