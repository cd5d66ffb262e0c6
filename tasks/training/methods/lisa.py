"""LISA: the embedding, the output layer and a few blocks drawn anew every so many steps are trained, the others are not
(Pan et al. 2024, arXiv:2403.17919).

LoRA's updates are largest in the embedding and the output layer, by far; LISA samples layers by that importance: those
two with probability 1, the blocks alike, ``layers`` of them at a time (algorithm 1). ``probabilities`` draws some
blocks more often than others, where it is known which matter. The optimizer's states of a block that leaves are freed,
so that gradients and states are those of ``layers`` blocks, and every block is trained some of the time.

Good for nearly full fine-tuning's quality where its gradients and states do not fit. The norm after the blocks is
trained always, too. What comes out is a whole transformers folder, ``weights/``.

Example: ``method: {name: lisa, layers: 2, every: {steps: 20}}`` on a base of 32 blocks trains another two of them in
each twenty steps. Of a model of 7 billion weights, 0.2 billion of them in each block and 0.26 in the embedding and the
output layer, 0.66 billion get gradients and states at a time: 8 GB with AdamW instead of 81.
"""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field

from tasks.contracts.params import Section
from tasks.language_models.folder.layout import WeightLayout, count_weights, describe_layout, list_matrices
from tasks.language_models.folder.shape import ModelShape
from tasks.training.interval import Interval
from tasks.training.methods.full import TRAINS_BASE, load_weights, rates_of_base, save_weights
from tasks.training.methods.hooks import RunFacts
from tasks.training.methods.method import Can, Rates
from tasks.training.methods.parts import Part, PartHooks, find_begins, list_problems


class Lisa(Section):
    """Train embedding, output layer and a few blocks that are drawn again and again."""

    can: ClassVar[Can] = TRAINS_BASE

    name: Literal["lisa"] = "lisa"
    layers: int = Field(default=2, ge=1, description="blocks that are trained at the same time")
    every: Interval = Field(default=Interval(steps=20), description="between two draws: {steps: 20} or {epochs: 0.1}")
    probabilities: list[Annotated[float, Field(gt=0)]] | None = Field(
        default=None, description="how likely each block is drawn, from the input, relative to others; null: all alike"
    )

    def problems(self, shape: ModelShape) -> list[str]:
        problems, blocks = list_problems(shape), len(shape.layout.blocks)
        if not problems and self.layers > blocks:
            problems.append(
                f"method.layers: {self.layers}, but the model has {blocks} blocks; set fewer, or take method: "
                "{name: full}"
            )
        if not problems and self.probabilities is not None and len(self.probabilities) != blocks:
            problems.append(
                f"method.probabilities: {len(self.probabilities)} numbers, but the model has {blocks} blocks; write "
                "one for each"
            )
        return problems

    def unusual(self, shape: ModelShape) -> list[str]:
        return []

    def usual_rates(self, shape: ModelShape) -> Rates:
        return rates_of_base(shape)

    def resolve(self, shape: ModelShape) -> Self:
        return self

    def trainable(self, shape: ModelShape) -> int:
        return shape.parameters

    def trained_matrices(self, shape: ModelShape) -> list[tuple[int, int]]:
        return list_matrices(shape.layout.within)

    def trained_at_once(self, shape: ModelShape) -> tuple[int, list[tuple[int, int]]]:
        """The largest blocks, of which most have equal ones, and what is outside."""
        largest = sorted(shape.layout.blocks, key=count_weights, reverse=True)[: self.layers]
        number = count_weights(shape.layout.outside) + sum(count_weights(block) for block in largest)
        return number, [size for block in largest for size in list_matrices(block)]

    def bytes_at_change(self, shape: ModelShape) -> int:
        return 0

    def parts(self, layout: WeightLayout, run: RunFacts) -> PartHooks:
        def part(number: int) -> Part:
            blocks = self._draw(len(layout.blocks), run.seed, number)
            return frozenset(layout.outside).union(*(layout.block(block) for block in blocks))

        return PartHooks(find_begins(run, self.every.in_steps(run.steps_per_epoch)), part)

    def own_bytes(self, shape: ModelShape) -> int:
        return 0

    def kept_per_token(self, shape: ModelShape) -> int:
        return 0

    def describe(self) -> str:
        blocks = "one block" if self.layers == 1 else f"{self.layers} blocks"
        return f"LISA ({blocks} at a time, drawn every {self.every.describe()})"

    def hooks(self, model: Any, run: RunFacts, initial: Path) -> PartHooks:
        return self.parts(describe_layout(model), run)

    def adapt(self, model: Any) -> Any:
        return model

    def save(self, model: Any, folder: Path) -> list[Path]:
        return save_weights(model, folder)

    def load(self, base: Path, tuned: Path) -> Any:
        return load_weights(tuned)

    def merge(self, base: Path, tuned: Path) -> Any:
        return load_weights(tuned)

    def _draw(self, blocks: int, seed: int, number: int) -> list[int]:
        """Blocks of a draw, without repetition: those with the largest u ** (1 / probability) (Efraimidis 2006)."""
        rng = random.Random(f"{seed} {number}")
        weights = self.probabilities or [1.0] * blocks
        keys = [math.log(1 - rng.random()) / weight for weight in weights]
        return sorted(sorted(range(blocks), key=keys.__getitem__)[-self.layers :])
