"""The language of a text, detected by lingua, which comes with the extra ``language``."""

from __future__ import annotations

from collections.abc import Sequence

# Leading characters of a text that are used.
MAX_CHARACTERS = 300
# Texts with fewer letters are not classified.
MIN_LETTERS = 20
MIN_CONFIDENCE = 0.5
UNCLEAR = "unclear"


def detect_languages(texts: Sequence[str]) -> list[str | None] | None:
    """The language of each text, from the trigrams at its beginning.

    Args:
        texts: Any texts.

    Returns:
        ISO 639-1 codes; ``unclear`` where the most likely language has less than half of the confidence, None for a
        text of fewer than `MIN_LETTERS` letters. None for all where lingua is not installed.
    """
    try:
        from lingua import LanguageDetectorBuilder
    except ImportError:
        return None
    starts = [text[:MAX_CHARACTERS] for text in texts]
    long = [place for place, text in enumerate(starts) if sum(map(str.isalpha, text)) >= MIN_LETTERS]
    found: list[str | None] = [None] * len(starts)
    if long:
        detector = LanguageDetectorBuilder.from_all_languages().with_low_accuracy_mode().build()
        values = detector.compute_language_confidence_values_in_parallel([starts[place] for place in long])
        for place, (best, *_) in zip(long, values, strict=True):
            name = best.language.iso_code_639_1.name.lower()
            found[place] = name if best.value >= MIN_CONFIDENCE else UNCLEAR
    return found
