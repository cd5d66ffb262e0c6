"""Every method in two ranks trains as in one process and resumes exactly, with every distribution that takes it.

The ranks of a distribution train one method after the other: starting them costs more than a training.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tasks.fine_tuning.rows import Splits
from tasks.fine_tuning.run import Run
from tasks.fine_tuning.train import fine_tune
from tasks.training.combinations import find_reasons
from tasks.training.methods.method import Method
from tasks.training_setup.params import TrainingSetup
from tests.tasks.fine_tuning.small import make_splits
from tests.tasks.training.distribution.cases import CHECKPOINT, DISTRIBUTIONS
from tests.tasks.training.distribution.ranks import Ranks, plan_alone, plan_of, trained
from tests.tasks.training.methods.members import MEMBERS

pytestmark = pytest.mark.slow

# Distribution, and how the base is held. Of ZeRO's first stage the second shares the sums and the way weights are held;
# a base in few bits is tried with those that share it out.
TRIED = {name: (name, "none") for name in ("ddp", "fsdp", "zero-2", "zero-3")}
TRIED |= {"fsdp-nf4": ("fsdp", "nf4"), "zero-3-nf4": ("zero-3", "nf4")}
LOSS, WEIGHTS = {"none": 1e-6, "nf4": 1e-5}, 2e-5
Alone = Callable[[str, str], tuple[Run, Path]]


def still(method: Method) -> Method:
    """Without dropout, which each rank draws for itself."""
    return method.model_copy(update={"dropout": 0.0}) if hasattr(method, "dropout") else method  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def splits(initial: Path) -> Splits:
    return make_splits(initial)


@pytest.fixture(scope="module")
def alone(initial: Path, splits: Splits, tmp_path_factory: pytest.TempPathFactory) -> Alone:
    """A method in one process, on the same rows a step."""

    @cache
    def train(name: str, bits: str) -> tuple[Run, Path]:
        folder = tmp_path_factory.mktemp(name)
        plan = plan_alone(initial, still(MEMBERS[name]), quantization={"name": bits})
        return fine_tune(plan, splits, initial, folder / "checkpoints", folder / "tuned"), folder

    return train


@pytest.fixture(scope="module")
def ranks_of(
    initial: Path, splits: Splits, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], Ranks]]:
    """The ranks of what is tried, which have trained all methods that go with it."""
    with ExitStack() as stack:

        @cache
        def train(name: str) -> Ranks:
            distribution, bits = TRIED[name]
            changes = {"distribution": DISTRIBUTIONS[distribution], "quantization": {"name": bits}}
            taken = [one for tried, one in TAKEN if tried == name]
            cases = {one: (plan_of(initial, method=still(MEMBERS[one]), **changes), splits) for one in taken}
            return stack.enter_context(trained(tmp_path_factory.mktemp(name), initial, cases))

        yield train


def reasons_against(tried: str, name: str) -> list[str]:
    distribution, bits = TRIED[tried]
    values = {"distribution": DISTRIBUTIONS[distribution], "quantization": {"name": bits}}
    setup, method = TrainingSetup.model_validate(values), MEMBERS[name]
    reasons = find_reasons(("method", "distribution"), method, setup.distribution)
    return reasons + find_reasons(("quantization", "method"), setup.quantization, method)


TAKEN = [(one, name) for one in TRIED for name in MEMBERS if not reasons_against(one, name)]


@pytest.mark.parametrize(("tried", "name"), TAKEN)
def test_a_method_in_two_ranks_is_that_of_one_process(
    ranks_of: Callable[[str], Ranks], tried: str, name: str, alone: Alone
) -> None:
    bits = TRIED[tried][1]
    ranks, (run, folder) = ranks_of(tried), alone(name, bits)
    history = ranks.history(name, "whole")
    losses = {(e["step"], key): e[key] for e in history for key in ("loss", "eval_loss") if key in e}
    expected = {(p.step, "loss"): p.loss for p in run.curve if p.loss is not None}
    expected |= {(p.step, "eval_loss"): p.eval_loss for p in run.curve if p.eval_loss is not None}
    assert losses == pytest.approx(expected, rel=0, abs=LOSS[bits])
    kept = load_file(next(folder.glob("checkpoints/*/step-000006/trained.safetensors")))
    whole, resumed = ranks.weights(name, "whole"), ranks.weights(name, "resumed")
    assert whole.keys() == kept.keys()
    for weights in kept:
        torch.testing.assert_close(whole[weights], kept[weights].float(), rtol=0, atol=WEIGHTS)
        assert torch.equal(whole[weights], resumed[weights])
    assert json.loads((ranks.root / name / "resumed.json").read_text())["resumed_at"] == CHECKPOINT
    assert history == ranks.history(name, "resumed")


def test_most_methods_go_with_all_and_all_with_copies() -> None:
    counts = {one: sum(taken == one for taken, _ in TAKEN) for one, (_, bits) in TRIED.items() if bits == "none"}
    assert counts["ddp"] == len(MEMBERS)
    assert all(count > 0.6 * len(MEMBERS) for count in counts.values()), counts
