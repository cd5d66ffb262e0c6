"""Where a model's weights are: in which block, in the embeddings, in the output layer, or elsewhere; for methods that
train some of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

Sizes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class WeightLayout:
    """The weights of a causal language model by their place, each name once where weights are tied.

    Attributes:
        prefix: What the names of all blocks begin with, such as ``model.layers``; empty where there are no blocks.
        blocks: Of each block, from the input to the output, the name within the block to the size as it is stored:
            ``{"self_attn.q_proj.weight": (64, 64), ...}``.
        embeddings: Name to size of the tables of tokens, and of positions if they are learned.
        head: Of the output layer; empty where it is tied to the embedding.
        others: Of what else is outside the blocks, such as the last norm.
    """

    prefix: str = ""
    blocks: tuple[Sizes, ...] = ()
    embeddings: Sizes = field(default_factory=dict)
    head: Sizes = field(default_factory=dict)
    others: Sizes = field(default_factory=dict)

    def block(self, number: int) -> dict[str, tuple[int, ...]]:
        """Full name to size of the weights of a block, counted from 0 at the input."""
        return {f"{self.prefix}.{number}.{name}": size for name, size in self.blocks[number].items()}

    @property
    def within(self) -> dict[str, tuple[int, ...]]:
        """Of the weights of all blocks."""
        return {name: size for number in range(len(self.blocks)) for name, size in self.block(number).items()}

    @property
    def outside(self) -> dict[str, tuple[int, ...]]:
        """Of all others."""
        return {**self.embeddings, **self.head, **self.others}

    def facts(self) -> dict[str, Any]:
        """As JSON; blocks that follow each other and are alike once, with their number."""
        blocks = [[len(list(run)), block] for block, run in groupby(dict(block) for block in self.blocks)]
        return {**vars(self), "blocks": blocks}


def read_layout(facts: Mapping[str, Any]) -> WeightLayout:
    """The layout that `WeightLayout.facts` wrote.

    Raises:
        KeyError: A part is missing.
        ValueError: A part is of another form.
    """
    blocks = tuple(_sizes(block) for count, block in facts["blocks"] for _ in range(count))
    parts = {name: _sizes(facts[name]) for name in ("embeddings", "head", "others")}
    return WeightLayout(prefix=facts["prefix"], blocks=blocks, **parts)


def describe_layout(model: Any) -> WeightLayout:
    """The layout of a loaded model, or of one on the meta device."""
    import torch

    prefix, blocks = find_blocks(model)
    tables = {
        id(weights)
        for module in model.modules()
        if isinstance(module, torch.nn.Embedding)
        for weights in module.parameters(recurse=False)
    }
    head = {id(weights) for weights in model.get_output_embeddings().parameters()}
    found: list[dict[str, tuple[int, ...]]] = [{} for _ in blocks]
    outside: dict[str, dict[str, tuple[int, ...]]] = {"embeddings": {}, "head": {}, "others": {}}
    for name, weights in model.named_parameters():
        size = tuple(weights.shape)
        if prefix and name.startswith(f"{prefix}."):
            number, _, rest = name.removeprefix(f"{prefix}.").partition(".")
            found[int(number)][rest] = size
        else:
            kind = "embeddings" if id(weights) in tables else "head" if id(weights) in head else "others"
            outside[kind][name] = size
    return WeightLayout(prefix, tuple(found), **outside)


def find_blocks(model: Any) -> tuple[str, list[Any]]:
    """The name of the list of a model's blocks, and the blocks from the input to the output; none: empty ones."""
    import torch

    layers = int(model.config.get_text_config().num_hidden_layers)
    lists: dict[str, Any] = {}
    for name, module in model.named_modules():
        nested = any(name.startswith(f"{outer}.") for outer in lists)
        if isinstance(module, torch.nn.ModuleList) and len(module) == layers and not nested:
            lists[name] = module
    if not lists:
        return "", []
    largest = max(lists, key=lambda name: sum(weights.numel() for weights in lists[name].parameters()))
    return largest, list(lists[largest])


def sort_names(tensors: Sizes, embeddings: Iterable[str], heads: Iterable[str]) -> WeightLayout:
    """A layout from names alone, those of a file's headers.

    Args:
        tensors: Name to size, tied weights once.
        embeddings: Last parts of the names of modules that are embeddings.
        heads: The same of output layers.
    """
    blocks: dict[int, dict[str, tuple[int, ...]]] = {}
    outside: dict[str, dict[str, tuple[int, ...]]] = {"embeddings": {}, "head": {}, "others": {}}
    prefix = ""
    for name, size in tensors.items():
        parts = name.split(".")
        numbered = next((place for place, part in enumerate(parts) if part.isdigit()), None)
        if numbered is not None:
            prefix = ".".join(parts[:numbered])
            blocks.setdefault(int(parts[numbered]), {})[".".join(parts[numbered + 1 :])] = tuple(size)
        else:
            module = parts[-2] if len(parts) > 1 else name
            kind = "embeddings" if module in embeddings else "head" if module in heads else "others"
            outside[kind][name] = tuple(size)
    return WeightLayout(prefix, tuple(blocks[number] for number in sorted(blocks)), **outside)


def count_weights(sizes: Sizes) -> int:
    return sum(math.prod(size) for size in sizes.values())


def list_matrices(sizes: Sizes) -> list[tuple[int, int]]:
    """The sizes with two sides."""
    return [(size[0], size[1]) for size in sizes.values() if len(size) == 2]


def _sizes(values: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(int(side) for side in size) for name, size in values.items()}
