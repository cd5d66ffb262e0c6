"""LoRA: frozen weights, and beside each chosen linear layer a product of two thin matrices (Hu et al. 2021,
arXiv:2106.09685).

Good for fine-tuning on little memory and for many variants of one base. A layer of ``in`` x ``out`` gets
``rank * (in + out)`` trainable weights. Example: ``method: {name: lora, rank: 32, alpha: 64, targets: all-linear}``;
on a layer of 320 x 320 that is 32 * 640 = 20,480 weights beside 102,400 frozen ones. All linear layers of the
blocks, not only attention, reach full fine-tuning's quality (Schulman et al. 2025, "LoRA Without Regret").
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from tasks.contracts.params import Section

if TYPE_CHECKING:
    from tasks.contracts.plan import LoraMethod
    from tasks.language_models.shape import ModelShape


class Lora(Section):
    """Train low-rank updates."""

    frozen_base: ClassVar[bool] = True

    name: Literal["lora"] = "lora"
    rank: int = Field(default=32, ge=1, description="inner dimension of the updates")
    alpha: float = Field(default=64, gt=0, description="scale; updates are multiplied by alpha / rank")
    dropout: float = Field(default=0.0, ge=0, lt=1, description="share of the updates' inputs dropped in training")
    targets: Literal["all-linear"] | list[str] = Field(
        default="all-linear", description="all-linear (all but the output layer) or names such as [q_proj, v_proj]"
    )
    rslora: bool = Field(default=False, description="scale by alpha / sqrt(rank), for ranks of 64 and more")

    def problems(self, shape: ModelShape) -> list[str]:
        """Targets that do not exist or cannot be adapted, and a rank no layer can hold."""
        problems = []
        if self.targets == []:
            problems.append("method.targets: empty; expected all-linear or some of " + _listed(shape))
        unknown = sorted(set(self._targets(shape)) - set(shape.linear))
        if shape.head in unknown:
            unknown.remove(shape.head)
            problems.append(
                f"method.targets: {shape.head} is the output layer, which LoRA cannot adapt here; leave it out or "
                "use method: {name: full}"
            )
        if unknown:
            problems.append(
                f"method.targets: the model has no linear module {', '.join(unknown)}; expected all-linear or some of "
                + _listed(shape)
            )
        sides = [(min(o, i), name) for name in self._targets(shape) for o, i in shape.linear.get(name, ())]
        if sides and self.rank > min(sides)[0]:
            smallest, name = min(sides)
            problems.append(
                f"method.rank: {self.rank} is more than the smaller side of {name} ({smallest}); a full update has "
                f"rank {smallest}; set at most that, or use method: {{name: full}}"
            )
        return problems

    def resolve(self, shape: ModelShape) -> LoraMethod:
        from tasks.contracts.plan import LoraMethod

        return LoraMethod(
            rank=self.rank,
            alpha=self.alpha,
            dropout=self.dropout,
            targets=self._targets(shape),
            rslora=self.rslora,
        )

    def trainable(self, shape: ModelShape) -> int:
        """The sum of rank * (in + out) over the adapted layers."""
        layers = [layer for name in self._targets(shape) for layer in shape.linear.get(name, ())]
        return sum(self.rank * (out + inner) for out, inner in layers)

    def ranks(self, shape: ModelShape) -> int:
        """Inner dimensions of all updates, summed."""
        return self.rank * sum(len(shape.linear.get(name, ())) for name in self._targets(shape))

    def _targets(self, shape: ModelShape) -> list[str]:
        return sorted(shape.linear) if self.targets == "all-linear" else sorted(set(self.targets))


def _listed(shape: ModelShape) -> str:
    return ", ".join(sorted(shape.linear)) or "(the model has no linear layer)"
