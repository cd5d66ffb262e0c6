"""The splits as tokens and labels; rows without a supervised token are dropped and counted."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from tasks.contracts.balance import Balance
from tasks.contracts.errors import PipelineError
from tasks.language_models.folder.model_folder import load_tokenizer
from tasks.language_models.long_rows import OUTCOMES, LongRows
from tasks.training.answer_costs import find_answer_costs
from tasks.training.mixture import Mixture, add_tasks
from tasks.training.objectives import AnyObjective
from tasks.training.objectives.data import NOUNS, Tokenization, split_tables
from tasks.training.objectives.supervised import Supervised
from tasks.training.rows import TokenizedRows

DEFAULT = Supervised()

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Splits:
    """Training and validation rows."""

    train: TokenizedRows
    validation: TokenizedRows

    @property
    def figures(self) -> dict[str, float | int]:
        return {
            "rows": len(self.train),
            "rows_dropped": sum(self.train.dropped.values()),
            "rows_cut": self.train.cut,
            "tokens": int(self.train.offsets[-1]),
            "supervised_tokens": self.train.supervised,
            "validation_rows": len(self.validation),
        }


def tokenize_splits(
    train: pa.Table,
    validation: pa.Table,
    initial: Path,
    max_tokens: int,
    validation_rows: int,
    balance: Balance | None = None,
    long_rows: LongRows = "truncate_right",
    needs_costs: bool = False,
    objective: AnyObjective = DEFAULT,
    answers: pa.Table | None = None,
    mixture: Mixture | None = None,
) -> Splits:
    """Tokenize both splits with the base's chat template.

    Args:
        train: Schema `EXAMPLES`.
        validation: The same.
        initial: Folder written by model initialisation.
        max_tokens: Length of a row.
        validation_rows: Maximum number of validation items.
        balance: Weights of the labels and stratification of batches, from data preparation.
        long_rows: What becomes of longer conversations.
        needs_costs: The loss takes the costs of confusing labels.
        objective: Says which rows it takes, and what of them is supervised.
        answers: Schema `ANSWER_SETS`, of all splits; None: there are none.
        mixture: How often rows of each task are drawn; None: nothing is mixed.

    Raises:
        PipelineError: No row of the training split has a supervised token.
    """
    tokenizer = load_tokenizer(initial)
    names = train["label"].to_pylist()
    weights, classes = read_labels(names, balance, needs_costs) if balance else (None, None)
    how = Tokenization(tokenizer, max_tokens, long_rows, weights, classes)
    kept = objective.tokenize(split_tables(train, answers, "train"), how)
    if needs_costs:
        kept = add_costs(kept, balance)
    found = f"{len(kept.full_lengths):,} training {NOUNS[objective.rows][1]}"
    if not len(kept):
        reasons = "; ".join(f"{count:,} x {reason}" for reason, count in kept.dropped.items()) or "the split is empty"
        raise PipelineError(
            f"none of {found} has a supervised token ({reasons}); raise "
            "training_setup.max_tokens or see reports/data_preparation"
        )
    for reason, count in kept.dropped.items():
        logger.warning("%s of %s are dropped: %s", count, found, reason)
    if kept.cut:
        logger.warning(
            "%s of %s are longer than %s tokens and %s",
            kept.cut,
            found,
            max_tokens,
            OUTCOMES[long_rows],
        )
    first = Tokenization(tokenizer, max_tokens, long_rows, limit=validation_rows)
    watched = objective.tokenize(split_tables(validation, answers, "validation"), first)
    if mixture is not None and kept.classes is not None:
        raise PipelineError(
            "training_setup.mixture draws rows by task, and data_preparation.balancing.batches: stratified by class; "
            "leave one of them out"
        )
    return Splits(add_tasks(kept, train, mixture), add_tasks(watched, validation, mixture))


def read_labels(
    labels: Sequence[str | None], balance: Balance, needs_costs: bool = False
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Weight and class of each row, each None where the balance does not use it.

    Args:
        labels: Labels of the training rows; rows without one have weight 1 and form a class of their own.
        balance: Weights and stratification, from data preparation.
        needs_costs: Classes are needed for costs too, and the weights without the sum of the costs.
    """
    weights = weights_without_costs(balance) if needs_costs else balance.weights
    numbers = {label: number for number, label in enumerate(balance.classes)}
    return (
        None if weights is None else np.array([weights.get(label or "", 1.0) for label in labels], dtype=np.float32),
        np.array([numbers.get(label or "", -1) for label in labels])
        if balance.batches == "stratified" or needs_costs
        else None,
    )


def weights_without_costs(balance: Balance) -> dict[str, float] | None:
    """The weights of the labels as they would be without costs, their mean over the training rows 1; None for none."""
    if balance.weights is None or balance.costs is None or balance.weighting == "none":
        return None if balance.weighting == "none" else balance.weights
    sums = {label: sum(row) for label, row in zip(balance.classes, balance.costs, strict=True)}
    raw = {label: weight / sums[label] for label, weight in balance.weights.items()}
    mean = sum(raw[label] * count for label, count in balance.after.items()) / sum(balance.after.values())
    return {label: weight / mean for label, weight in raw.items()}


def add_costs(rows: TokenizedRows, balance: Balance | None) -> TokenizedRows:
    """The rows with what wrong tokens of their answers cost: the first answers of the conversations.

    A conversation that was split has its first answer in the first of its rows; of one that is longer than a row, the
    tokens in that row count.

    Raises:
        PipelineError: Data preparation was given no costs.
    """
    if balance is None or balance.costs is None or rows.classes is None:
        raise PipelineError(
            "training_setup.loss: expected_cost takes the costs of confusing labels, and there are none; set "
            "data_preparation.balancing.costs, or take another loss"
        )
    classes = rows.classes if rows.later is None else np.where(rows.later, -1, rows.classes)
    costs = find_answer_costs(rows.tokens, rows.labels, rows.offsets, classes, np.array(balance.costs))
    if not len(costs.places):
        logger.warning("no answer of the training rows parts from one of another label at a cost; costs change nothing")
    return replace(rows, costs=costs, classes=rows.classes if balance.batches == "stratified" else None)
