"""Gradual unfreezing: the top blocks are trained first, and group by group the ones below join them (Howard and Ruder
2018, arXiv:1801.06146, section 3.3).

The run has as many shares as there are groups; in the first the upper group is trained, in the last all are. With
``rate_divisor`` each lower group learns so many times slower than the one above it (discriminative fine-tuning, section
3.2, where 2.6 is what worked). Both keep the lower layers, which are the general ones, near the base.

The norm after the blocks and an output layer of its own belong to the upper group, the embedding, and an output layer
that is tied to it, to the lowest.

Good for small data sets, on which training everything at once forgets before it learns. It takes the memory of full
fine-tuning in the last share, and less before: what comes out is a whole transformers folder, ``weights/``.

Example: ``method: {name: gradual_unfreezing, groups: 3}`` on a base of 6 blocks with 300 steps trains blocks 5 and 6 in
steps 1 to 100, blocks 3 to 6 in steps 101 to 200 and everything from step 201 on; with ``learning_rate: 1.0e-3``
blocks 3 and 4 learn at 3.8e-4, blocks 1 and 2 and the embedding at 1.5e-4.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field

from tasks.contracts.params import Section
from tasks.language_models.folder.layout import WeightLayout, describe_layout, list_matrices
from tasks.language_models.folder.shape import ModelShape
from tasks.training.methods.full import TRAINS_BASE, load_weights, rates_of_base, save_weights
from tasks.training.methods.hooks import RunFacts
from tasks.training.methods.method import Can, Rates
from tasks.training.methods.parts import Part, PartHooks, list_problems

GROUPS = 4


class GradualHooks(PartHooks):
    """One more group at the beginning of each share; each learns at a rate of its own.

    Args:
        groups: Names of each group's weights, from the top.
        steps: Of the run.
        divisor: Between the rates of two groups.
    """

    def __init__(self, groups: list[Part], steps: int, divisor: float) -> None:
        begins = [1 + number * steps // len(groups) for number in range(len(groups))]
        super().__init__(begins, lambda number: frozenset().union(*groups[: number + 1]))
        self.factors = {name: divisor**-number for number, group in enumerate(groups) for name in group}

    def rate_factor(self, name: str) -> float:
        return self.factors[name]

    def describe(self, layout: WeightLayout, number: int) -> str:
        factor = min(self.factors[name] for name in self.part(number))
        slower = f"; the lowest of them at {factor:.3g} of the learning rate" if factor < 1 else ""
        return super().describe(layout, number) + slower


class GradualUnfreezing(Section):
    """Train the top blocks first, then ever more below them."""

    can: ClassVar[Can] = TRAINS_BASE

    name: Literal["gradual_unfreezing"] = "gradual_unfreezing"
    groups: Literal["auto"] | Annotated[int, Field(ge=2)] = Field(
        default="auto", description=f"groups of blocks, each unfrozen at the beginning of a share; auto: {GROUPS}"
    )
    rate_divisor: float = Field(
        default=2.6, ge=1, description="what the learning rate of each lower group is divided by; 1: all learn alike"
    )

    def problems(self, shape: ModelShape) -> list[str]:
        problems, blocks = list_problems(shape), len(shape.layout.blocks)
        if not problems and blocks < 2:
            problems.append("method: the model has one block, so there is nothing to unfreeze; take {name: full}")
        elif not problems and self.groups != "auto" and self.groups > blocks:
            problems.append(f"method.groups: {self.groups}, but the model has {blocks} blocks; set at most that")
        return problems

    def unusual(self, shape: ModelShape) -> list[str]:
        return []

    def usual_rates(self, shape: ModelShape) -> Rates:
        return rates_of_base(shape)

    def resolve(self, shape: ModelShape) -> Self:
        return self.model_copy(update={"groups": self._count(len(shape.layout.blocks))})

    def trainable(self, shape: ModelShape) -> int:
        return shape.parameters

    def trained_matrices(self, shape: ModelShape) -> list[tuple[int, int]]:
        return list_matrices(shape.layout.within)

    def trained_at_once(self, shape: ModelShape) -> tuple[int, list[tuple[int, int]]]:
        """Everything, in the last share."""
        return self.trainable(shape), self.trained_matrices(shape)

    def bytes_at_change(self, shape: ModelShape) -> int:
        return 0

    def parts(self, layout: WeightLayout, run: RunFacts) -> GradualHooks:
        return GradualHooks(self._groups(layout), run.steps, self.rate_divisor)

    def own_bytes(self, shape: ModelShape) -> int:
        return 0

    def kept_per_token(self, shape: ModelShape) -> int:
        return 0

    def describe(self) -> str:
        rates = f", each lower one {self.rate_divisor:g} times slower" if self.rate_divisor != 1 else ""
        return f"gradual unfreezing of {self._count(GROUPS)} groups of blocks{rates}"

    def hooks(self, model: Any, run: RunFacts, initial: Path) -> GradualHooks:
        return self.parts(describe_layout(model), run)

    def adapt(self, model: Any) -> Any:
        return model

    def save(self, model: Any, folder: Path) -> list[Path]:
        return save_weights(model, folder)

    def load(self, base: Path, tuned: Path) -> Any:
        return load_weights(tuned)

    def merge(self, base: Path, tuned: Path) -> Any:
        return load_weights(tuned)

    def _count(self, blocks: int) -> int:
        return min(GROUPS, blocks) if self.groups == "auto" else self.groups

    def _groups(self, layout: WeightLayout) -> list[Part]:
        """Names of the weights of each group, from the top."""
        blocks = len(layout.blocks)
        count = self._count(blocks)
        groups = [
            {name for number in range(*span) for name in layout.block(number)}
            for span in ((blocks - (n + 1) * blocks // count, blocks - n * blocks // count) for n in range(count))
        ]
        groups[0] |= {*layout.others, *layout.head}
        groups[-1] |= layout.embeddings.keys()
        return [frozenset(group) for group in groups]
