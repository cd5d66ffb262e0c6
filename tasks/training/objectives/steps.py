"""Answers whose steps are marked, as tokens: where each step ends."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tasks.contracts.records import STEP_END, STEPS
from tasks.language_models.encoding import IGNORED
from tasks.training.objectives.answers import EncodedSide, Side, encode_sides, join_sequences
from tasks.training.objectives.data import Tokenization
from tasks.training.reward_models import last_place, padding_of
from tasks.training.rows import ANSWER_CUT, REFUSED, TOO_LONG, TokenizedRows

if TYPE_CHECKING:
    import pyarrow as pa

CHANGED = "it has not as many steps as marks; steps are parted by empty lines"
UNREADABLE = "the tokenizer does not give its steps back"


def tokenize_steps(answers: pa.Table, how: Tokenization) -> TokenizedRows:
    """Answers with 1 or 0 in ``labels`` where a step ends, -100 elsewhere.

    An answer longer than ``max_tokens`` keeps the steps that end before.

    Args:
        answers: Schema `ANSWER_SETS`; rows without a value in `STEPS` are left out.
        how: Of the tokens.
    """
    import numpy as np

    marked = [row for row in answers.to_pylist() if row.get(STEPS.name)][: how.limit]
    sides = [Side(row["id"], row["prompt"], row["answers"][0]["turns"], 0.0) for row in marked]
    dropped: Counter[str] = Counter()
    kept, ids, cut = [], [], 0
    encoded = encode_sides(sides, how)
    for row, side, one in zip(marked, sides, encoded, strict=True):
        found = _mark_steps(side, one, row[STEPS.name], how)
        if isinstance(found, str):
            dropped[found] += 1
        else:
            kept.append(found)
            ids.append(row["id"])
            cut += one.full_length > how.max_tokens
    return join_sequences(
        kept,
        ids=ids,
        columns={"steps": np.array([(one.labels != IGNORED).sum() for one in kept], dtype=np.int64)},
        per_item=1,
        dropped=dropped,
        cut=cut,
        full_lengths=[one.full_length for one in encoded],
    )


def _mark_steps(side: Side, one: EncodedSide, marks: Sequence[bool], how: Tokenization) -> EncodedSide | str:
    """The answer with its marks, or why it cannot train."""
    import numpy as np

    if one.refused is not None:
        return f"{REFUSED} ({one.refused})"
    if not len(one.tokens):
        return TOO_LONG
    steps = split_steps(str(side.turns[-1]["content"]))
    if len(steps) != len(marks) or len(side.turns) != 1:
        return CHANGED
    is_cut = one.full_length > how.max_tokens
    if (one.labels == IGNORED).all():
        return ANSWER_CUT
    start = len(one.prompt)
    ends = find_step_ends(how.tokenizer, one.tokens[start:].tolist(), steps, whole=not is_cut)
    if not ends:
        return ANSWER_CUT if is_cut else UNREADABLE
    labels = np.full_like(one.labels, IGNORED)
    labels[[start + end for end in ends]] = np.array(marks[: len(ends)], dtype=np.int64)
    length = start + ends[-1] + 1
    return EncodedSide(one.tokens[:length], labels[:length], one.full_length, None)


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
