"""The input of every augmentation method, and the words of a prompt it may change."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

# Delimiter above and below the text in the prompt to a model.
LINE = "-----"

WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")
_ANY = re.compile(r"[^\W_]+")
# Addresses, code, placeholders of personal data in brackets, and words with digits: they are never changed.
_PROTECTED = re.compile(
    r"https?://\S+|www\.\S+|\S+@\S+|```.*?```|`[^`\n]+`|\[[^\]\n]{1,40}\]|<[^>\n]{1,40}>|\{[^}\n]{1,40}\}|\w*\d\w*",
    re.DOTALL,
)


@dataclass(frozen=True)
class Material:
    """The training rows.

    Attributes:
        ids: Content hash of each row.
        prompts: Last user turn of each row.
        answers: Assistant turns of each row, joined.
        labels: Label of each row, where it has one.
        seed: Seed of all random choices.
        answered: Folder that caches answers of models; None for no cache.
    """

    ids: Sequence[str]
    prompts: Sequence[str]
    answers: Sequence[str]
    labels: Sequence[str | None]
    seed: int
    answered: Path | None = None

    def random(self, purpose: str, row: int) -> random.Random:
        """A random number generator that depends on seed and row alone."""
        return random.Random(f"{purpose} {self.seed} {self.ids[row]}")


@dataclass(frozen=True)
class Variant:
    """A rewritten prompt, or the reason why there is none.

    Attributes:
        row: Index of the training row.
        prompt: The rewritten prompt.
        reason: Why it is rejected; None when it is accepted.
    """

    row: int
    prompt: str
    reason: str | None = None


def list_words(prompt: str, answer: str, min_letters: int) -> list[tuple[int, int]]:
    """Start and end of the words that may be changed.

    Words are excluded that have fewer than ``min_letters`` letters, are in capitals, contain digits, stand in
    addresses, code or brackets, or also occur in the answer, which may refer to them.
    """
    protected = [match.span() for match in _PROTECTED.finditer(prompt)]
    repeated = {word.casefold() for word in _ANY.findall(answer)}
    return [
        match.span()
        for match in WORD.finditer(prompt)
        if match.end() - match.start() >= min_letters
        and not match.group().isupper()
        and match.group().casefold() not in repeated
        and not any(start < match.end() and match.start() < end for start, end in protected)
    ]


def replace_spans(text: str, spans: Sequence[tuple[int, int]], words: Sequence[str]) -> str:
    """The text with the spans replaced by words."""
    for (start, end), word in sorted(zip(spans, words, strict=True), reverse=True):
        text = text[:start] + word + text[end:]
    return text


def match_case(word: str, like: str) -> str:
    """A word with an upper-case first letter if the other word has one."""
    return word[:1].upper() + word[1:] if like[:1].isupper() else word


def judge_rewriting(old: str, new: str | None) -> str | None:
    """The reason to reject a prompt rewritten by a model; None to accept it."""
    if new is None:
        return "no answer, or one cut off"
    if _list_protected(old) != _list_protected(new):
        return "numbers, addresses or placeholders changed"
    if len(new) > 3 * len(old) + 80 or 3 * len(new) + 80 < len(old):
        return "of another length altogether"
    return None


def _list_protected(text: str) -> list[str]:
    return sorted(match.group().strip(".,;:!?") for match in _PROTECTED.finditer(text))


def tidy_answer(text: str | None) -> str | None:
    """The text of a model without the delimiters and quotation marks around it."""
    if text is None:
        return None
    text = text.strip().removeprefix(LINE).removesuffix(LINE).strip()
    for opening, closing in ('""', "''", "“”", "«»"):
        if len(text) > 2 and text.startswith(opening) and text.endswith(closing) and text.count(opening) <= 2:
            text = text[1:-1].strip()
    return text or None
