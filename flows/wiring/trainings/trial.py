"""One training of a search: planned, run and measured as the stages do it, in a process of its own and a folder that
nothing else reads."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.wiring import artifacts
from flows.wiring.params import Params
from tasks.contracts.balance import read_balance
from tasks.contracts.errors import PipelineError
from tasks.contracts.machine import find_machine
from tasks.contracts.tables import read_answers, read_examples
from tasks.fine_tuning.rows import Splits, tokenize_splits
from tasks.language_models.folder.shape import read_shape
from tasks.language_models.long_rows import LongRows
from tasks.search.trials import ANSWER_LOSS, LOSS, PREFERENCES, OnFigures, TrialResult
from tasks.training.mixture import Mixture
from tasks.training.objectives import AnyObjective
from tasks.training.objectives.answers import tokenize_pairs
from tasks.training.objectives.data import Tokenization, split_tables
from tasks.training.objectives.supervised import Supervised
from tasks.training_setup.counts import Counts, count_tokens
from tasks.training_setup.params import TrainingSetup
from tasks.training_setup.resolve import resolve_plan

if TYPE_CHECKING:
    from tasks.fine_tuning.held_out_answers import HeldOutAnswers
    from tasks.fine_tuning.trainer.fine_tuner import FineTuner

logger = logging.getLogger(__name__)

# Loaded once for the processes of all trials.
PRELOAD = (
    "flows.wiring.quiet",
    "torch",
    "transformers",
    "peft",
    "tasks.fine_tuning.trainer.fine_tuner",
    "tasks.fine_tuning.held_out_answers",
    "tasks.fine_tuning.row_losses",
    "flows.wiring.trainings.trial",
)


@dataclass(frozen=True)
class TrialWork:
    """What the process of a trial needs.

    Attributes:
        params: All params of the trial.
        counts: Tokens of the splits.
        splits: The splits themselves.
        folder: Where it keeps its checkpoints.
        answers: Held-out answers that it is measured on beside its own loss; None: it is not.
    """

    params: Params
    counts: Counts
    splits: Splits
    folder: Path
    answers: HeldOutAnswers | None = None


class TokenizedData:
    """The splits as tokens, once for each way that params ask for; the validation rows are the same for all trials.

    Args:
        longest: Largest ``max_tokens`` of any trial, at which validation rows are cut.
        long_rows: What is done with longer validation rows.
        validation_rows: Largest number of validation rows of any trial.
    """

    def __init__(self, longest: int, long_rows: LongRows, validation_rows: int) -> None:
        self.measured, self.validation_rows = (longest, long_rows, False), validation_rows
        self._made: dict[Any, tuple[Counts, Splits]] = {}

    def of(self, settings: TrainingSetup) -> tuple[Counts, Splits]:
        """Counts and splits as these params want the training rows."""
        return self._at(
            settings.max_tokens, settings.long_rows, settings.loss.needs_costs, settings.objective, settings.mixture
        )

    def held_out_answers(self) -> HeldOutAnswers:
        """The validation rows as supervised learning has them, and as pairs, whatever the trials are trained for."""
        from tasks.fine_tuning.held_out_answers import HeldOutAnswers
        from tasks.language_models.folder.model_folder import load_tokenizer

        longest, long_rows, _ = self.measured
        how = Tokenization(load_tokenizer(artifacts.INITIAL), longest, long_rows, limit=self.validation_rows)
        answers = read_answers(artifacts.ANSWERS)
        tables = split_tables(read_examples(artifacts.VALIDATION), answers, "validation")
        return HeldOutAnswers(Supervised().tokenize(tables, how), tokenize_pairs(tables.answers, how, "best"))

    def _at(
        self, max_tokens: int, long_rows: LongRows, needs_costs: bool, objective: AnyObjective, mixture: Mixture | None
    ) -> tuple[Counts, Splits]:
        way = (max_tokens, long_rows, needs_costs, objective, mixture)
        if way not in self._made:
            train, validation = read_examples(artifacts.TRAIN), read_examples(artifacts.VALIDATION)
            answers = read_answers(artifacts.ANSWERS)
            counts = count_tokens(
                train, validation, artifacts.INITIAL, max_tokens, long_rows, objective, answers, mixture
            )
            splits = tokenize_splits(
                train,
                validation,
                artifacts.INITIAL,
                max_tokens,
                self.validation_rows,
                read_balance(artifacts.BALANCE),
                long_rows,
                needs_costs,
                objective,
                answers,
                mixture,
            )
            measured = (*self.measured, objective, mixture)
            if way != measured:
                splits = Splits(splits.train, self._at(*measured)[1].validation)
            self._made[way] = counts, splits
        return self._made[way]


def train_trial(work: TrialWork, on_figures: OnFigures) -> TrialResult:
    """Plan and train.

    Raises:
        PipelineError: The plan cannot work, the loss is not a number, or there is no validation row.
    """
    from tasks.fine_tuning.held_out_answers import measure_answer_loss, measure_preferences
    from tasks.fine_tuning.row_losses import measure_row_losses
    from tasks.fine_tuning.train import fine_tune

    if not len(work.splits.validation):
        raise PipelineError(f"{artifacts.VALIDATION}: no row with a supervised token, so trials cannot be compared")
    settings = work.params.training_setup
    if settings.phases:
        raise PipelineError("training_setup.phases: a trial of a search is one training; search without phases")
    plan = resolve_plan(settings, read_shape(artifacts.INITIAL), work.counts, find_machine()).plan
    rows: list[Any] = []
    measured: dict[str, float] = {}

    def watch(step: int, figures: Mapping[str, float]) -> None:
        # The loss of the last step is the result; a trial that is through is not given up.
        shown = {key: value for key, value in figures.items() if step < plan.steps or key != LOSS}
        if shown:
            on_figures(step, shown)

    def measure(trainer: FineTuner) -> None:
        rows.append(measure_row_losses(trainer))
        if work.answers and len(work.answers.best):
            measured[ANSWER_LOSS] = measure_answer_loss(trainer, work.answers.best)
        if work.answers and len(work.answers.pairs):
            measured[PREFERENCES] = measure_preferences(trainer, work.answers.pairs)

    run = fine_tune(
        plan,
        work.splits,
        artifacts.INITIAL,
        work.folder / "checkpoints",
        work.folder / "tuned",
        work.params.fine_tuning.keep_checkpoints,
        watch,
        on_trained=measure,
    )
    losses = {point.step: point.eval_loss for point in run.curve if point.eval_loss is not None}
    # Of the weights that are kept, which need not be those of the last step.
    return TrialResult(losses[run.kept_step], run.steps, rows[0] if rows else None, measured)
