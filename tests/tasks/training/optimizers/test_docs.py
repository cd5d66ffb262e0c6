"""The table of the optimizers is made of what they say about themselves and of the losses that the tests pin."""

from __future__ import annotations

import re

from tasks.training.optimizers import OPTIMIZERS
from tasks.training.optimizers.optimizer import OptimizerCan
from tasks.training.weights import TrainedWeights
from tests.checkout import ROOT
from tests.tasks.training.optimizers.problem import CASES

SIDE = 4096
PAGE = (ROOT / "docs/training/optimizers.md").read_text()


def list_limits(can: OptimizerCan) -> str:
    """What an optimizer cannot, in the words of the table."""
    limits = {
        "clipping by the norm": can.clips,
        "accumulation": can.accumulates,
        "fp16": can.keeps_gradients,
        "several processes": can.several_ranks,
        "ZeRO, FSDP": can.sharded or not can.several_ranks,
    }
    return ", ".join(words for words, able in limits.items() if not able)


def test_the_table_says_what_each_keeps_cannot_and_reached() -> None:
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in PAGE.splitlines() if line.startswith("| `")]
    told = {row[0].strip("`"): (row[1], row[3], row[4]) for row in cells if row[0].strip("`") in CASES}
    expected = {}
    for optimizer in (member() for member in OPTIMIZERS):
        kept = optimizer.state_bytes(TrainedWeights(((SIDE, SIDE),))) / SIDE**2
        case = CASES[optimizer.name]
        reached = f"{case.loss:.2f} ({case.rate:g})"
        expected[optimizer.name] = (f"{kept:.2f}".rstrip("0").rstrip("."), list_limits(optimizer.can), reached)
    assert told == expected


def test_every_optimizer_cites_its_source_and_shows_its_use() -> None:
    for member in OPTIMIZERS:
        module = member.__module__.rpartition(".")[2]
        head = (ROOT / f"tasks/training/optimizers/{module}.py").read_text().split('"""')[1]
        assert re.search(r"\b(1[89]|20)\d\d\b", head), f"{module} names no source"
        assert f"{{name: {member().name}" in head.partition("Example:")[2], f"{module} has no example"
