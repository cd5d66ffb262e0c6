"""Who trains: one process or many, one file per way of sharing the work; the union is the only registry.

`tasks.training.distribution.distribution` says what a distribution has to answer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, get_args

from pydantic import Field

from tasks.training.distribution.ddp import Ddp
from tasks.training.distribution.distribution import Distribution, DistributionCan
from tasks.training.distribution.fsdp import Fsdp
from tasks.training.distribution.single import Single
from tasks.training.distribution.zero import Zero

AnyDistribution = Annotated[Single | Ddp | Zero | Fsdp, Field(discriminator="name")]

DISTRIBUTIONS: tuple[type[Distribution], ...] = get_args(get_args(AnyDistribution)[0])


def distributions_where(fact: Callable[[DistributionCan], bool] = lambda _: True) -> list[str]:
    """Names of the distributions of which a fact holds, as ``params.yaml`` takes them; for refusals."""
    return [distribution().name for distribution in DISTRIBUTIONS if fact(distribution.can)]
