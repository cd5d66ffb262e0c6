"""What is computed on one thread has the same bytes on any number of threads."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

import tasks
from tasks.annotation.choose import choose_next
from tasks.corpus.embedders.tfidf import Tfidf
from tasks.corpus.label_errors.suspects import cross_fit
from tasks.corpus.threads import on_one_thread
from tasks.corpus.weak_supervision.functions.nearest import Nearest
from tasks.data_preparation.output.card.topics import find_topics
from tasks.data_preparation.screening.params import CosineThresholds, Semantic
from tasks.data_preparation.screening.semantic import compare_embeddings
from tasks.data_preparation.trainset.balancing.balancer import Labelled
from tasks.data_preparation.trainset.balancing.smote import Smote
from tasks.data_preparation.trainset.pruning.difficulty import Difficulty
from tasks.data_preparation.trainset.pruning.diversity import Diversity
from tasks.data_preparation.trainset.pruning.influence import Influence
from tasks.data_preparation.trainset.pruning.pool import Pool
from tasks.monitoring.detectors.embedding import gaussian_kernel
from tasks.monitoring.plots import project

RNG = np.random.default_rng(1)
TEXTS = [" ".join(f"word{number}" for number in RNG.integers(0, 60, 12)) for _ in range(400)]
LABELS = [text.split()[0][-1] for text in TEXTS]
TRUTH = np.unique(LABELS, return_inverse=True)[1]
VECTORS = RNG.normal(size=(400, 128)).astype(np.float32)
POOL = Pool([str(row) for row in range(300)], TEXTS[:300], TEXTS[:300], LABELS[:300], TEXTS[300:], LABELS[300:], 0)


def prune(method: Any) -> bytes:
    scores: bytes = np.asarray(method.score(POOL)).tobytes()
    return scores


def oversample() -> tuple[list[int], bytes]:
    balanced = Smote(ratio=1.5).balance(Labelled(list(POOL.ids), LABELS[:300], [1] * 300, TEXTS[:300]))
    assert balanced.vectors is not None
    return balanced.times, np.asarray(balanced.vectors["vector"].combine_chunks().flatten()).tobytes()


def compare() -> tuple[bytes, bytes]:
    pairs = compare_embeddings(TEXTS, TEXTS, Semantic(), CosineThresholds(prompts=0.5, answers=0.5), False)
    assert len(pairs.pairs)
    return pairs.pairs.tobytes(), pairs.rows.tobytes()


COMPUTED: dict[str, Callable[[], object]] = {
    "semantic duplicates": compare,
    "topics": lambda: find_topics(TEXTS, [None] * len(TEXTS)),
    "embedder": lambda: Tfidf().embed(TEXTS).tobytes(),
    "suspects": lambda: cross_fit(TEXTS, TRUTH, 0, Tfidf(dimensions=16)).tobytes(),
    "nearest example": lambda: Nearest(examples={"a": ("word1 word2",), "b": ("word3",)}, least=0.1).vote(
        TEXTS, Path()
    ),
    "SMOTE": oversample,
    "difficulty": lambda: prune(Difficulty()),
    "diversity": lambda: prune(Diversity()),
    "influence": lambda: prune(Influence()),
    "texts to label": lambda: choose_next(TEXTS[:200], TEXTS[200:300], LABELS[200:300], TEXTS[300:], 20, Tfidf()),
    "kernel": lambda: gaussian_kernel(VECTORS).tobytes(),
    "projection": lambda: project(VECTORS).tobytes(),
}


def test_inside_there_is_one_thread() -> None:
    import torch

    counts = on_one_thread(lambda: [each["num_threads"] for each in threadpool_info()])()
    assert counts
    assert set(counts) == {1}
    before = torch.get_num_threads()
    assert on_one_thread(torch.get_num_threads)() == 1
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("name", COMPUTED)
def test_it_is_pinned_and_the_same_on_one_and_two_threads(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    limits: list[int] = []

    def limit(threads: int) -> Any:
        limits.append(threads)
        return threadpool_limits(threads)

    monkeypatch.setattr("threadpoolctl.threadpool_limits", limit)
    found = []
    for threads in (1, 2):
        with threadpool_limits(threads):
            found.append(COMPUTED[name]())
    assert set(limits) == {1}
    assert found[0] == found[1]


# Modules that multiply vectors and are not pinned.
FREE = {
    "tasks/corpus/similarity/pairs.py": "sums of whole numbers",
    "tasks/corpus/similarity/probes.py": "sparse products of whole numbers",
    "tasks/corpus/label_classifier.py": "sparse products, and gradient descent row by row",
    "tasks/data_preparation/screening/triggers.py": "sparse products",
    "tasks/corpus/agreement.py": "products of whole numbers",
}
COMPUTING = (
    *(f"sklearn.{name}" for name in ("cluster", "decomposition", "discriminant_analysis", "linear_model")),
    "torch",
)


def find_computing(tree: ast.AST) -> Iterator[str]:
    """What a module does that BLAS, OpenMP or torch share out among threads."""
    for node in ast.walk(tree):
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.MatMult):
            yield "@"
        elif isinstance(node, ast.Attribute) and node.attr in ("einsum", "linalg", "dot", "matmul"):
            yield node.attr
        elif isinstance(node, ast.ImportFrom) and node.module in COMPUTING:
            yield node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in COMPUTING)


def test_every_module_that_multiplies_vectors_is_pinned_or_says_why_not() -> None:
    root = Path(tasks.__path__[0])
    free = set()
    for folder in ("data_preparation", "corpus", "annotation", "synthesis"):
        for path in sorted((root / folder).rglob("*.py")):
            text = path.read_text("utf-8")
            if "on_one_thread" not in text and list(find_computing(ast.parse(text))):
                free.add(path.relative_to(root.parent).as_posix())
    assert free == set(FREE)
