"""Methods that score which training rows to keep, one file each."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from tasks.data_preparation.trainset.pruning.difficulty import Difficulty
from tasks.data_preparation.trainset.pruning.diversity import Diversity
from tasks.data_preparation.trainset.pruning.influence import Influence
from tasks.data_preparation.trainset.pruning.random import Random

AnyPruner = Annotated[Random | Difficulty | Influence | Diversity, Field(discriminator="name")]
