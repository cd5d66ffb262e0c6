"""Every loss is its formula: numbers by hand, gradients, weights, and sums that add up however they are cut."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from tasks.training import losses
from tasks.training.losses import LOSSES
from tasks.training.losses.cross_entropy import CrossEntropy
from tasks.training.losses.dft import DynamicFineTuning
from tasks.training.losses.expected_cost import ExpectedCost
from tasks.training.losses.focal import Focal
from tasks.training.losses.label_smoothing import LabelSmoothing
from tasks.training.losses.loss import Supervision, TrainingLoss
from tasks.training_setup.params import TrainingSetup

MEMBERS = [member() for member in LOSSES]
EVERY = pytest.mark.parametrize("loss", MEMBERS, ids=[loss.name for loss in MEMBERS])

# Two positions over a vocabulary of two: probabilities 0.8 and 0.2, the right tokens the first and the second.
P = torch.tensor([[0.8, 0.2], [0.8, 0.2]], dtype=torch.float64)
RIGHT = torch.tensor([0, 1])
EASY, HARD = -math.log(0.8), -math.log(0.2)
MEAN = (EASY + HARD) / 2
BY_HAND: list[tuple[TrainingLoss, list[float]]] = [
    (CrossEntropy(), [EASY, HARD]),
    (LabelSmoothing(share=0.1), [0.9 * EASY + 0.1 * MEAN, 0.9 * HARD + 0.1 * MEAN]),
    (Focal(gamma=2.0), [0.2**2 * EASY, 0.8**2 * HARD]),
    (Focal(gamma=1.0), [0.2 * EASY, 0.8 * HARD]),
    (DynamicFineTuning(), [0.8 * EASY, 0.2 * HARD]),
    (ExpectedCost(share=2.0), [EASY, HARD]),  # without costs; with them below
]


def random_case(seed: int = 0) -> tuple[torch.Tensor, Supervision]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(7, 5, generator=generator, dtype=torch.float64)
    tokens = torch.randint(0, 5, (7,), generator=generator)
    weights = torch.rand(7, generator=generator, dtype=torch.float64)
    at, wrong = torch.tensor([0, 2, 2, 6]), torch.tensor([1, 0, 3, 4])
    return logits, Supervision(tokens, weights, (at, wrong, torch.tensor([1.0, 0.5, 4.0, 2.0], dtype=torch.float64)))


def test_every_loss_has_numbers_by_hand() -> None:
    assert {loss.name for loss, _ in BY_HAND} == {loss.name for loss in MEMBERS}


@EVERY
def test_sums_of_fp32_losses_are_the_same_however_rows_are_split(loss: TrainingLoss) -> None:
    """Of 4,096 tokens near 6 nats each a sum in fp32 is off by thousandths, of which processes would differ."""
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(4096, 512, generator=generator)
    tokens = torch.randint(0, 512, (4096,), generator=generator)
    supervision = Supervision(tokens, torch.rand(4096, generator=generator))
    whole = loss.total(logits, supervision).item()
    for size in (1000, 64, 7):
        spans = [slice(start, start + size) for start in range(0, 4096, size)]
        parts = sum(loss.total(logits[span], supervision.part(span)).item() for span in spans)
        assert parts == pytest.approx(whole, rel=1e-9)


@pytest.mark.parametrize(("loss", "expected"), BY_HAND, ids=[loss.describe() for loss, _ in BY_HAND])
def test_by_hand(loss: TrainingLoss, expected: list[float]) -> None:
    logits = P.log() + 3.0  # a constant changes no probability
    assert loss.total(logits, Supervision(RIGHT)).item() == pytest.approx(sum(expected), abs=1e-12)
    weighted = loss.total(logits, Supervision(RIGHT, torch.tensor([2.0, 0.5], dtype=torch.float64)))
    assert weighted.item() == pytest.approx(2 * expected[0] + 0.5 * expected[1], abs=1e-12)


def test_expected_cost_by_hand() -> None:
    """The example of its file, and a second position of weight 3 at which nothing can be confused."""
    logits = torch.tensor([[0.7, 0.2, 0.1], [0.5, 0.25, 0.25]], dtype=torch.float64).log()
    costs = (torch.tensor([0, 0]), torch.tensor([1, 2]), torch.tensor([5.0, 1.0], dtype=torch.float64))
    weights = torch.tensor([2.0, 3.0], dtype=torch.float64)
    right = torch.tensor([0, 1])
    first = -math.log(0.7) + 0.2 * 5 + 0.1 * 1
    assert first == pytest.approx(1.4567, abs=1e-4)
    plain = ExpectedCost().total(logits, Supervision(right, None, costs))
    assert plain.item() == pytest.approx(first - math.log(0.25), abs=1e-12)
    weighted = ExpectedCost(share=0.5).total(logits, Supervision(right, weights, costs))
    assert weighted.item() == pytest.approx(2 * (-math.log(0.7) + 0.5 * 1.1) - 3 * math.log(0.25), abs=1e-12)


@EVERY
def test_gradients_are_the_slopes(loss: TrainingLoss) -> None:
    logits, supervision = random_case()
    if isinstance(loss, DynamicFineTuning):
        pytest.skip("its factor has no gradient by design; see the next test")
    logits.requires_grad_()
    assert torch.autograd.gradcheck(lambda scores: loss.total(scores, supervision), (logits,))


def test_the_gradient_of_dynamic_fine_tuning_is_scaled_down_by_the_probability() -> None:
    logits, supervision = random_case()
    logits.requires_grad_()
    DynamicFineTuning().total(logits, supervision).backward()
    p = torch.softmax(logits.detach(), -1)
    right = torch.nn.functional.one_hot(supervision.tokens, 5)
    assert supervision.weights is not None
    factors = supervision.weights * p.gather(1, supervision.tokens[:, None])[:, 0]
    torch.testing.assert_close(logits.grad, factors[:, None] * (p - right))


@EVERY
def test_parts_add_up_to_the_whole(loss: TrainingLoss) -> None:
    """Whatever is accumulated, spread over processes or computed in parts: the sum and its gradient are the same."""
    logits, supervision = random_case(1)
    whole = logits.clone().requires_grad_()
    parts = logits.clone().requires_grad_()
    total = loss.total(whole, supervision)
    total.backward()
    spans = (slice(0, 1), slice(1, 5), slice(5, 9))
    summed = torch.stack([loss.total(parts[span], supervision.part(span)) for span in spans]).sum()
    summed.backward()
    torch.testing.assert_close(total, summed, rtol=0, atol=1e-12)
    torch.testing.assert_close(whole.grad, parts.grad, rtol=0, atol=1e-12)


@EVERY
def test_certain_and_hopeless_tokens_have_finite_gradients(loss: TrainingLoss) -> None:
    logits = torch.tensor([[90.0, -90.0], [90.0, -90.0]], requires_grad=True)
    loss.total(logits, Supervision(RIGHT)).backward()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


@EVERY
def test_params_survive_json(loss: Any) -> None:
    read = TrainingSetup.model_validate({"loss": json.loads(json.dumps(loss.model_dump(mode="json")))}).loss
    assert read == loss
    assert read.describe()
    assert read.describe()[-1] not in ".\n"


def test_every_file_is_in_the_union() -> None:
    files = {path.stem for path in Path(losses.__path__[0]).glob("*.py")} - {"__init__", "loss"}
    assert files == {loss.name for loss in MEMBERS}
