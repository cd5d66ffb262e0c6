"""The shape of a model from its configuration and the headers of its weights: no PyTorch, no module tree, no tensor.

For a base that model initialisation has not described yet. Names of tensors tell less than modules do (a router's
matrix looks like a linear layer, and fused experts like none), so this is what a plan is foreseen with and never what
is trained by; `tasks.language_models.folder.shape.describe_shape` is that.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from tasks.language_models.folder.layout import sort_names
from tasks.language_models.folder.shape import ModelShape

RECURRENT = ("mamba", "linear_attention", "recurrent", "conv", "rwkv", "ssm")
# Their forward passes take no position ids, so that packed conversations cannot be kept apart.
WITHOUT_POSITIONS = ("bloom", "mpt")
EMBEDDINGS = ("embed_tokens", "wte", "wpe", "word_embeddings", "embed_positions", "embed_in", "position_embeddings")
HEADS = ("lm_head", "embed_out", "output")
TRANSPOSED = ("gpt2", "openai-gpt")


def read_shape_of(config: Mapping[str, Any], tensors: Mapping[str, tuple[int, ...]]) -> ModelShape:
    """The shape of a transformers folder.

    Args:
        config: Content of ``config.json``.
        tensors: Name to shape, from the headers.

    Example:
        A Llama's ``model.layers.0.mlp.up_proj.weight`` of (128, 64) is one ``up_proj`` from 64 to 128.
    """
    text = {**config, **(config.get("text_config") or {})}
    kind = str(text.get("model_type", ""))
    tied = bool(text.get("tie_word_embeddings", config.get("tie_word_embeddings", True)))
    head = next((name for name in HEADS if f"{name}.weight" in tensors), "lm_head")
    linear: dict[str, list[tuple[int, int]]] = {}
    parameters, counted = 0, {}
    for name, shape in tensors.items():
        module, _, kept = name.rpartition(".")
        last = module.rpartition(".")[2]
        if tied and module == head and len(tensors) > 1 and _embeds(tensors):
            continue  # stored though it is the embeddings
        parameters += math.prod(shape)
        counted[name] = shape
        if kept == "weight" and len(shape) == 2 and last not in (*EMBEDDINGS, *HEADS):
            out, inner = (shape[1], shape[0]) if kind in TRANSPOSED else shape
            linear.setdefault(last, []).append((out, inner))
    hidden = int(text.get("hidden_size") or text.get("n_embd") or text.get("d_model") or 1)
    heads = int(text.get("num_attention_heads") or text.get("n_head") or 1)
    width = int(text.get("head_dim") or hidden // heads)
    kinds = " ".join(str(one) for one in text.get("layer_types") or [kind])
    return ModelShape(
        parameters=parameters,
        linear={name: tuple(sorted(sizes)) for name, sizes in sorted(linear.items())},
        head=head,
        hidden=hidden,
        intermediate=int(text.get("intermediate_size") or text.get("n_inner") or 4 * hidden),
        layers=int(text.get("num_hidden_layers") or text.get("n_layer") or 1),
        heads=heads,
        key_value_width=int(text.get("num_key_value_heads") or heads) * width,
        vocabulary=int(text.get("vocab_size") or 1),
        context=int(text.get("max_position_embeddings") or text.get("n_positions") or 0),
        isolates_packed=not any(word in kinds for word in RECURRENT) and kind not in WITHOUT_POSITIONS,
        layout=sort_names(counted, EMBEDDINGS, HEADS),
        architecture=str(next(iter(config.get("architectures") or ()), "")),
    )


def _embeds(tensors: Mapping[str, tuple[int, ...]]) -> bool:
    return any(name.rpartition(".")[0].rpartition(".")[2] in EMBEDDINGS for name in tensors)


# Of llama.cpp's names (its gguf-py/gguf/tensor_mapping.py) those that models like Llama have.
GGUF_NAMES = {
    "attn_q": "q_proj",
    "attn_k": "k_proj",
    "attn_v": "v_proj",
    "attn_output": "o_proj",
    "ffn_gate": "gate_proj",
    "ffn_up": "up_proj",
    "ffn_down": "down_proj",
    "token_embd": "embed_tokens",
    "output": "lm_head",
}


def read_gguf_shape_of(fields: Mapping[str, Any], tensors: Mapping[str, tuple[int, ...]]) -> ModelShape:
    """The shape of a GGUF file.

    Args:
        fields: Key to value of its header, ``general.architecture`` among them.
        tensors: Name to shape (out, in), from its header.
    """
    kind = str(fields.get("general.architecture", ""))

    def field(name: str) -> int:
        value = fields.get(f"{kind}.{name}") or 0
        return int(max(value) if isinstance(value, list | tuple) else value)

    renamed: dict[str, tuple[int, ...]] = {}
    for name, shape in tensors.items():
        if name.startswith("rope_"):
            continue
        module, _, kept = name.rpartition(".")
        above, _, last = module.rpartition(".")
        renamed[".".join(part for part in (above, GGUF_NAMES.get(last, last), kept) if part)] = shape
    heads = field("attention.head_count")
    config = {
        "model_type": kind,
        "architectures": ["LlamaForCausalLM"] if kind == "llama" else [],
        "tie_word_embeddings": "output.weight" not in tensors,
        "hidden_size": field("embedding_length"),
        "intermediate_size": field("feed_forward_length"),
        "num_hidden_layers": field("block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": field("attention.head_count_kv") or heads,
        "head_dim": field("attention.key_length") or None,
        "max_position_embeddings": field("context_length"),
        "vocab_size": next((shape[0] for name, shape in tensors.items() if name == "token_embd.weight"), 1),
    }
    return read_shape_of(config, renamed)
