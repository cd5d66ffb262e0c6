"""A gateway per test module over a tiny model, and a client that speaks to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tasks.gateway.params import Gateway
from tasks.gateway.running import RunningGateway, running_gateway

Start = Callable[..., AbstractContextManager[RunningGateway]]


def make_talking_model(folder: Path, tiny: Path, seed: int, ties: bool = False) -> Path:
    """The tiny model with large random weights: its answers vary, where small ones repeat one token.

    With ``ties`` every second half of the vocabulary has the same logits as the first.
    """
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    model = LlamaForCausalLM(LlamaConfig.from_pretrained(tiny, tie_word_embeddings=False, initializer_range=0.2))
    if ties:
        half = model.config.vocab_size // 2
        with torch.no_grad():
            model.lm_head.weight[half : 2 * half] = model.lm_head.weight[:half]
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(tiny).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def model(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder whose answers vary; read only."""
    return make_talking_model(tmp_path_factory.mktemp("models") / "one", tiny_model, seed=0)


@pytest.fixture(scope="session")
def other_model(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder with other weights; read only."""
    return make_talking_model(tmp_path_factory.mktemp("models") / "two", tiny_model, seed=1)


@contextmanager
def start_gateway(folder: Path, model: Path, resolve: Any = None, **settings: Any) -> Iterator[RunningGateway]:
    """A gateway with its log and keys below a folder."""
    host = settings.pop("host", "127.0.0.1")
    adapters = settings.pop("adapters_folder", None)
    store_url = settings.pop("store_url", f"sqlite:///{folder / 'requests.db'}")
    params = Gateway.model_validate({"poll_s": 0.05, "max_new_tokens": 24, **settings})
    with running_gateway(
        params,
        resolve or (lambda: ("release-one", model)),
        store_url,
        folder / "requests.spool.jsonl",
        folder / "keys.json",
        host,
        adapters=adapters,
    ) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, model: Path) -> Iterator[RunningGateway]:
    """A gateway without keys, shared by the tests of a file."""
    with start_gateway(tmp_path_factory.mktemp("gateway"), model) as running:
        yield running
