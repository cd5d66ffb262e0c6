"""Divergences are those of the formulas, of TRL, and hardly other where only the most likely tokens are kept."""

from __future__ import annotations

import math
from typing import Any, get_args

import pytest
import torch
from torch.nn.functional import kl_div

from tasks.training.teachers.divergences import DivergenceName, diverge, narrow

NAMES: tuple[Any, ...] = get_args(DivergenceName)


def log(*probabilities: float) -> torch.Tensor:
    return torch.tensor([probabilities]).log()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("forward_kl", 0.5 * math.log(2 / 3) + 0.5 * math.log(2)),
        ("reverse_kl", 0.75 * math.log(1.5) + 0.25 * math.log(0.5)),
        ("total_variation", 0.25),
        (
            "jensen_shannon",
            0.5 * (0.5 * math.log(0.5 / 0.625) + 0.5 * math.log(0.5 / 0.375))
            + 0.5 * (0.75 * math.log(0.75 / 0.625) + 0.25 * math.log(0.25 / 0.375)),
        ),
    ],
)
def test_each_is_its_formula(name: Any, expected: float) -> None:
    assert diverge(log(0.75, 0.25), log(0.5, 0.5), name).item() == pytest.approx(expected, abs=1e-6)
    assert diverge(log(0.5, 0.5), log(0.5, 0.5), name).item() == pytest.approx(0, abs=1e-7)


@pytest.mark.parametrize("beta", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_numbers_are_those_of_trl(beta: float) -> None:
    from trl.experimental.gkd.gkd_trainer import GKDTrainer

    torch.manual_seed(0)
    student, teacher = torch.randn(2, 7, 50) * 3, torch.randn(2, 7, 50) * 3
    temperature = 2.0
    expected = GKDTrainer.generalized_jsd_loss(student, teacher, beta=beta, temperature=temperature, reduction="sum")
    name: Any = {0.0: "forward_kl", 1.0: "reverse_kl"}.get(beta, "jensen_shannon")
    q, p = ((logits / temperature).flatten(0, 1).log_softmax(-1) for logits in (student, teacher))
    assert diverge(q, p, name, beta).sum().item() == pytest.approx(expected.item(), rel=1e-5)


def test_an_outcome_that_the_teacher_excludes_adds_nothing_to_the_forward_kl() -> None:
    student = torch.tensor([[1.0, 2.0, 0.5]], requires_grad=True)
    teacher = log(0.25, 0.75, 0.0)
    found = diverge(student.log_softmax(-1), teacher, "forward_kl")
    expected = kl_div(student.log_softmax(-1)[:, :2], teacher[:, :2], log_target=True, reduction="sum")
    assert found.item() == pytest.approx(expected.item(), rel=1e-6)
    (gradient,) = torch.autograd.grad(found.sum(), student)
    assert gradient.isfinite().all()


@pytest.mark.parametrize("name", NAMES)
def test_the_rest_is_one_outcome(name: Any) -> None:
    torch.manual_seed(1)
    student, teacher = torch.randn(4, 30) * 2, torch.randn(4, 30) * 2
    whole = diverge(student.log_softmax(-1), teacher.log_softmax(-1), name)
    last = torch.zeros(4)
    for count in (1, 5, 29):
        kept = teacher.topk(count).indices
        q, p = narrow(student, kept), narrow(teacher, kept)
        assert torch.allclose(q.exp().sum(-1), torch.ones(4), atol=1e-6)
        found = diverge(q, p, name)
        assert (found >= last - 1e-5).all(), "more kept tokens tell more"
        assert (found <= whole + 1e-5).all()
        last = found
    # With all tokens but one the rest is that token: nothing is lost.
    assert torch.allclose(last, whole, atol=1e-5)


def test_a_tiny_rest_is_not_rounded_away() -> None:
    logits = torch.tensor([[20.0, 0.0, 0.0]], requires_grad=True)
    narrowed = narrow(logits, torch.tensor([[0]]))
    assert narrowed[0, 1].item() == pytest.approx(math.log(2) - 20, abs=1e-4)
    (gradient,) = torch.autograd.grad(narrowed[0, 1], logits)
    assert gradient[0].tolist() == pytest.approx([-1.0, 0.5, 0.5], abs=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_steps_along_the_gradient_reach_the_teacher(name: Any) -> None:
    torch.manual_seed(2)
    student, teacher = torch.zeros(1, 5, requires_grad=True), (torch.randn(1, 5) * 2).log_softmax(-1)
    start = diverge(student.log_softmax(-1), teacher, name).item()
    for _ in range(400):
        found = diverge(student.log_softmax(-1), teacher, name).sum()
        (gradient,) = torch.autograd.grad(found, student)
        with torch.no_grad():
            student -= (0.1 if name == "total_variation" else 1.0) * gradient
    assert found.item() < 0.2 * start
