"""Length limits in characters.

Example:
    ``{name: length, min_answer: 20}`` drops rows whose answers have fewer than 20 characters together.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from tasks.contracts.params import Section
from tasks.corpus.rows.roles import CONTEXT

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from tasks.corpus.rows.texts import Cleaned

ROLE_GROUPS = (("user",), ("assistant",), ("system", CONTEXT, "tool"))


class Length(Section):
    """Drops rows that are too short or too long."""

    name: Literal["length"] = "length"
    min_prompt: int = Field(default=2, ge=0, description="characters of all user turns together")
    min_answer: int = Field(default=1, ge=0, description="characters of all assistant turns together")
    max_total: int = Field(default=20_000, gt=0, description="characters of the whole conversation")

    def clean(self, table: pa.Table) -> Cleaned:
        import numpy as np

        from tasks.corpus.rows.learned import learned_messages
        from tasks.corpus.rows.rows import find_plain
        from tasks.corpus.rows.texts import Cleaned

        messages = learned_messages(table)
        prompts, answers, others = (count_characters(messages, roles) for roles in ROLE_GROUPS)
        short = (prompts < self.min_prompt) & ~find_plain(messages)
        empty = answers < self.min_answer
        reasons: list[str | None] = [None] * len(messages)
        for row in np.flatnonzero(short | empty | (prompts + answers + others > self.max_total)).tolist():
            if short[row]:
                reasons[row] = f"prompt shorter than {self.min_prompt} characters"
            elif empty[row]:
                reasons[row] = f"answer shorter than {self.min_answer} characters"
            else:
                reasons[row] = f"longer than {self.max_total} characters"
        return Cleaned(table, reasons)


def count_characters(messages: pa.ListArray, roles: Sequence[str]) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Per row the length of the texts of these roles, joined by line ends."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    from tasks.corpus.rows.rows import row_of_turn

    turns = messages.flatten()
    selected = np.asarray(pc.is_in(turns.field("role"), pa.array(roles)))
    rows = row_of_turn(messages)[selected]
    lengths = np.asarray(pc.utf8_length(turns.field("content")))[selected]
    characters = np.bincount(rows, weights=lengths, minlength=len(messages)).astype(np.int64)
    return characters + np.maximum(np.bincount(rows, minlength=len(messages)) - 1, 0)
