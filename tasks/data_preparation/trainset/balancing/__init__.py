"""Methods of class balancing, one file each."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from tasks.data_preparation.trainset.balancing.oversample import Oversample
from tasks.data_preparation.trainset.balancing.smote import Smote
from tasks.data_preparation.trainset.balancing.undersample import Undersample

AnyBalancer = Annotated[Oversample | Undersample | Smote, Field(discriminator="name")]
