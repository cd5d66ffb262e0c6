"""Plans are what a calculation by hand gives; what cannot work is refused with every reason at once."""

from __future__ import annotations

import dataclasses
import logging
from typing import Any

import pytest
from pydantic import ValidationError

from tasks.contracts.errors import PipelineError
from tasks.contracts.machine import Machine
from tasks.language_models.folder.shape import ModelShape
from tasks.training.methods import names_where
from tasks.training.methods.full import Full
from tasks.training.methods.lora import Lora
from tasks.training.rows import ANSWER_CUT
from tasks.training_setup.counts import Counts
from tasks.training_setup.params import TrainingSetup
from tasks.training_setup.report import _schedule_figure
from tasks.training_setup.resolve import count_steps, resolve_plan


def counts(lengths: list[int], rows: int | None = None, supervised: int = 10, validation: int = 8) -> Counts:
    return Counts(
        rows=len(lengths) if rows is None else rows,
        examples=len(lengths),
        cut=0,
        full_lengths=lengths,
        lengths=lengths,
        tokens=sum(lengths),
        supervised_tokens=supervised * len(lengths),
        validation_examples=validation,
        dropped={} if rows is None else {ANSWER_CUT: rows - len(lengths)},
    )


def settings(**changes: Any) -> TrainingSetup:
    """The defaults, fitted to the tiny model's context of 256."""
    return TrainingSetup.model_validate({"max_tokens": 128, **changes})


def refusal(shape: ModelShape, machine: Machine, of: Counts | None = None, **changes: Any) -> str:
    with pytest.raises(PipelineError) as caught:
        resolve_plan(settings(**changes), shape, of or counts([60] * 100), machine)
    return str(caught.value)


def test_shape_of_the_tiny_model(shape: ModelShape) -> None:
    assert shape.parameters == 600 * 64 + 2 * (4 * 64 * 64 + 3 * 64 * 128 + 2 * 64) + 64
    assert shape.linear["q_proj"] == ((64, 64), (64, 64))
    assert shape.linear["down_proj"] == ((64, 128), (64, 128))
    assert "lm_head" not in shape.linear
    assert shape.head == "lm_head"
    assert (shape.context, shape.layers, shape.hidden, shape.vocabulary) == (256, 2, 64, 600)
    assert shape.isolates_packed


def test_plan_with_packing(shape: ModelShape, machine: Machine) -> None:
    # Rows of 128 hold two conversations of 60: 100 conversations are 50 rows. 1,024 tokens a step are 8 rows: 7 steps
    # an epoch, 21 for three, and 5% of them, rounded up, warm up.
    plan = resolve_plan(settings(method={"name": "lora", "rank": 4}), shape, counts([60] * 100), machine).plan
    assert (plan.rows, plan.batch_size, plan.accumulation_steps) == (50, 8, 1)
    assert (plan.steps_per_epoch, plan.steps, plan.warmup_steps, plan.epochs) == (7, 21, 2, 3.0)
    assert (plan.precision, plan.device, plan.threads, plan.world_size) == ("bf16", "cpu", 2, 1)
    assert isinstance(plan.method, Lora)
    assert plan.method.targets == ["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"]
    # rank x (in + out) over two layers: four of 64 x 64, three of 64 x 128.
    assert plan.trainable_parameters == 2 * 4 * (4 * (64 + 64) + 3 * (64 + 128))
    assert plan.made_for == machine


def test_plan_without_packing(shape: ModelShape, machine: Machine) -> None:
    # 1,024 tokens of conversations of 60 are 17 rows, and 16 is the power of two below.
    found = resolve_plan(
        settings(packing="none", method={"name": "full"}, epochs=1.5, learning_rate=1e-4),
        shape,
        counts([60] * 100),
        machine,
    )
    plan = found.plan
    assert (plan.rows, plan.batch_size, plan.steps_per_epoch) == (100, 16, 7)
    assert plan.steps == 11  # 1.5 x 7, rounded up
    assert plan.epochs == round(11 / 7, 6)
    assert plan.method == Full()
    assert plan.trainable_parameters == shape.parameters
    assert found.figures["steps"] == 11


@pytest.mark.parametrize(
    ("epochs", "rows", "batch", "per_step", "steps"),
    [(1, 100, 8, 1, 13), (2, 100, 8, 1, 26), (1, 100, 8, 2, 7), (2, 100, 8, 2, 13), (0.5, 3, 4, 1, 1), (3, 1, 8, 4, 1)],
)
def test_steps(epochs: float, rows: int, batch: int, per_step: int, steps: int) -> None:
    assert count_steps(epochs, rows, batch, per_step) == steps


def test_max_steps_ends_a_run_early(shape: ModelShape, machine: Machine) -> None:
    plan = resolve_plan(settings(max_steps=7), shape, counts([60] * 100), machine).plan
    assert (plan.steps, plan.epochs) == (7, 1.0)
    plan = resolve_plan(settings(max_steps=1000), shape, counts([60] * 100), machine).plan
    assert plan.steps == 21


def test_intervals_in_epochs_become_steps(shape: ModelShape, machine: Machine) -> None:
    # 50 packed rows, 8 a step, are 6.25 steps an epoch where the next epoch fills the last one up.
    plan = resolve_plan(
        settings(evaluate_every={"epochs": 0.5}, checkpoint_every={"epochs": 2}, batch_size=2, accumulation_steps=4),
        shape,
        counts([60] * 100),
        machine,
    ).plan
    assert (plan.evaluate_every_steps, plan.checkpoint_every_steps) == (3, 12)
    assert resolve_plan(settings(), shape, counts([60] * 100), machine).plan.evaluate_every_steps == 100


@pytest.mark.parametrize(
    ("changes", "batch", "accumulation"),
    [
        ({"global_batch_size": 12}, 6, 2),
        ({"global_batch_size": 64}, 8, 8),
        ({"global_batch_size": 24, "batch_size": 3}, 3, 8),
        ({"global_batch_size": 24, "accumulation_steps": 6}, 4, 6),
        ({"global_batch_size": 24, "batch_size": 2, "accumulation_steps": 12}, 2, 12),
        ({"batch_size": 5, "accumulation_steps": 3}, 5, 3),
    ],
)
def test_batch_and_accumulation(
    shape: ModelShape, machine: Machine, changes: dict[str, Any], batch: int, accumulation: int
) -> None:
    plan = resolve_plan(settings(**changes), shape, counts([60] * 100), machine).plan
    assert (plan.batch_size, plan.accumulation_steps) == (batch, accumulation)


@pytest.mark.parametrize(
    "changes",
    [
        {"global_batch_size": 24, "batch_size": 5},
        {"global_batch_size": 24, "accumulation_steps": 7},
        {"global_batch_size": 24, "batch_size": 4, "accumulation_steps": 4},
        {"global_batch_size": 3, "processes": 2, "threads": 1, "distribution": {"name": "ddp"}},
    ],
)
def test_numbers_that_do_not_go_together(shape: ModelShape, machine: Machine, changes: dict[str, Any]) -> None:
    assert "global_batch_size" in refusal(shape, machine, **changes)


def test_the_best_step_of_a_run_on_nvme_is_refused_before_it_trains(shape: ModelShape, machine: Machine) -> None:
    nvme = {"name": "zero", "stage": 3, "offload_optimizer": "nvme", "nvme_path": "/nvme"}
    assert "keep: best reads a checkpoint back" in refusal(shape, machine, distribution=nvme, keep="best")
    assert resolve_plan(settings(distribution=nvme, keep="last"), shape, counts([60] * 100), machine).plan


def test_all_reasons_at_once(shape: ModelShape, machine: Machine) -> None:
    message = refusal(
        dataclasses.replace(shape, isolates_packed=False),
        machine,
        counts([], rows=40),
        method={"name": "lora", "rank": 65, "targets": ["q_proj", "query", "lm_head"]},
        max_tokens=300,
        global_batch_size=10,
        batch_size=4,
        memory_limit_gib=0.1,
        threads=3,
        schedule={"name": "wsd", "decay_share": 1},
    )
    lines = message.splitlines()
    assert lines[0] == "the training plan cannot work: 10 problems"
    for reason in (
        "method.targets: lm_head is the output layer",
        "no linear module query; expected all-linear or some of down_proj, gate_proj, k_proj",
        "method.rank: 65 is more than the smaller side of q_proj (64)",
        "max_tokens: 300 is more than the model's context (256); set max_tokens: 256",
        "packing: bfd would let this model see one conversation from another",
        "threads x processes: 3, but this process may use 2 cores",
        "none of 40 conversations has an answer within 300 tokens (long_rows: truncate_right)",
        "global_batch_size: 10",
        "memory: about ",
        "schedule.decay_share: 1 and warmup_share 0.05 are more than all steps",
    ):
        assert sum(reason in line for line in lines) == 1


def test_a_method_that_cannot_pack_is_refused_with_the_way_out(
    shape: ModelShape, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Lora, "can", dataclasses.replace(Lora.can, packing=False))
    message = refusal(shape, machine)
    told, _, others = message.partition("none or take method ")
    assert told == (
        "packing: bfd, with method lora: the method cannot train on packed rows, which see one another; set packing: "
    )
    assert others.split(" or ")[:4] == names_where(lambda can: can.packing)[:4]
    assert "lora" not in others
    assert resolve_plan(settings(packing="none"), shape, counts([60] * 100), machine).plan.packing == "none"


def test_a_model_without_linear_layers_is_refused(shape: ModelShape, machine: Machine) -> None:
    message = refusal(dataclasses.replace(shape, linear={}), machine)
    assert message.startswith("method.targets: the model has no linear layer")
    assert "method: {name: full}" in message


def test_too_little_memory_names_the_ways_out(shape: ModelShape) -> None:
    small = Machine(device="cpu", cores=2, memory_bytes=2**28, bf16=True)
    message = refusal(shape, small, method={"name": "full"}, batch_size=4)
    assert "this machine's cpu has 0.2 GiB" in message
    roomy = resolve_plan(
        settings(method={"name": "full"}, batch_size=4),
        shape,
        counts([60] * 100),
        small.model_copy(update={"memory_bytes": 2**34}),
    ).plan
    assert len(roomy.remedies) == 3
    for remedy in roomy.remedies:
        assert f"training_setup.{remedy.change} ({remedy.saved_bytes / 2**30:.2f} GiB less)" in message


def test_a_plan_keeps_what_would_save_most(shape: ModelShape, machine: Machine) -> None:
    """By the same prediction with the param changed."""

    def total(**changes: Any) -> int:
        plan = resolve_plan(settings(**{"batch_size": 8, **changes}), shape, counts([60] * 100), machine).plan
        return plan.predicted_memory_bytes

    for method, precision, expected in (
        ("full", "bf16", [{"batch_size": 4}, {"max_tokens": 64}, {"gradient_checkpointing": True}]),
        ("lora", "fp32", [{"max_tokens": 64}, {"batch_size": 4}, {"gradient_checkpointing": True}]),
    ):
        own = {"method": {"name": method}, "precision": precision}
        found = resolve_plan(settings(batch_size=8, **own), shape, counts([60] * 100), machine).plan.remedies
        saved = {remedy.change: remedy.saved_bytes for remedy in found}
        assert saved == {
            ", ".join(f"{key}: {str(value).lower()}" for key, value in change.items()): total(**own)
            - total(**own, **change)
            for change in expected
        }
        assert list(saved.values()) == sorted(saved.values(), reverse=True)
    plan = resolve_plan(settings(), shape, counts([60] * 100), machine).plan
    assert plan.auto_batch
    assert not plan.batch_halved


def test_memory_is_shared_by_processes_of_one_cpu(shape: ModelShape) -> None:
    machine = Machine(device="cpu", cores=4, memory_bytes=2**30, bf16=True)
    resolve_plan(settings(), shape, counts([60] * 100), machine)
    assert "0.5 GiB for each process" in refusal(shape, machine, processes=2, distribution={"name": "ddp"})


def test_each_rank_has_the_averages_of_its_share(shape: ModelShape, machine: Machine) -> None:
    def optimizer_bytes(**changes: Any) -> int:
        changes = {"processes": 2, "threads": 1, **changes}
        return resolve_plan(settings(**changes), shape, counts([60] * 100), machine).memory.optimizer

    for distribution, share in (("ddp", 4), ("fsdp", 2), ("zero", 2)):
        chosen = {"distribution": {"name": distribution}, "method": {"name": "full"}}
        more = optimizer_bytes(**chosen, ema_decay=0.9) - optimizer_bytes(**chosen)
        assert more == pytest.approx(share * shape.parameters, abs=2), distribution


def test_accelerators(shape: ModelShape, machine: Machine) -> None:
    old = Machine(
        device="cuda",
        accelerator="T4",
        accelerators=2,
        accelerator_memory_bytes=2**34,
        cores=8,
        memory_bytes=2**35,
        bf16=False,
    )
    assert "precision: fp16, which a CPU does not train in" in refusal(shape, machine, precision="fp16")
    message = refusal(shape, old, precision="bf16", processes=3, distribution={"name": "ddp"})
    assert "precision: bf16, which T4 lacks; set precision: fp16" in message
    assert "processes: 3, but this machine has 2 accelerators" in message
    found = resolve_plan(settings(processes=2, distribution={"name": "ddp"}), shape, counts([60] * 100), old)
    assert (found.plan.precision, found.plan.device, found.plan.world_size) == ("fp16", "cuda", 2)
    assert found.plan.threads == 4


def test_auto_batch_shrinks_with_the_memory(shape: ModelShape) -> None:
    def batch(memory: int) -> int:
        card = Machine(
            device="cuda",
            accelerator="card",
            accelerators=1,
            accelerator_memory_bytes=memory,
            cores=8,
            memory_bytes=2**35,
            bf16=True,
        )
        found = resolve_plan(settings(packing="none"), shape, counts([100] * 1000), card)
        assert found.memory.total <= memory
        return found.plan.batch_size

    assert batch(80 * 2**30) == 64
    assert 1 <= batch(930 * 2**20) < 64


@pytest.mark.parametrize(
    ("changes", "of", "words"),
    [
        (
            {"method": {"name": "full"}, "learning_rate": 5e-3},
            {},
            "learning_rate 0.005 is high for objective supervised with method full on 120,640 parameters; 1e-05",
        ),
        (
            {"method": {"name": "full"}, "learning_rate": 1e-3, "objective": {"name": "dpo"}},
            {},
            "learning_rate 0.001 is high for objective dpo with method full on 120,640 parameters; 1e-06 to 0.0003 is",
        ),
        ({"learning_rate": 1e-7}, {}, "low for objective supervised with method lora"),
        ({"max_steps": 3}, {}, "only 3 optimizer steps; raise max_steps"),
        ({"epochs": 0.5}, {}, "optimizer steps; raise epochs or lower the batch"),
        ({"optimizer": {"name": "gradient_descent"}}, {}, "only 3 optimizer steps; raise epochs"),
        (
            {"method": {"name": "full"}, "learning_rate": 5e-2, "optimizer": {"name": "galore"}},
            {},
            "high for objective supervised with method full and optimizer galore on 120,640 parameters; 1e-05 to 0.03",
        ),
        ({"epochs": 20}, {}, "20 epochs repeat the same rows"),
        ({"evaluate_every": {"steps": 500}}, {}, "evaluate_every is beyond"),
        ({}, {"rows": 120}, "20 of 120 conversations do not train: the answer is beyond max_tokens; raise"),
        ({}, {"validation": 0}, "validation split has no supervised token"),
        (
            {},
            {"validation": 7},
            "loss is that of 7 conversations alone, which tells little; raise data_preparation.split",
        ),
        ({}, {"validation": 1, "rows": 120}, "1 conversation alone, which tells little; raise data_preparation.split."),
    ],
)
def test_unusual_plans_warn_and_pass(
    shape: ModelShape,
    machine: Machine,
    caplog: pytest.LogCaptureFixture,
    changes: dict[str, Any],
    of: dict[str, int],
    words: str,
) -> None:
    found = resolve_plan(settings(**changes), shape, counts([60] * 100, **of), machine)
    assert any(words in warning for warning in found.warnings)
    assert words in caplog.text


@pytest.mark.parametrize(
    ("steps", "share", "warmup"), [(1, 0.05, 0), (2, 0.05, 1), (4, 0.95, 3), (40, 0.05, 2), (40, 0.0, 0)]
)
def test_the_warm_up_ends_before_the_last_step(
    shape: ModelShape, machine: Machine, steps: int, share: float, warmup: int
) -> None:
    """A warm-up begins at 0, so that a run of one step would leave every weight as it was."""
    for schedule in ("cosine", *(["inverse_sqrt"] if share else [])):
        changes = {"epochs": 100, "max_steps": steps, "warmup_share": share, "schedule": {"name": schedule}}
        plan = resolve_plan(settings(**changes), shape, counts([60] * 100), machine).plan
        assert (plan.steps, plan.warmup_steps) == (steps, warmup)
        assert plan.learning_rate_at(warmup) == plan.learning_rate


def test_the_drawn_rates_are_those_of_the_steps_that_the_log_counts(shape: ModelShape, machine: Machine) -> None:
    plan = resolve_plan(settings(max_steps=12, epochs=100), shape, counts([60] * 100), machine).plan
    line = _schedule_figure(plan).axes[0].lines[0]
    drawn = dict(zip(line.get_xdata(), line.get_ydata(), strict=True))
    assert drawn == {step: plan.learning_rate_at(step - 1) for step in range(1, 13)}


def test_a_usual_plan_says_nothing(shape: ModelShape, machine: Machine, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="tasks.training_setup"):
        found = resolve_plan(settings(evaluate_every={"steps": 10}), shape, counts([60] * 100), machine)
    assert found.warnings == ()
    assert caplog.text == ""


def test_unknown_methods_and_keys_are_answered_with_the_valid_ones() -> None:
    with pytest.raises(ValidationError, match="'full', 'lora'"):
        settings(method={"name": "prefix"})
    with pytest.raises(ValidationError, match=r"method\.lora\.ranks"):
        settings(method={"name": "lora", "ranks": 8})
    with pytest.raises(ValidationError, match="batch_size"):
        settings(batch_size=0)


def test_processes_need_to_know_how_they_share_the_work(shape: ModelShape, machine: Machine) -> None:
    message = refusal(shape, machine, processes=2)
    assert message.startswith("processes: 2, but distribution single trains in one; set distribution: {name: ddp}")


def test_machines_times_processes_are_ranks(shape: ModelShape, machine: Machine) -> None:
    shared = {"name": "ddp", "nodes": 3, "rendezvous": "train-0:29400"}
    found = resolve_plan(settings(processes=2, distribution=shared, batch_size=2), shape, counts([60] * 100), machine)
    plan = found.plan
    # 50 packed rows are 25 batches of 2, of which a step takes one a rank.
    assert (plan.world_size, plan.threads, plan.steps_per_epoch) == (6, 1, 5)
    assert found.memory.communication == found.memory.gradients


def test_shares_are_not_for_everything(shape: ModelShape, machine: Machine) -> None:
    shared = {"processes": 2, "distribution": {"name": "zero"}}
    message = refusal(
        shape, machine, **shared, method={"name": "full"}, learning_rate=1e-4, optimizer={"name": "adafactor"}
    )
    assert message.startswith("optimizer: adafactor, with distribution zero: the optimizer needs whole weights")
    assert "take distribution ddp, or optimizer adamw" in message
    for distribution, label in (({"name": "fsdp"}, "fsdp"), ({"name": "zero", "stage": 3}, "zero (stage 3)")):
        shared["distribution"] = distribution
        message = refusal(shape, machine, **shared, quantization={"name": "int8"})
        assert message.startswith(
            f"quantization: int8, with distribution {label}: the distribution gives each rank a part of every weight, "
            "and those of the quantisation cannot be taken apart"
        )
        assert "; take distribution ddp" in message


@pytest.mark.parametrize("distribution", [{"name": "fsdp"}, {"name": "zero", "stage": 3}])
def test_a_base_in_4_bits_is_shared_out(shape: ModelShape, machine: Machine, distribution: dict[str, Any]) -> None:
    few = {"quantization": {"name": "nf4"}, "precision": "fp32", "batch_size": 1}
    alone = resolve_plan(settings(**few), shape, counts([60] * 100), machine).memory
    shared = {"processes": 2, "distribution": distribution}
    memory = resolve_plan(settings(**few, **shared), shape, counts([60] * 100), machine).memory
    assert memory.weights == -(-alone.weights // 2)
