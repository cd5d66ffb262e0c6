"""Selects rows by difficulty: hard, easy, or intermediate ones.

Without a model the difficulty is the out-of-fold error of a label classifier in five-fold cross-validation, the L2 norm
of the difference between its probabilities and the one-hot label (EL2N, Paul et al. 2021). With a causal language model
with a chat template it is the ratio of the losses of the answer with and without its prompt (IFD, Li et al. 2024).

Keep hard rows where data are plenty, and easy ones where they are scarce (Sorscher et al. 2022). The most difficult
rows are often mislabelled; ``skip`` drops them.

Example: ``{name: difficulty, take: hard, skip: 0.05}``
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from tasks.contracts.params import Reads, Section
from tasks.corpus.label_classifier import compute_features, make_classifier
from tasks.corpus.threads import on_one_thread
from tasks.language_models.writers.local import load_model

if TYPE_CHECKING:
    from tasks.data_preparation.trainset.pruning.pool import Array, Pool

FOLDS = 5


class Difficulty(Section):
    """By the error of a model on the row."""

    name: Literal["difficulty"] = "difficulty"
    take: Literal["hard", "easy", "middle"] = Field(default="hard", description="which rows are kept")
    skip: float = Field(default=0.0, ge=0, lt=1, description="share of the most difficult rows that are dropped first")
    model: Annotated[str | None, Reads("folder", holds="config.json")] = Field(
        default=None, description="folder of a causal language model; null: a classifier"
    )

    def score(self, pool: Pool) -> Array:
        """A score per row; the rows with the highest are kept.

        Raises:
            PipelineError: There are rows without labels and no model is set, or the folder contains no model.
        """
        import numpy as np

        difficulty = measure_error(pool) if self.model is None else measure_loss(pool, self.model)
        ranks = np.argsort(np.argsort(difficulty, kind="stable"), kind="stable") / max(len(difficulty), 1)
        preference = {"hard": ranks, "easy": -ranks, "middle": -np.abs(ranks - 0.5)}[self.take]
        scores: Array = np.where(ranks >= 1 - self.skip, preference - 2, preference)
        return scores


@on_one_thread
def measure_error(pool: Pool) -> Array:
    """L2 norm of the difference between the out-of-fold probabilities and the one-hot label."""
    import numpy as np

    from tasks.data_preparation.trainset.pruning.pool import code_labels

    classes, truth = code_labels("difficulty", pool)
    features = compute_features(pool.prompts)
    folds = np.random.default_rng(pool.seed).permutation(np.arange(len(truth)) % FOLDS)
    errors = np.zeros(len(truth))
    for fold in range(FOLDS):
        train, held_out = folds != fold, folds == fold
        if not held_out.any():
            continue
        probabilities = np.zeros((int(held_out.sum()), len(classes)))
        known = np.unique(truth[train])
        if len(known) > 1:
            model = make_classifier(pool.seed).fit(features[train], truth[train])
            probabilities[:, model.classes_] = model.predict_proba(features[held_out])
        probabilities[np.arange(len(probabilities)), truth[held_out]] -= 1
        errors[held_out] = np.linalg.norm(probabilities, axis=1)
    return errors


def measure_loss(pool: Pool, folder: str) -> Array:
    """Ratio of the losses of the answer with and without its prompt.

    Raises:
        PipelineError: The folder contains no model.
    """
    import numpy as np

    from tasks.language_models.generation import score_references

    model, tokenizer = load_model(folder, "pruning by difficulty")
    with_prompt = [[{"role": "user", "content": prompt}] for prompt in pool.prompts]
    without_prompt = [[{"role": "user", "content": ""}] for _ in pool.prompts]
    score = on_one_thread(score_references)
    loss_with = np.array([loss.mean for loss in score(model, tokenizer, with_prompt, pool.answers)])
    loss_without = np.array([loss.mean for loss in score(model, tokenizer, without_prompt, pool.answers)])
    ratio: Array = loss_with / np.maximum(loss_without, 1e-9)
    return ratio
