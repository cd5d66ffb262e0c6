"""Language models that judge answers, one file each; the union is the only registry.

`tasks.evaluation.judges.judge` says what a judge has to answer. In the scoreboard a judge is a metric like any other:
its scores are paired by item, resampled, and may decide as a primary metric or as one that must not worsen.
"""

from __future__ import annotations

from typing import Annotated, Any, get_args

from pydantic import Field

from tasks.evaluation.judges.pairwise import PairwiseJudge
from tasks.evaluation.judges.scored import ScoredJudge

AnyJudge = Annotated[PairwiseJudge | ScoredJudge, Field(discriminator="name")]

JUDGES: tuple[type[Any], ...] = get_args(get_args(AnyJudge)[0])
