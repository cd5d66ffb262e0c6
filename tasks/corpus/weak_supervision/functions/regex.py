"""A regular expression: texts that match it get the label.

Patterns are in RE2 syntax, which matches in linear time for any text; case is ignored unless ``case`` is true.

Example: ``{name: regex, label: refund, pattern: "money back|refund(ed)?"}``
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from tasks.contracts.params import Section


def match_pattern(texts: Sequence[str], pattern: str, case: bool = False) -> list[bool]:
    """Whether each text contains a match of an RE2 pattern."""
    import pyarrow as pa
    import pyarrow.compute as pc

    matched_texts: list[bool] = pc.match_substring_regex(
        pa.array(texts, pa.string()), pattern, ignore_case=not case
    ).to_pylist()
    return matched_texts


class Regex(Section):
    """One label for texts that match a pattern."""

    name: Literal["regex"] = "regex"
    title: str = Field(default="", description="its name in the tables; the pattern when empty")
    label: str = Field(min_length=1)
    pattern: str = Field(min_length=1, description="RE2")
    case: bool = Field(default=False, description="match case-sensitively")

    @field_validator("pattern")
    @classmethod
    def _check_pattern(cls, pattern: str) -> str:
        import pyarrow as pa

        try:
            match_pattern([""], pattern)
        except pa.ArrowInvalid as error:
            raise ValueError(f"{pattern!r} is no RE2 pattern ({str(error).partition(': ')[2]})") from error
        return pattern

    def vote(self, texts: Sequence[str], root: Path) -> dict[str, list[str | None]]:
        """The label, or None, per text."""
        matched = match_pattern(texts, self.pattern, self.case)
        return {self.title or f"regex {self.pattern}": [self.label if is_match else None for is_match in matched]}
