"""Models that write text for data preparation, one file each."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from tasks.corpus.writers.local import Local
from tasks.corpus.writers.openai import OpenAi

AnyWriter = Annotated[OpenAi | Local, Field(discriminator="name")]
