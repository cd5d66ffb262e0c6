"""Weights learn at the rates of their groups; LoRA+ is PEFT's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft.optimizers import create_loraplus_optimizer
from pydantic import ValidationError

from tasks.contracts.errors import PipelineError
from tasks.language_models.folder.model_folder import load_model
from tasks.language_models.folder.shape import ModelShape
from tasks.training.methods.lora import Lora
from tasks.training.optimizers.adamw import AdamW
from tasks.training.optimizers.groups import ParameterGroups, group_weights
from tests.tasks.training.optimizers.problem import make_plan

RATE, DECAY = 1e-2, 0.1


def settings_of(model: Any, **special: Any) -> dict[str, tuple[float, float, str]]:
    """Learning rate, decay and part of each trained weight."""
    decayed = [name for name, weights in model.named_parameters() if weights.ndim > 1]
    groups = group_weights(model, decayed, RATE, DECAY, ParameterGroups(**special))
    assert groups[0]["lr"] == RATE, "the rate that is logged"
    names = {id(weights): name for name, weights in model.named_parameters()}
    return {
        names[id(weights)]: (round(group["lr"], 9), group["weight_decay"], group["part"])
        for group in groups
        for weights in group["params"]
    }


def test_rates_by_parts_of_names(initial: Path) -> None:
    model = load_model(initial)
    rates = {"layers.0": 0.5, "embed_tokens": 0.1, "self_attn.?_proj": 2, "*norm": 3}
    found = settings_of(model, learning_rates=rates, decay_embeddings=False)
    assert found.keys() == {name for name, _ in model.named_parameters()}
    assert found["model.embed_tokens.weight"] == (RATE / 10, 0.0, "embedding")
    assert found["model.layers.0.self_attn.q_proj.weight"] == (RATE / 2, DECAY, "matrix")  # the first that fits
    assert found["model.layers.1.self_attn.q_proj.weight"] == (RATE * 2, DECAY, "matrix")
    assert found["model.layers.1.mlp.up_proj.weight"] == (RATE, DECAY, "matrix")
    assert found["model.layers.1.input_layernorm.weight"] == (RATE * 3, 0.0, "vector")
    assert settings_of(model)["model.embed_tokens.weight"] == (RATE, DECAY, "embedding")


def test_an_output_layer_of_its_own_counts_as_an_embedding(initial: Path) -> None:
    model = load_model(initial)
    model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().clone())
    assert settings_of(model)["lm_head.weight"] == (RATE, DECAY, "embedding")


def test_keys_that_fit_no_weight_are_told(initial: Path) -> None:
    model = Lora(rank=4, targets=["q_proj"]).adapt(load_model(initial))
    with pytest.raises(PipelineError) as caught:
        settings_of(model, learning_rates={"lora_A": 0.5, "embed_tokens": 0.1, "layers.0.self_attn.q_proj.lora_A": 2})
    lines = str(caught.value).splitlines()
    assert len(lines) == 3
    assert "learning_rates.embed_tokens: fits the name of no trained weight" in lines[1]
    assert "lora_A, lora_B" in lines[1]
    assert "learning_rates.layers.0.self_attn.q_proj.lora_A: " in lines[2]
    with pytest.raises(ValidationError):
        ParameterGroups(learning_rates={"embed_tokens": 0})


def test_lora_plus_is_that_of_peft(initial: Path) -> None:
    ids = torch.tensor([list(range(90, 120))])
    found = []
    for oracle in (False, True):
        torch.manual_seed(0)
        model = Lora(rank=4, targets=["q_proj", "down_proj"]).adapt(load_model(initial))
        if oracle:
            optimizer: Any = create_loraplus_optimizer(
                model, torch.optim.AdamW, lr=RATE, loraplus_lr_ratio=16.0, loraplus_weight_decay=DECAY
            )
        else:
            decayed = [name for name, _ in model.named_parameters()]
            groups = group_weights(model, decayed, RATE, DECAY, ParameterGroups(lora_plus_ratio=16))
            optimizer = AdamW().build(groups, 0)
        for _ in range(3):
            model(input_ids=ids, labels=ids).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        found.append({name: weights.detach() for name, weights in model.named_parameters() if weights.requires_grad})
    assert all(torch.equal(weights, found[1][name]) for name, weights in found[0].items())
    sizes = [max(w.abs().max().item() for name, w in found[0].items() if "lora_B" in name), RATE]
    assert sizes[0] > 16 * sizes[1]


def test_lora_plus_needs_pairs(initial: Path, shape: ModelShape) -> None:
    with pytest.raises(PipelineError, match="lora_plus_ratio: 16, but method full trains no pairs of matrices A and B"):
        make_plan(initial, shape, parameter_groups={"lora_plus_ratio": 16})
    plan = make_plan(initial, shape, method={"name": "lora", "rank": 8}, parameter_groups={"lora_plus_ratio": 16})
    assert plan.parameter_groups.describe() == "B matrices × 16"
