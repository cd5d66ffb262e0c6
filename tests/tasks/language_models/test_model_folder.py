"""The tokenizer is opened as the class model initialisation found, and encodes what `AutoTokenizer`'s does."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pyarrow as pa
import pytest
from transformers import AutoTokenizer

from tasks.contracts.errors import PipelineError
from tasks.contracts.manifest import seal
from tasks.contracts.records import EXAMPLES
from tasks.language_models.encoding import encode_examples
from tasks.language_models.folder.model_folder import load_tokenizer
from tasks.model_initialisation.checks import check_folder, open_tokenizer
from tasks.model_initialisation.describe import describe_model
from tests.tiny import example_rows


def pin(folder: Path) -> str:
    """Seal a model folder as model initialisation does; the tokenizer class it records."""
    description = describe_model(check_folder(folder), open_tokenizer(folder))
    seal(folder, [path for path in folder.iterdir() if path.is_file()], {"reference": None, **description.facts()})
    return description.tokenizer_class


@pytest.mark.parametrize(
    ("model_type", "declared", "opened"),
    [
        ("llama", "TokenizersBackend", "TokenizersBackend"),
        ("llama", "PreTrainedTokenizerFast", "TokenizersBackend"),
        # A byte-level tokenizer.json, which Llama's own class would rebuild otherwise.
        ("llama", "LlamaTokenizerFast", "TokenizersBackend"),
        ("llama", "GPT2TokenizerFast", "GPT2Tokenizer"),
        # Declared in published folders though wrong, so transformers does not believe it.
        ("qwen2", "Qwen2TokenizerFast", "Qwen2Tokenizer"),
        ("phi3", "LlamaTokenizerFast", "TokenizersBackend"),
        ("cohere", "CohereTokenizerFast", "CohereTokenizer"),
        ("gpt2", None, "GPT2Tokenizer"),
    ],
)
def test_it_is_the_one_auto_tokenizer_opens(
    tiny_model: Path, tmp_path: Path, model_type: str, declared: str | None, opened: str
) -> None:
    folder = tmp_path / "initial"
    shutil.copytree(tiny_model, folder)
    (folder / "config.json").write_text(
        json.dumps(json.loads((folder / "config.json").read_text()) | {"model_type": model_type})
    )
    settings = json.loads((folder / "tokenizer_config.json").read_text()) | {"tokenizer_class": declared}
    (folder / "tokenizer_config.json").write_text(json.dumps({k: v for k, v in settings.items() if v is not None}))
    assert pin(folder) == opened

    auto, found = AutoTokenizer.from_pretrained(folder), load_tokenizer(folder)
    assert type(found) is type(auto)
    assert found.backend_tokenizer.to_str() == auto.backend_tokenizer.to_str()
    assert found.special_tokens_map == auto.special_tokens_map
    assert found.chat_template == auto.chat_template
    examples = pa.Table.from_pylist(example_rows(20), schema=EXAMPLES)
    assert encode_examples(examples, found, 64).equals(encode_examples(examples, auto, 64))
    written = []
    for tokenizer, name in ((found, "found"), (auto, "auto")):
        tokenizer.save_pretrained(tmp_path / name)
        written.append({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()})
    assert written[0] == written[1]


@pytest.mark.parametrize("name", [None, "AbacusTokenizer"])
def test_a_manifest_without_a_class_that_exists_is_refused(tiny_model: Path, tmp_path: Path, name: str | None) -> None:
    folder = tmp_path / "initial"
    shutil.copytree(tiny_model, folder)
    seal(folder, list(folder.iterdir()), {"reference": None, "tokenizer_class": name})
    with pytest.raises(PipelineError, match=f"tokenizer_class is {name}, .* run model_initialisation again"):
        load_tokenizer(folder)
