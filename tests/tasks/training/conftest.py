from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from tasks.language_models.folder.shape import ModelShape, read_shape
from tests.tasks.fine_tuning.small import make_initial
from tests.tiny import make_tiny_model


@pytest.fixture(scope="session")
def initial(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny base as model initialisation leaves it; read only."""
    importlib.import_module("tests.tasks.fine_tuning.preload")  # all who train ask for a base
    return make_initial(make_tiny_model(tmp_path_factory.mktemp("training") / "initial"))


@pytest.fixture(scope="session")
def shape(initial: Path) -> ModelShape:
    return read_shape(initial)
