"""Trainings that evaluation repeats: real ones of a tiny model, resumed by fold, named by what decides about them."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from flows.wiring import artifacts
from flows.wiring.params import Params
from flows.wiring.trainings import repeats
from flows.wiring.trainings.repeats import train_repeats
from tasks.contracts.balance import Balance, write_balance
from tasks.contracts.errors import PipelineError
from tasks.contracts.manifest import seal
from tasks.contracts.records import ANSWER_SETS
from tasks.contracts.tables import read_examples, write_table
from tasks.evaluation.held_out.folds import NO_FOLDS, deal_folds
from tasks.evaluation.held_out.joined import answer_by_folds
from tasks.evaluation.items import make_item
from tasks.evaluation.outcomes import AnswerSettings
from tasks.search.trials import OnFigures
from tests.tasks.fine_tuning.small import make_initial
from tests.tiny import LABELS, example_rows, write_examples


@pytest.fixture
def project(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Prepared data and an initial model, and a list of the trainings that were started; they run in this process."""
    monkeypatch.chdir(tmp_path)
    make_initial(Path(shutil.copytree(tiny_model, artifacts.INITIAL)))
    write_examples(artifacts.TRAIN, example_rows(24))
    write_examples(artifacts.VALIDATION, example_rows(4, seed=1))
    write_table(pa.Table.from_pylist([], schema=ANSWER_SETS), artifacts.ANSWERS, ANSWER_SETS)
    counts = dict.fromkeys(LABELS, 6)
    balance = Balance(
        classes=sorted(LABELS), before=counts, after=counts, weighting="none", weights=None, costs=None, batches="any",
        vectors=None,
    )  # fmt: skip
    seal(artifacts.BALANCE, [write_balance(balance, artifacts.BALANCE)], {})
    started: list[str] = []

    def here(
        work: Callable[..., Any], argument: Any, folder: Path, on_figures: OnFigures, preload: Sequence[str]
    ) -> Any:
        started.append(folder.name)
        if len(started) == fails_at:
            raise PipelineError("out of memory")
        return work(argument, on_figures)

    fails_at = 2
    monkeypatch.setattr(repeats, "run_in_child", here)
    return started


def make_params(**evaluation: Any) -> Params:
    setup = {"method": {"name": "lora", "rank": 2}, "max_steps": 2, "batch_size": 4, "max_tokens": 64,
             "checkpoint_every": {"steps": 2}, "evaluate_every": {"steps": 2}, "seed": 5}  # fmt: skip
    return Params.model_validate({"training_setup": setup, "evaluation": evaluation})


def test_folds_are_trained_once_go_on_where_they_were_and_answer_their_own(project: list[str]) -> None:
    params = make_params(folds=2)
    train = read_examples(artifacts.TRAIN)
    folds = deal_folds(train, 2)
    with pytest.raises(PipelineError, match=r"the training of fold 2 of 2 failed: out of memory; its log is in .*"):
        train_repeats(params, folds)
    found = train_repeats(params, folds)
    assert len(project) == 3, "the first fold is kept, the second is tried again"
    assert len(set(project)) == 2
    assert [path.is_dir() for path in found.folds] == [True, True]
    assert not found.seeds
    assert train_repeats(params, folds) == found
    assert len(project) == 3
    items = [make_item(row) for row in train.to_pylist()]
    outcome = answer_by_folds(
        items, folds, artifacts.INITIAL, artifacts.INITIAL, found.folds, AnswerSettings(4, 24, device="cpu")
    )
    assert (len(outcome.answers), outcome.scored) == (24, None)

    # Other seeds are other trainings; those of folds that nobody asks for any more are removed.
    seeds = train_repeats(make_params(training_seeds=2), NO_FOLDS)
    assert list(seeds.seeds) == ["seed 6"]
    assert len(project) == 4
    assert sorted(path.name for path in artifacts.REPEATED.iterdir()) == [project[-1]]
    assert train_repeats(make_params(), NO_FOLDS) == ([], {})


def test_what_cannot_be_repeated_is_told_before_anything_is_trained() -> None:
    with pytest.raises(ValueError, match="folds: 5 and training_seeds: 3 both repeat the training"):
        make_params(folds=5, training_seeds=3)
    with pytest.raises(ValueError, match="folds: 5 and metrics: brier, for which a model is asked more"):
        make_params(folds=5, metrics=["loss", "intent_accuracy", "rouge_l", "brier"])
    with pytest.raises(ValueError, match="folds: 5 and objective contrastive, whose models rank the texts of"):
        Params.model_validate({"training_setup": {"objective": {"name": "contrastive"}}, "evaluation": {"folds": 5}})
