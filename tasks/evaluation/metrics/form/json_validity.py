"""JSON validity: the answer is JSON, and fits a schema where one is given.

The whole answer has to parse (RFC 8259: no NaN, no comments, no key twice), a fence of Markdown around it aside. With
``schema_file`` it has to fit that JSON Schema too; without one, only items whose reference is a JSON object or array
are scored.

Example:
    ``{"total": 3}`` with a schema that asks for an integer ``total``: 1; ``{"total": "3"}`` and ``total: 3``: 0.
"""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from tasks.contracts.errors import PipelineError
from tasks.contracts.params import Reads
from tasks.evaluation.metrics.per_answer import PerAnswer

if TYPE_CHECKING:
    from tasks.evaluation.items import Item
    from tasks.evaluation.metrics.metric import Evidence

_FENCE = re.compile(r"\A\s*```(?:json)?[ \t]*\n(.*?)\n?\s*```\s*\Z", re.DOTALL)


class JsonValidity(PerAnswer):
    """Share of answers that are valid JSON; higher is better."""

    name: Literal["json_validity"] = "json_validity"
    schema_file: Annotated[str | None, Reads("file")] = Field(
        default=None, description="JSON Schema that answers have to fit; null: any object or array, as the reference is"
    )
    title: ClassVar[str] = "JSON validity"
    higher_is_better: ClassVar[bool] = True

    def reads(self, item: Item) -> bool:
        return self.schema_file is not None or isinstance(read_json_answer(item.reference), dict | list)

    def why_not_applicable(self, evidence: Evidence) -> str | None:
        if any(map(self.reads, evidence.items)):
            return None
        return "no reference is a JSON object or array, and no schema_file is given"

    def measure(self, item: Item, answer: str) -> float:
        found = read_json_answer(answer)
        if self.schema_file is None:
            return float(isinstance(found, dict | list))
        return float(found is not _INVALID and _validator(self.schema_file).is_valid(found))


_INVALID = object()


def read_json_answer(text: str) -> Any:
    """The value of a text that is JSON, with or without a Markdown fence; an object of its own where it is not."""
    fenced = _FENCE.match(text)
    try:
        return json.loads(fenced[1] if fenced else text, object_pairs_hook=_refuse_repeated, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return _INVALID


def _refuse(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _refuse_repeated(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands twice")
    return found


@cache
def _validator(path: str) -> Any:
    from jsonschema import SchemaError
    from jsonschema.validators import validator_for

    try:
        schema = json.loads(Path(path).read_text(encoding="utf-8"))
        if not isinstance(schema, dict | bool):
            raise ValueError(f"{type(schema).__name__} found, expected an object")
        kind = validator_for(schema)
        kind.check_schema(schema)
    except (OSError, ValueError, RecursionError, SchemaError) as error:
        reason = str(error).splitlines()[0]
        raise PipelineError(
            f"evaluation.metrics: json_validity: {path} is no JSON Schema ({reason}); mend it"
        ) from error
    return kind(schema)
