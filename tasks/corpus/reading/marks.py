"""Answers that the rows of a source mark as not to be learned, as ``weight: 0`` of OpenAI's fine-tuning.

They stay in their conversation as context of later answers and carry no loss. Their places are in the column
``untrained``, which exists only when a row has such answers. What follows the last answer to be learned is nobody's
context and is left out, so that the last turn of a conversation is the answer that evaluation asks for.

Example:
    Of the turns user, assistant (``weight: 0``), user, assistant the last is learned, and ``untrained`` is ``[1]``.
"""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from tasks.contracts.records import UNTRAINED
from tasks.corpus.reading.shapes.shape import NOT_LEARNED, ConvertedRow, RowError


def leave_unlearned_end(conversation: ConvertedRow) -> ConvertedRow:
    """The conversation up to its last learned answer; one without marks is unchanged.

    Raises:
        RowError: No answer is to be learned, the first turn is the only one, or an answer that the row rates is
            not to be learned.
    """
    turns = conversation.turns
    if not any(NOT_LEARNED in turn for turn in turns):
        return conversation
    learned = [place for place, turn in enumerate(turns) if turn["role"] == "assistant" and NOT_LEARNED not in turn]
    if not learned:
        raise RowError("no answer is to be learned: all are marked so (weight: 0, train: false); unmark one")
    if not learned[-1]:
        raise RowError("no prompt before the first answer")
    if conversation.start is not None and learned[-1] < conversation.start:
        raise RowError("the answer that the row rates is marked not to be learned; unmark it")
    return conversation._replace(turns=turns[: learned[-1] + 1])


def list_untrained(conversations: Sequence[ConvertedRow]) -> pa.Array | None:
    """The column ``untrained`` of converted rows; None when all answers are learned."""
    places = [
        [place for place, turn in enumerate(conversation.turns) if NOT_LEARNED in turn] or None
        for conversation in conversations
    ]
    return pa.array(places, UNTRAINED.type) if any(places) else None


def count_untrained(table: pa.Table) -> int:
    """Number of answers without loss in all rows."""
    if UNTRAINED.name not in table.column_names:
        return 0
    return int(pc.sum(pc.list_value_length(table[UNTRAINED.name])).as_py() or 0)
