"""How many parameters a model has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from tasks.evaluation.items import Item
    from tasks.evaluation.probes.probe import Measured


@dataclass(frozen=True)
class SizeProbe:
    """The parameters of a model, those that several layers share counted once."""

    repeats: ClassVar[bool] = True

    @property
    def key(self) -> str:
        return "size"

    def measure(
        self, model: Any, tokenizer: Any, items: Sequence[Item], answers: Sequence[str], max_new_tokens: int, batch: int
    ) -> Measured:
        """``parameters``."""
        return {"parameters": sum(one.numel() for one in model.parameters())}
