"""Typing errors where they hurt a classifier most, under the right label.

Source: Gao et al. 2018 (DeepWordBug). A classifier of labels is fitted on the training prompts (TF-IDF and logistic
regression). The words of a prompt are ranked by how much the probability of its label falls without them; errors
are put into them one after the other until the classifier reads another label. Only prompts that end up misread are
kept: they teach what the classifier got wrong. Rows need labels.

Example: "please cancel my order" may become "please cacnel my order".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from tasks.contracts.errors import PipelineError
from tasks.contracts.params import Section
from tasks.data_preparation.trainset.augmentation.characters import SHORTEST, mistype
from tasks.data_preparation.trainset.augmentation.material import Material, Variant, list_words, replace_spans

if TYPE_CHECKING:
    from tasks.corpus.label_classifier import LabelClassifier


class Adversarial(Section):
    """Errors that mislead a classifier."""

    name: Literal["adversarial"] = "adversarial"
    share: float = Field(default=0.1, gt=0, le=1, description="share of the training rows that are attacked")
    edits: int = Field(default=3, ge=1, le=20, description="most words with an error")

    def rewrite(self, chosen: Sequence[int], material: Material) -> list[Variant]:
        """A variant of each chosen row that could be made to be misread.

        Raises:
            PipelineError: The rows have fewer than two labels.
        """
        from tasks.corpus.label_classifier import fit_label_classifier

        reader = fit_label_classifier(material.prompts, material.labels)
        if reader is None:
            raise PipelineError(
                "adversarial: the training rows have fewer than two labels, and without them nothing can be misread; "
                "name the label column in data_preparation.sources or leave adversarial out"
            )
        found = (self._attack(row, material, reader) for row in chosen if material.labels[row] is not None)
        return [variant for variant in found if variant is not None]

    def _attack(self, row: int, material: Material, reader: LabelClassifier) -> Variant | None:
        prompt, label = material.prompts[row], str(material.labels[row])
        spans = list_words(prompt, material.answers[row], SHORTEST)
        if not spans or reader.predict([prompt])[0] != label:
            return None
        without = reader.predict_probability([replace_spans(prompt, [span], [""]) for span in spans], label)
        rng = material.random("adversarial", row)
        hit: list[tuple[int, int]] = []
        words: list[str] = []
        for place in sorted(range(len(spans)), key=lambda place: (without[place], place))[: self.edits]:
            hit.append(spans[place])
            words.append(mistype(prompt[slice(*spans[place])], rng))
            changed = replace_spans(prompt, hit, words)
            if reader.predict([changed])[0] != label:
                return Variant(row, changed)
        return None
