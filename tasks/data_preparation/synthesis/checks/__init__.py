"""What a written row is held against, one file each. `schema` is always the first; the others are in params."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from tasks.data_preparation.synthesis.checks.arithmetic import Arithmetic
from tasks.data_preparation.synthesis.checks.duplicates import Duplicates
from tasks.data_preparation.synthesis.checks.exact import Exact
from tasks.data_preparation.synthesis.checks.json import Json
from tasks.data_preparation.synthesis.checks.label_set import LabelSet
from tasks.data_preparation.synthesis.checks.length import Length
from tasks.data_preparation.synthesis.checks.python import Python
from tasks.data_preparation.synthesis.checks.refusal import Refusal
from tasks.data_preparation.synthesis.checks.regex import Regex

AnyCheck = Annotated[
    Length | LabelSet | Duplicates | Refusal | Exact | Arithmetic | Json | Python | Regex,
    Field(discriminator="name"),
]
