"""Predicted activations are what autograd keeps, and the rest is arithmetic."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tasks.language_models.folder.model_folder import load_model
from tasks.language_models.folder.shape import ModelShape
from tasks.training.memory import SMALLEST_MAPPED
from tasks.training.methods.full import Full
from tasks.training.methods.half import Half
from tasks.training.methods.last_layers import LastLayers
from tasks.training.methods.lora import Lora
from tasks.training.methods.method import Method
from tasks.training.optimizers.adamw import AdamW
from tasks.training.optimizers.sgd import Sgd
from tasks.training.quantization.none import Unquantized
from tasks.training_setup.memory import RUNTIME_BYTES, SCRATCH_BYTES, find_peak, list_moments

BATCH, TOKENS = 4, 128


def predict_moments(shape: ModelShape, method: Method, **changes: Any) -> Any:
    held = Unquantized(weights=changes.pop("weights", "auto"))
    return list_moments(
        shape,
        method,
        held.resolve(method.can.frozen_base, changes.get("precision", "fp32")),
        **{
            "batch_size": BATCH,
            "max_tokens": TOKENS,
            "packed": False,
            "supervised_share": 1.0,
            "precision": "fp32",
            "optimizer": AdamW(),
            "gradient_checkpointing": False,
            "device": "cpu",
            **changes,
        },
    )


def predicted(shape: ModelShape, method: Method, **changes: Any) -> Any:
    return predict_moments(shape, method, **changes)["backward"]


def kept_by_autograd(model_folder: Path, method: Method, bf16: bool, packed: bool) -> int:
    """Bytes of all distinct tensors that a forward pass keeps for the backward pass, weights apart.

    The loss is a sum, so the output layer keeps its input and its weight alone.
    """
    import torch

    model: Any = method.adapt(load_model(model_folder)).train()
    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    alive: list[Any] = []  # so that no storage is used again while counting

    def keep(tensor: Any) -> Any:
        alive.append(tensor)
        return tensor

    ids = torch.randint(3, 600, (BATCH, TOKENS))
    positions = (torch.arange(TOKENS) % 32).repeat(BATCH, 1)
    inputs = {"position_ids": positions} if packed else {"attention_mask": torch.ones_like(ids)}
    hooks = torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor)
    with hooks, torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        model(input_ids=ids, use_cache=False, **inputs).logits.sum()
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in alive}
    return sum(size for place, size in storages.items() if place not in own)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize(
    "method",
    [Full(), LastLayers(layers=1), Lora(rank=8), Lora(rank=8, dora=True)],
    ids=["full", "last_layers", "lora", "dora"],
)
def test_activations_and_casts(tiny_model: Path, shape: ModelShape, method: Method, bf16: bool, packed: bool) -> None:
    memory = predicted(shape, method, precision="bf16" if bf16 else "fp32", packed=packed, weights="fp32")
    counted = kept_by_autograd(tiny_model, method, bf16, packed)
    assert memory.activations + memory.casts == pytest.approx(counted, rel=0.15)


def test_full_by_hand(shape: ModelShape) -> None:
    memory = predicted(shape, Full())
    assert memory.weights == memory.gradients == 4 * shape.parameters
    assert memory.optimizer == 8 * shape.parameters
    assert memory.casts == 0
    assert memory.logits == 3 * BATCH * TOKENS * 600 * 4
    assert memory.total == sum(vars(memory).values())


def test_the_peak_is_the_largest_moment(shape: ModelShape) -> None:
    values: dict[str, Any] = {
        "batch_size": BATCH, "max_tokens": TOKENS, "packed": False, "supervised_share": 1.0, "precision": "fp32",
        "optimizer": AdamW(), "gradient_checkpointing": False, "device": "cpu", "accumulates": False,
    }  # fmt: skip
    model = (shape, Full(), Unquantized(weights="fp32"))
    moments = list_moments(*model, **values)
    total, largest = 4 * shape.parameters, 4 * 600 * 64
    held = total + 2 * total + SCRATCH_BYTES["cpu"] + RUNTIME_BYTES["cpu"]
    # Gradients come as activations go: none at first, that of the tied embedding next, all of them for the step.
    assert [moment.gradients for moment in moments.values()] == [0, largest, largest, total, 0]
    assert moments["step"].total == held + total + 2 * largest
    assert moments["validation"].total == held + 2 * 2048 * 600 * 4
    assert find_peak(moments) == max(moments.values(), key=lambda moment: moment.total)
    assert list_moments(*model, **{**values, "accumulates": True})["backward"].gradients == total


def test_small_tensors_that_were_freed_stay_in_the_heap(shape: ModelShape) -> None:
    per_token = 4 * (8 * shape.hidden + 2 * shape.key_value_width + 4 * shape.intermediate)
    assert predicted(shape, Full()).fragmentation == shape.layers * BATCH * TOKENS * per_token
    # Of large batches each tensor is mapped on its own; shorter ones came before.
    large = predicted(shape, Full(), batch_size=100 * BATCH).fragmentation
    assert shape.layers * SMALLEST_MAPPED < large < shape.layers * 14 * SMALLEST_MAPPED
    assert large == predicted(shape, Full(), batch_size=200 * BATCH).fragmentation
    for elsewhere in ({"release_freed": True}, {"device": "cuda"}):
        assert predicted(shape, Full(), **elsewhere).fragmentation == 0


def test_a_block_that_was_recomputed_lies_where_blocks_before_it_lay(shape: ModelShape) -> None:
    moments = predict_moments(shape, Full(), gradient_checkpointing=True)
    backward, blocks = moments["backward"], moments["blocks"]
    recomputed = blocks.activations - backward.activations
    assert backward.fragmentation == round(1.8 * recomputed)
    assert blocks.fragmentation == backward.fragmentation - recomputed > 0


def test_a_base_that_is_read_again_is_held_beside(shape: ModelShape) -> None:
    values: dict[str, Any] = {
        "batch_size": 1, "max_tokens": 8, "packed": False, "supervised_share": 1.0, "precision": "fp32",
        "optimizer": AdamW(), "gradient_checkpointing": False, "device": "cpu",
    }  # fmt: skip
    held = Unquantized(weights="fp32")
    once = list_moments(shape, Half(), held, **values)
    rounds = list_moments(shape, Half.model_validate({"every": {"steps": 2}}), held, **values)
    change = rounds.pop("change")
    assert rounds == once
    assert change.buffers == SCRATCH_BYTES["cpu"] + 4 * shape.parameters
    assert (change.gradients, change.optimizer) == (0, once["step"].optimizer)


def test_lora_by_hand(shape: ModelShape) -> None:
    method = Lora(rank=8, targets=["q_proj", "v_proj"])
    trained = 8 * (64 + 64) * 2 * 2
    memory = predicted(shape, method, precision="bf16", supervised_share=0.25)
    assert method.trainable(shape) == trained
    assert method.kept_per_token(shape) == 8 * 2 * 2
    norms = (2 * 2 + 1) * 64
    assert memory.weights == 2 * (shape.parameters - norms) + 4 * (norms + trained)
    assert memory.casts == 2 * trained
    assert memory.gradients == 4 * trained
    assert memory.optimizer == 8 * trained
    assert memory.logits == 3 * BATCH * TOKENS // 4 * 600 * 4


def test_what_saves_memory(shape: ModelShape) -> None:
    plain = predicted(shape, Full())
    assert predicted(shape, Full(), gradient_checkpointing=True).activations < plain.activations
    assert predicted(shape, Full(), optimizer=Sgd()).optimizer == 0
    tenth = predicted(shape, Full(), device="cuda", supervised_share=0.1)
    assert tenth.logits == math.ceil(BATCH * TOKENS / 10) * 600 * 12
    assert predicted(shape, Full(), batch_size=2 * BATCH).activations == 2 * plain.activations


def test_logits_that_are_computed_in_parts_are_held_in_parts(shape: ModelShape) -> None:
    wide = replace(shape, vocabulary=2**20)
    # 2^27 logits at most are 128 positions of this vocabulary.
    assert predicted(wide, Full()).logits == 128 * 2**20 * 12
