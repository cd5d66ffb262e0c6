"""Curves of each kind, made with noise of many seeds, are called what they are; good ones are called good."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from tasks.fine_tuning.curve import Point
from tasks.fine_tuning.diagnosis import Shape, diagnose
from tasks.fine_tuning.report import plot_losses

STEPS, EVERY = 400, 5
SEEDS = range(20)


def cosine(share: float) -> float:
    """The learning rate at a share of the run, after a warm-up of a twentieth."""
    return share / 0.05 if share < 0.05 else 0.5 * (1 + math.cos(math.pi * (share - 0.05) / 0.95))


def make_curve(
    loss: Callable[[float], float],
    noise: float,
    seed: int,
    validation: Callable[[float], float] | None = None,
    rate: Callable[[float], float] = cosine,
) -> list[Point]:
    """A run of 400 steps, logged every fifth, validated every fortieth."""
    rng = np.random.default_rng(seed)
    points = []
    for step in range(0, STEPS + 1, EVERY):
        share = step / STEPS
        validated = None
        if validation is not None and step % 40 == 0:
            validated = validation(share) * float(rng.lognormal(0, 0.003))
        logged = loss(share) * float(rng.lognormal(0, noise)) if step else None
        points.append(Point(step, logged, validated, 1e-3 * rate(share) if step else None, 1.0))
    return points


def decay(start: float, end: float, speed: float) -> Callable[[float], float]:
    return lambda share: end + (start - end) * math.exp(-speed * share)


def spiked(share: float) -> float:
    """Falls, rises at the peak of the rate, falls again with it."""
    return decay(4, 1, 6)(share) + 3 * math.exp(-(((share - 0.25) / 0.08) ** 2))


KINDS: dict[str, tuple[Sequence[Shape], Callable[[int], list[Point]]]] = {
    "good": (("falling",), lambda seed: make_curve(decay(4, 1, 6), 0.08, seed, decay(4.1, 1.1, 6))),
    "good, without validation": (("falling",), lambda seed: make_curve(decay(4, 1, 6), 0.08, seed)),
    "overfits": (
        ("overfitting",),
        lambda seed: make_curve(
            decay(4, 0.1, 6), 0.08, seed, lambda share: decay(4, 1.2, 9)(share) + 0.8 * max(0.0, share - 0.4)
        ),
    ),
    "diverges": (
        ("diverging",),
        lambda seed: make_curve(lambda share: decay(4, 2, 8)(share) + 5 * max(0.0, share - 0.6), 0.08, seed),
    ),
    "learns nothing": (("flat",), lambda seed: make_curve(lambda _: 2.0, 0.08, seed, lambda _: 2.0)),
    "gets worse": (
        ("rising", "diverging"),
        lambda seed: make_curve(lambda share: 2 + share, 0.08, seed, lambda share: 2 + 0.6 * share),
    ),
    "rate too high": (("rate too high",), lambda seed: make_curve(spiked, 0.08, seed)),
    "noisy": (("noisy",), lambda seed: make_curve(decay(4, 1, 6), 0.6, seed)),
    "stands still": (
        ("plateau",),
        lambda seed: make_curve(decay(4, 1, 40), 0.02, seed, decay(4, 1, 40), lambda share: min(1.0, share / 0.05)),
    ),
    "rate too low": (
        ("rate too low", "underfitting"),
        lambda seed: make_curve(lambda share: 4 - 0.9 * share, 0.03, seed, rate=lambda _: 1.0),
    ),
    "stopped early": (
        ("underfitting",),
        lambda seed: make_curve(decay(4, 1, 2), 0.08, seed, decay(4, 1, 2), lambda _: 1.0),
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_curve_of_each_kind_is_called_what_it_is(kind: str) -> None:
    shapes, make = KINDS[kind]
    found = [diagnose(make(seed)) for seed in SEEDS]
    right = sum(one.shape in shapes for one in found)
    assert right >= 19, [one.shape for one in found]
    assert all(". " in one.text or one.shape == "falling" for one in found), "no advice"


REWARDS: dict[str, tuple[Shape, Callable[[float], float]]] = {
    "better": ("falling", lambda share: 0.2 + 0.6 * (1 - math.exp(-6 * share))),
    "the same": ("flat", lambda _: 0.5),
    "worse": ("rising", lambda share: 0.5 - 0.3 * share),
    "worse in the end": ("overfitting", lambda share: 0.2 + 0.6 * math.sin(2.5 * share)),
}


@pytest.mark.parametrize("kind", REWARDS)
def test_minus_a_reward_is_read_as_a_loss_is(kind: str) -> None:
    """Losses below 0 are called what they are; a policy's own loss, which is noise about 0, is not read."""
    shape, reward = REWARDS[kind]
    for seed in SEEDS:
        curve = make_curve(lambda _: 1e-3, 2.0, seed, lambda share: -reward(share))
        found = diagnose(curve, "minus the mean reward", training=False)
        assert found.shape == shape
        assert "(minus the mean reward)" in found.text
        assert "Training losses" not in found.text
        axes = plot_losses(curve, found, "minus the mean reward").axes[0]
        assert axes.get_yscale() == "linear", "what is below 0 would be left out"


def test_the_step_that_is_spoken_of_is_the_right_one_and_marked() -> None:
    found = diagnose(KINDS["overfits"][1](0))
    assert found.best_step == found.marked_step
    assert found.best_step is not None
    assert 120 <= found.best_step <= 240
    assert f"at step {found.best_step:,}" in found.text
    curve = KINDS["diverges"][1](0)
    diverged = diagnose(curve)
    assert diverged.marked_step is not None
    assert abs(diverged.marked_step - 0.6 * STEPS) <= 40
    axes = plot_losses(curve, diverged).axes[0]
    assert f"diverging: step {diverged.marked_step}" in [text.get_text() for text in axes.get_legend().get_texts()]


def test_what_else_is_seen_is_said_after_it() -> None:
    noisy = make_curve(decay(4, 0.1, 6), 0.6, 1, lambda share: decay(4, 1.2, 9)(share) + 0.8 * max(0.0, share - 0.4))
    found = diagnose(noisy)
    assert found.shape == "overfitting"
    assert "accumulation_steps" in found.text


def test_few_points_have_no_trend() -> None:
    points = [Point(step, loss, None, 1e-3) for step, loss in enumerate((3.0, 9.0, 1.0, 8.0, 0.5), start=1)]
    assert diagnose(points).shape in ("falling", "flat", "rising")
    assert "accumulation" not in diagnose(points).text
