"""FourierFT: a few coefficients of the update's Fourier transform are trained (Gao et al. 2024, arXiv:2405.03003).

A layer y = W x becomes y = (W + scale Re F^-1(S)) x with S zero but for ``coefficients`` numbers at places drawn at
random, the same for all layers, zero at first. Good for very small adapters; slow, since the update is made as a whole
in each pass.

Example: ``method: {name: fourierft, coefficients: 1000}`` with ``learning_rate: 1.0e-2``: 1,000 trained weights a
layer, whatever its size.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from tasks.language_models.folder.shape import ModelShape
from tasks.training.methods.adapters.adapter import Adapter
from tasks.training.methods.beside_layers import Sizes
from tasks.training.methods.method import Rates


class FourierFt(Adapter):
    """Train coefficients of the updates' Fourier transforms."""

    peft_type: ClassVar[str] = "FOURIERFT"
    title: ClassVar[str] = "FourierFT"
    rates: ClassVar[Rates] = (1e-3, 1e-1)

    name: Literal["fourierft"] = "fourierft"
    coefficients: int = Field(default=1000, ge=1, description="trained coefficients of each layer")
    scale: float = Field(default=150, gt=0, description="what the update is multiplied by")
    seed: int = Field(default=777, ge=0, description="of the draw of places")

    def layer_problem(self, out: int, inner: int) -> str:
        if self.coefficients <= out * inner:
            return ""
        return (
            f"method.coefficients: {self.coefficients:,} is more than {{layer}} has weights ({out * inner:,}); set at "
            "most that"
        )

    def layer_sizes(self, name: str, out: int, inner: int) -> Sizes:
        return [(self.coefficients,)]

    def held_bytes(self, shape: ModelShape) -> int:
        """Row and column of every coefficient, 8 bytes each."""
        return 2 * 8 * self.coefficients * len(self.layers(shape))

    def kept_per_pass(self, shape: ModelShape) -> int:
        """The update as a whole, and the places of its coefficients."""
        return self.adapted_weights(shape) + 4 * self.coefficients * len(self.layers(shape))

    def settings(self) -> dict[str, Any]:
        return {
            "n_frequency": self.coefficients,
            "scaling": self.scale,
            "random_loc_seed": self.seed,
            "init_weights": True,
        }

    def details(self) -> str:
        return f"{self.coefficients:,} coefficients a layer"
