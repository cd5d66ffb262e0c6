"""Adversarial typing errors that mislead a classifier, with the right label.

Source: Gao et al. 2018 (DeepWordBug). A classifier of labels is fitted on the training prompts (TF-IDF and logistic
regression). The words of a prompt are ranked by how much the probability of its label falls without them; errors
are inserted into one after the other until the classifier predicts another label. Only misclassified prompts are kept,
as training on them corrects the classifier. Rows need labels.

Example: "please cancel my order" may become "please cacnel my order".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from tasks.contracts.errors import PipelineError
from tasks.contracts.params import Section
from tasks.corpus.text.word_edits import MIN_LETTERS, list_words, mistype, replace_spans
from tasks.data_preparation.trainset.augmentation.material import Material, Variant

if TYPE_CHECKING:
    from tasks.corpus.label_classifier import LabelClassifier


class Adversarial(Section):
    """Errors that mislead a classifier."""

    name: Literal["adversarial"] = "adversarial"
    share: float = Field(default=0.1, gt=0, le=1, description="share of the training rows that are attacked")
    edits: int = Field(default=3, ge=1, le=20, description="maximum number of words with an error")

    def rewrite(self, chosen: Sequence[int], material: Material) -> list[Variant]:
        """A variant of each chosen row for which the attack succeeds.

        Raises:
            PipelineError: The rows have fewer than two labels.
        """
        from tasks.corpus.label_classifier import fit_label_classifier

        classifier = fit_label_classifier(material.prompts, material.labels)
        if classifier is None:
            raise PipelineError(
                "adversarial: the training rows have fewer than two labels, which a classifier needs; "
                "name the label column in data_preparation.sources or leave adversarial out"
            )
        found = (self._attack(row, material, classifier) for row in chosen if material.labels[row] is not None)
        return [variant for variant in found if variant is not None]

    def _attack(self, row: int, material: Material, classifier: LabelClassifier) -> Variant | None:
        prompt, label = material.prompts[row], str(material.labels[row])
        spans = list_words(prompt, material.answers[row], MIN_LETTERS)
        if not spans or classifier.predict([prompt])[0] != label:
            return None
        probability_without = classifier.predict_probability(
            [replace_spans(prompt, [span], [""]) for span in spans], label
        )
        rng = material.random("adversarial", row)
        changed_spans: list[tuple[int, int]] = []
        words: list[str] = []
        for place in sorted(range(len(spans)), key=lambda place: (probability_without[place], place))[: self.edits]:
            changed_spans.append(spans[place])
            words.append(mistype(prompt[slice(*spans[place])], rng))
            variant = replace_spans(prompt, changed_spans, words)
            if classifier.predict([variant])[0] != label:
                return Variant(row, variant)
        return None
