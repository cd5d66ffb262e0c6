"""The word whose share of prompts changed most: sees a new subject early and names it.

A chi-square of document frequencies for every word, the largest taken; its chance distribution comes from
the A/A splits, so that looking at thousands of words costs no false alarms. Good for new products, intents
and slang, where a few words turn up in some rows that none had before. Blind to scripts without spaces.

Example: "drone" in 0 of 200 baseline prompts and 10 of 100 window prompts: the effect is 0.10; pooled share
1/30, standard error sqrt(1/30 * 29/30 * (1/200 + 1/100)) = 0.022, so the statistic is 4.55 squared = 20.7.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from tasks.contracts.params import Section
from tasks.corpus.text.words import split_terms
from tasks.monitoring.detectors.rate import pooled_variance, share_above, share_noise

if TYPE_CHECKING:
    from tasks.monitoring.sample import Array, Measure, Probe, Sample

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix


class Words(Section):
    """Largest change of the share of prompts that hold a word, 0 to 1."""

    name: Literal["words"] = "words"
    minimum_effect: float = Field(0.03, ge=0, le=1, description="smallest change of a word's share, 0 to 1")
    minimum_rows: int = Field(3, ge=2, description="rarer words are not looked at, rows of both together")
    maximum_words: int = Field(3000, ge=10, description="the commonest words that are looked at")

    def probes(self, sample: Sample) -> list[Probe]:
        from tasks.monitoring.sample import Probe

        vocabulary, matrix = count_documents(sample.prompts, self.minimum_rows, self.maximum_words)
        if not vocabulary:
            return []
        measure = largest_change(matrix)
        unit = "share of prompts"
        new_word = share_above(0.0)
        return [Probe(self.name, "words of the prompts", unit, self.minimum_effect, measure, new_word, share_noise)]


def count_documents(prompts: Sequence[str], minimum_rows: int, maximum_words: int) -> tuple[list[str], csr_matrix]:
    """Words that occur in enough prompts, and which prompt holds which: rows x words of 0 and 1."""
    import numpy as np
    from scipy.sparse import csr_matrix

    sets = [sorted(set(split_terms(prompt))) for prompt in prompts]
    rows = Counter(word for words in sets for word in words)
    kept = sorted((w for w, n in rows.items() if n >= minimum_rows), key=lambda w: (-rows[w], w))[:maximum_words]
    place = {word: number for number, word in enumerate(kept)}
    pairs = [(row, place[word]) for row, words in enumerate(sets) for word in words if word in place]
    where = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    values = np.ones(len(pairs))
    return kept, csr_matrix((values, (where[:, 0], where[:, 1])), shape=(len(prompts), len(kept)))


def compare_words(matrix: csr_matrix, reference: Array, window: Array) -> tuple[Array, Array]:
    """Chi-square and change of the share of every word: splits x words each."""
    n, m = reference.sum(axis=1, keepdims=True), window.sum(axis=1, keepdims=True)
    yes, window_yes = (matrix.T @ reference.T).T, (matrix.T @ window.T).T
    moved = window_yes / m - yes / n
    return moved**2 / pooled_variance(yes + window_yes, n, m), moved


def largest_change(matrix: csr_matrix) -> Measure:
    """The largest chi-square of any word and that word's change."""
    import numpy as np

    def measure(reference: Array, window: Array) -> tuple[Array, Array]:
        statistics, moved = compare_words(matrix, reference, window)
        best = statistics.argmax(axis=1)[:, None]
        return (
            np.take_along_axis(statistics, best, axis=1)[:, 0],
            np.take_along_axis(moved, best, axis=1)[:, 0],
        )

    return measure
