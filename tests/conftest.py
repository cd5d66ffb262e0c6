from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

# Tests run beside each other, and programs with a thread for every core each wait for one another; torch reads it.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from tests.postgres import Database, running_postgres
from tests.tiny import make_tiny_model

# What is imported and collected lives until the end. Looking for garbage among it, as libraries do after each training,
# takes a third of the time of a small one.
gc.disable()


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny base model folder; read only."""
    return make_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def postgres() -> Iterator[Database]:
    """A PostgreSQL server for all tests; skips where there are no binaries."""
    with running_postgres() as database:
        yield database
