"""Answers that must be JSON.

Example: ``{name: json, keys: [intent, city]}`` refuses ``{"intent": "weather"}`` for ``no "city"``. A code fence around
the JSON is refused too, unless ``fence`` allows it, because the model would learn it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from tasks.language_models.writers.reading import strip_fence
from tasks.synthesis.checks.check import RowCheck, Step

if TYPE_CHECKING:
    from tasks.synthesis.drafts import Draft, Known


class JsonCheck(RowCheck):
    """The answer parses, and has these keys."""

    name: Literal["json"] = "json"
    keys: tuple[str, ...] = Field(default=(), description="keys that the object must have; none: any JSON value")
    fence: bool = Field(default=False, description="a code fence around the JSON is allowed")

    @property
    def steps(self) -> tuple[Step, ...]:
        return ("answers",)

    @property
    def hint(self) -> str:
        keys = f" object with the keys {', '.join(self.keys)}" if self.keys else ""
        return f"The answer is one JSON{keys or ' value'} and nothing else."

    def check(self, drafts: Sequence[Draft], step: Step, known: Known) -> list[str | None]:
        return [self._judge(draft.answer) for draft in drafts]

    def _judge(self, answer: str) -> str | None:
        try:
            value = json.loads(strip_fence(answer) if self.fence else answer)
        except (ValueError, RecursionError):
            return "answer is not JSON"
        if self.keys and not isinstance(value, dict):
            return "answer is not a JSON object"
        return next((f'no "{key}" in the JSON' for key in self.keys if key not in value), None)
