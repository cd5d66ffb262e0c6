"""The output layer in parts gives the loss and gradients of the whole, also where a model caps or scales its logits."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from tasks.fine_tuning.loss import batch_loss
from tasks.fine_tuning.loss.batches import collate
from tasks.fine_tuning.loss.output_layer import restrict_positions, sum_in_parts
from tasks.fine_tuning.trainer.fine_tuner import FineTuner
from tasks.language_models.logits import scale_logits
from tasks.training.losses import LOSSES
from tasks.training.losses.cross_entropy import CrossEntropy
from tests.tasks.fine_tuning.small import make_full_trainer

SMALL = {
    "vocab_size": 50, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
    "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 32, "bos_token_id": 0, "eos_token_id": 1,
    "pad_token_id": 1,
}  # fmt: skip


@pytest.fixture(scope="module")
def trainer(initial: Path, tmp_path_factory: pytest.TempPathFactory) -> FineTuner:
    return make_full_trainer(initial, tmp_path_factory.mktemp("output"), packing="bfd")


def measure(trainer: FineTuner, loss: Any) -> tuple[torch.Tensor, torch.Tensor, int]:
    """Loss and gradient per supervised token of three packed rows."""
    rows = trainer.splits.train
    inputs = collate(rows, [[0, 1], [2], [3, 4]], trainer.pad, packed=True)
    inputs["weights"] = torch.linspace(0.5, 1.5, inputs["labels"].numel()).reshape(inputs["labels"].shape)
    trainer.model.zero_grad()
    found = trainer.batch_loss.sum(trainer.model, inputs, loss, 1)
    (found.total / found.tokens).backward()
    gradient = torch.cat([p.grad.flatten() for p in trainer.model.parameters()])
    return found.total.detach() / found.tokens, gradient, found.tokens


@pytest.mark.parametrize("loss", [member() for member in LOSSES], ids=lambda loss: loss.name)
def test_in_parts_as_in_one_piece(trainer: FineTuner, loss: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, gradient, tokens = measure(trainer, loss)
    monkeypatch.setattr(batch_loss, "MAXIMUM_LOGITS", 7 * trainer.batch_loss.vocabulary)
    most: list[int] = []
    plain = type(loss).total
    monkeypatch.setattr(
        type(loss), "total", lambda self, logits, about: most.append(len(logits)) or plain(self, logits, about)
    )
    parts, gradient_of_parts, _ = measure(trainer, loss)
    assert tokens > 7
    # Each part once in the forward pass and once more in the backward pass.
    assert sorted(most) == sorted([*[7] * (tokens // 7), tokens % 7] * 2)
    torch.testing.assert_close(parts, whole, rtol=0, atol=1e-6)
    torch.testing.assert_close(gradient_of_parts, gradient, rtol=0, atol=1e-6)


def small_models() -> list[Any]:
    torch.manual_seed(0)
    configs = [
        transformers.Gemma2Config(**SMALL, final_logit_softcapping=0.5, query_pre_attn_scalar=8),
        transformers.CohereConfig(**SMALL, logit_scale=0.25),
        transformers.GraniteConfig(**SMALL, logits_scaling=3.0),
    ]
    return [transformers.AutoModelForCausalLM.from_config(config) for config in configs]


@pytest.mark.parametrize("number", range(3), ids=["gemma2", "cohere", "granite"])
def test_capped_and_scaled_logits(number: int) -> None:
    model = small_models()[number]
    ids = torch.arange(2, 26).reshape(2, 12)
    positions, targets = torch.tensor([1, 4, 5, 11, 13, 20]), torch.tensor([3, 9, 4, 40, 41, 7])
    with restrict_positions(model.lm_head, positions):
        logits = model(input_ids=ids, use_cache=False).logits
    whole = torch.nn.functional.cross_entropy(logits, targets, reduction="sum")

    def loss(part: torch.Tensor, span: slice) -> torch.Tensor:
        scaled = scale_logits(part, model.config)
        return torch.nn.functional.cross_entropy(scaled, targets[span], reduction="sum")

    with sum_in_parts(model.lm_head, positions, 4, loss) as sums:
        returned = model(input_ids=ids, use_cache=False).logits
    torch.testing.assert_close(sums[0].sum(), whole, rtol=0, atol=1e-5)
    torch.testing.assert_close(returned, scale_logits(sums[0], model.config))
    assert not torch.allclose(returned, sums[0])
    # Nothing of it is left behind.
    torch.testing.assert_close(model(input_ids=ids).logits.shape, torch.Size([2, 12, 50]))


def test_a_model_with_another_end_is_computed_in_one_piece(
    initial: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    trainer = make_full_trainer(initial, tmp_path, packing="bfd")
    forward = type(trainer.model).forward

    def doubled(self: Any, *arguments: Any, **named: Any) -> Any:
        outputs = forward(self, *arguments, **named)
        outputs.logits = outputs.logits * 2
        return outputs

    monkeypatch.setattr(trainer.model, "forward", doubled.__get__(trainer.model))
    whole, gradient, _ = measure(trainer, CrossEntropy())
    monkeypatch.setattr(batch_loss, "MAXIMUM_LOGITS", 7 * trainer.batch_loss.vocabulary)
    with caplog.at_level(logging.WARNING):
        again, gradient_again, _ = measure(trainer, CrossEntropy())
        measure(trainer, CrossEntropy())
    assert caplog.text.count("changes its logits in a way that is not known") == 1
    torch.testing.assert_close(again, whole, rtol=0, atol=0)
    torch.testing.assert_close(gradient_again, gradient, rtol=0, atol=0)
