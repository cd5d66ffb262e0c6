"""Language models that generate text for data preparation and synthesis, one file each."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from tasks.language_models.writers.local import Local
from tasks.language_models.writers.mixture import MixtureOfAgents
from tasks.language_models.writers.openai import OpenAi

AnyWriter = Annotated[OpenAi | Local | MixtureOfAgents, Field(discriminator="name")]
