"""How the values of the next trial are chosen, one file per way; the union is the only registry."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from tasks.search.samplers.grid import Grid
from tasks.search.samplers.random import RandomDraws
from tasks.search.samplers.tpe import Tpe

AnySampler = Annotated[Grid | RandomDraws | Tpe, Field(discriminator="name")]
