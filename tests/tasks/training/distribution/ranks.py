"""Trainings by the same processes one after the other, and those of one process on the same rows."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from tasks.fine_tuning.launch.job import written
from tasks.fine_tuning.origin import origin_of
from tasks.fine_tuning.rows import Splits
from tasks.language_models.folder.shape import read_shape
from tasks.training.distribution.distribution import Layout
from tasks.training.plan import Plan
from tests.tasks.fine_tuning.small import make_plan
from tests.tasks.training.distribution.cases import CHECKPOINT, RANKS

COMMON = {"steps": 6, "log_every_steps": 1, "checkpoint_every_steps": CHECKPOINT, "evaluate_every_steps": 3}


def plan_of(
    initial: Path,
    distribution: dict[str, Any],
    method: dict[str, Any],
    ranks: int = RANKS,
    accumulation: int = 2,
    **changes: Any,
) -> Plan:
    """Accumulated batches of two rows in each rank."""
    plan = planned(
        initial,
        **changes,
        method=method,
        distribution=distribution,
        world_size=ranks,
        batch_size=2,
        accumulation_steps=accumulation,
    )
    layout = Layout(ranks, 2, accumulation, plan.clip_norm, plan.precision, plan.device)
    return plan.model_copy(update={"distribution": plan.distribution.resolve(read_shape(initial), layout)})


def plan_alone(initial: Path, method: dict[str, Any], **changes: Any) -> Plan:
    """One process that sees the same rows a step."""
    return planned(initial, **changes, method=method, batch_size=2, accumulation_steps=2 * RANKS)


def planned(initial: Path, **values: Any) -> Plan:
    """A plan of which method and bits are resolved."""
    plan = make_plan(**{**COMMON, **values})
    method = plan.method.resolve(read_shape(initial))
    bits = plan.quantization.resolve(method.can.frozen_base, plan.precision)
    return plan.model_copy(update={"method": method, "quantization": bits})


@dataclass(frozen=True)
class Ranks:
    """What the ranks left, a folder a case."""

    root: Path

    def weights(self, case: str, run: str) -> dict[str, torch.Tensor]:
        return load_file(self.root / case / f"{run}.safetensors")

    def history(self, case: str, run: str) -> list[dict[str, Any]]:
        history: list[dict[str, Any]] = json.loads((self.root / case / f"{run}.json").read_text())["history"]
        return [
            {key: value for key, value in entry.items() if not key.startswith(("train_", "total_flos"))}
            for entry in history
        ]

    def held(self, case: str) -> list[dict[str, int]]:
        held: list[dict[str, int]] = json.loads((self.root / case / "held.json").read_text())
        return held


@contextmanager
def trained(
    root: Path,
    initial: Path,
    cases: Mapping[str, tuple[Plan, Splits]],
    checkpoints: Path | None = None,
    ranks: int = RANKS,
    module: str = "cases",
) -> Iterator[Ranks]:
    """All cases, trained by the same processes.

    Args:
        root: Folder of what they leave.
        initial: The base.
        cases: What to train.
        checkpoints: Folder of the cases' checkpoints, where others go on with them.
        ranks: Processes.
        module: What they run.
    """
    from torch.distributed.elastic.multiprocessing.api import DefaultLogsSpecs, Std
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    with ExitStack() as stack:
        for case, (plan, splits) in cases.items():
            origin = origin_of(plan, splits, initial)
            place = (checkpoints or root / "checkpoints") / case
            stack.enter_context(written(root / case, plan, splits, origin, initial, place, 3))
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=ranks,
            run_id="cases",
            max_restarts=0,
            rdzv_backend="c10d",
            rdzv_endpoint="127.0.0.1:0",
            local_addr="127.0.0.1",
            logs_specs=DefaultLogsSpecs(log_dir=str(root / "output"), redirects=Std.ALL),
        )
        try:
            elastic_launch(config, sys.executable)("-m", f"tests.tasks.training.distribution.{module}", str(root))
        except Exception as error:
            raise AssertionError("\n".join(path.read_text() for path in root.glob("error-*.json"))) from error
        yield Ranks(root)
