"""When a trial is given up before its end, one file per rule; the union is the only registry.

Each looks at the validation losses of the trial and of those before it at the same step.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from tasks.search.pruners.halving import Halving
from tasks.search.pruners.median import Median
from tasks.search.pruners.none import NoPruning

AnyPruner = Annotated[Median | Halving | NoPruning, Field(discriminator="name")]
