"""The shape of a model, recorded once from its modules, is that of the loaded model whatever the architecture."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tasks.contracts.errors import PipelineError
from tasks.contracts.manifest import seal
from tasks.language_models.folder.shape import describe_shape, read_shape

CONTEXT = 64
SIZES = {
    "vocab_size": 96,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": CONTEXT,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
GPT2_SIZES = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": CONTEXT}
MAMBA2_SIZES = {"mamba_n_heads": 4, "mamba_d_state": 4, "mamba_n_groups": 1}
ATTENTION = {"q_proj", "k_proj", "v_proj", "o_proj"}
LLAMA = ATTENTION | {"gate_proj", "up_proj", "down_proj"}
FUSED = {"query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h"}
MAMBA = {"in_proj", "x_proj", "dt_proj", "out_proj"}


def case(
    model_type: str, linear: set[str], isolates_packed: bool = True, key_value_width: int = 16, **sizes: Any
) -> Any:
    return pytest.param(model_type, linear, isolates_packed, key_value_width, sizes, id=model_type)


@pytest.mark.parametrize(
    ("model_type", "linear", "isolates_packed", "key_value_width", "sizes"),
    [
        case("llama", LLAMA),
        case("qwen2", LLAMA),
        case("qwen3", LLAMA, key_value_width=2 * 16, head_dim=16),
        case("mistral", LLAMA),
        case("gemma2", LLAMA, head_dim=8),
        case("gemma3_text", LLAMA, head_dim=8),
        case("granite", LLAMA),
        case("olmo2", LLAMA),
        case("stablelm", LLAMA),
        case("smollm3", LLAMA),
        case("phi3", {"qkv_proj", "o_proj", "gate_up_proj", "down_proj"}),
        case("starcoder2", ATTENTION | {"c_fc", "c_proj"}),
        # Stored transposed; the configuration has no key/value heads of its own.
        case("gpt2", {"c_attn", "c_fc", "c_proj"}, key_value_width=32, num_key_value_heads=None, **GPT2_SIZES),
        case("gpt_neox", FUSED, key_value_width=32, num_key_value_heads=None),
        case("falcon", FUSED, num_kv_heads=2, new_decoder_architecture=True),
        # Its forward takes no position ids.
        case("bloom", FUSED, False, key_value_width=32, num_key_value_heads=None, n_layer=2, n_head=4),
        case(
            "opt",
            {"q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"},
            key_value_width=32, num_key_value_heads=None, ffn_dim=48, word_embed_proj_dim=32,
        ),
        # Experts are three-dimensional weights and routers bare matrices, so neither is a linear module.
        case("mixtral", ATTENTION, num_local_experts=4),
        case("olmoe", ATTENTION, num_experts=4),
        # Only every second block has experts.
        case(
            "qwen3_moe", LLAMA,
            num_experts=4, num_experts_per_tok=2, moe_intermediate_size=16, head_dim=8, decoder_sparse_step=2,
        ),
        case("mamba", MAMBA, False, state_size=4),
        case("jamba", MAMBA | {"gate_proj", "up_proj", "down_proj"}, False, mamba_d_state=4, num_experts=2),
        case(
            "bamba", LLAMA | {"in_proj", "out_proj"}, False,
            mamba_d_head=16, attn_layer_indices=[1], **MAMBA2_SIZES,
        ),
        # Each block has both, and its configuration names neither kind.
        case("falcon_h1", LLAMA | {"in_proj", "out_proj"}, False, mamba_d_ssm=32, mamba_d_head=8, **MAMBA2_SIZES),
    ],
)  # fmt: skip
def test_the_shape_is_that_of_the_loaded_model(
    tmp_path: Path,
    model_type: str,
    linear: set[str],
    isolates_packed: bool,
    key_value_width: int,
    sizes: dict[str, Any],
) -> None:
    from transformers import AutoConfig, AutoModelForCausalLM

    given = {key: value for key, value in (SIZES | sizes).items() if value is not None}
    config = AutoConfig.for_model(model_type, **given)
    config.save_pretrained(tmp_path)
    recorded = describe_shape(tmp_path, CONTEXT)
    seal(tmp_path, [], {"architecture": recorded.architecture, "shape": recorded.facts()})
    shape = read_shape(tmp_path)
    assert shape == recorded

    model: torch.nn.Module = AutoModelForCausalLM.from_config(config)  # type: ignore[no-untyped-call]
    assert shape.parameters == sum({p.data_ptr(): p.numel() for p in model.parameters()}.values())
    layout = shape.layout
    placed = {**layout.within, **layout.outside}
    assert placed == {name: tuple(weights.shape) for name, weights in model.named_parameters()}
    assert len(layout.blocks) == 2
    assert layout.embeddings
    assert (not layout.head) == config.tie_word_embeddings
    assert set(shape.linear) == linear
    weights = model.state_dict()
    for name, found in shape.linear.items():
        stored = [tuple(w.shape) for key, w in weights.items() if key.endswith(f".{name}.weight") and w.ndim == 2]
        assert sorted(found) == sorted(s[::-1] if model_type == "gpt2" else s for s in stored)
    assert weights[f"{shape.head}.weight"].shape == (shape.vocabulary, shape.hidden)
    assert (shape.vocabulary, shape.hidden, shape.layers, shape.heads) == (96, 32, 2, 4)
    assert shape.key_value_width == key_value_width
    assert shape.context == CONTEXT
    assert shape.isolates_packed is isolates_packed


def test_layers_of_different_sizes_are_counted_apart(tmp_path: Path) -> None:
    from transformers import AutoConfig

    # gpt2's c_proj closes the attention (32 to 32) and the feed-forward block (128 to 32).
    AutoConfig.for_model("gpt2", **SIZES | GPT2_SIZES).save_pretrained(tmp_path)
    shape = describe_shape(tmp_path, CONTEXT)
    assert shape.linear["c_proj"] == ((32, 32), (32, 32), (32, 128), (32, 128))
    assert shape.facts()["linear"]["c_proj"] == [[2, 32, 32], [2, 32, 128]]


@pytest.mark.parametrize("shape", [None, {}, {"linear": {}}, {"linear": {"q_proj": [[1, 2]]}}])
def test_a_manifest_without_the_shape_is_refused(tmp_path: Path, shape: Any) -> None:
    seal(tmp_path, [], {"shape": shape})
    with pytest.raises(PipelineError, match=r"manifest\.json: the shape .* run model_initialisation again"):
        read_shape(tmp_path)


def test_an_unknown_type_of_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "abacus"}))
    with pytest.raises(PipelineError, match="no causal language model that transformers knows"):
        describe_shape(tmp_path, CONTEXT)
