"""What most objectives answer alike: no modules of their own, no reference, no generation, no state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from tasks.contracts.params import Section
from tasks.language_models.folder.shape import ModelShape
from tasks.training.objectives.objective import Batch, Reference, Scorer, StepToMake

if TYPE_CHECKING:
    import torch

    from tasks.training.rows import TokenizedRows


class PlainObjective(Section):
    """The parts of `Objective` that most have nothing to say to; one that has says it itself."""

    unit: ClassVar[str]
    loss_tells: ClassVar[bool] = True
    rate_share: ClassVar[float] = 1.0

    @property
    def loss_in(self) -> str:
        return f"nats per {self.unit}"

    @property
    def reference(self) -> Reference:
        return "none"

    def problems(self, shape: ModelShape) -> list[str]:
        return []

    @property
    def longest_answer(self) -> int | None:
        return None

    def trained_tokens(self, tokens: int, items: int) -> int:
        return tokens

    def files(self) -> list[Path]:
        return []

    def own_weights(self, shape: ModelShape) -> int:
        return 0

    @property
    def own_passes(self) -> int:
        return 0

    def held_bytes(self) -> int:
        return 0

    def extend(self, model: Any, seed: int) -> Any:
        return model

    def save(self, model: Any, folder: Path) -> list[Path]:
        return []

    def measure_reference(self, scorer: Scorer, inputs: Batch) -> Mapping[str, torch.Tensor]:
        return {}

    def use_reference(self, rows: TokenizedRows) -> TokenizedRows:
        return rows

    def make(self, batches: Sequence[Batch], step: StepToMake) -> list[Batch]:
        return list(batches)

    def next_state(self, state: Mapping[str, float], figures: Mapping[str, float]) -> Mapping[str, float]:
        return {}
