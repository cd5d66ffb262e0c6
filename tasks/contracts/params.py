"""The base of every section of ``params.yaml``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Protocol, get_args, runtime_checkable

from pydantic import BaseModel, ConfigDict, model_validator


class Section(BaseModel):
    """Frozen, no unknown keys, numbers are finite, and ``true`` is not the number 1."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False, protected_namespaces=(), allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _keep_bool_from_numbers(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        return {
            name: _spell_bool(cls, name, value) if isinstance(value, bool) else value for name, value in values.items()
        }


def _spell_bool(section: type[BaseModel], name: str, value: bool) -> bool | str:
    """A bool as text, which no number can be, where the field takes numbers; pydantic reads ``true`` as 1."""
    field = section.model_fields.get(name)
    kinds = _plain_types(field.annotation) if field else set()
    return str(value).lower() if kinds & {int, float} and not kinds & {bool, str} else value


def _plain_types(annotation: Any) -> set[type]:
    """The types that an annotation is made of, without what they are marked with."""
    if isinstance(annotation, type) and not get_args(annotation):
        return {annotation}
    return set().union(*map(_plain_types, get_args(annotation)))


@dataclass(frozen=True)
class Reads:
    """Marks a field that names something to be read, so that a wrong path is told before any work begins.

    Example: ``path: Annotated[str, Reads("folder", holds="config.json")] = Field(description="model folder")``.

    Attributes:
        kind: ``file``; ``folder``; ``place``: either of them; ``files``: a file, a folder, a glob or a URL; ``hub``: a
            folder, or a name on the hub where the section has a ``revision``; ``module``: a folder, or an installed
            package; ``database``: a URL, whose file is looked for where it is SQLite's.
        holds: Name of a file that a folder must have.
        inline: What a file holds may stand in its place.
    """

    kind: Literal["file", "folder", "place", "files", "hub", "module", "database"]
    holds: str = ""
    inline: bool = False


@runtime_checkable
class ChecksFiles(Protocol):
    """A section that can tell, before any work begins, that what it reads is there and is not what it needs."""

    def find_unfit(self) -> list[str]:
        """What is wrong with the contents of its files, which are there; a sentence each, empty where nothing is."""
