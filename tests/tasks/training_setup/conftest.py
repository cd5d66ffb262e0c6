from __future__ import annotations

from pathlib import Path

import pytest

from tasks.contracts.machine import Machine
from tasks.language_models.folder.shape import ModelShape, read_shape
from tasks.model_initialisation.chat_template import choose_template
from tasks.model_initialisation.checks import check_folder, open_tokenizer
from tasks.model_initialisation.describe import describe_model
from tasks.model_initialisation.pin import pin_model
from tasks.model_initialisation.sources.folder import Folder


@pytest.fixture(scope="session")
def initial(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model as model initialisation leaves it; read only."""
    source, base = Folder(path=tiny_model), check_folder(tiny_model)
    tokenizer = open_tokenizer(tiny_model)
    facts = describe_model(base, tokenizer).facts()
    out = tmp_path_factory.mktemp("pinned") / "initial"
    return pin_model(base, source, False, choose_template(tokenizer, "own"), None, facts, out)


@pytest.fixture(scope="session")
def shape(initial: Path) -> ModelShape:
    return read_shape(initial)


@pytest.fixture
def machine() -> Machine:
    """Two cores, 8 GiB, bf16."""
    return Machine(device="cpu", cores=2, memory_bytes=8 * 2**30, bf16=True)
