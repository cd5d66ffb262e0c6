"""WaveFT: a few coefficients of the update's wavelet transform are trained (Bilican et al. 2025, arXiv:2505.12532).

As FourierFT, with Daubechies wavelets in place of waves: each coefficient changes a place of the weights, not all of
them. Good for very small adapters.

Example: ``method: {name: waveft, coefficients: 1000}``: 1,000 trained weights a layer, whatever its size.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from tasks.language_models.folder.shape import ModelShape
from tasks.training.methods.adapters.adapter import Adapter
from tasks.training.methods.beside_layers import Sizes
from tasks.training.methods.method import Rates


class WaveFt(Adapter):
    """Train coefficients of the updates' wavelet transforms."""

    peft_type: ClassVar[str] = "WAVEFT"
    title: ClassVar[str] = "WaveFT"
    rates: ClassVar[Rates] = (1e-4, 5e-2)

    name: Literal["waveft"] = "waveft"
    coefficients: int = Field(default=1000, ge=1, description="trained coefficients of each layer")
    scale: float = Field(default=25, gt=0, description="what the update is multiplied by")
    wavelet: str = Field(default="db1", description="family of wavelets, by PEFT's name")
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
        """The update and its transform, which is wider; measured."""
        return round(2.6 * self.adapted_weights(shape))

    def settings(self) -> dict[str, Any]:
        return {
            "n_frequency": self.coefficients,
            "scaling": self.scale,
            "wavelet_family": self.wavelet,
            "random_loc_seed": self.seed,
        }

    def details(self) -> str:
        return f"{self.coefficients:,} coefficients a layer"
