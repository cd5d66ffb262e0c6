"""The base model's dimensions, as far as a plan needs them.

They are read from the module tree once, by model initialisation, and kept in the manifest of ``models/initial``; later
readers need neither PyTorch nor transformers. Tensor names in the weights' headers would not do: they do not tell a
linear layer from a router's bare matrix, and the loader renames and fuses them for many architectures.
"""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tasks.contracts.errors import PipelineError
from tasks.contracts.manifest import NAME, read_manifest
from tasks.language_models.folder.layout import WeightLayout, describe_layout, read_layout
from tasks.language_models.folder.model_folder import open_on_meta

_RECURRENT_KEYS = ("mamba", "linear_attention", "recurrent", "conv")


@dataclass(frozen=True)
class ModelShape:
    """Dimensions of a causal language model.

    Attributes:
        parameters: Weights, tied ones once.
        linear: Last part of a linear module's name to the (out, in) of every such module, sorted; without the output
            layer.
        head: Name of the output layer.
        hidden: Width.
        intermediate: Width inside the feed-forward blocks.
        layers: Blocks.
        heads: Attention heads.
        key_value_width: Width of all key heads together.
        vocabulary: Rows of the output layer.
        context: Longest input, 0 when the configuration does not say.
        isolates_packed: Attention can be kept inside each conversation of a packed row.
        layout: Where the weights are.
        architecture: Class of the model, as in its ``config.json``.
    """

    parameters: int
    linear: Mapping[str, tuple[tuple[int, int], ...]]
    head: str
    hidden: int
    intermediate: int
    layers: int
    heads: int
    key_value_width: int
    vocabulary: int
    context: int
    isolates_packed: bool
    layout: WeightLayout = field(default_factory=WeightLayout)
    architecture: str = ""

    @property
    def linear_weights(self) -> int:
        """Weights of the linear layers, the output layer apart."""
        return sum(out * inner for sizes in self.linear.values() for out, inner in sizes)

    @property
    def embedding_weights(self) -> int:
        """Weights of the token embedding and the output layer, once where they are tied."""
        table, rest = self.vocabulary * self.hidden, self.parameters - self.linear_weights
        return min(rest, 2 * table if rest >= 2 * table else table)

    @property
    def figures(self) -> dict[str, float | int]:
        return {"parameters": self.parameters, "layers": self.layers, "hidden": self.hidden}

    def facts(self) -> dict[str, Any]:
        """For the manifest: ``linear`` as [modules, out, in] for each size."""
        counted = {
            name: [[count, *size] for size, count in sorted(Counter(sizes).items())]
            for name, sizes in self.linear.items()
        }
        facts = {**vars(self), "linear": counted, "layout": self.layout.facts()}
        del facts["architecture"]  # the manifest has it beside the shape
        return facts


def read_shape(initial: Path) -> ModelShape:
    """The shape of the pinned base, as model initialisation recorded it.

    Args:
        initial: Folder written by model initialisation.

    Raises:
        PipelineError: The folder is not complete, or its manifest has no shape.
    """
    manifest = read_manifest(initial)
    kept: Any = manifest.get("shape")
    try:
        linear = {
            name: tuple((out, inner) for count, out, inner in sizes for _ in range(count))
            for name, sizes in kept["linear"].items()
        }
        parts = {"linear": linear, "layout": read_layout(kept["layout"])}
        return ModelShape(**{**kept, **parts, "architecture": str(manifest.get("architecture", ""))})
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        raise PipelineError(
            f"{initial / NAME}: the shape of the model is not what this version writes; run model_initialisation again"
        ) from error


def describe_shape(folder: Path, context: int) -> ModelShape:
    """Read the shape from the model's modules on PyTorch's meta device, without its weights.

    Args:
        folder: A transformers folder.
        context: Longest input, 0 when the configuration does not say.

    Raises:
        PipelineError: transformers knows no causal language model of this type.
    """
    import torch
    from transformers.pytorch_utils import Conv1D

    model = open_on_meta(folder)
    config = model.config.get_text_config()
    head = model.get_output_embeddings()
    head_name = next((name.rpartition(".")[2] for name, m in model.named_modules() if m is head), "lm_head")
    linear: dict[str, list[tuple[int, int]]] = {}
    for name, module in model.named_modules():
        if module is head:
            continue
        if isinstance(module, torch.nn.Linear):
            linear.setdefault(name.rpartition(".")[2], []).append((module.out_features, module.in_features))
        elif isinstance(module, Conv1D):  # GPT-2's linear layer, stored transposed
            inner, out = module.weight.shape
            linear.setdefault(name.rpartition(".")[2], []).append((int(out), int(inner)))
    hidden = int(config.hidden_size)
    heads = int(getattr(config, "num_attention_heads", 1) or 1)
    head_width = int(getattr(config, "head_dim", None) or hidden // heads)
    # Recurrent blocks carry a state from one conversation of a row into the next; some models say so in their
    # configuration, the others show the convolution in front of the state.
    kinds = " ".join(str(kind) for kind in getattr(config, "layer_types", None) or [config.model_type])
    recurrent = any(key in kinds for key in _RECURRENT_KEYS)
    recurrent = recurrent or any(isinstance(module, torch.nn.Conv1d) for module in model.modules())
    takes_positions = "position_ids" in inspect.signature(model.forward).parameters
    return ModelShape(
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        linear={name: tuple(sorted(sizes)) for name, sizes in sorted(linear.items())},
        head=head_name,
        hidden=hidden,
        intermediate=int(getattr(config, "intermediate_size", None) or 4 * hidden),
        layers=int(config.num_hidden_layers),
        heads=heads,
        key_value_width=int(getattr(config, "num_key_value_heads", None) or heads) * head_width,
        vocabulary=int(config.vocab_size),
        context=context,
        isolates_packed=takes_positions and not recurrent,
        layout=describe_layout(model),
        architecture=type(model).__name__,
    )
