"""Who trains: one process or many, one file per way of sharing the work; the union is the only registry.

`tasks.training.distribution.distribution` says what a distribution has to answer.
"""

from __future__ import annotations

from tasks.training.distribution.distribution import Distribution
from tasks.training.distribution.single import Single

AnyDistribution = Single

DISTRIBUTIONS: tuple[type[Distribution], ...] = (Single,)
