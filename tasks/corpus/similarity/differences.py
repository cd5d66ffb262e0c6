"""Whether two similar rows say the same: by what differs between them, not by how much they share.

Rows that share a passage, instructions or a template are similar in most of their text and yet different rows. Of two
rows whose Jaccard similarities reach the thresholds, therefore, only what one has and the other has not is compared,
sentence by sentence:

* Two texts have the same wording when all that differs is case, punctuation, spaces, small words (greetings,
  politeness, articles), the spelling of a word, or a few words in sentences of their own at any place (`Urgent.`).
* They are reworded when the sentences that differ are similar: ``Where is my parcel?``, ``Where is my package?``.

The first makes a row a repeat of another, provided that the answers have the same wording too. The second is enough for
two rows not to stand in different splits, unless the later one is one of a crowd: a row that resembles many earlier
ones is one more instance of their template, and ``parcel`` is what it asks about.

A verdict depends on no row behind the later one of a pair, so that rows added at the end change none.

Example:
    ``Is the tent close to the western gate?`` and ``... the eastern gate?`` are two rows, whatever their answers.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np

from tasks.corpus.text.words import split_words

Array = np.ndarray[Any, Any]

# So many words in sentences that only one of two texts has do not make it another text.
MAX_ADDED_WORDS = 4
# Earlier rows with other prompts that a row resembles, from which on it is one of a crowd.
CROWD = 10
# Shorter words have no misspellings, only other words: cat, cut.
MIN_SPELLED = 5
MIN_STUTTER = 4
# Word lists are easier to read as running text.
# ruff: noqa: SIM905
SMALL_WORDS = frozenset(
    """a an the please kindly pls plz hi hello hey dear thanks thank you thx ty cheers ok okay well also again now just
    so then bye goodbye regards um uh oh really actually""".split()
)

_SENTENCE_END = re.compile(r"[.!?]+(?=\s|$)|[。！？]+|[\r\n]+")
_QUOTES = str.maketrans("", "", "'\"“”‘’«»„")
_PUNCTUATION = ".,!?;:…¿¡，、；："
_NUMBER = re.compile(r"\d+")


class Texts:
    """One side of all rows, such as their prompts; a text is cut into sentences when it is first compared.

    Args:
        texts: One per row.
        size: Characters per n-gram.
        numbers: Whether different numbers are different words.
    """

    def __init__(self, texts: Sequence[str], size: int, numbers: bool = True) -> None:
        self.texts, self.size, self.numbers = texts, size, numbers
        self._numbers_of: dict[str, tuple[int, int]] = {}
        self._number_of: dict[tuple[str, ...], int] = {(): 0}
        self._words: list[tuple[str, ...]] = [()]
        self._cut: dict[int, tuple[int, ...]] = {}

    def cut(self, row: int) -> tuple[int, ...]:
        """The sentences of a row; sentences without their small words are equal where these numbers are."""
        sentences = self._cut.get(row)
        if sentences is None:
            found = [self._read_sentence(sentence) for sentence in _SENTENCE_END.split(self.texts[row])]
            # A text of small words alone has no others to compare.
            numbers = [main for main, _ in found if main] or [whole for _, whole in found if whole]
            sentences = self._cut[row] = tuple(numbers)
        return sentences

    def _read_sentence(self, sentence: str) -> tuple[int, int]:
        """The numbers of a sentence without its small words and with them; 0 where there is no word."""
        numbers = self._numbers_of.get(sentence)
        if numbers is None:
            text = sentence.casefold().translate(_QUOTES)
            text = text if self.numbers else _NUMBER.sub("0", text)
            words = tuple(drop_stutter(word) for each in split_words(text) if (word := each.strip(_PUNCTUATION)))
            main = tuple(word for word in words if word not in SMALL_WORDS)
            numbers = self._numbers_of[sentence] = (self._number(main), self._number(words))
        return numbers

    def _number(self, words: tuple[str, ...]) -> int:
        number = self._number_of.setdefault(words, len(self._words))
        if number == len(self._words):
            self._words.append(words)
        return number

    def name_wording(self, row: int) -> Hashable:
        """Equal for texts that differ in small words, case and punctuation alone."""
        return self.cut(row) or self.texts[row]

    def _list_differing(self, first: int, second: int) -> tuple[list[str], list[str], bool]:
        """The words of the sentences that only one has, and whether the other sentences are in the same order."""
        one, other = self.cut(first), self.cut(second)
        of_one, of_other = set(one), set(other)
        if of_one.isdisjoint(of_other):
            return self._join(one), self._join(other), True
        in_order = [each for each in one if each in of_other] == [each for each in other if each in of_one]
        only_one = self._join([each for each in one if each not in of_other])
        only_other = self._join([each for each in other if each not in of_one])
        return only_one, only_other, in_order

    def _join(self, sentences: Sequence[int]) -> list[str]:
        return list(chain.from_iterable([self._words[each] for each in sentences]))

    def have_same_wording(self, first: int, second: int, may_add: int = MAX_ADDED_WORDS) -> bool:
        """Whether two texts say the same in nearly the same words, see above.

        Args:
            first: Row.
            second: Row.
            may_add: So many words may stand in sentences that only one of them has.
        """
        if self.name_wording(first) == self.name_wording(second):
            return True
        only_one, only_other, in_order = self._list_differing(first, second)
        if not in_order or not (self.cut(first) and self.cut(second)):
            return False
        if not only_one or not only_other:
            return len(only_one) + len(only_other) <= may_add
        return are_spellings(only_one, only_other)

    def compare_differing(self, first: int, second: int) -> float:
        """Jaccard similarity of the n-grams of the sentences that only one has; 1 where at most one has such.

        0 where these have the same words in another order, which says something else: `Does a cat eat a mouse?`
        """
        only_one, only_other, _ = self._list_differing(first, second)
        if not only_one or not only_other:
            return float(self.name_wording(first) == self.name_wording(second) or bool(only_one or only_other))
        if set(only_one) == set(only_other):
            return 0.0
        one, other = (_cut_ngrams(" ".join(words), self.size) for words in (only_one, only_other))
        return len(one & other) / len(one | other)


def _cut_ngrams(text: str, size: int) -> set[str]:
    padded = f" {text} ".ljust(size)
    return {padded[start : start + size] for start in range(len(padded) - size + 1)}


def drop_stutter(word: str) -> str:
    """A word without a second first letter, as fingers write it: tthe, hhow. Shorter ones are names: AA, AAA, eel."""
    return word[1:] if len(word) >= MIN_STUTTER and word[0] == word[1] and word.isalpha() else word


def are_spellings(first: Sequence[str], second: Sequence[str]) -> bool:
    """Whether two texts differ in spaces or in the spelling of words alone."""
    if len(first) != len(second):
        return "".join(first) == "".join(second)
    return all(is_spelling(a, b) for a, b in zip(first, second, strict=True) if a != b)


def is_spelling(first: str, second: str) -> bool:
    """Whether a word is a misspelling of another: one letter, not the first, more or less, or two swapped.

    Another letter makes another word more often than a misspelled one: Iran, Iraq.
    """
    short, long = sorted((first, second), key=len)
    if len(long) < MIN_SPELLED or len(long) - len(short) > 1 or short[0] != long[0] or not (short + long).isalpha():
        return False
    start = next((place for place, (a, b) in enumerate(zip(short, long, strict=False)) if a != b), len(short))
    if len(short) < len(long):
        return short[start:] == long[start + 1 :]
    return short[start : start + 2] == long[start : start + 2][::-1] and short[start + 2 :] == long[start + 2 :]


@dataclass(frozen=True)
class Differences:
    """Decides by what differs whether similar rows are alike.

    Attributes:
        contexts: The system turn of each row.
        prompts: One per row; empty for a plain text, whose Jaccard similarity decides.
        answers: One per row; None where rows with another answer are alike too.
        labels: One per row, where rows with another label are different; None goes with any.
        words: Whether rows in which another word stands are different.
        rewording: Least similarity of the sentences of reworded texts; None where rewording makes another row.
        crowds: Whether a reworded row is another row when it is one of a crowd.
    """

    contexts: Texts
    prompts: Texts
    answers: Texts | None = None
    labels: Sequence[str | None] | None = None
    words: bool = True
    rewording: float | None = None
    crowds: bool = True

    def find_crowded(self, pairs: Array, rows: int) -> Array:
        """Per row whether it is one of a crowd.

        Args:
            pairs: Pairs of similar rows, the earlier row first.
            rows: Number of rows.
        """
        if self.rewording is None or not self.crowds:
            return np.zeros(rows, dtype=bool)
        involved, places = np.unique(pairs, return_inverse=True)
        numbers: dict[Hashable, int] = {}
        wordings = np.array([numbers.setdefault(self.prompts.name_wording(row), row) for row in involved.tolist()])
        first, second = wordings[places.reshape(-1, 2).T]
        crowded: Array = np.bincount(pairs[first != second, 1], minlength=rows) >= CROWD
        return crowded

    def accept(self, pairs: Array, crowded: Array) -> Array:
        """Per pair whether its rows are alike.

        Args:
            pairs: Shape (pairs, 2), the earlier row first.
            crowded: Per row, see `find_crowded`.
        """
        accepted = [self._accept(first, second, crowded[second]) for first, second in pairs.tolist()]
        return np.array(accepted, dtype=bool)

    def _accept(self, first: int, second: int, crowded: bool) -> bool:
        if self._have_other_labels(first, second):
            return False
        if not self.prompts.texts[first] and not self.prompts.texts[second]:
            return True
        same_prompt = self.prompts.have_same_wording(first, second)
        others = [self.contexts] if self.answers is None else [self.contexts, self.answers]
        if self.rewording is None:
            same_prompt = same_prompt or not self.words
            return same_prompt and all(side.have_same_wording(first, second, may_add=0) for side in others)
        if same_prompt or crowded:
            return same_prompt
        return all(side.compare_differing(first, second) >= self.rewording for side in (self.prompts, *others))

    def _have_other_labels(self, first: int, second: int) -> bool:
        if self.labels is None:
            return False
        one, other = self.labels[first], self.labels[second]
        return one != other and one is not None and other is not None
