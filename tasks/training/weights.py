"""The sizes of the weights that a method trains: what an optimizer keeps depends on them, not on their number alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tasks.language_models.folder.shape import ModelShape
from tasks.training.methods.method import Method
from tasks.training.methods.parts import Changing

Size = tuple[int, int]


@dataclass(frozen=True)
class TrainedWeights:
    """Trained tensors by their part in the model.

    Attributes:
        matrices: (rows, columns) of every trained matrix inside the blocks.
        embeddings: (rows, columns) of the trained embedding and of an output layer of its own.
        vectors: Length of every other trained tensor: norms and biases.
    """

    matrices: tuple[Size, ...]
    embeddings: tuple[Size, ...] = ()
    vectors: tuple[int, ...] = ()

    @property
    def in_matrices(self) -> int:
        """Weights in matrices inside the blocks."""
        return sum(rows * columns for rows, columns in self.matrices)

    @property
    def outside_matrices(self) -> int:
        """Weights of embeddings, norms and biases."""
        return sum(rows * columns for rows, columns in self.embeddings) + sum(self.vectors)

    @property
    def total(self) -> int:
        """All trained weights."""
        return self.in_matrices + self.outside_matrices

    @property
    def numbers(self) -> tuple[int, ...]:
        """Weights of each tensor."""
        return (*(math.prod(size) for size in (*self.matrices, *self.embeddings)), *self.vectors)


def list_trained_weights(method: Method, shape: ModelShape) -> TrainedWeights:
    """What the method trains of a base of this shape.

    The shape has the number of all weights and the size of every linear layer; of what a method trains beside them,
    whole embeddings are taken off first and the rest are vectors as wide as the model.
    """
    return _sort_weights(method.trainable(shape), method.trained_matrices(shape), shape)


def list_trained_at_once(method: Method, shape: ModelShape) -> TrainedWeights:
    """What is trained in the same step, at most: gradients and optimizer states are of these."""
    if isinstance(method, Changing):
        return _sort_weights(*method.trained_at_once(shape), shape)
    return list_trained_weights(method, shape)


def _sort_weights(number: int, within_blocks: Sequence[Size], shape: ModelShape) -> TrainedWeights:
    matrices = tuple(within_blocks)
    rest = number - sum(rows * columns for rows, columns in matrices)
    embedding = max(1, shape.vocabulary * shape.hidden)
    embeddings = ((shape.vocabulary, shape.hidden),) * (rest // embedding)
    rest %= embedding
    width = max(1, shape.hidden)
    vectors = (width,) * (rest // width) + ((rest % width,) if rest % width else ())
    return TrainedWeights(matrices, embeddings, vectors)
