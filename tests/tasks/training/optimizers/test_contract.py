"""Every member of the union is what it says it is: its sums, its facts, and a run to the loss that is pinned."""

from __future__ import annotations

import json

import pytest

from tasks.language_models.folder.shape import ModelShape
from tasks.training.methods.full import Full
from tasks.training.optimizers import OPTIMIZERS
from tasks.training.optimizers.optimizer import Optimizer
from tasks.training.weights import list_trained_weights
from tasks.training_setup.params import TrainingSetup
from tests.tasks.training.optimizers.problem import INTERRUPTED_AT, SEALED_AT, Trained

MEMBERS = pytest.mark.parametrize("optimizer", [member() for member in OPTIMIZERS], ids=lambda one: one.name)


@MEMBERS
def test_params_survive_json(optimizer: Optimizer) -> None:
    values = json.loads(json.dumps(optimizer.model_dump(mode="json")))  # type: ignore[attr-defined]
    assert TrainingSetup.model_validate({"optimizer": values}).optimizer == optimizer
    assert optimizer.describe()
    assert optimizer.describe()[-1] not in ".\n"


def test_the_small_problem_is_learned_to_the_pinned_loss(trained: Trained) -> None:
    losses = [point.eval_loss for point in trained.whole.curve if point.eval_loss is not None]
    assert losses[-1] == pytest.approx(trained.case.loss, abs=0.01)
    assert losses[-1] < losses[0]


def test_the_state_is_as_large_as_predicted(trained: Trained, shape: ModelShape) -> None:
    predicted = trained.optimizer.state_bytes(list_trained_weights(Full(), shape))
    assert trained.state_bytes == pytest.approx(predicted, rel=0.02, abs=200)  # a step number of each tensor


def test_a_resumed_run_ends_with_the_same_weights(trained: Trained) -> None:
    assert (trained.whole.resumed_at, trained.halves.resumed_at) == (0, SEALED_AT)
    assert trained.same_weights
    assert trained.whole.curve == trained.halves.curve


def test_a_run_that_is_asked_to_end_between_checkpoints_ends_with_the_same_weights(trained: Trained) -> None:
    assert trained.asked.resumed_at == INTERRUPTED_AT + 1  # the step during which the signal came is finished
    assert trained.same_when_asked
    assert trained.whole.curve == trained.asked.curve
