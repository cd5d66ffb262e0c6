"""A space says what is varied; what it cannot mean is refused with the form that it wants."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from tasks.search.params import ParamSearch
from tasks.search.space import Dimension, Range, list_changes, list_ends, list_points, to_label, to_value

DIMENSION: TypeAdapter[Any] = TypeAdapter(Dimension)


@pytest.mark.parametrize(
    ("written", "points"),
    [
        ([8, 16, 8], ["8", "16"]),
        ([{"name": "full"}, None, "x"], ['{"name": "full"}', "null", '"x"']),
        ({"log": [1e-4, 1e-2], "points": 3}, [1e-4, 1e-3, 1e-2]),
        ({"linear": [0, 0.2], "points": 3}, [0.0, 0.1, 0.2]),
        ({"integers": [2, 4]}, [2, 3, 4]),
        ({"integers": [1, 9], "points": 3}, [1, 5, 9]),
        ({"log": [1e-4, 1e-2]}, None),
        ({"integers": [1, 100_000]}, None),
    ],
)
def test_points_of_a_grid(written: Any, points: list[Any] | None) -> None:
    found = list_points(DIMENSION.validate_python(written))
    assert found == (points if points is None or isinstance(points[0], str) else pytest.approx(points))


@pytest.mark.parametrize("kind", ["log", "linear"])
@pytest.mark.parametrize(("low", "high"), [(1e-4, 1e-2), (1e-3, 0.3), (0.1, 0.7), (3e-5, 9e-4)])
def test_the_ends_of_a_grid_are_those_of_its_range(kind: str, low: float, high: float) -> None:
    """Rounding put 0.01 at 0.010000000000000004, which is no value of the range."""
    for points in range(2, 12):
        found = list_points(DIMENSION.validate_python({kind: [low, high], "points": points}))
        assert found is not None
        assert (found[0], found[-1]) == (low, high)
        assert len(found) == points


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ({"log": [1e-2, 1e-4]}, "expected the lower number first"),
        ({"log": [0, 1]}, "expected numbers above 0"),
        ({"log": [1, 2], "linear": [1, 2]}, "found log and linear; expected one of"),
        ({"points": 3}, "found none; expected one of log, linear, integers"),
        ({"logarithm": [1, 2]}, "Extra inputs are not permitted"),
        ({"log": [1]}, "Field required"),
        ({"integers": [1.5, 2]}, "valid integer"),
        ([], "at least 1 item"),
        (3, "valid dictionary"),
    ],
)
def test_what_is_no_dimension(written: Any, said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        DIMENSION.validate_python(written)


def test_values_come_back_as_they_were_written_and_numbers_are_short() -> None:
    listed = [{"name": "lora", "rank": 8}, None, True, 0.1]
    assert [to_value(listed, to_label(value)) for value in listed] == listed
    rate = Range(log=(1e-4, 1e-2))
    assert to_value(rate, 0.00123456789) == 0.001235
    # Rounding does not leave the range.
    assert to_value(Range(linear=(0.0, 0.99999)), 0.99999) == 0.99999
    assert to_value(Range(integers=(1, 5)), 3) == 3
    assert list_ends(Range(integers=(1, 5))) == [1, 5]


def test_a_name_takes_its_choice_with_the_keys_below_it() -> None:
    space: dict[str, Any] = {
        "t.optimizer.momentum": [0.5],
        "t.optimizer.name": ["sgd", "adamw"],
        "t.method": [{"name": "lora", "rank": 8}],
        "t.method.alpha": [4],
        "t.epochs": Range(integers=(1, 4)),
    }
    labels: dict[str, Any] = {
        "t.optimizer.momentum": "0.5",
        "t.optimizer.name": '"sgd"',
        "t.method": '{"name": "lora", "rank": 8}',
        "t.method.alpha": "4",
        "t.epochs": 2,
    }
    assert list_changes(space, labels) == {
        "t.epochs": 2,
        "t.method": {"name": "lora", "rank": 8, "alpha": 4},
        "t.optimizer": {"name": "sgd", "momentum": 0.5},
    }


@pytest.mark.parametrize(
    ("space", "said"),
    [
        ({"data_preparation.split.seed": [0, 1]}, "needs the stages before; expected keys of training_setup or fine_"),
        ({"model_initialisation.source.path": ["a"]}, "compare such values with `heptune run -S model_initialisation"),
        ({"evaluation.items": [1]}, "is no key of training_setup or fine_tuning"),
        ({"training_setup": [{}]}, "is no key of training_setup or fine_tuning"),
        ({"training_setup.learning_rate": {"log": [1e-4, 1e-2]}}, "a range without points; expected a list of values"),
        ({}, "at least 1 item"),
    ],
)
def test_what_a_search_cannot_vary(space: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        ParamSearch.model_validate({"space": space, "method": {"name": "grid"}})
