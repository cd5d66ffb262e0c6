from __future__ import annotations

from pathlib import Path

import pytest

from tasks.language_models.shape import ModelShape
from tasks.training.optimizers import OPTIMIZERS
from tests.tasks.training.optimizers.problem import PINNED, Trained, solve


@pytest.fixture(scope="module", params=OPTIMIZERS, ids=lambda member: member().name)
def trained(
    request: pytest.FixtureRequest, initial: Path, shape: ModelShape, tmp_path_factory: pytest.TempPathFactory
) -> Trained:
    """Each member of the union, with its defaults, after the small problem."""
    optimizer = request.param()
    assert optimizer.name in PINNED, "name a learning rate for the small problem and the loss it reaches"
    folder = tmp_path_factory.mktemp(optimizer.name)
    return solve(optimizer, initial, shape, folder, learning_rate=PINNED[optimizer.name][0])
