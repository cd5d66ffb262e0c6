"""The properties of a base model, from its files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tasks.language_models.folder.shape import ModelShape, describe_shape
from tasks.model_initialisation.checks import CheckedModel
from tasks.model_initialisation.licences import find_licence

_DTYPE_NAMES = {"F32": "fp32", "F16": "fp16", "BF16": "bf16", "F64": "fp64"}
_CONTEXT_KEYS = ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length")


@dataclass(frozen=True)
class Description:
    """Properties of a model folder; zero or empty where the files do not state them."""

    architecture: str
    parameters: int
    stored_as: str
    licence: str
    context: int
    vocabulary: int
    hidden: int
    layers: int
    heads: int
    key_value_heads: int
    bytes: int
    tokenizer_class: str
    shape: ModelShape

    def facts(self) -> dict[str, Any]:
        """For the manifest."""
        return {**vars(self), "shape": self.shape.facts()}


def describe_model(base: CheckedModel, tokenizer: Any) -> Description:
    """Read the properties of a checked model.

    Args:
        base: The checked folder.
        tokenizer: Its tokenizer.

    Raises:
        PipelineError: transformers knows no causal language model of this type.
    """
    config = base.config.get("text_config") or base.config
    context = find_context_of(base.config)
    heads = _number(config, "num_attention_heads", "n_head")
    names = base.config.get("architectures") or [str(base.config["model_type"])]
    return Description(
        architecture=str(names[0]),
        parameters=base.weights.parameters,
        stored_as=" + ".join(_DTYPE_NAMES.get(d, d) for d in sorted(base.weights.dtypes)),
        licence=find_licence(base.source_folder, base.config),
        context=context,
        vocabulary=len(tokenizer),
        hidden=_number(config, "hidden_size", "n_embd", "d_model"),
        layers=_number(config, "num_hidden_layers", "n_layer"),
        heads=heads,
        key_value_heads=_number(config, "num_key_value_heads") or heads,
        bytes=sum(path.stat().st_size for path in base.weights.files),
        tokenizer_class=type(tokenizer).__name__,
        shape=describe_shape(base.folder, context),
    )


def find_context_of(config: dict[str, Any]) -> int:
    """Longest input that ``config.json`` states; 0 where it states none."""
    return _number(config.get("text_config") or config, *_CONTEXT_KEYS)


def _number(config: dict[str, Any], *keys: str) -> int:
    return next((int(config[key]) for key in keys if isinstance(config.get(key), int)), 0)
