"""Where a base's weights are, and what training it takes at least, by method."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from tasks.language_models.folder.shape import ModelShape
from tasks.training.choices import Precision
from tasks.training.methods import METHODS
from tasks.training.optimizers.adamw import AdamW
from tasks.training.quantization import QUANTIZATIONS
from tasks.training.weights import list_trained_at_once

# Tensor names of every architecture's own; the first that fits decides, so the norm of an attention is a norm.
_PARTS = (
    ("norms", re.compile(r"norm|(^|\.)ln_|layernorm")),
    ("output layer", re.compile(r"(^|\.)(lm_head|embed_out|output)\.")),
    ("embeddings", re.compile(r"embed|(^|\.)wte\.|(^|\.)wpe\.")),
    ("attention", re.compile(r"attn|attention|mixer")),
    ("feed-forward", re.compile(r"mlp|ffn|feed_forward|expert|moe|(^|\.)fc\d?\.|dense|router|gate")),
)
OTHER = "other"
PRECISION: Precision = "bf16"


@dataclass(frozen=True)
class MethodNeeds:
    """Memory that a method takes before the first row is read, with AdamW.

    Attributes:
        method: The method in words, with its default params.
        base: How the base is held, in words.
        trained: Weights that get gradients.
        weights: Bytes of the base's and the method's own weights.
        gradients: Bytes of the gradients.
        optimizer: Bytes of AdamW's states.
    """

    method: str
    base: str
    trained: int
    weights: int
    gradients: int
    optimizer: int

    @property
    def total(self) -> int:
        return self.weights + self.gradients + self.optimizer


def count_parts(shapes: Mapping[str, Sequence[int]]) -> dict[str, int]:
    """Number of weights in each part of a model, by the names of its tensors; parts without any are left out.

    Args:
        shapes: Tensor name to shape.
    """
    counts = dict.fromkeys([*(part for part, _ in _PARTS), OTHER], 0)
    for name, shape in shapes.items():
        part = next((part for part, pattern in _PARTS if pattern.search(name.lower())), OTHER)
        counts[part] += math.prod(shape)
    return {part: count for part, count in sorted(counts.items(), key=lambda item: -item[1]) if count}


def estimate_needs(shape: ModelShape) -> list[MethodNeeds]:
    """What each method takes of a base of this shape under each quantisation that it can train on, the most first.

    Combinations that cannot work as they are by default are left out. What rows and their length add, training setup
    predicts for a machine.
    """
    found = []
    for method, held in product((kind() for kind in METHODS), (kind() for kind in QUANTIZATIONS)):
        frozen = method.can.frozen_base
        if method.problems(shape) or held.problems(shape, frozen, PRECISION, "cuda"):
            continue
        if not method.can.quantized_base and not held.can.trained_base:
            continue
        quantization, at_once = held.resolve(frozen, PRECISION), list_trained_at_once(method, shape)
        found.append(
            MethodNeeds(
                method.describe(),
                quantization.describe(),
                method.trainable(shape),
                quantization.base_bytes(shape) + method.own_bytes(shape),
                4 * at_once.total,
                AdamW().state_bytes(at_once),
            )
        )
    return sorted(found, key=lambda needs: -needs.total)
