"""The costs of wrong tokens, on a tree that fits on one line and against one made of dictionaries."""

from __future__ import annotations

from collections import Counter, defaultdict

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.training.answer_costs import AnswerCosts, find_answer_costs

COSTS = np.array([[0.0, 5.0, 1.0], [2.0, 0.0, 0.0], [3.0, 4.0, 0.0]])


def find(answers: list[tuple[int, list[int]]], costs: np.ndarray = COSTS) -> tuple[AnswerCosts, list[int]]:
    """Costs of rows of a prompt of two tokens and an answer; where each answer starts too."""
    tokens, labels, offsets, starts = [], [], [0], []
    for _, answer in answers:
        starts.append(len(tokens) + 2)
        tokens += [7, 8, *answer]
        labels += [-100, -100, *answer]
        offsets.append(len(tokens))
    classes = np.array([label for label, _ in answers])
    return find_answer_costs(np.array(tokens), np.array(labels), np.array(offsets), classes, costs), starts


def entries(found: AnswerCosts, start: int, end: int) -> dict[tuple[int, int], float]:
    places, tokens, costs = found.between(start, end)
    return {
        (place - start, token): round(float(cost), 6) for place, token, cost in zip(places, tokens, costs, strict=True)
    }


def test_by_hand() -> None:
    # Class 0 answers 1 2 9, class 1 answers 1 3 9, class 2 answers 4 9; a row without a class takes no part.
    found, starts = find([(0, [1, 2, 9]), (1, [1, 3, 9]), (2, [4, 9]), (-1, [5, 9])])
    # At the start class 0 loses 1 by going on with 4; half of what goes on with 1 is class 1, at a cost of 5.
    assert entries(found, starts[0], starts[0] + 3) == {(0, 1): 2.5, (0, 4): 1.0, (1, 3): 5.0}
    # Class 1 for class 2 costs nothing.
    assert entries(found, starts[1], starts[1] + 3) == {(0, 1): 1.0, (1, 2): 2.0}
    assert entries(found, starts[2], starts[2] + 2) == {(0, 1): 3.5}
    assert entries(found, starts[3], starts[3] + 2) == {}


def test_other_words_for_the_same_label_cost_nothing() -> None:
    found, _ = find([(0, [1, 9]), (0, [2, 9])])
    assert len(found.places) == 0


ANSWERS = st.lists(
    st.tuples(st.integers(-1, 2), st.lists(st.integers(1, 4), min_size=1, max_size=4)), min_size=1, max_size=12
)


@given(ANSWERS)
@settings(max_examples=80, deadline=None)
def test_as_a_tree_of_dictionaries_says(answers: list[tuple[int, list[int]]]) -> None:
    answers = [(label, [*answer, 9]) for label, answer in answers]
    labels_of: dict[tuple[int, ...], Counter[int]] = defaultdict(Counter)
    for label, answer in answers:
        for length in range(len(answer) + 1):
            if label >= 0:
                labels_of[tuple(answer[:length])][label] += 1
    found, starts = find(answers)
    for (label, answer), start in zip(answers, starts, strict=True):
        expected = {}
        for depth in range(len(answer)):
            for token in range(1, 10):
                others = labels_of.get((*answer[:depth], token), Counter())
                cost = sum(COSTS[label][j] * count for j, count in others.items()) / max(others.total(), 1)
                if label >= 0 and cost > 0 and token != answer[depth]:
                    expected[depth, token] = round(float(cost), 6)
        wrong = {key: c for key, c in entries(found, start, start + len(answer)).items() if key[1] != answer[key[0]]}
        assert wrong == expected
