"""What a model's configuration may ask for: sizes that its weights bear out, and nothing that loads something else.

transformers builds what ``config.json`` describes before it looks at a weight, so a number there can fill the memory,
and some keys name code or files of other places. Each is refused here, before transformers sees the folder.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tasks.model_initialisation.entries import read_object
from tasks.model_initialisation.weights import Weights

CONFIG_FILES = (
    "config.json",
    "generation_config.json",
    "tokenizer_config.json",
    "tokenizer.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "preprocessor_config.json",
    "processor_config.json",
)
_WIDTHS = (
    "hidden_size", "n_embd", "d_model", "intermediate_size", "n_inner", "ffn_dim", "head_dim", "vocab_size",
    "num_attention_heads", "n_head", "num_key_value_heads", "moe_intermediate_size", "shared_expert_intermediate_size",
)  # fmt: skip
_LAYERS = ("num_hidden_layers", "n_layer", "num_layers", "num_decoder_layers")
_EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts", "n_shared_experts", "moe_num_experts")
_CONTEXTS = ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length")
_MAXIMUM_CONTEXT = 100_000_000
_DTYPES = {"float32", "float16", "bfloat16", "float64", "auto"}
# Keys by which transformers loads other files or code than those that were looked at.
_ELSEWHERE = ("transformers_weights", "kernel_config", "use_kernels")
_IMPLEMENTATIONS = ("attn_implementation", "_attn_implementation", "experts_implementation", "_experts_implementation")


def check_configuration(folder: Path, weights: Weights | None) -> tuple[dict[str, Any], list[str]]:
    """``config.json``, and everything in the folder's configuration that is refused.

    Args:
        folder: A folder without `find_unsafe_entries`.
        weights: What its safetensors files hold; None where they cannot be read, so that no size can be compared.
    """
    contents = {}
    problems: list[str] = []
    for name in CONFIG_FILES:
        contents[name], problem = read_object(folder / name)
        problems += [problem] if problem else _find_code(name, contents[name])
    config = contents["config.json"]
    if not (folder / "config.json").is_file():
        problems.append("no config.json")
    elif config:
        problems += _check_config(config, weights)
    elif not any(problem.startswith("config.json") for problem in problems):
        problems.append('config.json: no "model_type"')
    if (folder / "adapter_config.json").exists():
        problems.append(
            "adapter_config.json: an adapter, which transformers would load with the model; merge it into its base "
            "first, or remove it and its weights"
        )
    return config, problems


def _check_config(config: Mapping[str, Any], weights: Weights | None) -> Iterator[str]:
    if not isinstance(config.get("model_type"), str):
        yield 'config.json: no "model_type"'
    names = config.get("architectures")
    if names is not None and not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
        yield f"config.json: architectures is {_show(names)}, expected a list of names"
    if config.get("quantization_config") or config.get("compression_config"):
        yield (
            "config.json: the weights are quantised already (quantization_config), and cannot be trained, merged or "
            "unpacked exactly; take the edition of the model in bf16 or fp32"
        )
    for key in _ELSEWHERE:
        if config.get(key):
            yield f"config.json: {key} loads other files than the model's own, which is never allowed; remove it"
    for part, section in (("", config), ("text_config.", config.get("text_config"))):
        if section is None:
            continue
        if not isinstance(section, Mapping):
            yield f"config.json: {part[:-1]} is {_show(section)}, expected an object"
            continue
        yield from _check_section(part, section, weights)


def _check_section(part: str, section: Mapping[str, Any], weights: Weights | None) -> Iterator[str]:
    for key in _IMPLEMENTATIONS:
        asked = section.get(key)
        if asked is not None and not (isinstance(asked, str) and asked.replace("_", "").isalnum()):
            yield f"config.json: {part}{key} is {_show(asked)}, which names code of elsewhere; remove it"
    for key in ("dtype", "torch_dtype"):
        dtype = section.get(key)
        if dtype is not None and str(dtype).removeprefix("torch.") not in _DTYPES:
            yield f"config.json: {part}{key} is {_show(dtype)}, expected one of {', '.join(sorted(_DTYPES))}"
    widest = max((side for shape in weights.shapes.values() for side in shape), default=0) if weights else math.inf
    tensors = len(weights.shapes) if weights else math.inf
    limits = (
        (_WIDTHS, 1, widest, "the widest tensor of the files has {:,}"),
        (_LAYERS, 1, tensors, "the files hold {:,} tensors"),
        (_EXPERTS, 0, max(widest, tensors), "the files have no room for more than {:,}"),
        (_CONTEXTS, 1, _MAXIMUM_CONTEXT, "at most {:,} tokens"),
    )
    for keys, least, most, why in limits:
        for key in keys:
            found = section.get(key)
            if found is None:
                continue
            for size in found if isinstance(found, list) and found else [found]:
                if isinstance(size, bool) or not isinstance(size, int) or size < least:
                    yield f"config.json: {part}{key} is {_show(size)}, expected a whole number of {least} or more"
                elif size > most:
                    yield f"config.json: {part}{key} is {size:,}, but {why.format(int(most))}"


def _find_code(name: str, content: Mapping[str, Any]) -> Iterator[str]:
    """The problem of a configuration that asks for the model authors' Python code."""
    parts = [content, *(value for value in content.values() if isinstance(value, Mapping))]
    if name != "tokenizer.json" and any("auto_map" in part and part["auto_map"] for part in parts):
        yield (
            f'{name}: "auto_map" asks to run code that came with the model, which is never allowed; use a model '
            'that transformers supports itself, or remove "auto_map" where it does'
        )


def _show(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:60] + "…"
