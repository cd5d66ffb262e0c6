"""What a written row is held against, one file each. `schema` is always the first; the others are in params."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from tasks.synthesis.checks.arithmetic import Arithmetic
from tasks.synthesis.checks.duplicates import DuplicatesCheck
from tasks.synthesis.checks.exact import Exact
from tasks.synthesis.checks.json import Json
from tasks.synthesis.checks.label_set import LabelSet
from tasks.synthesis.checks.length import LengthCheck
from tasks.synthesis.checks.python import PythonCheck
from tasks.synthesis.checks.refusal import Refusal
from tasks.synthesis.checks.regex import RegexCheck

AnyCheck = Annotated[
    LengthCheck | LabelSet | DuplicatesCheck | Refusal | Exact | Arithmetic | Json | PythonCheck | RegexCheck,
    Field(discriminator="name"),
]
