"""Every member of the union is what it says it is: bytes as loaded, gradients of the rounded base, exact resume."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from tasks.contracts.errors import PipelineError
from tasks.contracts.machine import Machine
from tasks.contracts.manifest import hash_folder, read_manifest
from tasks.contracts.records import EXAMPLES
from tasks.fine_tuning.rows import tokenize_splits
from tasks.fine_tuning.run import Run
from tasks.fine_tuning.train import fine_tune
from tasks.fine_tuning.trainer.fine_tuner import FineTuner
from tasks.language_models.folder.model_folder import load_model
from tasks.language_models.folder.shape import ModelShape, describe_shape
from tasks.training.choices import Precision
from tasks.training.methods.bottleneck import Bottleneck
from tasks.training.methods.full import Full
from tasks.training.methods.lora import Lora
from tasks.training.quantization import QUANTIZATIONS, quantizations_where
from tasks.training.quantization.int8 import Int8
from tasks.training.quantization.measure import LAYERS, LAYERS_IN_BITS, measure_weights
from tasks.training.quantization.nf4 import Nf4
from tasks.training.quantization.none import Unquantized
from tasks.training.quantization.quantization import Quantization
from tasks.training.tuned import load_tuned, merge_tuned
from tasks.training_setup.counts import count_tokens
from tasks.training_setup.params import TrainingSetup
from tasks.training_setup.resolve import resolve_plan
from tests.tasks.fine_tuning.small import make_plan, make_splits
from tests.tasks.training.methods.test_contract import Interrupted, interrupt_at, logits
from tests.tiny import example_rows

MEMBERS = pytest.mark.parametrize("quantization", [member() for member in QUANTIZATIONS], ids=quantizations_where())
BITS = pytest.mark.parametrize("quantization", [Nf4(), Nf4(double_quantization=False), Int8()], ids=str)
IDS = list(range(90, 130))


def load(quantization: Quantization, initial: Path, precision: Precision = "fp32") -> Any:
    return quantization.resolve(True, precision).load(initial, precision, "cpu")


def decode(model: Any, plain: Any) -> Any:
    """A plain model with the weights that a quantised one stands for."""
    from bitsandbytes.functional import dequantize_4bit, int8_vectorwise_dequant
    from bitsandbytes.nn import Linear4bit, Linear8bitLt

    for name, module in model.named_modules():
        own = plain.get_submodule(name)
        if isinstance(module, Linear4bit):
            own.weight.data = dequantize_4bit(module.weight.data, module.weight.quant_state).float()
        elif isinstance(module, Linear8bitLt):
            own.weight.data = int8_vectorwise_dequant(module.weight.data, module.weight.SCB).float()
    return plain


def gradients(model: Any) -> torch.Tensor:
    """Of the trainable weights, by one sequence, after a pass without gradients, as every validation is one."""
    ids = torch.tensor([IDS])
    model.eval()
    logits(model, IDS)
    model.train()
    model.zero_grad()
    model(input_ids=ids, labels=ids, use_cache=False).loss.backward()
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.requires_grad])


def adapted(base: Any, shape: ModelShape) -> Any:
    """LoRA whose B is not zero, so that A has gradients too."""
    torch.manual_seed(0)
    model = Lora(rank=4).resolve(shape).adapt(base)
    for name, weights in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weights, std=0.1)
    return model


@MEMBERS
def test_what_is_resolved_stays_so_and_survives_json(quantization: Quantization) -> None:
    for precision in ("bf16", "fp16", "fp32"):
        resolved = quantization.resolve(True, precision)  # type: ignore[arg-type]
        assert resolved.resolve(True, "fp32") == resolved
        values = json.loads(json.dumps(resolved.model_dump(mode="json")))  # type: ignore[attr-defined]
        assert TrainingSetup.model_validate({"quantization": values}).quantization == resolved
        assert resolved.describe()
        assert resolved.describe()[-1] not in ".\n"


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
@MEMBERS
def test_bytes_of_the_base_are_those_in_memory(
    quantization: Quantization, initial: Path, shape: ModelShape, precision: Precision
) -> None:
    parts = measure_weights(load(quantization, initial, precision))
    assert sum(part.weights for part in parts) == shape.parameters
    assert sum(part.bytes for part in parts) == quantization.resolve(True, precision).base_bytes(shape)


def test_a_trained_base_is_held_in_fp32_and_takes_no_bits(initial: Path, shape: ModelShape, machine: Machine) -> None:
    assert Unquantized().resolve(False, "bf16").weights == "fp32"
    (problem,) = Unquantized(weights="bf16").problems(shape, False, "bf16", "cpu")
    assert "set weights: auto" in problem
    rows = pa.Table.from_pylist(example_rows(40), schema=EXAMPLES)
    counts = count_tokens(rows, rows, initial, 96)
    for quantization in quantizations_where(lambda can: not can.trained_base):
        settings = TrainingSetup.model_validate(
            {"method": Full().model_dump(), "quantization": {"name": quantization}, "max_tokens": 96}
        )
        with pytest.raises(PipelineError) as refused:
            resolve_plan(settings, shape, counts, machine)
        found = str(refused.value)
        assert found.startswith(
            f"quantization: {quantization}, with method full: the method trains the base's weights, or reads them as "
            "they are not in few bits; take method lora or "
        )
        assert found.endswith(", or quantization none")


@BITS
def test_gradients_are_those_of_the_rounded_base(quantization: Quantization, initial: Path, shape: ModelShape) -> None:
    base = load(quantization, initial)
    plain = adapted(decode(base, load_model(initial)), shape)
    torch.testing.assert_close(gradients(adapted(base, shape)), gradients(plain), rtol=1e-4, atol=1e-5)


def test_what_a_cpu_does_not_read_back_is_not_quantised(tmp_path: Path) -> None:
    """The kernel decodes every multiple of 64 right, and is wrong on others; once it is not, nothing needs skipping."""
    from bitsandbytes.functional import dequantize_4bit, quantize_4bit

    wrong = []
    for inner in (64, 96, 128, 160, 320, 1024):
        weights = torch.randn(8, inner)
        decoded = dequantize_4bit(*quantize_4bit(weights, blocksize=64, quant_type="nf4"))
        # The widest gap between values of NF4 is 0.304 of a block's largest magnitude.
        if ((decoded - weights).view(-1, 64).abs() > 0.16 * weights.view(-1, 64).abs().amax(1, keepdim=True)).any():
            wrong.append(inner)
    assert wrong == [96, 160]

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=600, hidden_size=64, intermediate_size=96, num_hidden_layers=12, num_attention_heads=2
    )
    LlamaForCausalLM(config).save_pretrained(tmp_path)
    shape = describe_shape(tmp_path, 256)
    base = load(Nf4(), tmp_path, "bf16")
    held = {part.name: part for part in measure_weights(base.requires_grad_(False))}
    assert held[LAYERS].weights == 12 * 64 * 96
    assert held[LAYERS].bits == 16
    assert held[LAYERS_IN_BITS].weights == shape.linear_weights - 12 * 64 * 96
    assert sum(part.bytes for part in held.values()) == Nf4().resolve(True, "bf16").base_bytes(shape)
    plain = adapted(decode(load(Nf4(), tmp_path), load_model(tmp_path)), shape)
    torch.testing.assert_close(gradients(adapted(load(Nf4(), tmp_path), shape)), gradients(plain), rtol=1e-4, atol=1e-5)
    (problem,) = Nf4().problems(replace(shape, linear={"up_proj": ((64, 96),)}), True, "bf16", "cpu")
    assert problem.startswith("quantization: nf4, but no linear layer has inputs whose width is a multiple of 64")


@BITS
def test_what_cannot_be_quantised_is_refused_with_the_way_out(
    quantization: Quantization, shape: ModelShape, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    half = quantization.model_copy(update={"weights": "fp16"})  # type: ignore[attr-defined]
    found = half.problems(replace(shape, linear={}), True, "bf16", "cuda")
    assert [problem.partition(";")[0] for problem in found] == [
        "quantization.weights: fp16, but the computation is in bf16",
        f"quantization: {quantization.name}, but the model has no linear layer to quantise",
        f"quantization: {quantization.name} needs bitsandbytes, which is not installed here and is made for Linux",
    ]


def test_packed_anew_for_inference_nothing_would_be_learned(initial: Path, shape: ModelShape) -> None:
    """What the cure in `load_in_bits` cures: one pass without gradients, and those that follow are others."""
    from bitsandbytes.functional import has_avx512bf16

    if not has_avx512bf16():
        pytest.skip("this CPU has no AVX512-bf16, so bitsandbytes packs nothing")
    base = load(Nf4(), initial)
    for module in base.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = True
    cured, uncured = (gradients(adapted(model, shape)) for model in (load(Nf4(), initial), base))
    assert ((cured - uncured).norm() / cured.norm()).item() > 0.5


@BITS
def test_validation_computes_what_training_does(quantization: Quantization, initial: Path) -> None:
    model = load(quantization, initial)
    with torch.no_grad():
        trained, validated = (
            model.train(training)(input_ids=torch.tensor([IDS]), use_cache=False).logits for training in (True, False)
        )
    assert torch.equal(trained, validated)


def test_norms_begin_at_those_of_the_weights(initial: Path, shape: ModelShape) -> None:
    """DoRA answers as its base before the first step, though PEFT measures the norms in 16 bits."""
    base = load(Nf4(), initial, "bf16")
    with torch.autocast("cpu", torch.bfloat16):
        before = logits(base, IDS)
        after = logits(Lora(rank=4, dora=True).resolve(shape).adapt(base), IDS)
    torch.testing.assert_close(before, after, rtol=0, atol=1e-6)


@MEMBERS
def test_a_method_that_is_not_of_peft_trains_over_it(
    quantization: Quantization, initial: Path, shape: ModelShape, tmp_path: Path
) -> None:
    """Which transformers' trainer refuses beside a base that it knows to be quantised."""
    held, method = quantization.resolve(True, "fp32"), Bottleneck(size=8).resolve(shape)
    plan = make_plan(method=method, quantization=held, steps=4)
    run = fine_tune(plan, make_splits(initial, rows=12), initial, tmp_path / "checkpoints", tmp_path / "tuned")
    losses = [point.eval_loss for point in run.curve if point.eval_loss is not None]
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("dora", [False, True])
@MEMBERS
def test_from_plan_to_merged_model(quantization: Quantization, initial: Path, tmp_path: Path, dora: bool) -> None:
    """Interrupted and taken up again to the same bytes; opened and merged over the base in full precision."""
    held = quantization.resolve(True, "bf16")
    every = {"checkpoint_every_steps": 3, "evaluate_every_steps": 3, "log_every_steps": 1}
    method = Lora(rank=4, alpha=8, dropout=0.1, targets=["q_proj", "v_proj", "down_proj"], dora=dora)
    plan = make_plan(method=method, quantization=held, precision="bf16", steps=6, **every)
    rows = pa.Table.from_pylist(example_rows(32), schema=EXAMPLES)
    splits = tokenize_splits(rows.slice(0, 24), rows.slice(24), initial, plan.max_tokens, 8)

    def run(folder: Path, on_metrics: Any = None, trainer_class: Any = None) -> Run:
        return fine_tune(
            plan, splits, initial, folder / "checkpoints", folder / "tuned", on_metrics=on_metrics,
            trainer_class=trainer_class,
        )  # fmt: skip

    class Watched(FineTuner):
        """Sees that what is trained is fp32 from the first step on, and the base as it was after the last."""

        def train(self, *arguments: Any, **options: Any) -> Any:
            assert {p.dtype for p in self.model.parameters() if p.requires_grad} == {torch.float32}
            before = {name: p.clone() for name, p in self.model.named_parameters() if not p.requires_grad}
            trained = super().train(*arguments, **options)
            after = dict(self.model.named_parameters())
            assert all(torch.equal(weights, after[name]) for name, weights in before.items())
            return trained

    whole = run(tmp_path / "whole", trainer_class=Watched)
    with pytest.raises(Interrupted):
        run(tmp_path / "halves", interrupt_at(5))
    halves = run(tmp_path / "halves")
    assert (whole.resumed_at, halves.resumed_at) == (0, 3)
    assert whole.curve == halves.curve
    assert hash_folder(tmp_path / "whole/tuned") == hash_folder(tmp_path / "halves/tuned")
    losses = [point.eval_loss for point in whole.curve if point.eval_loss is not None]
    assert losses[-1] < losses[0]
    assert read_manifest(tmp_path / "whole/tuned")["quantization"] == held.model_dump()  # type: ignore[attr-defined]

    model, _ = load_tuned(initial, tmp_path / "whole/tuned")
    merged, _ = merge_tuned(initial, tmp_path / "whole/tuned")
    assert {weights.dtype for weights in model.parameters()} == {torch.float32}
    torch.testing.assert_close(logits(merged, IDS), logits(model, IDS), rtol=0, atol=3e-6)
    plain = load_model(initial)
    own = plain.get_parameter
    changed = [name for name, weights in merged.named_parameters() if not torch.equal(weights, own(name))]
    assert changed
    assert all(name.endswith(("q_proj.weight", "v_proj.weight", "down_proj.weight")) for name in changed)
