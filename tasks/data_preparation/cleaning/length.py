"""Length limits in characters.

Example:
    ``{name: length, min_answer: 20}`` drops rows whose answers have fewer than 20 characters together.
"""

from __future__ import annotations

from typing import Literal

import pyarrow as pa
from pydantic import Field

from tasks.contracts.params import Section
from tasks.data_preparation.cleaning.texts import Cleaned
from tasks.data_preparation.rows import column_messages, find_plain, join_turns


class Length(Section):
    """Drops rows that are too short or too long."""

    name: Literal["length"] = "length"
    min_prompt: int = Field(default=2, ge=0, description="characters of all user turns together")
    min_answer: int = Field(default=1, ge=0, description="characters of all assistant turns together")
    max_total: int = Field(default=20_000, gt=0, description="characters of the whole conversation")

    def clean(self, table: pa.Table) -> Cleaned:
        messages = column_messages(table)
        prompts = join_turns(messages, ["user"])
        answers = join_turns(messages, ["assistant"])
        others = join_turns(messages, ["system", "tool"])
        plain = find_plain(messages).tolist()
        return Cleaned(table, [self._judge(*row) for row in zip(prompts, answers, others, plain, strict=True)])

    def _judge(self, prompt: str, answer: str, other: str, plain: bool) -> str | None:
        if len(prompt) < self.min_prompt and not plain:
            return f"prompt shorter than {self.min_prompt} characters"
        if len(answer) < self.min_answer:
            return f"answer shorter than {self.min_answer} characters"
        if len(prompt) + len(answer) + len(other) > self.max_total:
            return f"longer than {self.max_total} characters"
        return None
