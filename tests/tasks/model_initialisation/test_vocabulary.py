"""Added tokens begin as the mean of their pieces, tied weights stay tied to the end, and an end is never padding."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from tasks.contracts.errors import PipelineError
from tasks.language_models.encoding import encode_reference
from tasks.language_models.folder.model_folder import load_model, load_tokenizer
from tasks.language_models.folder.shape import describe_shape
from tasks.model_initialisation.chat_template import choose_template
from tasks.model_initialisation.checks import check_folder, open_tokenizer
from tasks.model_initialisation.describe import describe_model
from tasks.model_initialisation.fit import check_fit
from tasks.model_initialisation.params import ModelInitialisation
from tasks.model_initialisation.pin import pin_model
from tasks.model_initialisation.sources.folder import Folder
from tasks.model_initialisation.vocabulary import describe_padding, settle_vocabulary
from tasks.training.methods.lora import Lora

TERMS = ("Heptune-7000", "XK-42")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("huggingface_hub.utils._cache_assets.HF_ASSETS_CACHE", str(tmp_path / "assets"))
    return tmp_path / "assets"


def untie(model: Path) -> None:
    config = LlamaConfig.from_pretrained(model)
    config.tie_word_embeddings = False
    torch.manual_seed(1)
    LlamaForCausalLM(config).save_pretrained(model)


def is_tied(model: torch.nn.Module) -> bool:
    return bool(model.get_input_embeddings().weight.data_ptr() == model.get_output_embeddings().weight.data_ptr())  # type: ignore[operator]


@pytest.mark.parametrize("tied", [True, False])
def test_tokens_go_through_training_merging_and_reloading(model: Path, tmp_path: Path, tied: bool) -> None:
    if not tied:
        untie(model)
    base = check_folder(model)
    before, old = open_tokenizer(model), load_model(model)
    pieces = {term: before.encode(term, add_special_tokens=False) for term in TERMS}
    grown, tokenizer = settle_vocabulary(base, open_tokenizer(model), TERMS, None)
    assert (grown.folder != model, grown.source_folder) == (True, model)
    check_fit(grown.folder, tokenizer, grown.weights.parameters)
    template = choose_template(tokenizer, "own")
    facts = describe_model(grown, tokenizer).facts()
    initial = pin_model(grown, Folder(path=model), False, template, None, facts, tmp_path / "initial")
    assert facts["vocabulary"] == len(before) + 2
    assert load_tokenizer(initial).encode("the XK-42.", add_special_tokens=False)[-2:] == [
        len(before) + 1,
        *before.encode(".", add_special_tokens=False),
    ]

    started = load_model(initial)
    for name in ("get_input_embeddings", "get_output_embeddings"):
        new, known = (getattr(m, name)().weight for m in (started, old))
        assert torch.equal(new[: len(before)], known[: len(before)])
        for number, term in enumerate(TERMS):
            assert torch.allclose(new[len(before) + number], known[pieces[term]].mean(dim=0), atol=1e-6)
    assert is_tied(started) == tied

    method = Lora(rank=2).resolve(describe_shape(initial, 256))
    adapted = method.adapt(load_model(initial))
    torch.manual_seed(2)
    for name, weights in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weights, std=0.1)
    (tmp_path / "tuned").mkdir()
    method.save(adapted, tmp_path / "tuned")
    merged = method.merge(initial, tmp_path / "tuned")
    merged.save_pretrained(tmp_path / "merged")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.float32)
    assert (is_tied(merged), is_tied(again)) == (tied, tied)
    probe = torch.tensor([[0, *range(len(before) - 3, len(before) + 2)]])
    with torch.inference_mode():
        logits = adapted.eval()(probe).logits
        assert torch.allclose(logits, again.eval()(probe).logits, atol=1e-4)
        assert not torch.allclose(logits, started.eval()(probe).logits, atol=1e-2)
    assert again.get_input_embeddings().weight.shape[0] == len(before) + 2


def test_it_is_made_once_and_always_the_same(model: Path, cache: Path) -> None:
    first, _ = settle_vocabulary(check_folder(model), open_tokenizer(model), TERMS, "<|fill|>")
    written = (first.folder / "model.safetensors").read_bytes()
    stamp = (first.folder / "config.json").stat().st_mtime_ns
    again, tokenizer = settle_vocabulary(check_folder(model), open_tokenizer(model), TERMS, "<|fill|>")
    assert (again.folder, (again.folder / "config.json").stat().st_mtime_ns) == (first.folder, stamp)
    assert (tokenizer.pad_token, json.loads((first.folder / "config.json").read_text())["pad_token_id"]) == (
        "<|fill|>",
        602,
    )
    (first.folder / "config.json").unlink()
    settle_vocabulary(check_folder(model), open_tokenizer(model), TERMS, "<|fill|>")
    assert (first.folder / "model.safetensors").read_bytes() == written
    assert len(list((cache / "heptune/vocabulary/extended").iterdir())) == 1


def test_a_generation_config_that_its_library_would_not_save_is_left_as_it_is(model: Path) -> None:
    asked = json.dumps({"temperature": 0.6, "eos_token_id": 2})
    (model / "generation_config.json").write_text(asked)
    grown, _ = settle_vocabulary(check_folder(model), open_tokenizer(model), TERMS, None)
    assert (grown.folder / "generation_config.json").read_text() == asked


def test_without_anything_to_add_the_base_stays_as_it_is(model: Path) -> None:
    base, tokenizer = check_folder(model), open_tokenizer(model)
    assert settle_vocabulary(base, tokenizer, ("<|end|>",), None) == (base, tokenizer)


def test_a_pad_token_of_the_vocabulary_is_named_and_none_is_invented(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = model / "tokenizer_config.json"
    settings = json.loads(path.read_text())
    assert settings.pop("pad_token")
    path.write_text(json.dumps(settings))
    base, tokenizer = check_folder(model), open_tokenizer(model)
    assert tokenizer.pad_token is None
    settled, named = settle_vocabulary(base, tokenizer, (), None)
    assert (named.pad_token, named.pad_token_id, settled.folder == model) == ("<|pad|>", 1, False)
    assert settled.weights.parameters == base.weights.parameters
    monkeypatch.setattr("tasks.model_initialisation.vocabulary.PADS", ())
    same, left = settle_vocabulary(base, open_tokenizer(model), (), None)
    assert (same, left.pad_token) == (base, None)
    assert "told by its place" in describe_padding(left)


def test_an_end_that_is_also_padding_is_still_learned(model: Path) -> None:
    tokenizer = open_tokenizer(model)
    tokenizer.pad_token = tokenizer.eos_token
    assert "so the end is learned" in describe_padding(tokenizer)
    _, answer = encode_reference(tokenizer, [{"role": "user", "content": "A room?"}], "Yes.")
    assert answer[-1] == tokenizer.pad_token_id


def test_what_cannot_be_added_is_told_at_once(model: Path) -> None:
    base = check_folder(model)
    with pytest.raises(PipelineError, match="vocabulary: 2 problems") as refused:
        settle_vocabulary(base, open_tokenizer(model), (" a term", "fill"), "fill")
    assert "white space" in str(refused.value)
    assert "'fill' is in vocabulary.add too" in str(refused.value)
    with pytest.raises(PipelineError, match="ordinary text is cut otherwise"):
        settle_vocabulary(base, open_tokenizer(model), ("int(",), None)
    with pytest.raises(ValidationError, match="reference: true stores no files"):
        ModelInitialisation.model_validate({"reference": True, "vocabulary": {"add": ["x"]}})
