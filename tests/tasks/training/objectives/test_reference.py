"""The reference is measured where a step needs it, on nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tasks.fine_tuning.train import fine_tune
from tasks.language_models.folder.shape import ModelShape
from tasks.training.objectives.preferences.dpo import REFERENCE, Dpo
from tasks.training.objectives.preferences.ipo import Ipo
from tasks.training.objectives.preferences.kto import Kto
from tests.tasks.training.objectives.test_contract import make_plan


@pytest.mark.parametrize("objective", [Dpo(), Ipo(), Kto()], ids=lambda objective: objective.name)
def test_the_reference_is_measured_on_the_items_that_are_drawn(
    objective: Any, initial: Path, shape: ModelShape, tmp_path: Path
) -> None:
    plan, splits = make_plan(objective, "lora", initial, shape)

    def reference(steps: int) -> dict[str, np.ndarray]:
        """Of each sequence, after a run of so many steps."""
        found: dict[str, np.ndarray] = {}

        def keep(trainer: Any) -> None:
            for split in ("train", "validation"):
                found[split] = getattr(trainer.splits, split).columns[REFERENCE]
            found["drawn"] = trainer.drawn

        places = tmp_path / str(steps) / "checkpoints", tmp_path / str(steps) / "tuned"
        fine_tune(plan.model_copy(update={"steps": steps}), splits, initial, *places, on_trained=keep)
        return found

    one, all_of_them = reference(1), reference(2 * len(splits.train))
    assert len(all_of_them["drawn"]) == len(splits.train) > len(one["drawn"]) > 0
    items = np.isfinite(one["train"]).reshape(len(splits.train), -1)
    assert np.flatnonzero(items.all(axis=1)).tolist() == np.flatnonzero(items.any(axis=1)).tolist()
    assert np.flatnonzero(items.all(axis=1)).tolist() == one["drawn"].tolist()
    measured = np.isfinite(one["train"])
    np.testing.assert_allclose(one["train"][measured], all_of_them["train"][measured], atol=1e-4)
    np.testing.assert_array_equal(one["validation"], all_of_them["validation"])
