"""A folder that is incomplete, torn or unsafe is refused in one line that says everything at once."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest

from tasks.contracts.errors import PipelineError
from tasks.model_initialisation.checks import check_folder, open_tokenizer
from tasks.model_initialisation.weights import read_header, read_weights


def write_safetensors(path: Path, tensors: dict[str, list[int]]) -> None:
    """Zeros in fp32, written by hand after the format's description."""
    header, position = {}, 0
    for name, shape in tensors.items():
        size = 4
        for side in shape:
            size *= side
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [position, position + size]}
        position += size
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(position))


def refusal(folder: Path) -> str:
    with pytest.raises(PipelineError) as caught:
        check_folder(folder)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_tiny_model_is_counted_without_loading(model: Path) -> None:
    # 600 x 64 embeddings (tied), two layers of 4 x 64 x 64 attention, 3 x 64 x 128 feed-forward
    # and two norms of 64, and the last norm.
    expected = 600 * 64 + 2 * (4 * 64 * 64 + 3 * 64 * 128 + 2 * 64) + 64
    assert check_folder(model).weights.parameters == expected


def test_empty_folder_lists_all_that_is_missing(tmp_path: Path) -> None:
    message = refusal(tmp_path)
    for part in ("no config.json", "no model.safetensors", "no tokenizer.json", "Found: nothing", "Next:"):
        assert part in message


def test_a_folder_of_something_else_is_told_shortly(tmp_path: Path) -> None:
    for number in range(500):
        (tmp_path / f"link-{number}").symlink_to("/etc/hostname")
    with pytest.raises(PipelineError, match="; and 488 more") as caught:
        check_folder(tmp_path)
    assert len(str(caught.value)) < 2_000


def test_incomplete_folder_lists_what_is_there(model: Path) -> None:
    (model / "config.json").unlink()
    (model / "tokenizer.json").unlink()
    (model / "tokenizer_config.json").unlink()
    message = refusal(model)
    assert "no config.json" in message
    assert "no tokenizer.json" in message
    assert "no model.safetensors" not in message
    assert "Found: chat_template.jinja, generation_config.json, model.safetensors." in message


def test_cut_weights_are_seen(model: Path) -> None:
    weights = model / "model.safetensors"
    whole = weights.stat().st_size
    with weights.open("r+b") as stream:
        stream.truncate(whole - 1)
    assert f"{whole - 1:,} bytes, but its header describes {whole:,}" in refusal(model)


@pytest.mark.parametrize("content", [b"", b"\x01\x02", struct.pack("<Q", 1 << 60), struct.pack("<Q", 2) + b"[]"])
def test_a_file_that_is_no_safetensors_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    tensors, problem = read_header(path)
    assert not tensors
    assert "model.safetensors" in problem


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt"])
def test_pickled_weights_are_refused_with_the_conversion(model: Path, name: str) -> None:
    (model / "model.safetensors").rename(model / name)
    message = refusal(model)
    assert name in message
    assert "save_pretrained" in message


def test_remote_code_is_refused(model: Path) -> None:
    config = json.loads((model / "config.json").read_text())
    config["auto_map"] = {"AutoModelForCausalLM": "modeling_evil.Evil"}
    (model / "config.json").write_text(json.dumps(config))
    assert 'config.json: "auto_map" asks to run code' in refusal(model)


def test_remote_code_of_the_tokenizer_is_refused(model: Path) -> None:
    path = model / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"auto_map": {"AutoTokenizer": ["evil.Evil", None]}}))
    assert 'tokenizer_config.json: "auto_map"' in refusal(model)


def test_an_adapter_is_named_as_one(model: Path) -> None:
    (model / "config.json").rename(model / "adapter_config.json")
    assert "merge it into its base first" in refusal(model)


def test_shards_are_summed(tmp_path: Path) -> None:
    write_safetensors(tmp_path / "a.safetensors", {"x": [2, 3], "y": [5]})
    write_safetensors(tmp_path / "b.safetensors", {"z": [7, 1]})
    index = {"weight_map": {"x": "a.safetensors", "y": "a.safetensors", "z": "b.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    weights, problems = read_weights(tmp_path)
    assert problems == []
    assert weights is not None
    assert weights.parameters == 2 * 3 + 5 + 7
    assert weights.shapes["z"] == (7, 1)


def test_missing_shards_and_tensors_are_listed(tmp_path: Path) -> None:
    write_safetensors(tmp_path / "a.safetensors", {"x": [2]})
    index = {"weight_map": {"x": "a.safetensors", "y": "gone.safetensors", "z": "lost.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    weights, problems = read_weights(tmp_path)
    assert weights is None
    assert [p.split(":")[0] for p in problems] == ["gone.safetensors", "lost.safetensors"]

    index = {"weight_map": {"x": "a.safetensors", "y": "a.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    _, problems = read_weights(tmp_path)
    assert problems == ["model.safetensors.index.json: lists y and 0 more that are in no shard"]


def test_an_index_cannot_point_outside_the_folder(tmp_path: Path) -> None:
    write_safetensors(tmp_path / "secret.safetensors", {"x": [2]})
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"x": "../secret.safetensors"}}))
    weights, problems = read_weights(folder)
    assert weights is None
    assert "no safetensors file of this folder" in problems[0]


def test_a_broken_tokenizer_is_one_line(model: Path) -> None:
    (model / "tokenizer.json").write_text('{"version": "1.0"}')
    with pytest.raises(PipelineError, match="tokenizer does not load") as caught:
        open_tokenizer(model)
    assert "\n" not in str(caught.value)
