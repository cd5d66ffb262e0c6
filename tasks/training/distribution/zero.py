"""ZeRO: each process keeps a share of what data parallel repeats (Rajbhandari et al. 2020, arXiv:1910.02054), by
DeepSpeed; what does not fit can live in main memory or on NVMe (Ren et al. 2021, arXiv:2101.06840; Rajbhandari et al.
2021, arXiv:2104.07857).

Stage 1 shares the optimizer states, stage 2 the gradients too, stage 3 the weights as well, which are fetched layer by
layer while they are needed. Good where a model's states do not fit one accelerator; stage 3 also reads the base in
shares, so that no process ever holds all of it, but for a base in NF4, which each reads whole first. In bf16 the model
computes on bf16 weights, and the fp32 ones belong to the optimizer's states.

DeepSpeed keeps weights as one flat list of numbers per rank, so an optimizer sees no matrices. Its checkpoints are a
share per rank, of which another number of ranks takes what is its own.

Example: ``distribution: {name: zero, stage: 2}`` with ``processes: 2``. A model of 1 billion weights under AdamW in
fp32 takes 4 GB of weights in each rank, and 2 GB of gradients and 4 GB of moments instead of 4 and 8.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field

from tasks.contracts.errors import PipelineError, raise_all
from tasks.contracts.machine import Device
from tasks.contracts.params import Reads
from tasks.language_models.folder.shape import ModelShape
from tasks.training.choices import Precision
from tasks.training.distribution.deepspeed_build import build, find_broken_builds
from tasks.training.distribution.deepspeed_config import Json, find_misfits, read_configuration
from tasks.training.distribution.distribution import DistributionCan, Layout
from tasks.training.distribution.machines import Machines
from tasks.training.distribution.zero_shares import count_ranks, restore
from tasks.training.memory import Memory

Place = Literal["none", "cpu", "nvme"]


class Zero(Machines):
    """Train on shares of optimizer states, gradients and weights, by DeepSpeed."""

    can: ClassVar[DistributionCan] = DistributionCan(many=True, sharded=True, resize=True, skips_steps=False)

    name: Literal["zero"] = "zero"
    stage: Literal[1, 2, 3] = Field(
        default=2, description="shared are 1: optimizer states; 2: gradients too; 3: weights too"
    )
    offload_optimizer: Place = Field(default="none", description="where optimizer states live: cpu is main memory")
    offload_weights: Place = Field(default="none", description="where weights live, with stage 3")
    nvme_path: str | None = Field(default=None, description="folder on the NVMe disk, where something lives there")
    config: Annotated[str | Json | None, Reads("file", inline=True)] = Field(
        default=None, description="DeepSpeed's own configuration, or a JSON file of it; null: made of these params"
    )

    def problems(self, processes: int, device: Device) -> list[str]:
        offloads = {"offload_optimizer": self.offload_optimizer, "offload_weights": self.offload_weights}
        places = {place for place in offloads.values() if place != "none"}
        problems = self.machine_problems(self.name, processes, least=1 if places else 2)
        if not sys.platform.startswith("linux"):
            problems.append(
                f"distribution: zero needs DeepSpeed, which runs on Linux, not {sys.platform}; take {{name: fsdp}}"
            )
        if self.offload_weights != "none" and self.stage != 3:
            problems.append(f"distribution.offload_weights: {self.offload_weights} needs stage: 3; set it, or none")
        problems += [
            f"distribution.{key}: cpu, but the training is on the CPU already; set none"
            for key, place in offloads.items()
            if place == "cpu" and device == "cpu"
        ]
        if "nvme" in places and self.nvme_path is None:
            problems.append("distribution.nvme_path: missing; expected a folder on an NVMe disk")
        if "nvme" in places and self.stage != 3:
            problems.append("distribution.offload_optimizer: nvme needs stage: 3; set it, or cpu")
        return problems

    def missing_here(self) -> list[str]:
        if not self._on_nvme:
            return find_broken_builds()
        from deepspeed.ops.op_builder import AsyncIOBuilder

        problems, folder = find_broken_builds(), Path(self.nvme_path or "")
        if not (folder.is_dir() and os.access(folder, os.W_OK)):
            problems.append(
                f"distribution.nvme_path: {folder} is no folder that can be written; expected one on an NVMe disk"
            )
        if not AsyncIOBuilder().is_compatible(verbose=False):
            problems.append(
                "distribution: nvme needs libaio and its headers, which are not found here; install libaio-dev, "
                "or take cpu"
            )
        return problems

    def prepare_here(self) -> None:
        if self._on_nvme:
            from deepspeed.ops.op_builder import AsyncIOBuilder

            build(AsyncIOBuilder())

    @property
    def reads_back(self) -> bool:
        """DeepSpeed 0.19 leaves out the norms when it reads a checkpoint of a run with something on NVMe."""
        return not self._on_nvme

    @property
    def _on_nvme(self) -> bool:
        return "nvme" in (self.offload_optimizer, self.offload_weights)

    def resolve(self, shape: ModelShape, layout: Layout) -> Self:
        """The same with the configuration that DeepSpeed gets, whole.

        Raises:
            PipelineError: The file cannot be read, or disagrees with the plan.
        """
        own = read_configuration(Path(self.config)) if isinstance(self.config, str) else self.config
        planned = _planned_values(layout)
        if own is None:
            config = {**planned, "zero_optimization": self._zero_section(layout.device)}
        else:
            raise_all(self._disagreements(own, planned, _largest_share(shape, layout.ranks)), "distribution.config")
            config = own | {
                key: {**own.get(key, {}), **value} if isinstance(value, dict) else value
                for key, value in planned.items()
            }
        section = {**config["zero_optimization"]}
        section |= {key: size for key, size in _sizes(shape, self.stage).items() if section.get(key, "auto") == "auto"}
        if self.offload_weights == "nvme":
            weights = section["offload_param"]
            size = weights.get("buffer_size", "auto")
            share = _largest_share(shape, layout.ranks)
            section["offload_param"] = {**weights, "buffer_size": share if size == "auto" else size}
        return self.model_copy(update={"config": _drop_auto({**config, "zero_optimization": section})})

    def _zero_section(self, device: Device) -> Json:
        section: Json = {
            "stage": self.stage,
            "contiguous_gradients": True,
            "overlap_comm": device != "cpu",  # overlapping needs the streams of an accelerator
            "reduce_scatter": True,
        }
        for key, (_, place) in self._offloads().items():
            if place != "none":
                section[key] = {"device": place, "pin_memory": device != "cpu"}
                if place == "nvme":
                    section[key]["nvme_path"] = self.nvme_path
        return section

    def _disagreements(self, own: Json, planned: Json, largest_share: int) -> list[str]:
        """Where a configuration of the user's says other than the plan, or than the model needs."""
        where = self.config if isinstance(self.config, str) else "distribution.config"
        sections = {name: own.get(name, {}) for name in ("zero_optimization", "bf16", "fp16")}
        zero = sections["zero_optimization"]
        if isinstance(zero, dict):
            sections |= {name: zero.get(name) or {} for name in self._offloads()}
        wrong = [
            f"{where}: {name} is {section!r}; expected an object, as DeepSpeed's documentation has it"
            for name, section in sections.items()
            if not isinstance(section, dict)
        ]
        if wrong:
            return wrong
        problems = find_misfits(own, where)
        problems += [
            f"{where}: {key} is {own[key]}, but the plan has {value}; write auto or take it out"
            for key, value in planned.items()
            if key in own and own[key] not in ("auto", value) and not isinstance(value, dict)
        ]
        for name in ("bf16", "fp16"):
            found = sections[name].get("enabled", "auto")
            if found not in ("auto", planned[name]["enabled"]):
                problems.append(f"{where}: {name}.enabled is {found}, but precision says otherwise; write auto")
        stage = zero.get("stage")
        if stage != self.stage:
            problems.append(
                f"{where}: zero_optimization.stage is {stage!r}, distribution.stage {self.stage}; make them agree"
            )
        for name, (param, place) in self._offloads().items():
            section = {"device": "none", "nvme_path": None, **sections[name]}
            expected: dict[str, tuple[str, str]] = {"device": (param, place)}
            if place == "nvme":
                expected["nvme_path"] = ("nvme_path", str(self.nvme_path))
            problems += [
                f"{where}: zero_optimization.{name}.{key} is {section[key]}, distribution.{ours} {value}; "
                "make them agree"
                for key, (ours, value) in expected.items()
                if section[key] != value
            ]
        size = sections["offload_param"].get("buffer_size", "auto")
        if self.offload_weights == "nvme" and isinstance(size, int | float) and size < largest_share:
            problems.append(
                f"{where}: zero_optimization.offload_param.buffer_size is {size:g}, but a rank's share of the largest "
                f"weight has {largest_share} numbers; write auto or take it out"
            )
        return problems

    def _offloads(self) -> dict[str, tuple[str, Place]]:
        """DeepSpeed's section of what lives elsewhere: its param here, and the place."""
        return {
            "offload_optimizer": ("offload_optimizer", self.offload_optimizer),
            "offload_param": ("offload_weights", self.offload_weights),
        }

    def per_rank(self, memory: Memory, shape: ModelShape, ranks: int, precision: Precision) -> Memory:
        """Shares of what the stage shares; in 16 bits trained weights and gradients of that size, and no casts."""
        trained = memory.gradients
        weights, gradients, optimizer, casts = memory.weights, trained, memory.optimizer, memory.casts
        if precision != "fp32":
            weights, gradients, optimizer, casts = weights - trained // 2, trained // 2, optimizer + trained, 0
        optimizer = 0 if self.offload_optimizer != "none" else -(-optimizer // ranks)
        if self.stage >= 2:
            gradients = -(-gradients // ranks)
        if self.stage == 3:
            weights = 0 if self.offload_weights != "none" else -(-weights // ranks)
        buckets = _sizes(shape, self.stage)["reduce_bucket_size"] * (4 if precision == "fp32" else 2)
        communication = memory.communication + 2 * buckets
        return replace(
            memory,
            weights=weights,
            gradients=gradients,
            optimizer=optimizer,
            casts=casts,
            communication=communication,
        )

    def describe(self) -> str:
        shared = {
            1: "optimizer states",
            2: "optimizer states and gradients",
            3: "optimizer states, gradients and weights",
        }
        moved = [
            f"{what} in {'main memory' if place == 'cpu' else 'files on NVMe'}"
            for what, place in (("optimizer states", self.offload_optimizer), ("weights", self.offload_weights))
            if place != "none"
        ]
        return f"shares of {shared[self.stage]} (ZeRO-{self.stage}){self.on_machines()}" + "".join(
            f", {words}" for words in moved
        )

    def arguments(self, batch_size: int, accumulation_steps: int) -> dict[str, Any]:
        assert isinstance(self.config, dict), "a plan holds what is resolved"
        rows = {"train_micro_batch_size_per_gpu": batch_size, "gradient_accumulation_steps": accumulation_steps}
        return {"deepspeed": {**self.config, **rows}, "ddp_timeout": self.timeout_s}

    def shard(self, model: Any) -> Any:
        """The same; in 16 bits with all weights in them, as stage 3 has read the base's."""
        import torch

        config = self.config if isinstance(self.config, dict) else {}
        for name, dtype in (("bf16", torch.bfloat16), ("fp16", torch.float16)):
            if config[name]["enabled"]:
                for weights in model.parameters():
                    if weights.is_floating_point() and not hasattr(weights, "ds_id"):
                        weights.data = weights.data.to(dtype)
        return model

    def gather(self, model: Any) -> dict[str, Any]:
        import deepspeed
        import torch
        from deepspeed.utils import safe_get_full_fp32_param

        first = torch.distributed.get_rank() == 0
        gathered = {}
        for name, weights in model.named_parameters():
            if not weights.requires_grad:
                continue
            whole = safe_get_full_fp32_param(weights)
            if whole is None:  # fp32 weights that each rank has
                with deepspeed.zero.GatheredParameters([weights]):
                    whole = weights.detach().clone()
            if first:
                size = weights.ds_shape if self.stage == 3 else weights.shape
                gathered[name] = whole.detach().float().cpu().reshape(size)
        return gathered

    def own_share(self, model: Any, names: Collection[str]) -> dict[str, Any]:
        """This rank's parts of the fp32 weights; in stages 1 and 2 of those that it has a part of."""
        from deepspeed.utils import safe_get_local_fp32_param

        trained = find_parameters(model, names)
        if self.stage == 3:
            return {name: safe_get_local_fp32_param(weights) for name, weights in trained.items()}
        return {
            name: weights._hp_mapping.hp_fragment.detach() for name, weights in trained.items() if weights._hp_mapping
        }

    def put_share(self, model: Any, share: Mapping[str, Any]) -> None:
        from deepspeed.utils import safe_set_local_fp32_param

        for name, weights in find_parameters(model, share).items():
            if self.stage == 3:
                safe_set_local_fp32_param(weights, share[name])
            elif weights._hp_mapping:
                weights._hp_mapping.hp_fragment.detach().copy_(share[name])

    def spread(self, model: Any, names: Collection[str]) -> None:
        import deepspeed
        from deepspeed.utils import safe_get_full_fp32_param

        for weights in find_parameters(model, names).values():
            whole = safe_get_full_fp32_param(weights)
            if self.stage == 3:
                with deepspeed.zero.GatheredParameters([weights], modifier_rank=0):
                    weights.data.copy_(whole.reshape(weights.shape))
            else:
                weights.data.copy_(whole)

    def cut_share(self, model: Any, whole: Mapping[str, Any]) -> dict[str, Any]:
        import torch

        rank, share = torch.distributed.get_rank(), {}
        for name, weights in find_parameters(model, whole).items():
            numbers = whole[name].flatten()
            if self.stage == 3:
                size = weights.ds_tensor.numel()
                padded = torch.nn.functional.pad(numbers, (0, size * torch.distributed.get_world_size() - len(numbers)))
                share[name] = padded[rank * size : (rank + 1) * size]
            elif weights._hp_mapping:
                place = weights._hp_mapping.lp_fragment_address
                share[name] = numbers[place.start : place.start + place.numel]
        return share

    def state_files(self, ranks: int) -> list[str]:
        states = [f"global_step*/*zero_pp_rank_{rank}_mp_rank_00_optim_states.pt" for rank in range(ranks)]
        if self.stage < 3:
            return ["latest", "global_step*/mp_rank_00_model_states.pt", *states]
        models = [f"global_step*/zero_pp_rank_{rank}_mp_rank_00_model_states.pt" for rank in range(ranks)]
        return ["latest", *models, *states]

    def save_state(self, trainer: Any, folder: Path) -> None:
        trainer.deepspeed.save_checkpoint(str(folder), exclude_frozen_parameters=True)

    def load_state(self, trainer: Any, folder: Path) -> None:
        """Read each rank's share; of another number of ranks, what is its own of theirs.

        Raises:
            PipelineError: Checkpoints are not read back whole, see `reads_back`.
        """
        if not self.reads_back:
            raise PipelineError(
                f"{folder}: of a run on NVMe, which DeepSpeed does not read back whole; remove "
                f"{folder.parent} to begin anew, or set cpu instead of nvme"
            )
        model, engine = trainer.model, trainer.deepspeed
        if count_ranks(folder) == trainer.args.world_size:
            engine.load_checkpoint(str(folder), load_module_strict=False)  # what is frozen is the base's
        else:
            restore(engine, folder)
            self.spread(model, [name for name, weights in model.named_parameters() if weights.requires_grad])

    def load_weights(self, trainer: Any, folder: Path) -> None:
        self.load_state(trainer, folder)


def _largest_share(shape: ModelShape, ranks: int) -> int:
    """Numbers of a rank's share of the largest weight, which a buffer for weights on NVMe has to hold.

    DeepSpeed's own size, five buffers of 10^8 numbers, is 2 GB of main memory in each rank whatever the model.
    """
    sizes = [*shape.layout.within.values(), *shape.layout.outside.values(), (shape.vocabulary, shape.hidden)]
    return -(-max(math.prod(size) for size in sizes) // ranks)


def _drop_auto(config: Json) -> Json:
    """Without what is left to DeepSpeed, whose defaults hold then."""
    return {
        key: _drop_auto(value) if isinstance(value, dict) else value for key, value in config.items() if value != "auto"
    }


def find_parameters(model: Any, names: Collection[str]) -> dict[str, Any]:
    """Parameters by name, with what DeepSpeed notes on them."""
    return {name: weights for name, weights in model.named_parameters() if name in names}


def _planned_values(layout: Layout) -> Json:
    """What the plan decides, by DeepSpeed's names."""
    return {
        "train_micro_batch_size_per_gpu": layout.batch_size,
        "gradient_accumulation_steps": layout.accumulation_steps,
        "train_batch_size": layout.batch_size * layout.accumulation_steps * layout.ranks,
        "gradient_clipping": layout.clip_norm,
        "bf16": {"enabled": layout.precision == "bf16"},
        "fp16": {"enabled": layout.precision == "fp16"},
        # The optimizer is the plan's, which DeepSpeed has not tested, also where its states are in main memory.
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
    }


def _sizes(shape: ModelShape, stage: int) -> dict[str, int]:
    """Numbers sent at once, numbers fetched ahead, and size up to which a weight stays whole, as transformers has."""
    sizes = {"reduce_bucket_size": shape.hidden * shape.hidden}
    if stage == 3:
        sizes["stage3_prefetch_bucket_size"] = 9 * shape.hidden * shape.hidden // 10
        sizes["stage3_param_persistence_threshold"] = 10 * shape.hidden
    return sizes
