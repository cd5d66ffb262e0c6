"""Answers as programs, run against the tests of their items."""

from __future__ import annotations

import pytest

from tasks.evaluation.metrics.metric import Evidence
from tasks.evaluation.metrics.passes_tests import PassesTests, find_tests
from tests.tasks.evaluation.boards import make_items, make_outcome

ASSERT = "assert add(1, 2) == 3"


def test_code_that_passes_the_tests_of_its_item_counts() -> None:
    items = make_items(
        [
            ASSERT,
            f"```python\ndef add(a, b):\n    return a + b\n```\nso that\n```python\n{ASSERT}\n```",
            ASSERT,
            "Code without tests.",
            ASSERT,
        ]
    )
    answers = [
        "def add(a, b): return a + b",
        "Here it is:\n```python\ndef add(a, b):\n    return a - b\n```",
        "I would add them.",
        "def add(a, b): return a + b",
        "",
    ]
    evidence = Evidence(items, None)
    metric = PassesTests()
    assert metric.why_not_applicable(evidence) is None
    scores = metric.score(evidence, make_outcome("base", answers))
    assert scores.values.tolist() == [1, 0, 0, 0, 0]
    assert scores.weights.tolist() == [1, 1, 1, 0, 1]


@pytest.mark.parametrize(
    ("reference", "tests"),
    [
        (ASSERT, ASSERT),
        (f"```\nx = 1\n```\n```python\n{ASSERT}\n```", f"{ASSERT}\n"),
        ("```python\ndef f(): ...\n```", ""),
        ("Nothing.", ""),
    ],
)
def test_the_tests_are_the_blocks_with_an_assert(reference: str, tests: str) -> None:
    assert find_tests(reference) == tests


def test_without_tests_it_does_not_apply() -> None:
    found = PassesTests().why_not_applicable(Evidence(make_items(["yes"]), None))
    assert found == "no reference has tests (lines with assert)"
