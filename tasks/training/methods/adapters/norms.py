"""Layer-norm tuning: the norms are trained and nothing else (Zhao et al. 2023, arXiv:2312.11420).

Each norm gets a copy, which is trained in its place. Good for changes of tone and form with almost no weights; it
learns no new facts. Merging puts the copies where the norms were.

Example: ``method: {name: norms}`` with ``learning_rate: 5.0e-3``. A base of 320 with 6 blocks of two norms and one at
the end has 13 x 320 = 4,160 trained weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field

from tasks.language_models.folder.shape import ModelShape
from tasks.training.methods.adapters.adapter import Adapter
from tasks.training.methods.beside_layers import Sizes
from tasks.training.methods.method import Rates

# Parts of the names that transformers' models have for norms.
NORMS = ("norm", "ln_")


class Norms(Adapter):
    """Train the norms."""

    peft_type: ClassVar[str] = "LN_TUNING"
    reads_base: ClassVar[bool] = True
    title: ClassVar[str] = "layer-norm tuning"
    rates: ClassVar[Rates] = (5e-4, 3e-2)
    kind_of_layer: ClassVar[str] = "norm"

    name: Literal["norms"] = "norms"
    targets: Literal["all"] | list[str] = Field(  # type: ignore[assignment]  # other words than for linear layers
        default="all", description="all, or names such as [input_layernorm], * for any letters"
    )

    def adaptable(self, shape: ModelShape) -> Mapping[str, tuple[tuple[int, int], ...]]:
        """A norm's name to its weights, each with a 1."""
        found: dict[str, dict[str, int]] = {}
        if not shape.parameters:
            return {}
        for name, size in {**shape.layout.within, **shape.layout.others}.items():
            module = name.rpartition(".")[0]
            last = module.rpartition(".")[2]
            if len(size) == 1 and any(word in last.lower() for word in NORMS):
                weights = found.setdefault(last, {})
                weights[module] = weights.get(module, 0) + size[0]
        return {last: tuple((weights, 1) for weights in sorted(one.values())) for last, one in sorted(found.items())}

    def layer_sizes(self, name: str, out: int, inner: int) -> Sizes:
        return [(out,)]

    def kept_per_token(self, shape: ModelShape) -> int:
        """The input of each norm, which a frozen one does not keep."""
        return len(self.layers(shape)) * shape.hidden

    def settings(self) -> dict[str, Any]:
        return {}
