"""A run under ZeRO goes on with another number of ranks, each of which takes what is its own of the others' shares."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.tasks.fine_tuning.small import make_splits
from tests.tasks.training.distribution.cases import BF16, DISTRIBUTIONS, METHODS
from tests.tasks.training.distribution.ranks import plan_of, trained

pytestmark = pytest.mark.slow

ROWS_A_STEP, STEPS = 6, 9
# Ranks, and the step whose checkpoint they go on from; the first ones train from the beginning.
PARTS = ((2, 0), (3, 3), (2, 6))
# Whose loss explodes from the fourth step on, so that the checkpoint of the first ranks is the one that is kept.
BEST: dict[str, Any] = {"method": METHODS["full"], "keep": "best", "learning_rate": 1.0, "warmup_steps": 9}
# What differs in shares and in how they are read: stages, weights of other sizes, states of other optimizers, averages.
CASES: dict[str, dict[str, Any]] = {
    "zero-1": {"distribution": DISTRIBUTIONS["zero-1"]},
    "zero-2": {"distribution": DISTRIBUTIONS["zero-2"], "ema_decay": 0.5},
    "zero-2-full": {"distribution": DISTRIBUTIONS["zero-2"], "method": METHODS["full"]},
    "zero-2-momentum": {"distribution": DISTRIBUTIONS["zero-2"], "optimizer": {"name": "momentum"}},
    "zero-2-bf16": {"distribution": DISTRIBUTIONS["zero-2"], **BF16},
    "zero-3": {"distribution": DISTRIBUTIONS["zero-3"], "ema_decay": 0.5},
    "zero-3-full": {"distribution": DISTRIBUTIONS["zero-3"], "method": METHODS["full"]},
    "zero-3-lion": {"distribution": DISTRIBUTIONS["zero-3"], "optimizer": {"name": "lion"}},
    "zero-3-bf16": {"distribution": DISTRIBUTIONS["zero-3"], **BF16},
}
KEPT: dict[str, dict[str, Any]] = {
    "zero-2-best": {"distribution": DISTRIBUTIONS["zero-2"], **BEST},
    "zero-3-best": {"distribution": DISTRIBUTIONS["zero-3"], **BEST},
}


@pytest.fixture(scope="module")
def parts(initial: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Path]]:
    """What the ranks of each part left."""
    root, splits = tmp_path_factory.mktemp("resized"), make_splits(initial)
    with ExitStack() as stack:
        for number, (ranks, start) in enumerate(PARTS):
            for checkpoint in root.glob("checkpoints/*/*/step-*"):
                if int(checkpoint.name[-6:]) > start:
                    shutil.rmtree(checkpoint)
            plans = {
                case: plan_of(
                    initial,
                    **{"method": METHODS["lora"], **changes},
                    ranks=ranks,
                    accumulation=ROWS_A_STEP // ranks,
                    steps=STEPS,
                )
                for case, changes in (CASES | KEPT).items()
            }
            cases = {case: (plan, splits) for case, plan in plans.items()}
            place = root / f"part-{number}"
            stack.enter_context(trained(place, initial, cases, root / "checkpoints", ranks, "part"))
        yield [root / f"part-{number}" for number in range(len(PARTS))]


def read_result(part: Path, case: str) -> dict[str, Any]:
    result: dict[str, Any] = json.loads((part / case / "result.json").read_text())
    return result


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("part", [1, 2])
def test_goes_on_as_the_first_ranks_did(parts: list[Path], case: str, part: int) -> None:
    whole, found = (read_result(parts[number], case) for number in (0, part))
    assert (whole["resumed_at"], found["resumed_at"]) == (0, PARTS[part][1])
    keys = ("loss", "eval_loss")
    losses, expected = (
        {(entry["step"], key): entry[key] for entry in one["history"] for key in keys if key in entry}
        for one in (found, whole)
    )
    assert losses.keys() == expected.keys()
    atol = 0.02 if "bf16" in case else 1e-6
    for key, value in expected.items():
        assert losses[key] == pytest.approx(value, abs=atol), key
    ours, theirs = (load_file(parts[number] / case / "trained.safetensors") for number in (part, 0))
    for name, weights in theirs.items():
        torch.testing.assert_close(ours[name], weights, rtol=0, atol=2e-3 if "bf16" in case else 2e-5)


@pytest.mark.parametrize("case", KEPT)
def test_keeps_the_weights_of_the_first_ranks(parts: list[Path], case: str) -> None:
    assert [read_result(part, case)["kept_step"] for part in parts] == [3, 3, 3]
    first, *later = (load_file(part / case / "trained.safetensors") for part in parts)
    for name, weights in first.items():
        assert all(torch.equal(found[name], weights) for found in later)
