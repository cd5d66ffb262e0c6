"""Models that write text for data preparation, one file each."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from tasks.data_preparation.writers.local import Local
from tasks.data_preparation.writers.openai import OpenAi

AnyWriter = Annotated[OpenAi | Local, Field(discriminator="name")]
