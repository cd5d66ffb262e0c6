"""What is computed on one thread has the same bytes on any number of threads."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from tasks.corpus.threads import on_one_thread
from tasks.data_preparation.output.card.topics import find_topics
from tasks.data_preparation.screening.params import CosineThresholds, Semantic
from tasks.data_preparation.screening.semantic import compare_embeddings
from tasks.data_preparation.trainset.balancing.smote import Smote
from tasks.data_preparation.trainset.pruning.diversity import Diversity
from tasks.data_preparation.trainset.pruning.influence import Influence

RNG = np.random.default_rng(1)
TEXTS = [" ".join(f"word{number}" for number in RNG.integers(0, 60, 12)) for _ in range(400)]


@pytest.mark.parametrize("method", [Smote.balance, Diversity.score, Influence.score, find_topics])
def test_everything_that_adds_up_vectors_is_pinned(method: Callable[..., object]) -> None:
    assert hasattr(method, "__wrapped__")


def test_inside_there_is_one_thread() -> None:
    counts = on_one_thread(lambda: [each["num_threads"] for each in threadpool_info()])()
    assert counts
    assert set(counts) == {1}


def test_semantic_duplicates_and_topics_are_the_same_on_one_and_two_threads() -> None:
    found = []
    for threads in (1, 2):
        with threadpool_limits(threads):
            pairs = compare_embeddings(TEXTS, TEXTS, Semantic(), CosineThresholds(prompts=0.5, answers=0.5), False)
            found.append((pairs.pairs.tobytes(), pairs.rows.tobytes(), find_topics(TEXTS, [None] * len(TEXTS))))
    assert found[0] == found[1]
    assert len(found[0][0]) > 0
