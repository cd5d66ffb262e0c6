"""What the trainers are compared on: a model's folder and conversations."""

from __future__ import annotations

import json
import shutil
from itertools import chain
from pathlib import Path
from typing import Any

from training_scripts.trainers import ROOT

BASE = ROOT / "models" / "base"


def make_model(kind: str, folder: Path) -> Path:
    """The embedded base, or a Llama of 135 million random weights with its tokenizer in a vocabulary of 49,152."""
    if kind == "embedded":
        shutil.copytree(BASE, folder)
        return folder
    return make_llama(folder, 49_152, 576, 1536, layers=30, heads=9, groups=3)


def make_llama(
    folder: Path, vocabulary: int, hidden: int, intermediate: int, layers: int, heads: int, groups: int
) -> Path:
    """A Llama of random weights with tied embeddings, a context of 2,048 and the embedded base's tokenizer."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    shutil.copytree(BASE, folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=intermediate,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=groups,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        bos_token_id=0,
        pad_token_id=1,
        eos_token_id=2,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer = folder / "tokenizer_config.json"
    limit = {"model_max_length": config.max_position_embeddings}  # the embedded base's is shorter
    tokenizer.write_text(json.dumps({**json.loads(tokenizer.read_text()), **limit}))
    return folder


def write_for_older_transformers(model: Path, folder: Path) -> Path:
    """The same model in the words of transformers 4, with which some rivals work."""
    shutil.copytree(model, folder)
    config = json.loads((folder / "config.json").read_text())
    config["rope_theta"] = config.pop("rope_parameters", {}).get("rope_theta", 10_000.0)
    config["torch_dtype"] = config.pop("dtype", "float32")
    (folder / "config.json").write_text(json.dumps(config))
    tokenizer = json.loads((folder / "tokenizer_config.json").read_text())
    tokenizer.pop("backend", None)
    tokenizer["additional_special_tokens"] = tokenizer.pop("extra_special_tokens", [])
    tokenizer["tokenizer_class"] = "PreTrainedTokenizerFast"
    tokenizer["chat_template"] = (folder / "chat_template.jinja").read_text()
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    return folder


def make_data(rows: int, file: Path, seed: int = 20261) -> Path:
    """Conversations of the sample's shop: those without an empty turn in which user and assistant take turns."""
    turns = [one for one in generate(2 * rows, seed) if is_plain(one)][:rows]
    file.write_text("".join(json.dumps({"messages": one}) + "\n" for one in turns))
    return file


def make_long_data(rows: int, turns: int, file: Path, seed: int = 20261) -> Path:
    """Conversations that are several of the sample's in a row.

    Args:
        rows: How many.
        turns: Conversations of the sample in each.
        file: Where they are written, one a line.
        seed: Of the sample.
    """
    parts = [one for one in generate(2 * rows * turns, seed) if is_plain(one)]
    parts = [[turn for turn in one if turn["role"] != "system"] for one in parts]
    joined = [list(chain.from_iterable(parts[n * turns : (n + 1) * turns])) for n in range(rows)]
    file.write_text("".join(json.dumps({"messages": one}) + "\n" for one in joined))
    return file


def generate(rows: int, seed: int) -> list[Any]:
    from tasks.sample_shop.sample import generate_sample

    conversations: list[Any] = generate_sample(rows, seed=seed).table["messages"].to_pylist()
    return [[{"role": turn["role"], "content": turn["content"]} for turn in turns] for turns in conversations]


def is_plain(turns: list[dict[str, str]]) -> bool:
    roles = [turn["role"] for turn in turns if turn["role"] != "system"]
    return roles == ["user", "assistant"] * (len(roles) // 2) and all(turn["content"].strip() for turn in turns)


def count_tokens(model: Path, data: Path) -> int:
    """Tokens of all conversations, as the embedded base's template writes them."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    rows = [json.loads(line)["messages"] for line in data.read_text().splitlines()]
    texts = ["".join(f"<|{turn['role']}|>{turn['content']}<|end|>" for turn in turns) for turns in rows]
    return sum(len(one.ids) for one in tokenizer.encode_batch(texts, add_special_tokens=False))
