"""Labelling functions, one file each: rules that label some texts and abstain on the others."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Protocol

from pydantic import Field

from tasks.corpus.weak_supervision.functions.keywords import Keywords
from tasks.corpus.weak_supervision.functions.model import Model
from tasks.corpus.weak_supervision.functions.nearest import Nearest
from tasks.corpus.weak_supervision.functions.python import Python
from tasks.corpus.weak_supervision.functions.regex import Regex

AnyFunction = Annotated[Keywords | Regex | Nearest | Model | Python, Field(discriminator="name")]


class Function(Protocol):
    """Interface of a labelling function."""

    def vote(self, texts: Sequence[str], root: Path) -> dict[str, list[str | None]]: ...
