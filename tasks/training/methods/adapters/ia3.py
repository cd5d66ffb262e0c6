"""(IA)^3: keys, values and the inner numbers of the feed-forward blocks are multiplied by trained vectors (Liu et al.
2022, arXiv:2205.05638).

A layer y = W x becomes y = l * (W x), or y = W (l * x) where x is the inner width of a feed-forward block; l begins at
one. Good for few rows and very many tasks on one base: it has the fewest weights of all, and learns the least.

Example: ``method: {name: ia3}`` with ``learning_rate: 5.0e-3``. A block of 320 with an inner width of 864 gets 320 +
320 + 864 = 1,504 trained weights.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Self

from pydantic import Field

from tasks.language_models.folder.shape import ModelShape
from tasks.training.methods.adapters.adapter import Adapter
from tasks.training.methods.beside_layers import Sizes
from tasks.training.methods.method import Rates

# Layers that make keys and values, by the names of transformers' models.
KEYS_AND_VALUES = ("k_proj", "v_proj", "key", "value", "c_attn", "query_key_value", "qkv_proj", "Wqkv")


class Ia3(Adapter):
    """Train vectors that scale keys, values and the inner numbers of the feed-forward blocks."""

    peft_type: ClassVar[str] = "IA3"
    title: ClassVar[str] = "(IA)^3"
    rates: ClassVar[Rates] = (1e-3, 5e-2)

    name: Literal["ia3"] = "ia3"
    targets: Literal["auto", "all-linear"] | list[str] = Field(  # type: ignore[assignment]  # one word more
        default="auto",
        description="layers whose results are scaled; auto: those of keys, values and the inner width",
    )
    inner: Literal["auto"] | list[str] = Field(
        default="auto", description="of them, those whose inputs are scaled; auto: those from the inner width"
    )

    def target_names(self, shape: ModelShape) -> list[str]:
        if self.targets != "auto":
            return super().target_names(shape)
        return sorted({*self._inner_names(shape), *(name for name in shape.linear if name in KEYS_AND_VALUES)})

    def resolve(self, shape: ModelShape) -> Self:
        targets = self.target_names(shape)
        inner = [name for name in self._inner_names(shape) if name in targets]
        return self.model_copy(update={"targets": targets, "inner": inner})

    def problems(self, shape: ModelShape) -> list[str]:
        problems = super().problems(shape)
        if self.inner != "auto" and (unknown := sorted(set(self.inner) - set(self.target_names(shape)))):
            problems.append(f"method.inner: {', '.join(unknown)} not among targets; add them there, or leave them out")
        return problems

    def layer_sizes(self, name: str, out: int, inner: int) -> Sizes:
        assert self.inner != "auto", "counted for a resolved method"
        return [(1, inner) if name in self.inner else (out, 1)]

    def settings(self) -> dict[str, Any]:
        return {"feedforward_modules": self.inner}

    def _inner_names(self, shape: ModelShape) -> list[str]:
        if self.inner != "auto":
            return sorted(self.inner)
        inner, width = shape.intermediate, shape.hidden
        return [name for name, sizes in shape.linear.items() if any(size == (width, inner) for size in sizes)]
