"""Answers that refuse, as `tasks.corpus.text.refusals` tells them.

Good for: instruction data written by another model, whose refusals would be learned. Refusals that are wanted (safety
data) must not go through this step.

Example:
    ``I'm sorry, but as an AI language model I cannot help with that.`` drops the row as "answer refuses".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from tasks.contracts.params import Section

if TYPE_CHECKING:
    import pyarrow as pa

    from tasks.corpus.rows.texts import Cleaned


class Refusals(Section):
    """Drops rows with an answer that refuses."""

    name: Literal["refusals"] = "refusals"
    characters: int = Field(default=200, gt=0, description="length of an answer's opening that is looked at")

    def clean(self, table: pa.Table) -> Cleaned:
        from tasks.corpus.rows.texts import Cleaned
        from tasks.corpus.text.refusals import refuses

        reasons = [
            "answer refuses"
            if any(turn["role"] == "assistant" and refuses(turn["content"], self.characters) for turn in turns)
            else None
            for turns in table["messages"].to_pylist()
        ]
        return Cleaned(table, reasons)
