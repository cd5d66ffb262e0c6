"""The languages of a sample, detected by lingua, which comes with the extra ``language``."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from tasks.data_preparation.output.card.sample import CardSample, draw_rows, read_texts

# Leading characters of a text that are used.
MAX_CHARACTERS = 300
MAX_TEXTS = 500
# Texts with fewer letters are not classified.
MIN_LETTERS = 20
MIN_CONFIDENCE = 0.5


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
    """Detect the languages from the trigrams at the beginning of each text; None where lingua is not installed."""
    try:
        from lingua import LanguageDetectorBuilder
    except ImportError:
        return None
    sample = CardSample(draw_rows(sample.table, MAX_TEXTS).table, sample.population)
    starts = [text[:MAX_CHARACTERS] for text in read_texts(sample.table)]
    long = [text for text in starts if sum(map(str.isalpha, text)) >= MIN_LETTERS]
    counts: Counter[str] = Counter()
    if long:
        detector = LanguageDetectorBuilder.from_all_languages().with_low_accuracy_mode().build()
        for values in detector.compute_language_confidence_values_in_parallel(long):
            best = values[0]
            counts[best.language.iso_code_639_1.name.lower() if best.value >= MIN_CONFIDENCE else "unclear"] += 1
    ordered = dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
    return Languages(sample, ordered, len(long), len(starts) - len(long))
