"""The shape of a way to choose the values of trials."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from tasks.search.space import Dimension, Labels


class Sampler(Protocol):
    """A frozen `tasks.contracts.params.Section` with a ``Literal`` name, valid without any argument."""

    @property
    def name(self) -> str:
        """The name in ``params.yaml``."""
        ...

    def problems(self, space: Mapping[str, Dimension]) -> list[str]:
        """What it cannot do with this space: what was found, what was expected."""
        ...

    def list_all(self, space: Mapping[str, Dimension]) -> list[Labels] | None:
        """Every trial, where they are known from the start; None where each is drawn when it begins."""
        ...

    def make(self, seed: int) -> Any:
        """Optuna's sampler.

        Args:
            seed: Of this draw. Every trial gets a seed of its own, so that a search that goes on draws what it would
                have drawn without the interruption.
        """
        ...
