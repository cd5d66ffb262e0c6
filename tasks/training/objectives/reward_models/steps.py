"""Answers whose steps are marked, as tokens: where each step ends."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tasks.contracts.records import STEPS
from tasks.language_models.encoding import IGNORED
from tasks.training.answer_steps import find_step_ends, split_steps
from tasks.training.objectives.answers import EncodedSide, Side, encode_sides, join_sequences
from tasks.training.objectives.data import Tokenization
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
