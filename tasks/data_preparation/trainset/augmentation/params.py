"""Which augmentation methods are applied to the training rows: the section ``augmentation`` of ``params.yaml``."""

from __future__ import annotations

from pydantic import Field

from tasks.contracts.params import Section
from tasks.data_preparation.trainset.augmentation import AnyAugmenter


class Augmentation(Section):
    """Augmentation of the training rows; off by default."""

    methods: tuple[AnyAugmenter, ...] = Field(default=(), description="each adds variants of a share of the rows")
    seed: int = Field(default=0, description="seed of the choice of rows and words")
    keep_labels: bool = Field(
        default=True,
        description="reject variants that change the prediction of a label classifier, except adversarial ones",
    )
