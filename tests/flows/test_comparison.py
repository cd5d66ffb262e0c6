"""What is compared is a grid over the choices and the seeds, with a budget of its own."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from flows.commands.command_line import app
from flows.comparison import KNOWN, ComparisonOrder, list_names, propose_trial, publish, read_order
from flows.search import database
from flows.wiring.params import read_params
from tasks.contracts.errors import PipelineError
from tasks.search.comparison import BY_PREFERENCES, ChoiceFacts
from tasks.search.run import run_trials
from tasks.search.study import TrialStore
from tasks.search.trials import PREFERENCES, OnFigures, SearchTrial, TrialResult


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "dvc.yaml").write_text("stages: {data_preparation: {cmd: python -m flows.data_preparation}}\n")
    (tmp_path / "params.yaml").write_text(
        "training_setup: {method: {name: lora, rank: 4}, seed: 3, learning_rate: 1.0e-3, epochs: 2}\n"
    )
    monkeypatch.chdir(tmp_path)
    read_params.cache_clear()
    yield tmp_path
    read_params.cache_clear()


def test_all_stands_for_every_choice_and_a_wrong_name_is_answered_with_them() -> None:
    assert list_names("methods", "all") == KNOWN["methods"]
    assert list_names("methods", "lora, full,lora") == ["lora", "full"]
    assert {"contrastive", "reward_model", "process_reward_model"}.isdisjoint(list_names("objectives", "all"))
    assert {"supervised", "dpo", "grpo"} <= set(list_names("objectives", "all"))
    # Whose step is an epoch.
    assert set(KNOWN["optimizers"]) - set(list_names("optimizers", "all")) == {"gradient_descent"}
    assert list_names("optimizers", "gradient_descent") == ["gradient_descent"]
    with pytest.raises(PipelineError, match=r"^--optimizers: adamx; expected all, or some of adamw, "):
        list_names("optimizers", "adamw,adamx")


def test_the_grid_has_each_choice_with_each_seed_on_the_same_budget(project: Path) -> None:
    order = ComparisonOrder("methods", ["full", "lora"], steps=7, seeds=2, rates=(1e-3, 1e-2), validation_rows=50)
    candidates = read_order(order)
    trials = candidates.settings.method.list_all(candidates.settings.space)
    assert trials is not None
    assert len(trials) == 2 * 2 * 2
    params = candidates.params_with({"training_setup.method": {"name": "full"}, "training_setup.seed": 1})
    setup = params.training_setup
    assert (setup.method.name, setup.seed, setup.max_steps) == ("full", 1, 7)
    assert (setup.evaluate_every.steps, params.fine_tuning.validation_rows) == (7, 50)
    assert candidates.settings.pruning.name == "none"


def test_one_kind_is_asked_for(project: Path) -> None:
    for options in ([], ["--methods", "all", "--optimizers", "all"]):
        result = CliRunner().invoke(app, ["compare", *options])
        assert result.exit_code == 1
        assert "such as --methods all" in result.output + str(result.exception)


class Unseen:
    """Trials that are shown nowhere."""

    def __init__(self, _number: int, _changes: Mapping[str, Any]) -> None: ...
    def metrics(self, _step: int, _values: Mapping[str, float]) -> None: ...
    def finish(self, _trial: SearchTrial) -> None: ...
    def stop(self) -> None: ...


def test_objectives_are_ranked_by_what_their_trials_made_of_the_held_out_answers(project: Path) -> None:
    """The choice of the params keeps its arguments; figures are kept with the trials, whose losses say nothing here."""
    (project / "params.yaml").write_text("training_setup: {objective: {name: dpo, beta: 0.3}}\n")
    order = ComparisonOrder("objectives", ["dpo", "simpo"], steps=7, seeds=1)
    candidates = read_order(order)
    trained: list[Any] = []

    def train(changes: Mapping[str, Any], _folder: Path, _on_figures: OnFigures) -> TrialResult:
        trained.append(candidates.params_with(changes).training_setup.objective)
        name = trained[-1].name
        return TrialResult({"dpo": 0.1, "simpo": 0.9}[name], 7, figures={PREFERENCES: {"dpo": 0.6, "simpo": 0.7}[name]})

    path, origin = database("compare-objectives"), {"space": "s", "data": "d", "base": "b", "params": "p"}
    run_trials(TrialStore(path, candidates.settings, origin), train, Unseen, lambda: None)
    assert trained[0].model_dump()["beta"] == 0.3
    found = publish(order, TrialStore(path, candidates.settings, origin), {}, BY_PREFERENCES)
    assert [(one.name, one.value) for one in found.choices] == [("simpo", 0.7), ("dpo", 0.6)]
    assert "simpo is first by preferences held" in Path("reports/comparison/index.html").read_text()


def test_the_trials_of_a_grid_become_the_page_and_go_on_where_they_were(project: Path) -> None:
    """With trainings that end at once; the second call has nothing left to train."""
    order = ComparisonOrder("methods", ["full", "lora"], steps=7, seeds=2, watts=36)
    candidates = read_order(order)
    facts = {"full": ChoiceFacts(1000, 2**30), "lora": ChoiceFacts(10, 2**29)}
    trained: list[Mapping[str, Any]] = []

    def train(changes: Mapping[str, Any], _folder: Path, on_figures: OnFigures) -> TrialResult:
        trained.append(changes)
        loss = {"full": 2.0, "lora": 2.5}[changes["training_setup.method"]["name"]]
        return TrialResult(loss + changes["training_setup.seed"] / 10, 7)

    for _ in range(2):
        origin = {"space": "s", "data": "d", "base": "b", "params": "p"}
        store = TrialStore(database("compare-methods"), candidates.settings, origin)
        run_trials(store, train, Unseen, partial(publish, order, store, facts))
        found = publish(order, store, facts)
        assert len(trained) == 4
        assert [(one.name, one.value, set(one.values)) for one in found.choices] == [
            ("full", pytest.approx(2.05), {0, 1}),
            ("lora", pytest.approx(2.55), {0, 1}),
        ]
    assert "full is first by validation loss" in Path("reports/comparison/index.html").read_text()
    assert Path("reports/comparison/comparison.json").is_file()
    assert "comparison/index.html" in Path("reports/index.html").read_text()


def test_rates_are_looked_for_choice_by_choice_and_go_on_where_they_were(project: Path) -> None:
    """SGD wants a rate 300 times AdamW's; what the plan refuses is tried once. A killed comparison repeats nothing."""
    (project / "params.yaml").write_text(
        "training_setup: {optimizer: {name: adamw, fused: true}, learning_rate: 1.0e-3}"
    )
    order = ComparisonOrder("optimizers", ["adamw", "lomo", "sgd"], steps=7, seeds=2, search_rates=True)
    candidates = read_order(order)
    facts = {"adamw": ChoiceFacts(10, 2**29), "sgd": ChoiceFacts(10, 2**28)}
    trained: list[tuple[str, float, int]] = []

    def train(changes: Mapping[str, Any], _folder: Path, _on_figures: OnFigures) -> TrialResult:
        name, rate = changes["training_setup.optimizer"]["name"], changes["training_setup.learning_rate"]
        if len(trained) == 4 and not killed:
            killed.append(name)
            raise KeyboardInterrupt
        trained.append((name, rate, changes["training_setup.seed"]))
        if name == "lomo":
            raise PipelineError("clip_norm: 1.0; set it to 0")
        return TrialResult(1 + abs(math.log10(rate / {"adamw": 1e-3, "sgd": 0.3}[name])), 7)

    def go_on() -> None:
        origin = {"space": "s", "data": "d", "base": "b", "params": "p"}
        store = TrialStore(database("compare-optimizers"), candidates.settings, origin)
        propose = partial(propose_trial, order, candidates, facts)
        run_trials(store, train, Unseen, partial(publish, order, store, facts), propose)
        found.append(publish(order, store, facts))

    killed: list[str] = []
    found: list[Any] = []
    with pytest.raises(KeyboardInterrupt):
        go_on()
    go_on()
    go_on()
    assert trained == [
        *(("adamw", rate, 0) for rate in (1e-3, 1e-2, 1e-4, 3.2e-4)),
        ("adamw", 1e-3, 1),
        ("lomo", 1e-3, 0),
        *(("sgd", rate, 0) for rate in (1e-3, 1e-2, 0.1, 1.0, 0.32)),
        ("sgd", 0.32, 1),
    ]
    assert {one.name: (one.rate, len(one.values)) for one in found[-1].finished} == {
        "adamw": (1e-3, 2),
        "sgd": (0.32, 2),
    }
    assert found[-1].choices[-1].reason == "clip_norm: 1.0; set it to 0"


def test_the_rate_of_an_objective_is_looked_for_by_its_own_loss(project: Path) -> None:
    """The share of pairs goes up where the model breaks, at the highest rates."""
    (project / "params.yaml").write_text("training_setup: {objective: {name: dpo}, learning_rate: 1.0e-3}")
    order = ComparisonOrder("objectives", ["dpo"], steps=7, seeds=1, search_rates=True)
    candidates = read_order(order)
    trained: list[float] = []

    def train(changes: Mapping[str, Any], _folder: Path, _on_figures: OnFigures) -> TrialResult:
        trained.append(changes["training_setup.learning_rate"])
        away = abs(math.log10(trained[-1] / 1e-3))
        return TrialResult(0.6 + away, 7, figures={PREFERENCES: min(1.0, 0.5 + away / 10)})

    origin = {"space": "s", "data": "d", "base": "b", "params": "p"}
    store = TrialStore(database("compare-objectives"), candidates.settings, origin)
    propose = partial(propose_trial, order, candidates, {"dpo": ChoiceFacts(10, 2**29)})
    run_trials(store, train, Unseen, lambda: None, propose)
    assert trained == [1e-3, 1e-2, 1e-4, 3.2e-4]
    (choice,) = publish(order, store, {}, BY_PREFERENCES).choices
    assert (choice.rate, choice.value) == (1e-3, 0.5)


def test_a_search_for_rates_begins_at_one_rate(project: Path) -> None:
    order = ComparisonOrder("methods", ["full"], steps=7, seeds=1, rates=(1e-3, 1e-2), search_rates=True)
    with pytest.raises(PipelineError, match=r"^--rate: found 0.001, 0.01 beside --search-rates; expected one above 0"):
        read_order(order)
