"""Half fine-tuning: half of the blocks' weights are trained in a round and the other half are those of the base (HFT,
Hui et al. 2024, arXiv:2404.18466).

At the beginning of each round a half is drawn, and what is outside of it is rolled back to the base: so much as one
round taught it is undone. What the run leaves behind has half of its blocks' weights from the base itself, with which
it keeps more of what the base knows than after full fine-tuning, and learns nearly as well.

``strategy`` says what a half is, after the paper:

* ``category``: in each block, half of the matrices of each kind: two of query, key, value and output, one or two of
  gate, up and down, one of two norms. The paper's choice.
* ``layer``: half of the blocks.
* ``model``: matrices and norms of half the weights, from anywhere.
* ``bernoulli``: each matrix and norm with probability one half.

``every`` draws anew at the beginning of a round; without it the run is one round, and nothing has to be rolled back.
At each later round the base is read again, for which its weights in fp32 have to fit beside. The embedding, the output
layer and the last norm belong to no half: ``outside`` trains or leaves them.

Good for tasks that must not cost what the base knows, and for several tasks one after another. What comes out is a
whole transformers folder, ``weights/``.

Example: ``method: {name: half, every: {epochs: 1}}`` with ``epochs: 3``: another half in each epoch. Of the embedded
base's 7,438,080 weights of blocks about 3.7 million get gradients and states at a time, and 2,621,760 outside.
"""

from __future__ import annotations

import math
import random
from collections import defaultdict
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from pydantic import Field

from tasks.contracts.params import Section
from tasks.language_models.folder.layout import Sizes, WeightLayout, count_weights, describe_layout, list_matrices
from tasks.language_models.folder.model_folder import load_model, resolve_model
from tasks.language_models.folder.shape import ModelShape
from tasks.training.interval import Interval
from tasks.training.methods.full import TRAINS_BASE, load_weights, rates_of_base, save_weights
from tasks.training.methods.hooks import RunFacts
from tasks.training.methods.method import Can, Rates
from tasks.training.methods.parts import Part, PartHooks, find_begins, list_problems

Strategy = Literal["category", "layer", "model", "bernoulli"]
SPREADS = 3.1  # standard deviations that one of a thousand draws exceeds


class HalfHooks(PartHooks):
    """Rolls back at the beginning of each round but the first.

    Args:
        layout: The model's.
        half: The method.
        run: The run.
        initial: Folder written by model initialisation.
    """

    def __init__(self, layout: WeightLayout, half: Half, run: RunFacts, initial: Path | None = None) -> None:
        every = run.steps if half.every is None else half.every.in_steps(run.steps_per_epoch)
        outside = layout.outside if half.outside == "trained" else {}
        super().__init__(
            find_begins(run, every),
            lambda number: frozenset({*outside, *half.draw(layout, random.Random(f"{run.seed} {number}"))}),
        )
        self.initial = initial

    def before(self, model: Any, step: int) -> None:
        if step == 1 or step not in self.begins:
            return
        assert self.initial is not None, "hooks that train know the base"
        base = dict(load_model(resolve_model(self.initial)).named_parameters())
        trained, within = self.trained(step), describe_layout(model).within
        for name, weights in model.named_parameters():
            if name in within and name not in trained:
                weights.data.copy_(base[name])


class Half(Section):
    """Train half of the blocks' weights, another half in each round."""

    can: ClassVar[Can] = TRAINS_BASE

    name: Literal["half"] = "half"
    strategy: Strategy = Field(default="category", description="what a half is made of")
    every: Interval | None = Field(
        default=None, description="length of a round: {epochs: 1} or {steps: 100}; null: one round, the whole run"
    )
    outside: Literal["trained", "frozen"] = Field(
        default="trained", description="what becomes of the embedding, the output layer and the last norm"
    )

    def problems(self, shape: ModelShape) -> list[str]:
        problems = list_problems(shape)
        if not problems and self.strategy == "layer" and len(shape.layout.blocks) < 2:
            problems.append("method.strategy: layer, but the model has one block; set strategy: category")
        return problems

    def unusual(self, shape: ModelShape) -> list[str]:
        return []

    def usual_rates(self, shape: ModelShape) -> Rates:
        return rates_of_base(shape)

    def resolve(self, shape: ModelShape) -> Self:
        return self

    def trainable(self, shape: ModelShape) -> int:
        """All that may be drawn."""
        return count_weights(shape.layout.within) + self._outside(shape)

    def trained_matrices(self, shape: ModelShape) -> list[tuple[int, int]]:
        return list_matrices(shape.layout.within)

    def trained_at_once(self, shape: ModelShape) -> tuple[int, list[tuple[int, int]]]:
        """The largest half that can be drawn; of ``bernoulli`` one that a draw exceeds once in a thousand times."""
        number, sizes = self._find_largest(shape.layout)
        return number + self._outside(shape), list_matrices(sizes)

    def bytes_at_change(self, shape: ModelShape) -> int:
        """The base in fp32."""
        return 0 if self.every is None else 4 * shape.parameters

    def parts(self, layout: WeightLayout, run: RunFacts) -> HalfHooks:
        return HalfHooks(layout, self, run)

    def own_bytes(self, shape: ModelShape) -> int:
        return 0

    def kept_per_token(self, shape: ModelShape) -> int:
        return 0

    def describe(self) -> str:
        rounds = "" if self.every is None else f", another half every {self.every.describe()}"
        outside = "" if self.outside == "trained" else ", embeddings frozen"
        return f"half fine-tuning (by {self.strategy}{rounds}{outside})"

    def hooks(self, model: Any, run: RunFacts, initial: Path) -> HalfHooks:
        return HalfHooks(describe_layout(model), self, run, initial)

    def adapt(self, model: Any) -> Any:
        if self.outside == "frozen":
            within = describe_layout(model).within
            for name, weights in model.named_parameters():
                weights.requires_grad_(name in within)
        return model

    def save(self, model: Any, folder: Path) -> list[Path]:
        return save_weights(model, folder)

    def load(self, base: Path, tuned: Path) -> Any:
        return load_weights(tuned)

    def merge(self, base: Path, tuned: Path) -> Any:
        return load_weights(tuned)

    def _outside(self, shape: ModelShape) -> int:
        return count_weights(shape.layout.outside) if self.outside == "trained" else 0

    def draw(self, layout: WeightLayout, rng: random.Random) -> Part:
        """Names of a half of the blocks' weights."""
        if self.strategy == "layer":
            blocks = len(layout.blocks)
            return frozenset().union(*(layout.block(one) for one in rng.sample(range(blocks), blocks // 2)))
        if self.strategy == "category":
            offset = rng.randrange(2)
            drawn = [
                rng.sample(kind, _half_of(kind, block + offset))
                for block, kinds in enumerate(list_kinds(layout))
                for kind in kinds
            ]
            return frozenset(name for modules in drawn for module in modules for name in module)
        modules = [module for kinds in list_kinds(layout) for kind in kinds for module in kind]
        if self.strategy == "bernoulli":
            return frozenset(name for module in modules if rng.random() < 0.5 for name in module)
        return frozenset(_fill(rng.sample(modules, len(modules)), count_weights(layout.within) // 2))

    def _find_largest(self, layout: WeightLayout) -> tuple[int, Sizes]:
        """Weights of the largest half of the blocks', and tensors that are about as many."""
        if self.strategy == "layer":
            blocks = sorted(map(layout.block, range(len(layout.blocks))), key=count_weights, reverse=True)
            sizes = {name: size for block in blocks[: len(blocks) // 2] for name, size in block.items()}
            return count_weights(sizes), sizes
        modules = [module for kinds in list_kinds(layout) for kind in kinds for module in kind]
        if self.strategy == "category":
            taken = [
                sorted(kind, key=count_weights, reverse=True)[: _half_of(kind, block + 1)]
                for block, kinds in enumerate(list_kinds(layout))
                for kind in kinds
            ]
            sizes = {name: size for modules in taken for module in modules for name, size in module.items()}
            return count_weights(sizes), sizes
        total = count_weights(layout.within)
        number = total // 2
        if self.strategy == "bernoulli":
            spread = math.sqrt(sum(count_weights(module) ** 2 for module in modules)) / 2
            number = min(total, round(total / 2 + SPREADS * spread))
        return number, _fill(modules, number)


def list_kinds(layout: WeightLayout) -> list[list[list[Sizes]]]:
    """Of each block its kinds of modules, of each kind its modules, of each module its weights.

    Modules of one kind stand below the same one: query, key, value and output are all of ``self_attn``; the norms are
    below the block itself.
    """
    found = []
    for number in range(len(layout.blocks)):
        modules: dict[str, dict[str, tuple[int, ...]]] = defaultdict(dict)
        for name, size in layout.block(number).items():
            modules[name.rpartition(".")[0]][name] = size
        kinds: dict[str, list[Sizes]] = defaultdict(list)
        for name, module in modules.items():
            kinds[name.rpartition(".")[0]].append(module)
        found.append(list(kinds.values()))
    return found


def _half_of(kind: Collection[Sizes], place: int) -> int:
    """How many of a kind's modules are half of it; of an odd number one more in every second place."""
    return (len(kind) + place % 2) // 2


def _fill(modules: Iterable[Sizes], limit: int) -> Sizes:
    """The first modules that fit into so many weights, those passed over that no longer do."""
    taken: dict[str, tuple[int, ...]] = {}
    for module in modules:
        if (size := count_weights(module)) <= limit:
            taken.update(module)
            limit -= size
    return taken
