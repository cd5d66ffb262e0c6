"""Which variants of training rows are made: the section ``augmentation`` of ``params.yaml``."""

from __future__ import annotations

from pydantic import Field

from tasks.contracts.params import Section
from tasks.data_preparation.trainset.augmentation import AnyAugmenter


class Augmentation(Section):
    """Variants of training rows; none, unless asked."""

    methods: tuple[AnyAugmenter, ...] = Field(default=(), description="each makes variants of a share of the rows")
    seed: int = Field(default=0, description="of the choice of rows and words")
    keep_labels: bool = Field(
        default=True,
        description="refuse a variant that a classifier reads as another label than its row, except adversarial ones",
    )
