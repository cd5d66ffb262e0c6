"""What is compared is a grid over the choices and the seeds, with a budget of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows.commands.command_line import app
from flows.comparison import KNOWN, ComparisonOrder, list_names, read_order
from flows.wiring.params import read_params
from tasks.contracts.errors import PipelineError


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
