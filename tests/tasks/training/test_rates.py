"""Every method, objective and optimizer has learning rates that nothing is said about, and others that are told."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tasks.language_models.folder.shape import ModelShape
from tasks.training.methods import METHODS
from tasks.training.methods.full import Full
from tasks.training.methods.method import Method
from tasks.training.objectives import OBJECTIVES
from tasks.training.objectives.supervised import Supervised
from tasks.training.optimizers import OPTIMIZERS
from tasks.training.optimizers.adamw import AdamW
from tasks.training.optimizers.optimizer import Optimizer
from tasks.training.rates import tell_unusual_rate, usual_rates


@pytest.mark.parametrize("kind", METHODS, ids=lambda one: one.__name__)
def test_both_ends_are_usual_and_what_is_beyond_is_told(kind: type[Method], shape: ModelShape) -> None:
    method = kind()
    for objective in (one() for one in OBJECTIVES):
        usual = usual_rates(method, objective, shape, AdamW())
        assert usual is not None
        low, high = usual
        assert 0 < low < high <= 1
        assert tell_unusual_rate(low, method, objective, shape, AdamW()) == []
        assert tell_unusual_rate(high, method, objective, shape, AdamW()) == []
        for rate, word in ((low / 2, "low"), (2 * high, "high")):
            (told,) = tell_unusual_rate(rate, method, objective, shape, AdamW())
            assert f"{rate:g} is {word} for objective {objective.name} with method {method.name}" in told
            assert f"{low:.2g} to {high:.2g}" in told


@pytest.mark.parametrize("kind", OPTIMIZERS, ids=lambda one: one.__name__)
def test_an_optimizer_with_rates_of_its_own_is_held_to_those(kind: type[Optimizer], shape: ModelShape) -> None:
    optimizer = kind()
    usual = usual_rates(Full(), Supervised(), shape, optimizer)
    if usual is None:
        assert optimizer.can.rate_shares is None
        assert tell_unusual_rate(1e6, Full(), Supervised(), shape, optimizer) == []
        return
    for rate in usual:
        assert tell_unusual_rate(rate, Full(), Supervised(), shape, optimizer) == []
    (told,) = tell_unusual_rate(2 * usual[1], Full(), Supervised(), shape, optimizer)
    assert optimizer.name == "adamw" or f"optimizer {optimizer.name}" in told


@pytest.mark.parametrize(
    ("name", "rate"),
    [
        ("galore", 1e-2),
        ("apollo", 1e-2),
        ("schedule_free", 2.5e-3),
        ("muon", 1e-3),
        ("adafactor", 1e-3),
        ("lion", 1e-4),
    ],
)
def test_the_rates_of_the_documentation_are_usual(name: str, rate: float, shape: ModelShape) -> None:
    (optimizer,) = (one() for one in OPTIMIZERS if one().name == name)
    assert tell_unusual_rate(rate, Full(), Supervised(), shape, optimizer) == []


def test_a_large_base_wants_a_smaller_rate(shape: ModelShape) -> None:
    assert tell_unusual_rate(1e-3, Full(), Supervised(), shape, AdamW()) == []
    large = replace(shape, parameters=7_000_000_000)
    (told,) = tell_unusual_rate(1e-3, Full(), Supervised(), large, AdamW())
    assert told.endswith("on 7,000,000,000 parameters; 1e-06 to 0.0002 is usual")
