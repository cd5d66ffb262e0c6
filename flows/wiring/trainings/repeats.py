"""Trainings that evaluation repeats with the params of the candidate: on other folds of the rows, or with other seeds.

Each is one of `flows.wiring.trainings.trial`, in a process of its own and a folder below ``.heptune/repeated`` that is
named by all that decides about it. One that is through is not trained again, and one that was cut off goes on from its
newest checkpoint; folders of other data, params or code are removed.
"""

from __future__ import annotations

import hashlib
import logging
import shutil
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import orjson
import pyarrow as pa

from flows.wiring import artifacts
from flows.wiring.params import Params
from flows.wiring.trainings.trial import PRELOAD, TrialWork, train_trial
from tasks import fine_tuning, language_models, training, training_setup
from tasks.contracts.balance import read_balance
from tasks.contracts.errors import PipelineError
from tasks.contracts.manifest import NAME, hash_file
from tasks.contracts.progress import progress
from tasks.contracts.records import ANSWER_SETS
from tasks.contracts.tables import read_examples, read_table
from tasks.evaluation.held_out.folds import Folds
from tasks.fine_tuning.rows import tokenize_splits
from tasks.search.child import run_in_child
from tasks.search.trials import DeadTrial
from tasks.training.objectives.teaching.taught_objective import TaughtObjective
from tasks.training.teachers.teacher import hash_teacher
from tasks.training_setup.counts import count_tokens

logger = logging.getLogger(__name__)

LIBRARIES = ("numpy", "peft", "tokenizers", "torch", "transformers", "trl")


class Repeated(NamedTuple):
    """The folders of the trained models: by fold, and by what those of other seeds are called."""

    folds: list[Path]
    seeds: dict[str, Path]


def train_repeats(params: Params, folds: Folds) -> Repeated:
    """Train on all rows but those of each fold, or with the seeds after the candidate's, as the params ask for.

    Raises:
        PipelineError: A training failed; those that are through are kept.
    """
    if not params.evaluation.repeats:
        return Repeated([], {})
    setup, seeds = params.training_setup, params.evaluation.training_seeds
    train, answers = read_examples(artifacts.TRAIN), read_table(artifacts.ANSWERS, ANSWER_SETS)
    by_fold, by_seed = [], []
    for fold in range(folds.count):
        name, what = f"fold {fold + 1} of {folds.count}", f"fold {fold} of {folds.of_row.tolist()}"
        by_fold.append(Repeat(name, what, params, *folds.leave_out(fold, train, answers)))
    for seed in range(setup.seed + 1, setup.seed + seeds):
        changed = params.model_copy(update={"training_setup": setup.model_copy(update={"seed": seed})})
        by_seed.append(Repeat(f"seed {seed}", f"seed {seed}", changed, train, answers))
    train_all([*by_fold, *by_seed])
    return Repeated([one.tuned for one in by_fold], {one.name: one.tuned for one in by_seed})


class Repeat:
    """One of the trainings.

    Args:
        name: What it is called.
        what: What makes it different from the others.
        params: All params, as it has them.
        train: Its training rows.
        answers: Answer sets of all splits, as far as it may see them.
    """

    def __init__(self, name: str, what: str, params: Params, train: pa.Table, answers: pa.Table) -> None:
        self.name, self.params, self.train, self.answers = name, params, train, answers
        self.folder = artifacts.REPEATED / hash_origin(what, params)[:32]

    @property
    def tuned(self) -> Path:
        return self.folder / "tuned"

    def run(self) -> None:
        """Train.

        Raises:
            PipelineError: It cannot work, or its process ended without a word.
        """
        setup, validation = self.params.training_setup, read_examples(artifacts.VALIDATION)
        counts = count_tokens(
            self.train, validation, artifacts.INITIAL, setup.max_tokens, setup.long_rows, setup.objective, self.answers,
            setup.mixture,
        )  # fmt: skip
        splits = tokenize_splits(
            self.train, validation, artifacts.INITIAL, setup.max_tokens, self.params.fine_tuning.validation_rows,
            read_balance(artifacts.BALANCE), setup.long_rows, setup.loss.needs_costs, setup.objective, self.answers,
            setup.mixture,
        )  # fmt: skip
        work = TrialWork(self.params, counts, splits, self.folder)
        try:
            result = run_in_child(train_trial, work, self.folder, self.listen, PRELOAD)
        except (PipelineError, DeadTrial) as error:
            raise PipelineError(
                f"evaluation: the training of {self.name} failed: {error}; its log is in {self.folder}; run again, and "
                "what is through is kept"
            ) from error
        logger.info("%s: trained, validation loss %.4f after %s steps", self.name, result.loss, f"{result.steps:,}")
        # The answers are asked of what it trained; to go on from there is nothing left.
        shutil.rmtree(self.folder / "checkpoints", ignore_errors=True)

    def listen(self, step: int, figures: Mapping[str, float]) -> None:
        """Its figures are in its log."""
        logger.debug("%s, step %s: %s", self.name, step, dict(figures))


def train_all(works: Sequence[Repeat]) -> None:
    """Train what is not through yet, one after the other."""
    kept = {work.folder for work in works}
    for folder in sorted(artifacts.REPEATED.glob("*")):
        if folder not in kept:
            shutil.rmtree(folder, ignore_errors=True)
    with progress("training for evaluation", len(works)) as advance:
        for work in works:
            if (work.tuned / NAME).is_file():
                logger.info("%s: trained before", work.name)
            else:
                work.run()
            advance(1)


def hash_origin(what: str, params: Params) -> str:
    """Hash of all that decides about the weights of a training, 64 hex digits."""
    setup = params.training_setup.model_dump(mode="json"), params.fine_tuning.model_dump(mode="json")
    digest = hashlib.sha256(orjson.dumps([what, setup, [version(name) for name in LIBRARIES]]))
    if isinstance(objective := params.training_setup.objective, TaughtObjective):
        digest.update(hash_teacher(Path(objective.teacher)).encode())
    files = [artifacts.TRAIN, artifacts.VALIDATION, artifacts.ANSWERS, artifacts.INITIAL / NAME]
    files += objective.files()
    files += sorted(path for path in artifacts.BALANCE.rglob("*") if path.is_file())
    for package in (fine_tuning, language_models, training, training_setup):
        files += sorted(Path(package.__path__[0]).rglob("*.py"))
    for path in files:
        digest.update(f"{path.name} {hash_file(path)}\n".encode())
    return digest.hexdigest()
