"""What the methods have in common that put something of their own beside layers of a frozen base: which layers, and how
their weights are counted.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import ClassVar, Literal, Self

from pydantic import Field

from tasks.contracts.params import Section
from tasks.language_models.folder.shape import ModelShape
from tasks.training.methods.method import Can, Rates

Sizes = Sequence[tuple[int, ...]]
Layer = tuple[str, int, int]

# What most of them can.
USUAL = Can(
    frozen_base=True,
    quantized_base=True,
    checkpointing=True,
    reads_gradients=False,
    packing=True,
    merging=True,
    low_rank=False,
)


class BesideLayers(Section):
    """Modules beside layers of a frozen base; what every method of this kind has.

    Attributes:
        can: As of every method.
        title: The method's name in a sentence.
        rates: As `Method.usual_rates`, whatever the model.
        kind_of_layer: What is adapted, in words.
        takes_transposed: GPT-2's linear layers, stored transposed, can be adapted too.
    """

    can: ClassVar[Can] = USUAL
    title: ClassVar[str]
    rates: ClassVar[Rates] = (1e-4, 1e-2)
    kind_of_layer: ClassVar[str] = "linear"
    takes_transposed: ClassVar[bool] = True

    name: str
    targets: Literal["all-linear"] | list[str] = Field(
        default="all-linear",
        description="all-linear (all but the output layer) or names such as [q_proj, v_proj], * for any letters",
    )

    # What a member says.

    def chosen_blocks(self, shape: ModelShape) -> Sequence[int]:
        """Blocks that are adapted, counted from 0."""
        return range(shape.layers)

    @abstractmethod
    def layer_sizes(self, name: str, out: int, inner: int) -> Sizes:
        """Sizes of the weights that are trained beside a layer, as PyTorch holds them.

        Args:
            name: Last part of the layer's name.
            out: Width of its results.
            inner: Width of its inputs.
        """

    def adaptable(self, shape: ModelShape) -> Mapping[str, tuple[tuple[int, int], ...]]:
        """Last part of a name to the (out, in) of every such layer that could be adapted."""
        return shape.linear

    def shared_sizes(self, shape: ModelShape) -> Sizes:
        """Sizes of what is trained once for all layers."""
        return []

    def held_bytes(self, shape: ModelShape) -> int:
        """Bytes of what the method holds beside its trained weights: projections, permutations, places."""
        return 0

    def layer_problem(self, out: int, inner: int) -> str:
        """Why a layer cannot be adapted, with the next step and ``{layer}`` for its name; empty where it can."""
        return ""

    def largest_rank(self, out: int, inner: int) -> int:
        """The largest rank that a layer can hold; asked where there is a param ``rank``."""
        return min(out, inner)

    def details(self) -> str:
        """The params that matter, in words."""
        return ""

    def which_blocks(self) -> str:
        """The blocks in words, after the targets; empty where it is all of them."""
        return ""

    # What follows from it.

    def problems(self, shape: ModelShape) -> list[str]:
        """Targets and blocks that do not exist or cannot be adapted."""
        if not self.adaptable(shape):
            return [f"method.targets: the model has no {self.kind_of_layer} layer to adapt; use method: {{name: full}}"]
        problems = [*self._target_problems(shape), *self._block_problems(shape)]
        if not self.takes_transposed and _is_transposed(shape):
            problems.append(
                f"method.name: {self.name} cannot adapt linear layers that are stored transposed, as this model's are; "
                "use method: {name: lora}"
            )
        return [*problems, *self._rank_problems(shape), *self._layer_problems(shape)]

    def unusual(self, shape: ModelShape) -> list[str]:
        return []

    def usual_rates(self, shape: ModelShape) -> Rates:
        return self.rates

    def resolve(self, shape: ModelShape) -> Self:
        """The same with every adapted layer named."""
        return self.model_copy(update={"targets": self.target_names(shape)})

    def trainable(self, shape: ModelShape) -> int:
        return sum(math.prod(size) for size in self._all_sizes(shape))

    def trained_matrices(self, shape: ModelShape) -> list[tuple[int, int]]:
        return [(size[0], size[1]) for size in self._sizes_beside(shape) if len(size) == 2]

    def own_bytes(self, shape: ModelShape) -> int:
        return 4 * self.trainable(shape) + self.held_bytes(shape)

    def kept_per_token(self, shape: ModelShape) -> int:
        return 0

    def describe(self) -> str:
        where = self.targets if isinstance(self.targets, str) else ", ".join(self.targets)
        where += self.which_blocks()
        details = self.details()
        return f"{self.title} ({details}; {where})" if details else f"{self.title} ({where})"

    def target_names(self, shape: ModelShape) -> list[str]:
        """Last parts of the names of the adapted layers, sorted; those that the model lacks stay as they are."""
        known = sorted(self.adaptable(shape))
        if isinstance(self.targets, str):
            return known
        return sorted({match for target in self.targets for match in _matching(target, known)})

    def layers(self, shape: ModelShape) -> list[Layer]:
        """(name, out, in) of every adapted layer."""
        share = len(set(self.chosen_blocks(shape))) / max(shape.layers, 1)
        return [
            (name, *size)
            for name in self.target_names(shape)
            for size, count in sorted(Counter(self.adaptable(shape).get(name, ())).items())
            for _ in range(round(count * share))
        ]

    def adapted_weights(self, shape: ModelShape) -> int:
        """Weights of the adapted layers."""
        return sum(out * inner for _, out, inner in self.layers(shape))

    def _all_sizes(self, shape: ModelShape) -> Sizes:
        return [*self._sizes_beside(shape), *self.resolve(shape).shared_sizes(shape)]

    def _sizes_beside(self, shape: ModelShape) -> Sizes:
        resolved = self.resolve(shape)
        return [size for layer in resolved.layers(shape) for size in resolved.layer_sizes(*layer)]

    def _rank_problems(self, shape: ModelShape) -> list[str]:
        rank = getattr(self, "rank", 1)
        limits = [(self.largest_rank(out, inner), name) for name, out, inner in self.layers(shape)]
        if not limits or rank <= min(limits)[0]:
            return []
        limit, name = min(limits)
        return [
            f"method.rank: {rank} is more than {name} can hold ({limit}); set at most that, or use method: "
            "{name: full}"
        ]

    def _layer_problems(self, shape: ModelShape) -> list[str]:
        reasons: dict[str, str] = {}
        for name, out, inner in self.layers(shape):
            if reason := self.layer_problem(out, inner):
                reasons.setdefault(reason, name)
        return [reason.replace("{layer}", name) for reason, name in reasons.items()]

    def _target_problems(self, shape: ModelShape) -> list[str]:
        targets, problems = self.target_names(shape), []
        whole = type(self).model_fields["targets"].default
        known = ", ".join(sorted(self.adaptable(shape)))
        if not targets:
            problems.append(f"method.targets: empty; expected {whole} or some of {known}")
        unknown = sorted(set(targets) - set(self.adaptable(shape)))
        if shape.head in unknown:
            unknown.remove(shape.head)
            problems.append(
                f"method.targets: {shape.head} is the output layer, which {self.title} cannot adapt here; leave it out "
                "or use method: {name: full}"
            )
        if unknown:
            problems.append(
                f"method.targets: the model has no {self.kind_of_layer} module {', '.join(unknown)}; expected {whole} "
                f"or some of {known}"
            )
        return problems

    def _block_problems(self, shape: ModelShape) -> list[str]:
        """Blocks that cannot be chosen."""
        return []

    def _uneven_targets(self, shape: ModelShape) -> list[str]:
        """Targets that are not the same in every block, so that those of some blocks cannot be counted."""
        return [
            name
            for name in self.target_names(shape)
            if any(count % max(shape.layers, 1) for count in Counter(self.adaptable(shape).get(name, ())).values())
        ]


def divisor_problem(key: str, value: int, side: int, which: str) -> str:
    """A size that a side of a layer is no multiple of; empty where it is."""
    if side % value == 0:
        return ""
    fitting = math.gcd(value, side)
    return f"method.{key}: {value} does not divide the {which} of {{layer}} ({side}); set {key}: {fitting}"


def common_divisor(layers: list[Layer], largest: int) -> int:
    """The largest number up to a limit that divides both sides of all layers."""
    common = math.gcd(*(side for _, out, inner in layers for side in (out, inner)))
    return max(size for size in range(1, largest + 1) if common % size == 0)


def _is_transposed(shape: ModelShape) -> bool:
    """Whether linear layers are stored as (in, out), as GPT-2's are."""
    return any(
        name.endswith(".weight")
        and len(size) == 2
        and (size[0], size[1]) not in (sizes := shape.linear.get(name.split(".")[-2], ()))
        and (size[1], size[0]) in sizes
        for block in shape.layout.blocks
        for name, size in block.items()
    )


def _matching(target: str, known: Sequence[str]) -> list[str]:
    """The names that a target stands for; itself where it is none of the model's."""
    return [name for name in known if fnmatchcase(name, target)] or [target]
