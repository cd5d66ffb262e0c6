"""Methods of text augmentation, one file each. They use training rows only."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from tasks.data_preparation.trainset.augmentation.adversarial import Adversarial
from tasks.data_preparation.trainset.augmentation.back_translation import BackTranslation
from tasks.data_preparation.trainset.augmentation.characters import Characters
from tasks.data_preparation.trainset.augmentation.paraphrase import Paraphrase
from tasks.data_preparation.trainset.augmentation.synonyms import Synonyms

AnyAugmenter = Annotated[
    Characters | Synonyms | BackTranslation | Paraphrase | Adversarial, Field(discriminator="name")
]
