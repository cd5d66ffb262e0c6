from __future__ import annotations

from pathlib import Path

import pytest

from tasks.language_models.folder.shape import ModelShape
from tasks.training.optimizers import OPTIMIZERS
from tests.tasks.training.optimizers.problem import Trained, solve


@pytest.fixture(scope="module", params=OPTIMIZERS, ids=lambda member: member().name)
def trained(
    request: pytest.FixtureRequest, initial: Path, shape: ModelShape, tmp_path_factory: pytest.TempPathFactory
) -> Trained:
    """Each member of the union after the small problem."""
    return solve(request.param, initial, shape, tmp_path_factory.mktemp("solved"))
