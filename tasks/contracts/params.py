"""The base of every section of ``params.yaml``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """Frozen, no unknown keys, no silent conversion of text to numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False, protected_namespaces=())


@dataclass(frozen=True)
class Reads:
    """Marks a field that names something to be read, so that a wrong path is told before any work begins.

    Example: ``path: Annotated[str, Reads("folder", holds="config.json")] = Field(description="model folder")``.

    Attributes:
        kind: ``file``; ``folder``; ``place``: either of them; ``files``: a file, a folder, a glob or a URL; ``hub``: a
            folder, or a name on the hub where the section has a ``revision``; ``module``: a folder, or an installed
            package; ``database``: a URL, whose file is looked for where it is SQLite's.
        holds: Name of a file that a folder must have.
    """

    kind: Literal["file", "folder", "place", "files", "hub", "module", "database"]
    holds: str = ""
