"""Distributed data parallel: each process has the whole model and its own rows; gradients are averaged while the
backward pass runs (Li et al. 2020, arXiv:2006.15704).

Good where model, gradients and optimizer states fit one accelerator, as most LoRA does: it is the fastest way to use
several. Each rank holds as much as one process that trains alone, and as much again as the gradients, in the buckets
that are sent.

Example: ``distribution: {name: ddp}`` with ``processes: 4`` on a machine with four accelerators. With ``batch_size: 8``
a step is 32 rows, the same as ``accumulation_steps: 4`` in one process.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from tasks.contracts.machine import Device
from tasks.language_models.folder.shape import ModelShape
from tasks.training.choices import Precision
from tasks.training.distribution.distribution import DistributionCan, Layout
from tasks.training.distribution.machines import Machines
from tasks.training.distribution.whole import WHOLE_FILES, gather_whole, load_trained, load_whole, save_whole
from tasks.training.memory import Memory


class Ddp(Machines):
    """Train copies of the model on rows of their own."""

    can: ClassVar[DistributionCan] = DistributionCan(many=True, sharded=False, resize=True, skips_steps=True)

    name: Literal["ddp"] = "ddp"

    def problems(self, processes: int, device: Device) -> list[str]:
        return self.machine_problems(self.name, processes)

    def resolve(self, shape: ModelShape, layout: Layout) -> Self:
        return self

    def per_rank(self, memory: Memory, shape: ModelShape, ranks: int, precision: Precision) -> Memory:
        """The gradients once more, in the buckets that are sent."""
        return replace(memory, communication=memory.communication + memory.gradients)

    def describe(self) -> str:
        return f"copies of the model, averaged gradients (DDP){self.on_machines()}"

    def arguments(self, batch_size: int, accumulation_steps: int) -> dict[str, Any]:
        # All that is trained gets a gradient in each step, so nothing has to be looked for.
        return {"ddp_find_unused_parameters": False, "ddp_timeout": self.timeout_s}

    def shard(self, model: Any) -> Any:
        return model

    def gather(self, model: Any) -> dict[str, Any]:
        return gather_whole(model)

    def own_share(self, model: Any, names: Collection[str]) -> dict[str, Any]:
        return {name: weights.detach() for name, weights in model.named_parameters() if name in names}

    def put_share(self, model: Any, share: Mapping[str, Any]) -> None:
        for name, own in self.own_share(model, share).items():
            own.copy_(share[name])

    def spread(self, model: Any, names: Collection[str]) -> None:
        """Nothing: the model computes with what the optimizer updates."""

    def cut_share(self, model: Any, whole: Mapping[str, Any]) -> dict[str, Any]:
        return dict(whole)

    def state_files(self, ranks: int) -> list[str]:
        return WHOLE_FILES

    def save_state(self, trainer: Any, folder: Path) -> None:
        if trainer.args.should_save:
            save_whole(trainer, folder)

    def load_state(self, trainer: Any, folder: Path) -> None:
        load_whole(trainer, folder)

    def load_weights(self, trainer: Any, folder: Path) -> None:
        load_trained(trainer.model, folder)
