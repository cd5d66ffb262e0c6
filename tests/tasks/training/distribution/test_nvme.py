"""A real training whose states and weights live in files, where libaio is installed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM

from tasks.contracts.errors import PipelineError
from tasks.fine_tuning.run import Run
from tasks.fine_tuning.train import fine_tune
from tasks.language_models.folder.shape import read_shape
from tasks.training.distribution.distribution import Layout
from tests.tasks.fine_tuning.small import make_initial, make_plan, make_splits
from tests.tiny import make_tiny_model

pytestmark = pytest.mark.slow

OnMetrics = Callable[[int, Mapping[str, float]], None]


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base whose weights are larger than 1 MiB, below which DeepSpeed keeps them in memory."""
    folder = make_tiny_model(tmp_path_factory.mktemp("wide") / "initial")
    config = AutoConfig.from_pretrained(folder, hidden_size=512, intermediate_size=1024)
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return make_initial(folder)


def test_what_lives_in_files_trains_as_what_is_in_memory_and_is_not_resumed(wide: Path, tmp_path: Path) -> None:
    from deepspeed.ops.op_builder import AsyncIOBuilder

    if not AsyncIOBuilder().is_compatible(verbose=False):
        pytest.skip("libaio and its headers are not installed; libaio-dev has them")
    splits = make_splits(wide)

    def train(name: str, stop: OnMetrics | None = None, **changes: Any) -> tuple[Run, dict[str, torch.Tensor]]:
        plan = make_plan(
            method={"name": "full"}, steps=4, log_every_steps=1, checkpoint_every_steps=2, learning_rate=1e-3, **changes
        )
        layout = Layout(1, plan.batch_size, plan.accumulation_steps, plan.clip_norm, plan.precision, plan.device)
        plan = plan.model_copy(update={"distribution": plan.distribution.resolve(read_shape(wide), layout)})
        folder = tmp_path / name
        run = fine_tune(plan, splits, wide, folder / "checkpoints", folder / "tuned", on_metrics=stop)
        return run, load_file(next((folder / "tuned").rglob("*.safetensors")))

    def stop_at(step: int, _: Mapping[str, float]) -> None:
        if step == 3:
            raise KeyboardInterrupt

    run, weights = train("memory", distribution={"name": "single"})
    for name, places in {
        "optimizer": {"offload_optimizer": "nvme"},
        "both": {"offload_optimizer": "nvme", "offload_weights": "nvme"},
    }.items():
        fast = tmp_path / f"fast-{name}"
        fast.mkdir()
        distribution = {"name": "zero", "stage": 3, "nvme_path": str(fast), **places}
        found, trained = train(name, distribution=distribution)
        assert list(fast.rglob("*.swp")), "nothing was in files"
        for ours, theirs in zip(found.curve, run.curve, strict=True):
            assert ours.loss == pytest.approx(theirs.loss, abs=1e-6)
        for key, values in weights.items():
            torch.testing.assert_close(trained[key], values, rtol=0, atol=2e-5)
        with pytest.raises(KeyboardInterrupt):
            train(f"{name}-resumed", stop_at, distribution=distribution)
        with pytest.raises(PipelineError, match="which DeepSpeed does not read back whole; remove"):
            train(f"{name}-resumed", distribution=distribution)
