"""The word whose share of prompts changed most: detects a new subject early and names it.

A chi-square of document frequencies for every word, of which the largest is the statistic; its null
distribution comes from the A/A splits, so that testing thousands of words costs no false alarms. Good for new
products, intents and slang, where new words occur in some prompts. In scripts without spaces a word is one character.

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
from tasks.monitoring.detectors.rate import pooled_variance, rise_at, share_noise

if TYPE_CHECKING:
    from tasks.monitoring.sample import Array, Measure, Probe, TrafficSample

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix


class WordFrequency(Section):
    """Largest change of the share of prompts that contain a word, 0 to 1."""

    name: Literal["words"] = "words"
    minimum_effect: float = Field(0.03, ge=0, le=1, description="smallest change of a word's share, 0 to 1")
    minimum_rows: int = Field(
        3,
        ge=2,
        description="minimum number of prompts with the word, baseline and window together; rarer words are ignored",
    )
    maximum_words: int = Field(3000, ge=10, description="number of words compared, the most frequent first")

    def probes(self, sample: TrafficSample) -> list[Probe]:
        from tasks.monitoring.sample import Probe

        vocabulary, matrix = count_documents(sample.prompts, self.minimum_rows, self.maximum_words)
        if not vocabulary:
            return []
        measure = largest_change(matrix)
        unit = "share of prompts"
        rise_of_new_word = rise_at(0.0)
        return [
            Probe(self.name, "words of the prompts", unit, self.minimum_effect, measure, rise_of_new_word, share_noise)
        ]


def count_documents(prompts: Sequence[str], minimum_rows: int, maximum_words: int) -> tuple[list[str], csr_matrix]:
    """The vocabulary of words in enough prompts, and the document-term matrix of 0 and 1, prompts x words."""
    import numpy as np
    from scipy.sparse import csr_matrix

    documents = [sorted(set(split_terms(prompt))) for prompt in prompts]
    frequency = Counter(word for words in documents for word in words)
    frequent = (word for word, count in frequency.items() if count >= minimum_rows)
    vocabulary = sorted(frequent, key=lambda word: (-frequency[word], word))[:maximum_words]
    column_of = {word: column for column, word in enumerate(vocabulary)}
    entries = [(row, column_of[word]) for row, words in enumerate(documents) for word in words if word in column_of]
    rows, columns = np.array(entries, dtype=np.int64).reshape(-1, 2).T
    shape = (len(prompts), len(vocabulary))
    return vocabulary, csr_matrix((np.ones(len(entries)), (rows, columns)), shape=shape)


def compare_words(matrix: csr_matrix, reference: Array, window: Array) -> tuple[Array, Array]:
    """Chi-square and change of the share of every word: splits x words each."""
    n, m = reference.sum(axis=1, keepdims=True), window.sum(axis=1, keepdims=True)
    positives, window_positives = (matrix.T @ reference.T).T, (matrix.T @ window.T).T
    differences = window_positives / m - positives / n
    return differences**2 / pooled_variance(positives + window_positives, n, m), differences


def largest_change(matrix: csr_matrix) -> Measure:
    """The largest chi-square of any word and that word's change."""
    import numpy as np

    def measure(reference: Array, window: Array) -> tuple[Array, Array]:
        statistics, differences = compare_words(matrix, reference, window)
        largest = statistics.argmax(axis=1)[:, None]
        return (
            np.take_along_axis(statistics, largest, axis=1)[:, 0],
            np.take_along_axis(differences, largest, axis=1)[:, 0],
        )

    return measure
