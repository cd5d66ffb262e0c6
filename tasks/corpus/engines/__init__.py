"""Where the work that needs one row at a time is done: reading, cleaning, signatures of near duplicates.

What needs all rows at once (merged labels, pairs of duplicates, splits, the gate) stays in the stage's own process. The
rows and the bytes that are written are the same on every engine.
"""

from typing import Annotated

from pydantic import Field

from tasks.corpus.engines.local import LocalEngine
from tasks.corpus.engines.ray import Ray

AnyEngine = Annotated[LocalEngine | Ray, Field(discriminator="name")]
