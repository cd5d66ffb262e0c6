"""A base that would fail in a later stage is refused in the second, with the reason."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoConfig, GenerationConfig

from tasks.contracts.errors import PipelineError
from tasks.language_models.templates.chat import own_template
from tasks.model_initialisation.checks import open_tokenizer
from tasks.model_initialisation.fit import check_fit
from tasks.model_initialisation.generation_config import settle_generation_config

STORED = 10**9
SMALL: dict[str, Any] = {
    "vocab_size": 600,
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 16,
}


def test_the_tiny_base_fits(tiny_model: Path) -> None:
    check_fit(tiny_model, open_tokenizer(tiny_model), 120_640)


@pytest.mark.parametrize(
    ("model_type", "reason"),
    [
        ("qwen3_next", "layers of the kind linear_attention"),
        ("lfm2", "layers of the kind conv"),
        ("qwen3_5_text", "layers of the kind linear_attention"),
        ("mamba", "takes no position_ids"),
        ("t5", "no causal language model"),
    ],
)
def test_what_cannot_be_served_is_not_trained(tiny_model: Path, tmp_path: Path, model_type: str, reason: str) -> None:
    settings: dict[str, Any] = {} if model_type == "t5" else dict(SMALL)
    if model_type == "lfm2":
        settings["layer_types"] = ["conv", "full_attention"] * 2
    AutoConfig.for_model(model_type, **settings).save_pretrained(tmp_path)
    with pytest.raises(PipelineError, match=reason):
        check_fit(tmp_path, open_tokenizer(tiny_model), STORED)


def with_rows(model: Path, rows: int) -> Path:
    config = json.loads((model / "config.json").read_text()) | {"vocab_size": rows}
    (model / "config.json").write_text(json.dumps(config))
    return model


def test_a_tokenizer_larger_than_the_embeddings_is_refused(model: Path) -> None:
    tokenizer = open_tokenizer(with_rows(model, 500))
    with pytest.raises(PipelineError, match=r"600 tokens and 100 of them .* no row in the embeddings of 500"):
        check_fit(model, tokenizer, STORED)


def test_special_tokens_beyond_the_embeddings_matter_only_where_they_are_used(model: Path) -> None:
    tokenizer = open_tokenizer(model)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image_soft_token>"]})
    check_fit(model, tokenizer, STORED)
    tokenizer.chat_template = own_template(tokenizer) + "{# <image_soft_token> #}"
    with pytest.raises(PipelineError, match="'<image_soft_token>' is the first, id 600"):
        check_fit(model, tokenizer, STORED)
    other = open_tokenizer(model)
    other.add_special_tokens({"pad_token": "[PAD]"})
    with pytest.raises(PipelineError, match=r"'\[PAD\]' is the first"):
        check_fit(model, other, STORED)


def test_a_generation_config_that_is_right_stays(model: Path) -> None:
    assert settle_generation_config(model, open_tokenizer(model)) is None


@pytest.mark.parametrize("setting", [{"temperature": 0.6}, {"top_p": 0.9, "top_k": 20}])
def test_sampling_without_do_sample_is_mended(
    model: Path, tmp_path: Path, setting: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    path = model / "generation_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | setting | {"do_sample": False}))
    changed = GenerationConfig.from_pretrained(model)
    changed.eos_token_id = [2, 3]  # as trainers do; from then on it is held to what it may be saved with
    with pytest.raises(ValueError, match="do_sample"):
        changed.save_pretrained(tmp_path)
    text = settle_generation_config(model, open_tokenizer(model))
    assert text is not None
    (tmp_path / "generation_config.json").write_text(text)
    mended = GenerationConfig.from_pretrained(tmp_path)
    mended.eos_token_id = [2, 3]
    mended.save_pretrained(tmp_path)
    assert mended.do_sample
    assert {name: getattr(mended, name) for name in setting} == setting
    assert "do_sample: true is added" in caplog.text


def test_a_generation_config_that_cannot_be_mended_is_refused(model: Path) -> None:
    path = model / "generation_config.json"
    for text in ('{"num_beams": 1, "num_return_sequences": 4}', "{", '{"temperature": -1.0}'):
        path.write_text(text)
        with pytest.raises(
            PipelineError, match=r"generation_config\.json: transformers refuses .*; correct or remove it"
        ):
            settle_generation_config(model, open_tokenizer(model))


def test_a_temperature_of_nothing_is_greedy(model: Path) -> None:
    (model / "generation_config.json").write_text('{"temperature": 0.0, "eos_token_id": 2}')
    text = settle_generation_config(model, open_tokenizer(model))
    assert text is not None
    assert "temperature" not in json.loads(text)
    assert not json.loads(text).get("do_sample")


def test_the_template_s_end_joins_the_configured_ones(model: Path) -> None:
    tokenizer = open_tokenizer(model)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_end|>"]})
    tokenizer.chat_template = "{% for m in messages %}{{ m['role'] + m['content'] + '<|im_end|>' }}{% endfor %}"
    text = settle_generation_config(model, tokenizer)
    assert text is not None
    assert json.loads(text)["eos_token_id"] == [2, 600]
