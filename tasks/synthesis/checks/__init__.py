"""Checks of synthetic rows, one file each. `schema` always comes first; the others are in params."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from tasks.synthesis.checks.arithmetic import ArithmeticCheck
from tasks.synthesis.checks.duplicates import DuplicateCheck
from tasks.synthesis.checks.exact import ExactCheck
from tasks.synthesis.checks.json import JsonCheck
from tasks.synthesis.checks.label_set import LabelSetCheck
from tasks.synthesis.checks.length import LengthCheck
from tasks.synthesis.checks.python import PythonCheck
from tasks.synthesis.checks.refusal import RefusalCheck
from tasks.synthesis.checks.regex import RegexCheck

AnyCheck = Annotated[
    LengthCheck
    | LabelSetCheck
    | DuplicateCheck
    | RefusalCheck
    | ExactCheck
    | ArithmeticCheck
    | JsonCheck
    | PythonCheck
    | RegexCheck,
    Field(discriminator="name"),
]
