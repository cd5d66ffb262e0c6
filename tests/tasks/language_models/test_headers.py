"""A shape from headers is that of the modules, for the architectures whose names say it all."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from transformers import GPT2Config, GPT2LMHeadModel, Qwen2Config, Qwen2ForCausalLM

from tasks.language_models.folder.headers import read_gguf_shape_of, read_shape_of
from tasks.language_models.folder.layout import count_weights
from tasks.language_models.folder.shape import ModelShape, describe_shape
from tasks.model_initialisation.weights import read_weights


def from_headers(folder: Path) -> ModelShape:
    weights, problems = read_weights(folder)
    assert weights is not None, problems
    return read_shape_of(json.loads((folder / "config.json").read_text()), weights.shapes)


def test_llama(tiny_model: Path) -> None:
    assert from_headers(tiny_model) == describe_shape(tiny_model, 256)


def test_an_output_layer_of_its_own_grouped_heads_and_biases(tmp_path: Path) -> None:
    config = Qwen2Config(
        vocab_size=300, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=128, tie_word_embeddings=False,
    )  # fmt: skip
    Qwen2ForCausalLM(config).save_pretrained(tmp_path)
    assert from_headers(tmp_path) == describe_shape(tmp_path, 128)


def test_transposed_layers(tmp_path: Path) -> None:
    config = GPT2Config(vocab_size=600, n_embd=32, n_layer=2, n_head=2, n_positions=64)
    GPT2LMHeadModel(config).save_pretrained(tmp_path)
    assert from_headers(tmp_path) == describe_shape(tmp_path, 64)


def test_recurrent_layers_do_not_isolate() -> None:
    config = {"model_type": "qwen3_next", "layer_types": ["linear_attention", "full_attention"], "hidden_size": 8}
    assert not read_shape_of(config, {"model.embed_tokens.weight": (10, 8)}).isolates_packed


def test_gguf_names(tiny_model: Path) -> None:
    weights, _ = read_weights(tiny_model)
    assert weights is not None
    names = {
        "q_proj": "attn_q", "k_proj": "attn_k", "v_proj": "attn_v", "o_proj": "attn_output", "gate_proj": "ffn_gate",
        "up_proj": "ffn_up", "down_proj": "ffn_down", "input_layernorm": "attn_norm",
        "post_attention_layernorm": "ffn_norm",
    }  # fmt: skip
    tensors: dict[str, tuple[int, ...]] = {"rope_freqs.weight": (16,)}
    for name, shape in weights.shapes.items():
        parts = name.split(".")
        if parts[1] == "layers":
            tensors[f"blk.{parts[2]}.{names[parts[-2]]}.weight"] = shape
        else:
            tensors["token_embd.weight" if "embed" in name else "output_norm.weight"] = shape
    fields = {
        "general.architecture": "llama", "llama.embedding_length": 64, "llama.feed_forward_length": 128,
        "llama.block_count": 2, "llama.attention.head_count": 2, "llama.attention.head_count_kv": 2,
        "llama.context_length": 256,
    }  # fmt: skip
    found, expected = read_gguf_shape_of(fields, tensors), describe_shape(tiny_model, 256)
    assert found == replace(expected, linear=found.linear, layout=found.layout)
    # The names within a block are the file's, the sizes those of the modules.
    assert [sorted(block.values()) for block in found.layout.blocks] == [
        sorted(block.values()) for block in expected.layout.blocks
    ]
    assert count_weights(found.layout.outside) == count_weights(expected.layout.outside)
    assert {name: sizes for name, sizes in found.linear.items() if name in expected.linear} == expected.linear
