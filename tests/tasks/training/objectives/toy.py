"""A task with a known optimum for objectives that learn by rewards: short answers on the tiny base, worth 1 at best."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa

from tasks.contracts.records import EXAMPLES
from tasks.fine_tuning.rows import Splits, tokenize_splits
from tasks.training.optimizers.adamw import AdamW
from tasks.training.plan import Plan
from tests.tasks.fine_tuning.small import make_plan
from tests.tiny import example_rows

# An answer of three tokens is worth 1 when they are one character or none together, and less for each more.
REWARD = {"name": "length", "unit": "characters", "at_least": 0, "at_most": 1, "slack": 12}
UNGUARDED = {"most_unfinished": None, "least_tokens": None}  # as short as that, neither says anything
ROLLOUT = {"samples": 4, "max_new_tokens": 3, "rewards": [REWARD]}


def make_toy_plan(objective: dict[str, Any], rollout: dict[str, Any] | None = None, **changes: Any) -> Plan:
    """Two prompts a step, everything trained."""
    return make_plan(
        **{
            "method": {"name": "full"},
            "objective": {"guards": UNGUARDED, **objective, "rollout": {**ROLLOUT, **(rollout or {})}},
            "optimizer": AdamW(),
            "schedule": {"name": "constant"},
            "warmup_steps": 0,
            "learning_rate": 3e-3,
            "batch_size": 4,
            "steps": 30,
            "log_every_steps": 1,
            "evaluate_every_steps": 30,
            "checkpoint_every_steps": 30,
            **changes,
        }
    )


def make_toy_splits(initial: Path, plan: Plan, rows: int = 40) -> Splits:
    train = pa.Table.from_pylist(example_rows(rows), schema=EXAMPLES)
    validation = pa.Table.from_pylist(example_rows(8, 100), schema=EXAMPLES)
    return tokenize_splits(train, validation, initial, plan.max_tokens, 8, objective=plan.objective)
