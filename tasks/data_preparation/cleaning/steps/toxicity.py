"""Drops toxic rows, detected by a text classifier in a local folder.

Any sequence classifier with safetensors can be used. Those of Detoxify (Hanu and Unitary 2020,
https://github.com/unitaryai/detoxify) are on the hub as ``unitary/toxic-bert``, ``unitary/unbiased-toxic-roberta`` and
``unitary/multilingual-toxic-xlm-roberta``; its Python package is not used because it unpickles the weights it
downloads. The threshold 0.5 is the decision threshold of those models (Jigsaw's challenges).

A text longer than the context of the model is scored in windows, and the highest score counts.

Example:
    ``{name: toxicity, classifier: models/toxic-bert}`` drops a threat as "toxic over 0.5".
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from tasks.contracts.params import Reads, Section
from tasks.corpus.rows.roles import ROLES, Of
from tasks.language_models.probes.text_classifier import ACTIVATION, Activation

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    from tasks.corpus.rows.texts import Cleaned


class Toxicity(Section):
    """Drops rows that a classifier finds toxic."""

    name: Literal["toxicity"] = "toxicity"
    classifier: Annotated[str, Reads("folder", holds="config.json")] = Field(
        description="folder of a sequence classifier with its tokenizer; relative to the repository"
    )
    threshold: float = Field(default=0.5, ge=0, le=1, description="score from which a row is dropped")
    labels: tuple[str, ...] = Field(
        default=(),
        description="labels that count; empty: all, unless the classifier has a label for clean text",
    )
    activation: Activation = Field(default="auto", description=ACTIVATION)
    of: Of = Field(default="conversation", description="which turns are checked")
    batch_size: int = Field(default=32, gt=0, description="windows of text in a forward pass")

    def clean(self, table: pa.Table) -> Cleaned:
        from tasks.corpus.rows.learned import learned_messages
        from tasks.corpus.rows.rows import Listing, join_turns
        from tasks.corpus.rows.texts import Cleaned

        texts = join_turns(learned_messages(table), ROLES[self.of])
        names, scores = self.score(texts)
        counted = [names.index(label) for label in self.labels] if self.labels else list(range(len(names)))
        chosen = scores[:, counted]
        worst = chosen.argmax(axis=1)
        reasons = [
            f"{names[counted[place]]} over {self.threshold:g}" if row[place] >= self.threshold else None
            for place, row in zip(worst.tolist(), chosen.tolist(), strict=True)
        ]
        over = tuple(
            (names[label], int((scores[:, label] >= self.threshold).sum()), round(float(scores[:, label].mean()), 4))
            for label in counted
        )
        heading = f"Toxicity, by {Path(self.classifier).name}"
        return Cleaned(
            table, reasons, listings=(Listing(heading, ("label", "rows over the threshold", "mean score"), over),)
        )

    def score(self, texts: Sequence[str]) -> tuple[list[str], NDArray[np.float64]]:
        """The classifier's labels, and texts x labels scores between 0 and 1.

        Raises:
            PipelineError: The classifier is missing or lacks a label, or its config does not determine the activation.
        """
        from tasks.language_models.probes.text_classifier import open_classifier

        classifier = open_classifier(Path(self.classifier), self.name, self.labels, self.activation)
        return list(classifier.labels), classifier.score(texts, self.batch_size)
