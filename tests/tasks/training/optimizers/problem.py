"""One small problem for every optimizer: the tiny base, all of its weights, forty conversations, a few steps."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch

from tasks.contracts.machine import Machine
from tasks.contracts.manifest import hash_folder
from tasks.contracts.records import EXAMPLES
from tasks.fine_tuning.rows import Splits
from tasks.fine_tuning.run import Run
from tasks.fine_tuning.train import fine_tune
from tasks.fine_tuning.trainer.fine_tuner import FineTuner
from tasks.fine_tuning.trainer.progress import OnMetrics
from tasks.language_models.folder.shape import ModelShape
from tasks.training.optimizers.optimizer import Optimizer
from tasks.training.plan import Plan
from tasks.training_setup.counts import Counts, count_tokens
from tasks.training_setup.params import TrainingSetup
from tasks.training_setup.resolve import resolve_plan
from tests.tasks.fine_tuning.small import make_splits
from tests.tiny import example_rows


@dataclass(frozen=True)
class Case:
    """An optimizer on the small problem.

    Attributes:
        rate: Peak learning rate.
        loss: Validation loss after the last step, nats per token; 6.342 before the first.
        params: What differs from the optimizer's defaults, to suit a model whose widest matrix is 64 x 128.
    """

    rate: float
    loss: float
    params: Mapping[str, Any] = field(default_factory=dict)


CASES = {
    "gradient_descent": Case(1.0, 1.562),
    "sgd": Case(1.0, 2.154),
    "momentum": Case(0.4, 1.829),
    "adagrad": Case(0.1, 1.956),
    "rmsprop": Case(1e-2, 2.065),
    "adadelta": Case(5.0, 3.076),
    "adam": Case(2e-2, 2.118),
    "adamw": Case(2e-2, 2.118),
    "adamw_8bit": Case(2e-2, 2.206),
    "paged_adamw": Case(2e-2, 2.118),
    "adafactor": Case(1e-2, 2.514),
    "lion": Case(1e-2, 2.215),
    "muon": Case(2e-2, 0.828),
    "schedule_free": Case(1e-2, 2.253),
    "galore": Case(5e-2, 0.532, {"rank": 16, "refresh_every_steps": 5}),
    "apollo": Case(2e-2, 1.360, {"rank": 16, "refresh_every_steps": 5}),
    "lomo": Case(0.3, 3.240),
    "adalomo": Case(0.1, 2.516),
    "mezo": Case(1e-3, 6.276),
}

MAX_TOKENS = 128
STEPS, SEALED_AT, INTERRUPTED_AT = 16, 8, 10


@dataclass(frozen=True)
class Trained:
    """What became of one optimizer on the small problem.

    Attributes:
        case: What is expected.
        optimizer: With the params of the case.
        plan: What was run.
        whole: The run without interruption.
        halves: The same, interrupted and resumed.
        same_weights: The two wrote the same bytes.
        asked: The same, asked to end by a signal at a step without a checkpoint, and resumed from it.
        same_when_asked: It wrote the same bytes too.
        state_bytes: Bytes of the tensors in the optimizer's state after the last step, each counted once.
    """

    case: Case
    optimizer: Optimizer
    plan: Plan
    whole: Run
    halves: Run
    same_weights: bool
    asked: Run
    same_when_asked: bool
    state_bytes: int


class Interrupted(Exception):
    """Stands for the end of a machine."""


def interrupt(step: int, _: Mapping[str, float]) -> None:
    if step == INTERRUPTED_AT:
        raise Interrupted


def ask(step: int, _: Mapping[str, float]) -> None:
    if step == INTERRUPTED_AT:
        signal.raise_signal(signal.SIGTERM)


@contextmanager
def raising() -> Iterator[None]:
    """SIGTERM raises `Interrupted` in this block."""

    def leave(*_: object) -> None:
        raise Interrupted

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@cache
def count_rows(initial: Path) -> Counts:
    rows = pa.Table.from_pylist(example_rows(40), schema=EXAMPLES)
    return count_tokens(rows, rows.slice(0, 8), initial, MAX_TOKENS)


@cache
def read_splits(initial: Path) -> Splits:
    return make_splits(initial, max_tokens=MAX_TOKENS)


def make_plan(initial: Path, shape: ModelShape, **changes: Any) -> Plan:
    """Some steps of training all weights of the tiny base, a checkpoint in the middle, every step logged."""
    settings = TrainingSetup.model_validate(
        {
            "method": {"name": "full"},
            "packing": "none",
            "precision": "fp32",
            "max_tokens": MAX_TOKENS,
            "batch_size": 4,
            "epochs": 100,
            "max_steps": STEPS,
            "threads": 1,
            "checkpoint_every": {"steps": SEALED_AT},
            "evaluate_every": {"steps": SEALED_AT},
            "log_every_steps": 1,
            **changes,
        }
    )
    machine = Machine(device="cpu", cores=1, memory_bytes=2**33, bf16=True)
    plan = resolve_plan(settings, shape, count_rows(initial), machine).plan
    # The machine of the tests may have less.
    return plan.model_copy(update={"predicted_memory_bytes": 2**20})


def tensors_in(state: Any) -> Iterator[torch.Tensor]:
    if isinstance(state, torch.Tensor):
        yield state
    elif isinstance(state, Mapping):
        for inner in state.values():
            yield from tensors_in(inner)


def recording(seen: list[int]) -> type[FineTuner]:
    """A trainer that notes the bytes of the optimizer's state at each checkpoint."""

    class Recording(FineTuner):
        def write_state(self, folder: Path) -> None:
            super().write_state(folder)
            state: Any = self.optimizer.state
            found = {tensor.data_ptr(): tensor.numel() * tensor.element_size() for tensor in tensors_in(state)}
            seen.append(sum(found.values()))

    return Recording


def solve(kind: type[Optimizer], initial: Path, shape: ModelShape, folder: Path) -> Trained:
    """The small problem, once without interruption and twice in two halves, after a kill and after a signal."""
    name, seen = kind().name, list[int]()
    assert name in CASES, f"give {name} a learning rate for the small problem and the loss that it reaches"
    case = CASES[name]
    optimizer = kind(**case.params)
    plan = make_plan(
        initial,
        shape,
        optimizer=optimizer.model_dump(),  # type: ignore[attr-defined]
        learning_rate=case.rate,
        clip_norm=1.0 if optimizer.can.clips else 0,
    )
    splits = read_splits(initial)

    def run(name: str, on_metrics: OnMetrics | None = None) -> Run:
        where = folder / name
        return fine_tune(plan, splits, initial, where / "checkpoints", where / "tuned", 2, on_metrics, recording(seen))

    whole = run("whole")
    with pytest.raises(Interrupted):
        run("halves", interrupt)
    halves = run("halves")
    with raising(), pytest.raises(Interrupted):
        run("asked", ask)
    asked = run("asked")
    same, same_when_asked = (
        hash_folder(folder / "whole/tuned") == hash_folder(folder / f"{name}/tuned") for name in ("halves", "asked")
    )
    return Trained(case, optimizer, plan, whole, halves, same, asked, same_when_asked, seen[1])
