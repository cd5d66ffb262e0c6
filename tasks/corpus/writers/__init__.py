"""Language models that generate text for data preparation and synthesis, one file each."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from tasks.corpus.writers.local import Local
from tasks.corpus.writers.openai import OpenAi

AnyWriter = Annotated[OpenAi | Local, Field(discriminator="name")]
