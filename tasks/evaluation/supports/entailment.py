"""Support by entailment: a classifier of natural language inference says that the text entails the claim.

Honovich et al., "TRUE: Re-evaluating Factual Consistency Evaluation", NAACL 2022. The folder holds a sequence
classifier of pairs with a label that begins with "entail", such as those trained on MNLI
(`tasks.language_models.probes.entailment`).

Example: ``by: {name: entailment, path: models/judges/deberta-v3-base-mnli}``
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from tasks.contracts.params import Reads, Section
from tasks.evaluation.supports.support import TextAndClaim
from tasks.language_models.guards.guard import Device, find_device


class EntailmentSupport(Section):
    """A classifier says that the text entails the claim."""

    name: Literal["entailment"] = "entailment"
    path: Annotated[str, Reads("folder", holds="config.json")] = Field(description="folder of a sequence classifier")
    least: float = Field(
        default=0.5, gt=0, lt=1, description="probability of entailment from which a claim is supported"
    )
    batch_size: int = Field(default=32, ge=1, description="pairs per batch")
    device: Device = Field(default="auto", description="auto uses CUDA where available")
    reads_context: ClassVar[bool] = True

    def find_unfit(self) -> list[str]:
        """What is wrong with the labels of the folder, which is there."""
        from tasks.language_models.probes.entailment import list_label_problems

        return list_label_problems(Path(self.path))

    def find(self, questions: Sequence[TextAndClaim], folder: Path | None) -> list[bool]:
        from tasks.language_models.probes.entailment import open_entailment

        classifier = open_entailment(Path(self.path).absolute(), find_device(self.device))
        shares = classifier.score(questions, self.batch_size)
        return [share >= self.least for share in shares]
