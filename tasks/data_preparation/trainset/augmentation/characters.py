"""Typing errors: neighbouring keys, swapped, missing and doubled letters.

Source: Belinkov and Bisk 2018. The first and last letter of a word are kept, so that it remains readable.

Good for: models whose users type on a keyboard. Example: "Where is my parcel today?" gives "Where is my pracel tofay?"
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from tasks.contracts.params import Section
from tasks.data_preparation.trainset.augmentation.material import Material, Variant, list_words, replace_spans

# Shorter words are left unchanged.
MIN_LETTERS = 4
_KEYS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
NEIGHBOURS = {
    key: "".join(
        _KEYS[other][place + step]
        for other, step in ((line, -1), (line, 1), (line - 1, 0), (line + 1, 0))
        if 0 <= other < len(_KEYS) and 0 <= place + step < len(_KEYS[other])
    )
    for line, keys in enumerate(_KEYS)
    for place, key in enumerate(keys)
}


class Characters(Section):
    """Typing errors in prompts."""

    name: Literal["characters"] = "characters"
    share: float = Field(default=0.1, gt=0, le=1, description="share of the training rows that get a variant")
    words: float = Field(default=0.15, gt=0, le=1, description="share of a prompt's words with an error, at least one")

    def rewrite(self, chosen: Sequence[int], material: Material) -> list[Variant]:
        """A variant of each chosen row that has a word to change."""
        variants = []
        for row in chosen:
            prompt, rng = material.prompts[row], material.random("characters", row)
            spans = list_words(prompt, material.answers[row], MIN_LETTERS)
            if spans:
                changed = rng.sample(spans, max(1, round(self.words * len(spans))))
                words = [mistype(prompt[start:end], rng) for start, end in changed]
                variants.append(Variant(row, replace_spans(prompt, changed, words)))
        return variants


def mistype(word: str, rng: random.Random) -> str:
    """One typing error inside a word of at least four letters."""
    place = rng.randrange(1, len(word) - 1)
    kinds = ["missing", "doubled", "key"]
    swaps = [i for i in range(1, len(word) - 2) if word[i] != word[i + 1]]
    kind = rng.choice([*kinds, "swapped"] if swaps else kinds)
    letter = word[place]
    if kind == "swapped":
        place = rng.choice(swaps)
        return word[:place] + word[place + 1] + word[place] + word[place + 2 :]
    if kind == "missing":
        return word[:place] + word[place + 1 :]
    neighbours = NEIGHBOURS.get(letter.lower(), "")
    if kind == "key" and neighbours:
        other = rng.choice(neighbours)
        return word[:place] + (other.upper() if letter.isupper() else other) + word[place + 1 :]
    return word[:place] + letter + word[place:]
