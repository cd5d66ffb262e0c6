"""The languages of a sample of rows."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from tasks.corpus.text import languages
from tasks.data_preparation.output.card.sample import CardSample, draw_rows, read_texts

MAX_TEXTS = 500


@dataclass(frozen=True)
class Languages:
    """The detected languages.

    Attributes:
        sample: The rows whose texts were used.
        counts: ISO 639-1 code to texts, the most frequent first; ``unclear`` for texts whose most likely language has
            less than half of the confidence.
        classified: Number of texts that were classified.
        short: Number of texts that were too short.
    """

    sample: CardSample
    counts: dict[str, int]
    classified: int
    short: int


def detect_languages(sample: CardSample) -> Languages | None:
    """Detect the languages of some of the rows; None where lingua is not installed."""
    sample = CardSample(draw_rows(sample.table, MAX_TEXTS).table, sample.population)
    found = languages.detect_languages(read_texts(sample.table))
    if found is None:
        return None
    counts = Counter(name for name in found if name is not None)
    ordered = dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
    return Languages(sample, ordered, counts.total(), len(found) - counts.total())
