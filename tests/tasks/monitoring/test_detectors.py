"""Every detector against numbers worked out by hand or by scipy, and weights that mean row counts."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy import stats

from tasks.corpus.embedders.tfidf import Tfidf
from tasks.corpus.text.words import split_terms
from tasks.monitoring.detectors.distance import ks_distance
from tasks.monitoring.detectors.embedding import discrepancy, gaussian_kernel, outlier_scale
from tasks.monitoring.detectors.level import shift
from tasks.monitoring.detectors.rate import rise_at, share_change
from tasks.monitoring.detectors.words import WordFrequency, count_documents
from tasks.monitoring.params import Drift
from tasks.monitoring.sample import Measure, TrafficSample

VALUES = st.lists(st.integers(-20, 20), min_size=2, max_size=40)


def compare(measure: Measure, n: int, m: int) -> tuple[float, float]:
    """Statistic and effect of the first n rows against the last m."""
    reference = np.repeat([[1.0, 0.0]], [n, m], axis=1)
    statistic, effect = measure(reference, 1 - reference)
    return float(statistic[0]), float(effect[0])


@given(VALUES, VALUES)
@settings(deadline=None)
def test_gap_is_the_kolmogorov_smirnov_statistic(left: list[int], right: list[int]) -> None:
    values = np.array([*left, *right], dtype=float)
    expected = stats.ks_2samp(left, right, method="asymp").statistic
    assert compare(ks_distance(values), len(left), len(right)) == pytest.approx((expected, expected), abs=1e-9)


def test_gap_by_hand() -> None:
    assert compare(ks_distance(np.array([1, 2, 3, 4, 3, 4, 5, 6], dtype=float)), 4, 4)[1] == pytest.approx(0.5)


@given(VALUES, VALUES)
@settings(deadline=None)
def test_shift_is_welchs_t(left: list[int], right: list[int]) -> None:
    if len(set(left)) == 1 or len(set(right)) == 1:
        return
    statistic, effect = compare(shift(np.array([*left, *right], dtype=float)), len(left), len(right))
    assert statistic == pytest.approx(abs(stats.ttest_ind(left, right, equal_var=False).statistic), abs=1e-6)
    assert effect == pytest.approx((np.mean(right) - np.mean(left)) / np.std([*left, *right], ddof=1), abs=1e-6)


def test_shift_of_constants_is_no_shift() -> None:
    assert compare(shift(np.full(9, 0.1)), 4, 5) == (0.0, 0.0)


def test_shift_by_hand() -> None:
    assert compare(shift(np.array([0.0, 2, 3, 5])), 2, 2)[1] == pytest.approx(3 / math.sqrt(13 / 3))
    one_row = np.array([0.0] * 399 + [4.0])
    assert compare(shift(one_row), 200, 200)[1] == pytest.approx(0.1, abs=0.001)
    # Constants that differ: as large as a shift can be, and not infinite.
    assert compare(shift(np.repeat([1.0, 3.0], [200, 200])), 200, 200)[1] == pytest.approx(2, abs=0.01)


def test_change_by_hand_and_by_scipy() -> None:
    flags = np.array([1] * 2 + [0] * 8 + [1] * 5 + [0] * 5, dtype=float)
    statistic, effect = compare(share_change(flags), 10, 10)
    assert effect == pytest.approx(0.3)
    assert statistic == pytest.approx(0.3**2 / (0.35 * 0.65 * 0.2))
    assert statistic == pytest.approx(stats.chi2_contingency([[2, 8], [5, 5]], correction=False).statistic)


def test_share_above_inverts_the_chi_square() -> None:
    wanted = rise_at(0.2)(1.978, 10, 10)
    assert wanted == pytest.approx(0.3, abs=0.002)


def test_words_names_the_word_that_changed() -> None:
    prompts = ["the parcel is late"] * 200 + ["the drone is late"] * 10 + ["the parcel is late"] * 90
    sample = TrafficSample(200, prompts, prompts, {}, {}, np.zeros((300, 2)))
    probe = WordFrequency(minimum_rows=3).probes(sample)[0]
    statistic, effect = probe.measure(*sample.observed())
    assert abs(effect[0]) == pytest.approx(0.1)
    assert statistic[0] == pytest.approx(0.1**2 / (1 / 30 * 29 / 30 * (1 / 200 + 1 / 100)))


def test_rare_words_and_numbers() -> None:
    assert split_terms("Order 4711, the CAFÉ's order-no. A12") == ["order", "0", "the", "café's", "order", "no", "0"]
    vocabulary, matrix = count_documents(["a b", "a c", "a b a"], minimum_rows=2, maximum_words=10)
    assert vocabulary == ["a", "b"]
    assert matrix.toarray().tolist() == [[1, 1], [1, 0], [1, 1]]
    assert WordFrequency().probes(TrafficSample(1, ["", ""], ["", ""], {}, {}, np.zeros((2, 2)))) == []


def test_discrepancy_by_hand() -> None:
    kernel = np.array([[math.exp(-((a - b) ** 2) / 2) for b in (0, 1, 0, 1)] for a in (0, 1, 0, 1)])
    squared, effect = compare(discrepancy(kernel, 1.0), 2, 2)
    across = (1 + math.exp(-0.5)) / 2
    assert squared == pytest.approx(2 * math.exp(-0.5) - 2 * across)
    assert effect == 0.0


def test_discrepancy_agrees_with_a_loop() -> None:
    points = np.random.default_rng(1).normal(size=(9, 3))
    kernel = gaussian_kernel(points)
    within = np.mean([kernel[i, j] for i in range(5) for j in range(5) if i != j])
    later = np.mean([kernel[i, j] for i in range(5, 9) for j in range(5, 9) if i != j])
    across = np.mean([kernel[i, j] for i in range(5) for j in range(5, 9)])
    assert compare(discrepancy(kernel, 1.0), 5, 4)[0] == pytest.approx(within + later - 2 * across)


def test_a_foreign_share_is_found_again() -> None:
    rng = np.random.default_rng(0)
    corners = np.eye(40)
    points = np.concatenate([corners[rng.integers(0, 20, 800)], corners[rng.integers(0, 20, 560)]])
    foreign = corners[rng.integers(20, 40, 240)]
    kernel = gaussian_kernel(np.concatenate([points, foreign]))
    _, effect = compare(discrepancy(kernel, outlier_scale(kernel[:800, :800])), 800, 800)
    assert effect == pytest.approx(0.3, abs=0.05)


@pytest.mark.parametrize("measure", [ks_distance, shift, share_change])
def test_a_count_of_two_is_a_row_twice(measure: object) -> None:
    values = np.array([0, 1, 1, 0, 1, 1], dtype=float)
    twice = np.array([0, 1, 1, 1, 0, 1, 1, 1], dtype=float)
    assert callable(measure)
    reference, window = np.array([[1.0, 2, 1, 0, 0, 0]]), np.array([[0, 0, 0, 1.0, 2, 1]])
    once = [float(v[0]) for v in measure(values)(reference, window)]
    assert compare(measure(twice), 4, 4) == pytest.approx(once)


@pytest.mark.parametrize("embedder", [Tfidf(dimensions=2, unit="terms"), Tfidf(dimensions=2, unit="characters")])
def test_embeddings_put_like_prompts_together(embedder: Tfidf) -> None:
    texts = ["where is my parcel", "my parcel is late", "reset the password", "password reset the", ""]
    vectors = embedder.embed(texts, seed=0)
    near = vectors @ vectors.T
    assert near[0, 1] > 0.9
    assert near[2, 3] > 0.9
    assert near[0, 2] < 0.5
    assert np.array_equal(vectors, embedder.embed(texts, seed=0))
    assert vectors[4].tolist() == [0.0, 0.0]


@pytest.mark.parametrize("embedder", [Tfidf(unit="terms"), Tfidf(unit="characters")])
@pytest.mark.parametrize("texts", [["", ""], ["a", "a"], ["a"], ["?!", "…"]])
def test_next_to_nothing_is_embedded(embedder: Tfidf, texts: list[str]) -> None:
    assert np.isfinite(embedder.embed(texts, seed=0)).all()


def test_the_old_name_of_an_embedder_says_the_new_one() -> None:
    assert Drift().embedder == Tfidf(dimensions=32, unit="terms")
    with pytest.raises(ValidationError, match=r"write \{name: tfidf, unit: characters\}"):
        Drift.model_validate({"embedder": {"name": "characters"}})
