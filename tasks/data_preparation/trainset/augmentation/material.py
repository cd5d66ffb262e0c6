"""The input of every augmentation method, and what becomes of a rewritten prompt."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tasks.corpus.text.word_edits import PROTECTED

# Delimiter above and below the text in the prompt to a model.
LINE = "-----"


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
    return sorted(match.group().strip(".,;:!?") for match in PROTECTED.finditer(text))


def tidy_answer(text: str | None) -> str | None:
    """The text of a model without the delimiters and quotation marks around it."""
    if text is None:
        return None
    text = text.strip().removeprefix(LINE).removesuffix(LINE).strip()
    for opening, closing in ('""', "''", "“”", "«»"):
        if len(text) > 2 and text.startswith(opening) and text.endswith(closing) and text.count(opening) <= 2:
            text = text[1:-1].strip()
    return text or None
