"""Rows that are hard, easy, or neither.

Without a model: the error of a classifier of the labels on rows it was not fitted on, as the length of the difference
between its probabilities and the truth (EL2N, Paul et al. 2021), cross-fitted in five parts. With one: how much
harder the answer is with its prompt than alone, as the ratio of the two losses (IFD, Li et al. 2024), where the
folder holds a causal language model with a chat template.

Which side to keep depends on how much there is: hard rows where data is plenty, easy ones where it is scarce (Sorscher
et al. 2022). The hardest of all are often wrong labels: ``skip`` leaves them out.

Example: ``{name: difficulty, take: hard, skip: 0.05}``
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from tasks.contracts.params import Section
from tasks.corpus.label_classifier import make_classifier, make_features
from tasks.corpus.writers.local import load_model

if TYPE_CHECKING:
    from tasks.data_preparation.trainset.pruning.pool import Array, Pool

PARTS = 5


class Difficulty(Section):
    """By the error of a model on the row."""

    name: Literal["difficulty"] = "difficulty"
    take: Literal["hard", "easy", "middle"] = Field(default="hard", description="which rows stay")
    skip: float = Field(default=0.0, ge=0, lt=1, description="share of the rows, the hardest, that go first")
    model: str | None = Field(default=None, description="folder of a causal language model; null: a classifier")

    def score(self, pool: Pool) -> Array:
        """A number per row; those with the largest stay.

        Raises:
            PipelineError: Rows without labels and no model, or a folder that holds none.
        """
        import numpy as np

        hardness = measure_error(pool) if self.model is None else measure_loss(pool, self.model)
        ranks = np.argsort(np.argsort(hardness, kind="stable"), kind="stable") / max(len(hardness), 1)
        wanted = {"hard": ranks, "easy": -ranks, "middle": -np.abs(ranks - 0.5)}[self.take]
        scores: Array = np.where(ranks >= 1 - self.skip, wanted - 2, wanted)
        return scores


def measure_error(pool: Pool) -> Array:
    """Length of the difference of probabilities and truth, of a classifier that has not seen the row."""
    import numpy as np

    from tasks.data_preparation.trainset.pruning.pool import code_labels

    classes, truth = code_labels("difficulty", pool)
    features = make_features().fit_transform(pool.prompts)
    parts = np.random.default_rng(pool.seed).permutation(np.arange(len(truth)) % PARTS)
    errors = np.zeros(len(truth))
    for part in range(PARTS):
        fit, rest = parts != part, parts == part
        if not rest.any():
            continue
        guess = np.zeros((int(rest.sum()), len(classes)))
        known = np.unique(truth[fit])
        if len(known) > 1:
            model = make_classifier(pool.seed).fit(features[fit], truth[fit])
            guess[:, model.classes_] = model.predict_proba(features[rest])
        guess[np.arange(len(guess)), truth[rest]] -= 1
        errors[rest] = np.linalg.norm(guess, axis=1)
    return errors


def measure_loss(pool: Pool, folder: str) -> Array:
    """Loss of the answer after its prompt over its loss alone, in nats per token.

    Raises:
        PipelineError: The folder holds no model.
    """
    import numpy as np

    from tasks.language_models.generation import score_references

    model, tokenizer = load_model(folder, "pruning by difficulty")
    asked = [[{"role": "user", "content": prompt}] for prompt in pool.prompts]
    alone = [[{"role": "user", "content": ""}] for _ in pool.prompts]
    after = np.array([loss.mean for loss in score_references(model, tokenizer, asked, pool.answers)])
    before = np.array([loss.mean for loss in score_references(model, tokenizer, alone, pool.answers)])
    ratio: Array = after / np.maximum(before, 1e-9)
    return ratio
