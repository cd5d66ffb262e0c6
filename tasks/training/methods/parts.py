"""Parts of a base's own weights, for methods that train some of them, and another part in another step."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Collection, Sequence
from functools import lru_cache
from typing import Any, Protocol, runtime_checkable

from tasks.language_models.folder.layout import WeightLayout
from tasks.language_models.folder.shape import ModelShape
from tasks.training.methods.hooks import RunFacts, StepHooks

# What is trained from a step on.
Part = frozenset[str]


class PartHooks(StepHooks):
    """Trains one part after another.

    Args:
        begins: First step of each period, counted from 1, ascending; the first one is 1.
        part: Number of a period to the names of the weights that are trained in it.
    """

    def __init__(self, begins: Sequence[int], part: Callable[[int], Part]) -> None:
        self.begins, self.part = begins, lru_cache(maxsize=2)(part)

    def period(self, step: int) -> int:
        """The number of the period of a step, counted from 0."""
        return bisect_right(self.begins, step) - 1

    def trained(self, step: int) -> Part:
        return self.part(self.period(step))

    def describe(self, layout: WeightLayout, number: int) -> str:
        """What is trained in a period, in words."""
        return describe_part(layout, self.part(number))


@runtime_checkable
class Changing(Protocol):
    """A `Stepwise` method whose trained weights are not the same in all steps, and whose hooks are `PartHooks`."""

    def trained_at_once(self, shape: ModelShape) -> tuple[int, list[tuple[int, int]]]:
        """Weights that are trained in the same step, at most, and the sizes of the matrices among them.

        Both as `Method.trainable` and `Method.trained_matrices` have them of all weights that are ever trained.
        """
        ...

    def bytes_at_change(self, shape: ModelShape) -> int:
        """What is held beside while the trained weights change, before the forward pass of a step."""
        ...

    def parts(self, layout: WeightLayout, run: RunFacts) -> PartHooks:
        """What is trained when; a function of its arguments and the method alone."""
        ...


def changes_trained(method: Any) -> bool:
    """Whether a method's trained weights are not the same in all steps."""
    return isinstance(method, Changing)


def find_begins(run: RunFacts, every_steps: int) -> Sequence[int]:
    """First steps of periods of equal length."""
    return range(1, run.steps + 1, every_steps)


def list_problems(shape: ModelShape) -> list[str]:
    """Why no part of a model can be told from another."""
    if shape.layers and shape.layout.blocks:
        return []
    return ["method: the model has no blocks that are known, to train some of them; take method: {name: full}"]


def describe_part(layout: WeightLayout, names: Collection[str]) -> str:
    """A part in words: ``blocks 5-6, last norm``; ``some weights of blocks 1-6``."""
    whole: list[int] = []
    some: list[int] = []
    for number in range(len(layout.blocks)):
        within = layout.block(number)
        trained = sum(name in names for name in within)
        if trained:
            (whole if trained == len(within) else some).append(number + 1)
    words = [f"blocks {_ranges(whole)}"] if whole else []
    words += [f"some weights of blocks {_ranges(some)}"] if some else []
    kinds = {"embeddings": layout.embeddings, "output layer": layout.head, "last norm": layout.others}
    words += [kind for kind, sizes in kinds.items() if sizes and sizes.keys() <= set(names)]
    return ", ".join(words)


def _ranges(numbers: Sequence[int]) -> str:
    """Ascending numbers as ``1-3, 6``."""
    spans: list[list[int]] = []
    for number in numbers:
        if spans and number == spans[-1][-1] + 1:
            spans[-1] = [spans[-1][0], number]
        else:
            spans.append([number])
    return ", ".join("-".join(map(str, span)) for span in spans)
