"""What each distribution says before anything runs: refusals with a way out, memory of a rank, what DeepSpeed gets."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tasks.contracts.errors import PipelineError
from tasks.language_models.folder.shape import ModelShape
from tasks.training.distribution import DISTRIBUTIONS
from tasks.training.distribution.ddp import Ddp
from tasks.training.distribution.deepspeed_config import SCHEMA
from tasks.training.distribution.distribution import Distribution, Layout
from tasks.training.distribution.fsdp import Fsdp
from tasks.training.distribution.single import Single
from tasks.training.distribution.zero import Zero
from tasks.training.memory import Memory
from tasks.training.plan import check_machine
from tasks.training_setup.params import TrainingSetup
from tests.checkout import ROOT
from tests.tasks.fine_tuning.small import make_plan
from tests.tasks.training.distribution.deepspeed_schema import make_schema

LAYOUT = Layout(ranks=2, batch_size=4, accumulation_steps=3, clip_norm=1.0, precision="fp32", device="cuda")
MEMORY = Memory(
    weights=4000, gradients=4000, optimizer=8000, casts=2000, activations=500, logits=300, buffers=0, communication=0,
    fragmentation=0, runtime=100,
)  # fmt: skip
every = pytest.mark.parametrize("distribution", [kind() for kind in DISTRIBUTIONS], ids=lambda d: d.name)


@every
def test_what_is_resolved_stays_so_and_survives_json(distribution: Distribution, shape: ModelShape) -> None:
    resolved = distribution.resolve(shape, LAYOUT)
    assert resolved.resolve(shape, LAYOUT) == resolved
    values = json.loads(json.dumps(resolved.model_dump(mode="json")))  # type: ignore[attr-defined]
    assert TrainingSetup.model_validate({"distribution": values}).distribution == resolved
    assert resolved.describe()[-1] not in ".\n"
    assert resolved.state_files(2)


@every
def test_it_takes_as_many_processes_as_it_says(distribution: Distribution) -> None:
    refused, taken = (1, 2) if distribution.can.many else (2, 1)
    assert distribution.problems(taken, "cpu") == []
    (problem,) = distribution.problems(refused, "cpu")
    assert "processes" in problem
    assert "; set " in problem


@every
def test_a_rank_holds_no_more_than_one_process_but_what_is_sent(distribution: Distribution, shape: ModelShape) -> None:
    for ranks in (2, 8):
        found = distribution.per_rank(MEMORY, shape, ranks, "fp32")
        assert found.optimizer == (8000 // ranks if distribution.can.sharded else 8000)
        for part in ("weights", "gradients", "activations", "logits", "runtime"):
            assert getattr(found, part) <= getattr(MEMORY, part)
        assert (found.communication > 0) == distribution.can.many


def test_memory_of_a_rank_by_hand(shape: ModelShape) -> None:
    def parts(found: Memory) -> tuple[int, int, int]:
        return found.weights, found.gradients, found.optimizer

    assert parts(Ddp().per_rank(MEMORY, shape, 4, "fp32")) == (4000, 4000, 8000)
    assert Ddp().per_rank(MEMORY, shape, 4, "fp32").communication == 4000
    assert parts(Zero(stage=1).per_rank(MEMORY, shape, 4, "fp32")) == (4000, 4000, 2000)
    assert parts(Zero(stage=2).per_rank(MEMORY, shape, 4, "fp32")) == (4000, 1000, 2000)
    assert parts(Zero(stage=3).per_rank(MEMORY, shape, 4, "fp32")) == (1000, 1000, 2000)
    assert parts(Fsdp().per_rank(MEMORY, shape, 4, "fp32")) == (1000, 1000, 2000)
    # Half the weights and gradients, and the fp32 weights beside the moments: (8,000 + 4,000) / 4.
    halved = Zero(stage=3).per_rank(MEMORY, shape, 4, "bf16")
    assert (*parts(halved), halved.casts) == (500, 500, 3000, 0)
    moved = Zero(stage=3, offload_optimizer="cpu", offload_weights="cpu").per_rank(MEMORY, shape, 4, "fp32")
    assert parts(moved) == (0, 1000, 0)
    # 64 x 600 of the embeddings and two blocks of 4 x 64 x 64 + 3 x 64 x 128 + 2 x 64 weights, and the last norm's.
    blocks = (shape.parameters - 64 * 600) // 2
    assert Fsdp().per_rank(MEMORY, shape, 4, "fp32").communication == 4 * (64 * 600 + 2 * blocks)


@pytest.mark.parametrize(
    ("distribution", "device", "words"),
    [
        (Ddp(nodes=2), "cuda", "distribution.rendezvous: missing for 2 machines"),
        (Ddp(nodes=2, rendezvous="train-0"), "cuda", 'found "train-0"; expected host:port'),
        (Ddp(nodes=2, rendezvous="a:1", hosts=["a"]), "cuda", "1 names for 2 machines"),
        (Zero(offload_weights="cpu"), "cuda", "offload_weights: cpu needs stage: 3"),
        (Zero(offload_optimizer="cpu"), "cpu", "the training is on the CPU already; set none"),
        (Zero(stage=3, offload_optimizer="nvme"), "cuda", "nvme_path: missing"),
        (Zero(offload_optimizer="nvme", nvme_path="/nvme"), "cuda", "nvme needs stage: 3"),
    ],
)
def test_what_cannot_work_is_refused_with_the_way_out(distribution: Distribution, device: Any, words: str) -> None:
    (problem,) = distribution.problems(2, device)
    assert words in problem


def test_zero_is_for_linux(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "darwin")
    (problem,) = Zero().problems(2, "cpu")
    assert problem.endswith("take {name: fsdp}")


def test_offload_is_of_use_in_one_process_too() -> None:
    assert Zero(stage=3, offload_optimizer="cpu").problems(1, "cuda") == []
    assert Single().problems(1, "cuda") == []


def test_deepspeed_gets_what_the_plan_says(shape: ModelShape) -> None:
    config = Zero(stage=3, offload_optimizer="cpu").resolve(shape, LAYOUT).config
    assert isinstance(config, dict)
    assert (config["train_micro_batch_size_per_gpu"], config["gradient_accumulation_steps"]) == (4, 3)
    assert config["train_batch_size"] == 4 * 3 * 2
    assert config["gradient_clipping"] == 1.0
    assert config["bf16"] == {"enabled": False}
    assert config["zero_optimization"]["offload_optimizer"] == {"device": "cpu", "pin_memory": True}
    assert config["zero_optimization"]["stage3_param_persistence_threshold"] == 640
    assert "auto" not in json.dumps(config)


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_the_examples_are_taken_with_all_their_blanks_filled(shape: ModelShape, stage: Any) -> None:
    path = ROOT / f"infra/deepspeed/zero{stage}.json"
    config = Zero(stage=stage, config=str(path)).resolve(shape, replace(LAYOUT, precision="bf16")).config
    assert isinstance(config, dict)
    assert "auto" not in json.dumps(config)
    assert config["zero_optimization"]["stage"] == stage
    assert config["bf16"] == {"enabled": True}
    assert set(json.loads(path.read_text())) <= set(config)


def test_a_configuration_that_disagrees_is_refused_whole(shape: ModelShape, tmp_path: Path) -> None:
    path = tmp_path / "zero.json"
    path.write_text(json.dumps({
        "optimizer": {"type": "Adam"}, "gradient_clipping": 0.5, "bf16": {"enabled": True},
        "zero_optimization": {"stage": 3},
    }))  # fmt: skip
    with pytest.raises(PipelineError, match="4 problems") as caught:
        Zero(stage=2, config=str(path)).resolve(shape, LAYOUT)
    for words in (
        "has optimizer",
        "gradient_clipping is 0.5, but the plan has 1.0",
        "bf16.enabled is True",
        "stage is 3",
    ):
        assert words in str(caught.value)


@pytest.mark.parametrize(
    ("written", "words"),
    [
        (None, "cannot be read (No such file"),
        ("{", "not JSON"),
        ("[1, 2]", "list found; expected a JSON object"),
        ('{"zero_optimization": 3}', "zero_optimization is 3; expected an object"),
        ('{"zero_optimization": {"stage": 3}, "bf16": true}', "bf16 is True; expected an object"),
        ('{"zero_optimization": {"stage": 3, "offload_param": "cpu"}}', "offload_param is 'cpu'; expected an object"),
        ('{"zero_optimization": {"stage": "3"}}', "stage is '3', distribution.stage 3"),
    ],
)
def test_a_file_that_is_no_configuration_is_refused(
    shape: ModelShape, tmp_path: Path, written: str | None, words: str
) -> None:
    path = tmp_path / "zero.json"
    if written is not None:
        path.write_text(written)
    with pytest.raises(PipelineError) as caught:
        Zero(stage=3, config=str(path)).resolve(shape, LAYOUT)
    assert words in str(caught.value)
    with pytest.raises(PipelineError, match="cannot be read"):
        Zero(stage=3, config=str(tmp_path)).resolve(shape, LAYOUT)


def test_what_lives_elsewhere_is_the_same_in_params_and_configuration(shape: ModelShape) -> None:
    """The plan's memory counts by the params."""
    moved = {"stage": 3, "offload_optimizer": {"device": "nvme", "nvme_path": "/fast"}, "offload_param": None}
    config = {"zero_optimization": moved}
    with pytest.raises(PipelineError, match=r"offload_optimizer\.device is nvme, distribution\.offload_optimizer none"):
        Zero(stage=3, config=config).resolve(shape, LAYOUT)
    with pytest.raises(PipelineError, match=r"offload_param\.device is none, distribution\.offload_weights cpu"):
        Zero(stage=3, config={"zero_optimization": {"stage": 3}}, offload_weights="cpu").resolve(shape, LAYOUT)
    with pytest.raises(PipelineError, match=r"nvme_path is /fast, distribution\.nvme_path /slow"):
        Zero(stage=3, config=config, offload_optimizer="nvme", nvme_path="/slow").resolve(shape, LAYOUT)
    agreed = Zero(stage=3, config=config, offload_optimizer="nvme", nvme_path="/fast").resolve(shape, LAYOUT)
    assert isinstance(agreed.config, dict)
    assert agreed.config["zero_optimization"]["offload_optimizer"] == moved["offload_optimizer"]


def test_a_machine_without_what_nvme_needs_is_told_before_a_process_starts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from deepspeed.ops.op_builder import AsyncIOBuilder

    section = {"name": "zero", "stage": 3, "offload_optimizer": "nvme"}

    def lacks(nvme_path: Path, has_library: bool) -> list[str]:
        monkeypatch.setattr(AsyncIOBuilder, "is_compatible", lambda self, verbose=False: has_library)
        plan = make_plan(distribution={**section, "nvme_path": str(nvme_path)})
        return [problem for problem in check_machine(plan) if "nvme" in problem]

    assert lacks(tmp_path, has_library=True) == []
    (library,) = lacks(tmp_path, has_library=False)
    assert "install libaio-dev, or take cpu" in library
    (folder,) = lacks(tmp_path / "none", has_library=True)
    assert "is no folder that can be written" in folder


def test_what_deepspeed_takes_is_what_the_installed_one_takes() -> None:
    """``python -m tests.tasks.training.distribution.deepspeed_schema`` writes it anew."""
    assert json.loads(SCHEMA.read_text()) == make_schema()


@pytest.mark.parametrize(
    ("own", "words"),
    [
        ({"wall_clock_breakdwn": True}, "wall_clock_breakdwn is no key of DeepSpeed's; expected wall_clock_breakdown,"),
        (
            {"zero_optimization": {"overlap_com": True}},
            "zero_optimization.overlap_com is no key of DeepSpeed's; expected",
        ),
        ({"zero_optimization": {"cpu_offload": True}}, "zero_optimization.cpu_offload is no key"),
        ({"zero_optimization": {"reduce_bucket_size": "many"}}, 'reduce_bucket_size is "many"; expected integer;'),
        ({"zero_optimization": {"reduce_bucket_size": 0}}, "reduce_bucket_size is 0; expected integer above 0;"),
        ({"zero_optimization": {"overlap_comm": "yes"}}, 'overlap_comm is "yes"; expected boolean or null;'),
        ({"zero_optimization": {"offload_optimizer": {"ratio": 2}}}, "ratio is 2; expected number of at most 1.0;"),
        ({"zero_optimization": {"offload_optimizer": {"device": "disk"}}}, 'expected one of "none", "cpu", "nvme";'),
        ({"bfloat16": {"enabled": True}}, "bfloat16 is no key of DeepSpeed's; expected bf16,"),
        ({"fp16": {"loss_scle": 0}}, "fp16.loss_scle is no key of DeepSpeed's; expected loss_scale,"),
        ({"aio": {"blok_size": 1}}, "aio.blok_size is no key of DeepSpeed's; expected block_size,"),
        ({"activation_checkpointing": 3}, "activation_checkpointing is 3; expected object;"),
        ({"data_efficiency": {"enabled": True}}, "has data_efficiency, which the params of training_setup decide"),
    ],
)
def test_keys_and_values_that_deepspeed_does_not_take_are_refused(
    shape: ModelShape, own: dict[str, Any], words: str
) -> None:
    """DeepSpeed leaves an unknown key where it is, or finds it when each rank has loaded the base."""
    config = own | {"zero_optimization": {"stage": 2, **own.get("zero_optimization", {})}}
    with pytest.raises(PipelineError) as caught:
        Zero(stage=2, config=config).resolve(shape, LAYOUT)
    assert words in str(caught.value)


def test_what_a_configuration_leaves_to_deepspeed_is_left_out(shape: ModelShape) -> None:
    own = {
        "fp16": {"enabled": "auto", "initial_scale_power": 12},
        "communication_data_type": "auto",
        "zero_optimization": {"stage": 2, "reduce_bucket_size": "auto", "allgather_bucket_size": "auto"},
    }
    config = Zero(stage=2, config=own).resolve(shape, LAYOUT).config
    assert isinstance(config, dict)
    assert config["fp16"] == {"enabled": False, "initial_scale_power": 12}
    assert config["zero_optimization"] == {"stage": 2, "reduce_bucket_size": 64 * 64}
    assert "communication_data_type" not in config


def test_a_build_that_was_broken_off_is_told_and_one_at_work_is_not(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """PyTorch waits for such a lock without end."""
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    plan = make_plan(distribution={"name": "zero", "stage": 2})

    def broken() -> list[str]:
        return [problem for problem in check_machine(plan) if "broken off" in problem]

    lock = tmp_path / "async_io/lock"
    lock.parent.mkdir()
    lock.touch()
    assert broken() == [], "it may have been made a moment ago"
    os.utime(lock, (0, 0))
    (problem,) = broken()
    assert str(lock) in problem
    assert f"rm -r {lock.parent}" in problem
    with subprocess.Popen([sys.executable, "-c", "input()"], cwd=lock.parent, stdin=subprocess.PIPE) as compiler:
        assert broken() == []
        compiler.communicate()


def test_what_the_ranks_need_is_built_before_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from deepspeed.ops.op_builder import AsyncIOBuilder

    built: list[str] = []
    monkeypatch.setattr(AsyncIOBuilder, "load", lambda self, verbose=True: built.append(self.name))
    Zero(stage=3).prepare_here()
    assert built == []
    nvme = Zero(stage=3, offload_optimizer="nvme", nvme_path=str(tmp_path))
    nvme.prepare_here()
    assert built == ["async_io"]

    def fail(self: Any, verbose: bool = True) -> None:
        raise RuntimeError("Error building extension 'async_io': [1/13] c++\nlong output")

    monkeypatch.setattr(AsyncIOBuilder, "load", fail)
    with pytest.raises(
        PipelineError, match=r"async_io cannot be built here \(Error building[^\n]*; install a C\+\+"
    ) as caught:
        nvme.prepare_here()
    assert "long output" not in str(caught.value)


def test_buffers_for_weights_on_nvme_hold_the_largest_share_and_no_more(shape: ModelShape) -> None:
    """DeepSpeed's own are 2 GB in each rank, and too small for the embeddings of a large model."""
    nvme = Zero(stage=3, offload_weights="nvme", nvme_path="/fast")
    largest = max(math.prod(size) for size in [*shape.layout.within.values(), *shape.layout.outside.values()])
    config = nvme.resolve(shape, LAYOUT).config
    assert isinstance(config, dict)
    assert config["zero_optimization"]["offload_param"]["buffer_size"] == -(-largest // 2)
    section = {"device": "nvme", "nvme_path": "/fast", "buffer_size": 10}
    own = nvme.model_copy(update={"config": {"zero_optimization": {"stage": 3, "offload_param": section}}})
    with pytest.raises(PipelineError, match="buffer_size is 10, but a rank's share of the largest weight has"):
        own.resolve(shape, LAYOUT)


def test_a_checkpoint_of_states_on_nvme_is_not_read_back(tmp_path: Path) -> None:
    """DeepSpeed would give the norms the values of the base, without a word."""
    nvme = Zero(stage=3, offload_optimizer="nvme", nvme_path=str(tmp_path))
    for read in (nvme.load_state, nvme.load_weights):
        with pytest.raises(PipelineError, match=r"does not read back whole; remove .* to begin anew, or set"):
            read(None, tmp_path / "step-000002")
