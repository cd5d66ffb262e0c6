"""Steps of an answer, which empty lines part: their texts, and the token at which each of them ends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tasks.contracts.records import STEP_END
from tasks.training.reward_models import last_place, padding_of


def split_steps(answer: str) -> list[str]:
    """The steps of an answer."""
    return [step for step in answer.split(STEP_END) if step.strip()]


def find_step_ends(tokenizer: Any, answer: Sequence[int], steps: Sequence[str], whole: bool) -> list[int]:
    """The place in an answer's tokens at which each of its steps ends, as far as they are there.

    White space is not looked at: tokenizers add it before a text, and join it to the token before.

    Args:
        tokenizer: That wrote the tokens.
        answer: Token ids from the answer's first on, its end included.
        steps: Texts.
        whole: Nothing of the answer is cut, so that its last step ends with its last token.

    Returns:
        Ascending places; none where the tokens do not give the steps back.
    """
    wanted, ends, low = "", list[int](), 1
    for step in steps:
        wanted += "".join(step.split())
        high = len(answer)
        if not _gives(tokenizer, answer, wanted):
            break
        while low < high:  # the fewest tokens that give the steps so far
            middle = (low + high) // 2
            low, high = (low, middle) if _gives(tokenizer, answer[:middle], wanted) else (middle + 1, high)
        if ends and low - 1 <= ends[-1]:
            return []  # two steps in one token
        ends.append(low - 1)
    if whole:
        if len(ends) < len(steps):
            return []
        ends[-1] = last_place(answer, padding_of(tokenizer))
    return ends


def _gives(tokenizer: Any, tokens: Sequence[int], wanted: str) -> bool:
    text = tokenizer.decode(list(tokens), skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return "".join(text.split()).startswith(wanted)
