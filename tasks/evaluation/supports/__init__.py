"""Whether a text supports a claim, by one of several means, one file each; the union is the only registry.

`tasks.evaluation.supports.support` says what a means has to answer.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from tasks.evaluation.supports.entailment import EntailmentSupport
from tasks.evaluation.supports.judge import JudgeSupport
from tasks.evaluation.supports.words import WordSupport

AnySupport = Annotated[WordSupport | EntailmentSupport | JudgeSupport, Field(discriminator="name")]
