"""A pattern: texts that match it have the label.

Patterns are RE2's, which match in linear time whatever the text; case does not count unless told so.

Example: ``{name: regex, label: refund, pattern: "money back|refund(ed)?"}``
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from tasks.contracts.params import Section


def matches(texts: Sequence[str], pattern: str, case: bool = False) -> list[bool]:
    """Which texts hold a match of an RE2 pattern."""
    import pyarrow as pa
    import pyarrow.compute as pc

    found: list[bool] = pc.match_substring_regex(
        pa.array(texts, pa.string()), pattern, ignore_case=not case
    ).to_pylist()
    return found


class Regex(Section):
    """One label for what matches."""

    name: Literal["regex"] = "regex"
    title: str = Field(default="", description="its name in the tables; the pattern when empty")
    label: str = Field(min_length=1)
    pattern: str = Field(min_length=1, description="RE2")
    case: bool = Field(default=False, description="whether case counts")

    @field_validator("pattern")
    @classmethod
    def _is_pattern(cls, pattern: str) -> str:
        import pyarrow as pa

        try:
            matches([""], pattern)
        except pa.ArrowInvalid as error:
            raise ValueError(f"{pattern!r} is no RE2 pattern ({str(error).partition(': ')[2]})") from error
        return pattern

    def vote(self, texts: Sequence[str], root: Path) -> dict[str, list[str | None]]:
        """The label, or None, per text."""
        found = matches(texts, self.pattern, self.case)
        return {self.title or f"regex {self.pattern}": [self.label if hit else None for hit in found]}
