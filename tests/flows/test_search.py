"""What a search may vary is held against the reader of params before anything runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from flows.commands.command_line import app
from flows.search import INPUTS, database, read_candidates
from flows.wiring.params import read_params, validate
from flows.wiring.trainings.candidates import Candidates
from tasks.contracts.errors import PipelineError
from tasks.search.study import TrialStore

RATE = {"log": [1e-4, 1e-2]}


def candidates(space: dict[str, Any], values: dict[str, Any] | None = None) -> Candidates:
    written = {**(values or {}), "search": {"space": space}}
    params = validate(written, "params.yaml")
    assert params.search is not None
    return Candidates(written, params, params.search)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "dvc.yaml").write_text("stages: {data_preparation: {cmd: python -m flows.data_preparation}}\n")
    monkeypatch.chdir(tmp_path)
    read_params.cache_clear()
    yield tmp_path
    read_params.cache_clear()


@pytest.mark.parametrize(
    ("space", "said"),
    [
        (
            {"training_setup.learning_rat": RATE},
            'training_setup.learning_rat: unknown key; did you mean "learning_rate"',
        ),
        ({"training_setup.learning_rate": [-1.0, 1e-3]}, "found -1.0; expected a number above 0"),
        ({"training_setup.learning_rate": {"linear": [0, 0.1]}}, "found 0.0; expected a number above 0"),
        ({"training_setup.method.rank": [8, 0]}, "training_setup.method.rank: found 0; expected 1 or more"),
        ({"training_setup.optimizer.name": ["adamw", "adamx"]}, 'unknown name "adamx"; did you mean "adam'),
        # Each is right, both together are not.
        (
            {"training_setup.method": [{"name": "lora"}, {"name": "full"}], "training_setup.method.rank": [8, 16]},
            "training_setup.method.rank: unknown key",
        ),
        ({"training_setup.max_tokens.x": [1]}, "training_setup.max_tokens"),
    ],
)
def test_keys_and_values_that_params_cannot_have(space: dict[str, Any], said: str) -> None:
    with pytest.raises(PipelineError) as caught:
        candidates(space).check()
    assert said in str(caught.value)
    assert len(str(caught.value).splitlines()) <= 3, "a problem of many combinations is told once"


@pytest.mark.parametrize(
    ("space", "said"),
    [
        ({"training_setup.seed": 3}, "search.space.training_setup.seed: found 3; expected"),
        (
            {"training_setup.seed": {"logs": [1, 2]}},
            'search.space.training_setup.seed.logs: unknown key; did you mean "log"',
        ),
        ({"data_preparation.split.seed": [1, 2]}, "needs the stages before"),
    ],
)
def test_what_is_no_space_is_told_by_its_key(space: dict[str, Any], said: str) -> None:
    with pytest.raises(PipelineError) as caught:
        candidates(space)
    assert said in str(caught.value)


def test_choices_and_what_only_defaults_have_can_be_varied() -> None:
    space = {
        "training_setup.optimizer.name": ["sgd", "adamw"],
        "training_setup.method.rank": [4, 64],
        "training_setup.learning_rate": RATE,
        "fine_tuning.validation_rows": [16, 32],
    }
    found = candidates(space, {"training_setup": {"optimizer": {"name": "lion"}, "max_tokens": 64}})
    found.check()
    params = found.params_with({"training_setup.optimizer": {"name": "sgd"}, "training_setup.method.rank": 64})
    assert params.training_setup.optimizer.name == "sgd"
    assert params.training_setup.method.model_dump()["rank"] == 64
    assert params.training_setup.max_tokens == 64
    assert (found.longest, found.validation_rows) == (64, 32)


def test_many_combinations_are_checked_by_some_of_them_with_every_value() -> None:
    space: dict[str, Any] = {f"training_setup.{key}": list(range(1, 41)) for key in ("log_every_steps", "max_steps")}
    candidates(space).check()
    space["training_setup.log_every_steps"][-1] = 0
    with pytest.raises(PipelineError, match="log_every_steps: found 0; expected 1 or more"):
        candidates(space).check()


def test_a_dry_run_says_what_would_be_searched(project: Path) -> None:
    (project / "params.yaml").write_text("{}\n")
    refused = CliRunner().invoke(app, ["search", "--dry-run"])
    assert isinstance(refused.exception, PipelineError)
    assert "search is not set; write at least a space" in str(refused.exception)
    section = {
        "space": {"training_setup.method.rank": [8, 16], "training_setup.learning_rate": {**RATE, "points": 3}},
        "method": {"name": "grid"},
    }
    (project / "search.yaml").write_text(yaml.safe_dump(section))
    told = CliRunner().invoke(app, ["search", "--file", "search.yaml", "--dry-run"])
    assert told.exit_code == 0, told.output
    assert told.output.splitlines() == [
        "search search: 6 trials, grid, pruning median",
        "  training_setup.learning_rate: log: [0.0001, 0.01], points: 3",
        "  training_setup.method.rank: [8, 16]",
    ]
    assert not (project / ".heptune/search").exists()
    # A space that cannot be is refused before -S is written.
    (project / "search.yaml").write_text("space: {training_setup.method.rankk: [8]}\n")
    refused = CliRunner().invoke(app, ["search", "--file", "search.yaml", "-S", "training_setup.epochs=3"])
    assert isinstance(refused.exception, PipelineError)
    assert "rankk" in str(refused.exception)
    assert (project / "params.yaml").read_text() == "{}\n"


def test_trials_of_other_params_are_refused_before_a_param_is_written(project: Path) -> None:
    (project / "params.yaml").write_text("search: {trials: 3, space: {training_setup.method.rank: [8, 16]}}\n")
    for path in INPUTS:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("as it was")
    found = read_candidates()
    store = TrialStore(database("search"), found.settings, found.describe_origin())
    store.ask()
    told = CliRunner().invoke(app, ["search", "--dry-run"])
    assert told.output.splitlines()[0] == "search search: 3 trials, tpe, pruning median", "the killed one is repeated"
    store.finish(0, 1.0, 30, {})
    told = CliRunner().invoke(app, ["search", "--dry-run"])
    assert told.output.splitlines()[0] == "search search: 3 trials, 2 of them left, tpe, pruning median"
    before = (project / "params.yaml").read_text()
    refused = CliRunner().invoke(app, ["search", "-S", "training_setup.epochs=7"])
    assert "has trials of other params beside the space" in str(refused.exception)
    assert (project / "params.yaml").read_text() == before
    assert "3 trials, tpe" in CliRunner().invoke(app, ["search", "--dry-run", "--fresh"]).output


def test_without_a_search_there_is_nothing_to_apply(project: Path) -> None:
    (project / "params.yaml").write_text("{}\n")
    refused = CliRunner().invoke(app, ["search", "--apply"])
    assert "`heptune search` writes it when a trial has finished" in str(refused.exception)
    (project / "reports/search").mkdir(parents=True)
    best = 'training_setup.learning_rate: 0.002\ntraining_setup.method: {"name": "lora", "rank": 4}\n'
    (project / "reports/search/best.yaml").write_text(best)
    applied = CliRunner().invoke(app, ["search", "--apply"])
    assert applied.exit_code == 0, applied.output
    assert yaml.safe_load((project / "params.yaml").read_text()) == {
        "training_setup": {"learning_rate": 0.002, "method": {"name": "lora", "rank": 4}}
    }
