"""The pinned folder keeps every byte, is the same twice, and a reference notices a changed file."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Literal

import pytest

from tasks.contracts.errors import PipelineError
from tasks.contracts.manifest import read_manifest
from tasks.language_models.folder.model_folder import load_tokenizer, open_on_meta, resolve_model
from tasks.model_initialisation.chat_template import CHATML, choose_template
from tasks.model_initialisation.checks import check_folder, open_tokenizer
from tasks.model_initialisation.describe import describe_model
from tasks.model_initialisation.pin import fetch_model, pin_model
from tasks.model_initialisation.sources.folder import Folder


def pin(model: Path, out: Path, reference: bool = False, chat_template: Literal["own", "chatml"] = "own") -> Path:
    source = Folder(path=model)
    base = check_folder(fetch_model(source))
    tokenizer = open_tokenizer(model)
    template = choose_template(tokenizer, chat_template)
    return pin_model(base, source, reference, template, None, describe_model(base, tokenizer).facts(), out)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_copy_keeps_every_byte_and_nothing_unsafe(model: Path, tmp_path: Path) -> None:
    before = contents(model)
    (model / "pytorch_model.bin").write_bytes(b"pickle")
    (model / "modeling.py").write_text("print('run me')")
    (model / "extra.safetensors").write_bytes(b"another model")
    out = pin(model, tmp_path / "initial")
    assert contents(out).keys() == before.keys() | {"manifest.json"}
    assert before.items() <= contents(out).items()
    manifest = read_manifest(out, verify=True)
    assert manifest["reference"] is None
    assert manifest["architecture"] == "LlamaForCausalLM"
    assert manifest["context"] == 256
    assert resolve_model(out) == out


def test_pinning_twice_gives_the_same_bytes(model: Path, tmp_path: Path) -> None:
    first = contents(pin(model, tmp_path / "initial"))
    (tmp_path / "initial" / "left_over.json").write_text("{}")
    assert contents(pin(model, tmp_path / "initial")) == first


def test_editing_the_base_does_not_reach_the_copy(model: Path, tmp_path: Path) -> None:
    out = pin(model, tmp_path / "initial")
    weights = model / "model.safetensors"
    with weights.open("r+b") as stream:
        stream.seek(-4, 2)
        stream.write(b"\x01\x02\x03\x04")
    assert resolve_model(out) == out


def test_a_reference_holds_hashes_only(model: Path, tmp_path: Path) -> None:
    out = pin(model, tmp_path / "initial", reference=True)
    assert [path.name for path in out.iterdir()] == ["manifest.json"]
    assert resolve_model(out) == model.resolve()
    assert open_on_meta(resolve_model(out)).config.hidden_size == 64


def test_a_changed_or_lost_reference_is_refused(model: Path, tmp_path: Path) -> None:
    out = pin(model, tmp_path / "initial", reference=True)
    config = model / "config.json"
    whole = config.read_bytes()
    config.write_bytes(whole.replace(b"64", b"65", 1))
    with pytest.raises(PipelineError, match=r"config\.json: changed since it was pinned"):
        resolve_model(out)
    config.write_bytes(whole)
    (model / "tokenizer.json").unlink()
    with pytest.raises(PipelineError, match=r"tokenizer\.json: missing"):
        resolve_model(out)
    shutil.rmtree(model)
    with pytest.raises(PipelineError, match="gone, though"):
        resolve_model(out)


def test_a_changed_copy_is_refused(model: Path, tmp_path: Path) -> None:
    out = pin(model, tmp_path / "initial")
    weights = out / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(PipelineError, match="changed since it was written"):
        resolve_model(out)


@pytest.mark.parametrize("reference", [False, True])
def test_a_supplied_template_is_used_and_the_base_keeps_its_own(model: Path, tmp_path: Path, reference: bool) -> None:
    own = (model / "chat_template.jinja").read_bytes()
    out = pin(model, tmp_path / "initial", reference=reference, chat_template="chatml")
    assert (model / "chat_template.jinja").read_bytes() == own
    assert load_tokenizer(out).chat_template == CHATML


def test_a_file_in_the_way_of_the_folder_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "base").write_text("")
    with pytest.raises(PipelineError, match="a file there; expected a folder"):
        fetch_model(Folder(path=tmp_path / "base"))
