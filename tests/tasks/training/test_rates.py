"""Every method with every objective has learning rates that nothing is said about, and others that are told."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tasks.language_models.shape import ModelShape
from tasks.training.methods import METHODS
from tasks.training.methods.full import Full
from tasks.training.methods.method import Method
from tasks.training.objectives import OBJECTIVES
from tasks.training.objectives.supervised import Supervised
from tasks.training.rates import tell_unusual_rate, usual_rates


@pytest.mark.parametrize("kind", METHODS, ids=lambda one: one.__name__)
def test_both_ends_are_usual_and_what_is_beyond_is_told(kind: type[Method], shape: ModelShape) -> None:
    method = kind()
    for objective in (one() for one in OBJECTIVES):
        low, high = usual_rates(method, objective, shape)
        assert 0 < low < high <= 1
        assert tell_unusual_rate(low, method, objective, shape) == []
        assert tell_unusual_rate(high, method, objective, shape) == []
        for rate, word in ((low / 2, "low"), (2 * high, "high")):
            (told,) = tell_unusual_rate(rate, method, objective, shape)
            assert f"{rate:g} is {word} for objective {objective.name} with method {method.name}" in told
            assert f"{low:.2g} to {high:.2g}" in told


def test_a_large_base_wants_a_smaller_rate(shape: ModelShape) -> None:
    assert tell_unusual_rate(1e-3, Full(), Supervised(), shape) == []
    (told,) = tell_unusual_rate(1e-3, Full(), Supervised(), replace(shape, parameters=7_000_000_000))
    assert told.endswith("on 7,000,000,000 parameters; 1e-06 to 0.0002 is usual")
