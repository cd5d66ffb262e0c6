"""What every augmentation gets, and which words of a prompt it may touch."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

# Stands above and below a text that a model is to rewrite.
LINE = "-----"

WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")
_ANY = re.compile(r"[^\W_]+")
# Addresses, code, and what stands in brackets in place of personal data.
_KEPT = re.compile(
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
        seed: Of all choices.
        answered: Folder with answers of models, None to keep none.
    """

    ids: Sequence[str]
    prompts: Sequence[str]
    answers: Sequence[str]
    labels: Sequence[str | None]
    seed: int
    answered: Path | None = None

    def random(self, purpose: str, row: int) -> random.Random:
        """A source of chance that depends on seed and row alone."""
        return random.Random(f"{purpose} {self.seed} {self.ids[row]}")


@dataclass(frozen=True)
class Variant:
    """A prompt said differently, or why it could not be.

    Attributes:
        row: The training row.
        prompt: The new prompt.
        reason: Why it is refused, None when it is not.
    """

    row: int
    prompt: str
    reason: str | None = None


def list_words(prompt: str, answer: str, shortest: int) -> list[tuple[int, int]]:
    """Where the words stand that may be changed.

    Not those of fewer letters than ``shortest``, in capitals, with digits, in addresses, code or brackets, or in the
    answer too: what the answer repeats, it must find in the prompt.
    """
    kept = [match.span() for match in _KEPT.finditer(prompt)]
    repeated = {word.casefold() for word in _ANY.findall(answer)}
    return [
        match.span()
        for match in WORD.finditer(prompt)
        if match.end() - match.start() >= shortest
        and not match.group().isupper()
        and match.group().casefold() not in repeated
        and not any(start < match.end() and match.start() < end for start, end in kept)
    ]


def replace_spans(text: str, spans: Sequence[tuple[int, int]], words: Sequence[str]) -> str:
    """The text with other words at these places."""
    for (start, end), word in sorted(zip(spans, words, strict=True), reverse=True):
        text = text[:start] + word + text[end:]
    return text


def match_case(word: str, like: str) -> str:
    """A word with a capital where the other has one."""
    return word[:1].upper() + word[1:] if like[:1].isupper() else word


def judge_rewriting(old: str, new: str | None) -> str | None:
    """Why what a model wrote in place of a prompt cannot be used, None when it can."""
    if new is None:
        return "no answer, or one cut off"
    if _list_kept(old) != _list_kept(new):
        return "numbers, addresses or placeholders changed"
    if len(new) > 3 * len(old) + 80 or 3 * len(new) + 80 < len(old):
        return "of another length altogether"
    return None


def _list_kept(text: str) -> list[str]:
    return sorted(match.group().strip(".,;:!?") for match in _KEPT.finditer(text))


def tidy_answer(text: str | None) -> str | None:
    """A model's text without the lines and quotes around it."""
    if text is None:
        return None
    text = text.strip().removeprefix(LINE).removesuffix(LINE).strip()
    for opening, closing in ('""', "''", "“”", "«»"):
        if len(text) > 2 and text.startswith(opening) and text.endswith(closing) and text.count(opening) <= 2:
            text = text[1:-1].strip()
    return text or None
