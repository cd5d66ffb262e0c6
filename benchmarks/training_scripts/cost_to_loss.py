"""Processor seconds of training to a validation loss: each trainer with the best of some learning rates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from training_scripts.material import make_data
from training_scripts.trainers import run

NAMES = ("heptune", "trl", "trl_best")
LEARNING_RATES = (5e-4, 1e-3, 2e-3)
EPOCHS, VALIDATION_ROWS = 4, 40


def compare_costs(job: dict[str, Any], folder: Path) -> None:
    """Full fine-tuning; the loss to reach is the lowest that every trainer reaches with one of the learning rates."""
    validation = make_data(VALIDATION_ROWS, folder / "validation.jsonl", seed=77)
    job = {**job, "method": "full", "epochs": EPOCHS, "validation": str(validation), "validate_every": 4}
    curves: dict[tuple[str, float], list[tuple[float, float]]] = {}
    for rate in LEARNING_RATES:
        for name in NAMES:
            found = run(name, {**job, "learning_rate": rate}, folder / f"{name}-{rate}")
            curves[name, rate] = found["validated"]
    lowest = {name: min(loss for rate in LEARNING_RATES for _, loss in curves[name, rate]) for name in NAMES}
    for target in (max(lowest.values()), 1.25 * max(lowest.values())):
        times = {name: min((seconds_to(target, curves[name, r]), r) for r in LEARNING_RATES) for name in NAMES}
        print(f"\nvalidation loss {target:.3f}")
        for name, (seconds, rate) in times.items():
            ratio = seconds / times["heptune"][0]
            print(
                f"{name:<12}{seconds:7.1f} CPU s at learning rate {rate:g}; heptune is {ratio:.2f} x; "
                f"lowest loss {lowest[name]:.3f}",
                flush=True,
            )


def seconds_to(target: float, curve: list[tuple[float, float]]) -> float:
    """Processor seconds until the loss was first seen no higher than the target; infinite where it never was."""
    return next((seconds for seconds, loss in curve if loss <= target), float("inf"))
