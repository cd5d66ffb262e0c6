"""The params of guards that are causal language models in a folder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from tasks.contracts.params import Section
from tasks.language_models.guards.guard import Device, GuardFacts, GuardPath, Precision, folder_problems

if TYPE_CHECKING:
    from tasks.language_models.guards.causal import CausalGuard


class GuardModel(Section):
    """Where the model is, and how it runs."""

    name: str
    path: GuardPath
    batch_size: int = Field(default=8, ge=1, description="texts judged at once")
    precision: Precision = Field(default="bf16", description="number format of the weights")
    device: Device = Field(default="auto", description="auto uses CUDA where available")
    can: ClassVar[GuardFacts]

    @property
    def facts(self) -> GuardFacts:
        return self.can

    @property
    def source(self) -> str:
        """Name on the hub of the weights that the params are for."""
        return self.can.source

    def problems(self) -> list[str]:
        return folder_problems(self.name, self.path, self.source)

    def load(self, words: Sequence[str] = ()) -> CausalGuard:
        """The model.

        Args:
            words: Words that it tells apart by its first token.

        Raises:
            PipelineError: It cannot be loaded, or two words begin with the same token.
        """
        from tasks.language_models.guards.causal import CausalGuard

        model = CausalGuard(self.path, self.name, self.device, self.precision)
        model.find_ids(words)
        return model
