"""One process: the stage's own trains.

The fastest way on a CPU, whose cores one process uses, and the only one on a machine with one accelerator that is large
enough.

Example: ``distribution: {name: single}``, the default.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from tasks.contracts.machine import Device
from tasks.contracts.params import Section
from tasks.language_models.folder.shape import ModelShape
from tasks.training.choices import Precision
from tasks.training.distribution.distribution import DistributionCan, Layout
from tasks.training.distribution.whole import WHOLE_FILES, gather_whole, load_trained, load_whole, save_whole
from tasks.training.memory import Memory


class Single(Section):
    """Train in the process of the stage."""

    can: ClassVar[DistributionCan] = DistributionCan(many=False, sharded=False, resize=False, skips_steps=True)

    name: Literal["single"] = "single"

    @property
    def nodes(self) -> int:
        return 1

    def ranks(self, processes: int) -> int:
        return processes

    def problems(self, processes: int, device: Device) -> list[str]:
        if processes == 1:
            return []
        return [
            f"processes: {processes}, but distribution single trains in one; set distribution: {{name: ddp}}, or zero "
            "or fsdp where the model is too large for one of them, or processes: 1"
        ]

    @property
    def reads_back(self) -> bool:
        return True

    def missing_here(self) -> list[str]:
        return []

    def prepare_here(self) -> None:
        """Nothing."""

    def resolve(self, shape: ModelShape, layout: Layout) -> Self:
        return self

    def per_rank(self, memory: Memory, shape: ModelShape, ranks: int, precision: Precision) -> Memory:
        return memory

    def describe(self) -> str:
        return "one process"

    def arguments(self, batch_size: int, accumulation_steps: int) -> dict[str, Any]:
        return {}

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
        save_whole(trainer, folder)

    def load_state(self, trainer: Any, folder: Path) -> None:
        load_whole(trainer, folder)

    def load_weights(self, trainer: Any, folder: Path) -> None:
        load_trained(trainer.model, folder)
