"""Verdicts that the sizes of the splits make impossible: known after stage 1, told before stage 4 trains."""

from __future__ import annotations

import logging

from flows.wiring import artifacts
from flows.wiring.params import Params
from tasks.evaluation.decisions.reuse import read_frozen_champion
from tasks.evaluation.foresight import Foresight, count_held_out, foresee_use, foresee_verdicts
from tasks.evaluation.reward_metrics.reward_accuracy import RewardAccuracy
from tasks.evaluation.reward_metrics.step_accuracy import StepAccuracy
from tasks.training.objectives import AnyObjective
from tasks.training.objectives.contrastive import Contrastive
from tasks.training.objectives.reward_models.reward_objective import RewardObjective

logger = logging.getLogger(__name__)


def foresee(params: Params) -> Foresight:
    """What the prepared splits and the params allow.

    Raises:
        PipelineError: Nothing is prepared.
    """
    split, objective = params.data_preparation.split, params.training_setup.each_phase()[-1].objective
    found = count_held_out(
        artifacts.TRAIN, artifacts.TEST, params.evaluation.folds, split.train_only, objective.rows == "texts"
    )
    rewards = (StepAccuracy() if objective.rows == "steps" else RewardAccuracy(),)
    return foresee_verdicts(
        found,
        params.evaluation,
        split.test if split.method.uses_shares else None,
        params.monitoring.drift.minimum_rows,
        foresee_use(
            artifacts.TEST,
            read_frozen_champion(artifacts.CHAMPION),
            params.evaluation,
            artifacts.TRAIN,
            split.train_only,
        )
        if artifacts.CHAMPION.is_file()
        else None,
        rewards if isinstance(objective, RewardObjective) else (),
        _gives(objective),
    )


def _gives(objective: AnyObjective) -> str:
    """What a model of an objective gives instead of answers; empty where it answers."""
    if isinstance(objective, RewardObjective):
        return "rewards"
    return "vectors" if isinstance(objective, Contrastive) else ""


def tell_possible_verdicts(params: Params) -> None:
    """Warn of verdicts that are impossible, and log what decides and how large an improvement has to be.

    Nothing is said where the splits are not there: a machine that only trains needs no test split.
    """
    if not (artifacts.TRAIN.is_file() and artifacts.TEST.is_file()):
        return
    found = foresee(params)
    for problem in found.problems:
        logger.warning("%s", problem)
    for note in found.notes:
        logger.info("%s", note)
