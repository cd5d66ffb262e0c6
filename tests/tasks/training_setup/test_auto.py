"""``method: {name: auto}`` takes the first of its documented order that fits, says why, and never reaches a plan."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import pytest

from tasks.contracts.errors import PipelineError
from tasks.contracts.machine import Machine
from tasks.language_models.folder.shape import ModelShape
from tasks.training_setup.auto import Auto
from tasks.training_setup.choose import describe, list_candidates
from tasks.training_setup.counts import Counts
from tasks.training_setup.params import ResolvableSetup, TrainingSetup
from tasks.training_setup.resolve import Resolution, resolve_plan

GIB = 2**30
LENGTHS = [60] * 1000
COUNTS = Counts(
    rows=1000, examples=1000, cut=0, full_lengths=LENGTHS, lengths=LENGTHS, tokens=60_000, supervised_tokens=10_000,
    validation_examples=3,
)  # fmt: skip
# As Llama-3-8B: 32 blocks, grouped heads, an output layer of its own.
LAYERS = {
    "q_proj": (4096, 4096), "k_proj": (1024, 4096), "v_proj": (1024, 4096), "o_proj": (4096, 4096),
    "gate_proj": (14336, 4096), "up_proj": (14336, 4096), "down_proj": (4096, 14336),
}  # fmt: skip
LARGE = ModelShape(
    parameters=8_030_261_248, linear={name: (size,) * 32 for name, size in LAYERS.items()}, head="lm_head",
    hidden=4096, intermediate=14336, layers=32, heads=32, key_value_width=1024, vocabulary=128_256, context=8192,
    isolates_packed=True,
)  # fmt: skip


def card(gib: float, cards: int = 1, **changes: Any) -> Machine:
    return Machine(
        device="cuda", accelerator="card", accelerators=cards, accelerator_memory_bytes=round(gib * GIB), cores=64,
        memory_bytes=512 * GIB, bf16=True, **changes,
    )  # fmt: skip


def resolve(shape: ModelShape, machine: Machine, **changes: Any) -> Resolution:
    settings = TrainingSetup.model_validate({"method": {"name": "auto"}, "max_tokens": 128, **changes})
    return resolve_plan(settings, shape, COUNTS, machine)


def taken(found: Resolution) -> tuple[str, str, bool]:
    return found.plan.method.name, found.plan.quantization.name, found.plan.gradient_checkpointing


def test_small_bases_are_trained_whole(shape: ModelShape, machine: Machine) -> None:
    found = resolve(shape, machine)
    assert taken(found) == ("full", "none", False)
    assert found.choices[0].startswith("method auto took full: ")


@pytest.mark.parametrize(
    ("gib", "expected"), [(80, ("lora", "none", False)), (16, ("lora", "nf4", False))], ids=["80 GiB", "16 GiB"]
)
def test_eight_billion_weights(gib: float, expected: tuple[str, str, bool]) -> None:
    found = resolve(LARGE, card(gib))
    assert taken(found) == expected
    assert found.memory.total <= 0.8 * gib * GIB


def test_why_is_told_with_what_was_tried(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="tasks.training_setup"):
        found = resolve(LARGE, card(16))
    assert "before it were tried lora (" in found.choices[0]
    assert "; lora, gradient checkpointing (" in found.choices[0]
    assert found.choices[0] in caplog.text


def test_the_plan_holds_what_was_taken(shape: ModelShape, machine: Machine) -> None:
    found = resolve(shape, machine, method={"name": "auto", "rank": 4}, memory_limit_gib=None)
    assert '"auto"' not in found.plan.model_dump_json()
    assert [choice.partition(" ")[0] for choice in found.choices] == [
        "method", "precision", "batch_size", "accumulation_steps", "threads",
    ]  # fmt: skip


def test_keys_that_are_set_stay(shape: ModelShape, machine: Machine) -> None:
    found = resolve(shape, machine, gradient_checkpointing=True, quantization={"name": "none"})
    assert taken(found) == ("full", "none", True)
    found = resolve(LARGE, card(80), quantization={"name": "nf4"}, method={"name": "auto", "rank": 4})
    assert taken(found) == ("lora", "nf4", False)
    assert getattr(found.plan.method, "rank", None) == 4


def test_what_is_refused_for_another_reason_is_passed_by(shape: ModelShape, machine: Machine) -> None:
    """Full fine-tuning fits, and what LoRA adapts is missing; so it is the other way round with 4 bits."""
    found = resolve(replace(shape, linear={}), machine)
    assert taken(found)[0] == "full"
    with pytest.raises(PipelineError, match="max_tokens: 300 is more than"):
        resolve(shape, machine, max_tokens=300)


def test_where_nothing_fits_the_smallest_is_refused_with_what_it_needs() -> None:
    with pytest.raises(PipelineError, match=r"memory: about [\d.]+ GiB needed, this machine's cuda has 4.0 GiB"):
        resolve(LARGE, card(4))


def test_the_order_is_the_documented_one(shape: ModelShape, machine: Machine) -> None:
    settings = TrainingSetup(method=Auto())
    listed = [
        describe(ResolvableSetup.model_validate(one)) for one in list_candidates(settings, Auto(), shape, machine)
    ]
    plain = ["full", "lora", "lora, nf4"]
    assert listed == [f"{name}{more}" for name in plain for more in ("", ", gradient checkpointing")]
    large = [
        describe(ResolvableSetup.model_validate(one)) for one in list_candidates(settings, Auto(), LARGE, card(80))
    ]
    assert large == listed[2:]


def test_several_cards_share_what_one_cannot_hold() -> None:
    """Copies of 16 GB of weights do not fit on cards of 16 GiB, whatever of the rest is shared."""
    found = resolve(LARGE, card(16, cards=4))
    assert taken(found) == ("lora", "none", False)
    assert (found.plan.distribution.name, getattr(found.plan.distribution, "stage", None)) == ("zero", 3)
    assert found.plan.world_size == 4
    assert "before it were tried lora, ddp (" in found.choices[0]
    assert resolve(LARGE, card(80, cards=4)).plan.distribution.name == "ddp"
