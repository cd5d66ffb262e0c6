"""1 where the answer is JSON that fits a schema, ``partial`` where it is JSON that does not, else 0.

The schema is one of JSON Schema (draft 2020-12 unless it says otherwise), in params. Without one any JSON value fits.

Example: ``{name: json_schema, fits: {type: object, required: [intent], properties: {intent: {enum: [refund]}}}}``
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator

from tasks.contracts.params import Section
from tasks.training.rewards.reward import BINARY, AnswerAttempt, Bounds, Reference, Scorer, weight_field

_FENCE = re.compile(r"\A\s*```[\w-]*[ \t]*\n(.*?)\n?[ \t]*```\s*\Z", re.DOTALL)


class JsonSchema(Section):
    """Reward JSON of a shape."""

    name: Literal["json_schema"] = "json_schema"
    weight: float = weight_field()
    fits: dict[str, Any] = Field(default={}, description="JSON Schema; empty: any JSON value")
    partial: float = Field(default=0.0, ge=0, le=1, description="for JSON that does not fit the schema")
    fence: bool = Field(default=False, description="a code fence around the JSON is allowed")

    @field_validator("fits")
    @classmethod
    def _is_schema(cls, fits: dict[str, Any]) -> dict[str, Any]:
        from jsonschema import SchemaError
        from jsonschema.validators import validator_for

        try:
            validator_for(fits).check_schema(fits)
        except SchemaError as error:
            raise ValueError(f"no JSON Schema ({error.message}); correct it") from error
        return fits

    @property
    def needs(self) -> tuple[Reference, ...]:
        return ()

    @property
    def bounds(self) -> Bounds:
        return BINARY

    def problems(self) -> list[str]:
        return []

    def files(self) -> list[Path]:
        return []

    def describe(self) -> str:
        return "JSON that fits the schema" if self.fits else "JSON"

    def open(self, cache: Path | None) -> Scorer:
        from jsonschema.validators import validator_for

        validator = validator_for(self.fits)(self.fits)

        def score(attempts: Sequence[AnswerAttempt]) -> list[float]:
            return [self._judge(attempt.answer, validator) for attempt in attempts]

        return score

    def _judge(self, answer: str, validator: Any) -> float:
        fenced = _FENCE.match(answer) if self.fence else None
        try:
            value = json.loads(fenced[1] if fenced else answer)
        except (ValueError, RecursionError):
            return 0.0
        return 1.0 if validator.is_valid(value) else self.partial
