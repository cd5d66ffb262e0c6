"""``-S``: a change of params.yaml touches its own line only, is checked before it is written and says what it is."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from flows.commands.overrides import plan_changes
from flows.commands.yaml_edit import set_value
from flows.wiring.params import read_params
from flows.wiring.yaml_file import Loader, read_yaml
from tasks.contracts.errors import PipelineError
from tests.checkout import ROOT

PARAMS = (ROOT / "params.yaml").read_text()
OTHER = {bool: False, int: 987654321, float: 0.125, str: "another text", type(None): "set"}


def leaves(values: Any, keys: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    if isinstance(values, dict | list) and values:
        for key, inner in values.items() if isinstance(values, dict) else enumerate(values):
            yield from leaves(inner, (*keys, str(key)))
    else:
        yield keys, values


def changed_lines(before: str, after: str) -> list[str]:
    lines = difflib.ndiff(before.splitlines(), after.splitlines())
    return [line[2:] for line in lines if line[:2] in ("- ", "+ ")]


def look_up(text: str, keys: tuple[str, ...]) -> Any:
    values = yaml.load(text, Loader)
    for key in keys:
        values = values[int(key)] if isinstance(values, list) else values[key]
    return values


@pytest.mark.parametrize(
    ("keys", "value"), [pytest.param(k, v, id=".".join(k)) for k, v in leaves(yaml.load(PARAMS, Loader))]
)
def test_every_value_of_the_file_can_be_changed_alone(keys: tuple[str, ...], value: Any) -> None:
    new = not value if isinstance(value, bool) else OTHER.get(type(value), ["x"])
    text = set_value(PARAMS, keys, new)
    old_line, new_line = changed_lines(PARAMS, text)
    assert look_up(text, keys) == new
    assert old_line.partition("#")[2] == new_line.partition("#")[2]
    assert yaml.load(set_value(text, keys, value), Loader) == yaml.load(PARAMS, Loader)


@pytest.mark.parametrize(
    ("before", "keys", "value", "after"),
    [
        ("a: 1", "a", 2, "a: 2"),
        ("a: {b: 1}  # two", "a.b", 20, "a: {b: 20}  # two"),
        ("a: {b: 1}     # two", "a", {"c": 10000}, "a: {c: 10000}  # two"),
        ("a:\n  b: 1   # one\n\n# end\n", "a.c", "x", "a:\n  b: 1   # one\n  c: x\n\n# end\n"),
        ("a:\n  b: 1\n", "a.c.d.e", 2, "a:\n  b: 1\n  c: {d: {e: 2}}\n"),
        ("a:\n  b: 1\n", "c", [1, 2], "a:\n  b: 1\nc: [1, 2]\n"),
        ("a: {}\n", "a.b", 1, "a: {b: 1}\n"),
        ("a: {b: [1]}\n", "a.c", "x, y", "a: {b: [1], c: 'x, y'}\n"),
        ("a:\nb: 1\n", "a", 3, "a: 3\nb: 1\n"),
        ("a:\nb: 1\n", "a.c", 3, "a: {c: 3}\nb: 1\n"),
        ("a: null  # none\n", "a.c", 3, "a: {c: 3}  # none\n"),
        (
            "a:\n  - x: 1\n    y: 2  # two\n  - x: 3\n",
            "a.0.z",
            5,
            "a:\n  - x: 1\n    y: 2  # two\n    z: 5\n  - x: 3\n",
        ),
        ("a:\n  - 1\n  - 2\n# end\n", "a", [3], "a:\n  [3]\n# end\n"),
        ("a: |\n  long\n  text\nb: 1\n", "a", "short", "a: short\nb: 1\n"),
        ("a: |\n  long\n  text\n", "b", 1, "a: |\n  long\n  text\nb: 1\n"),
        ("a: 1\r\nb: 2\r\n", "c", 3, "a: 1\r\nb: 2\r\nc: 3\r\n"),
        ("# nothing yet\n", "a.b", 1, "# nothing yet\na: {b: 1}\n"),
        ("a: x\n", "a", "2e-4", 'a: "2e-4"\n'),
        ("a: 'x'\n", "a", "no", "a: 'no'\n"),
        ("a: 1\n", "a", None, "a: null\n"),
    ],
)
def test_the_text_around_a_value_stays(before: str, keys: str, value: Any, after: str) -> None:
    found = set_value(before, keys.split("."), value)
    assert yaml.load(found, Loader) == yaml.load(after, Loader)
    assert found == after


@pytest.mark.parametrize(
    ("before", "keys", "told"),
    [
        ("a: [1, 2]\n", "a.2", "a has positions 0 to 1; found 2"),
        ("a: []\n", "a.0", "a has no position; found 0"),
        ("a: [1, 2]\n", "a.b", "a is a list"),
        ("a: 1\n", "a.b", "a is a plain value"),
        ("a: &one {b: 1}\nc: *one\n", "c.b", "c is an alias"),
        ("a: [&one {b: 1}, *one]\n", "a.1.b", "a.1 is an alias"),
    ],
)
def test_a_place_that_is_none_is_refused(before: str, keys: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        set_value(before, keys.split("."), 3)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "params.yaml").write_text(PARAMS)
    monkeypatch.chdir(tmp_path)
    read_params.cache_clear()
    yield tmp_path
    read_params.cache_clear()


@pytest.mark.parametrize(
    ("assignment", "told"),
    [
        ("training_setup.epochs=3", "training_setup.epochs: 2.0 -> 3.0"),
        ("training_setup.seed=4.0", "training_setup.seed: 17 -> 4"),
        ("training_setup.max_steps=100", "training_setup.max_steps: null -> 100"),
        ("training_setup.learning_rate=2e-4", "training_setup.learning_rate: 0.001 -> 0.0002"),
        ("training_setup.batch_size=auto", "training_setup.batch_size: 3 -> auto"),
        ("deployment.release.languages.0=de", "deployment.release.languages.0: en -> de"),
        ("data_preparation.sources.1.title=2024", "data_preparation.sources.1.title: feedback -> '2024'"),
        ("data_preparation.triggers=null", "data_preparation.triggers: default -> null"),
        ("training_setup.method={name: lora, rank: 4}", "training_setup.method: {name: full} -> {name: lora, rank: 4}"),
        ("training_setup.optimizer={name: adamw}", "training_setup.optimizer.fused: true -> false"),
        (
            "data_preparation.split.method={name: grouped, column: ticket}",
            "data_preparation.split.method: {name: content} -> {name: grouped, column: ticket}",
        ),
        ("monitoring.drift.maximum_rows=500", "monitoring.drift.maximum_rows: "),
    ],
)
def test_a_change_is_written_in_the_type_of_the_file(project: Path, assignment: str, told: str) -> None:
    planned = plan_changes([assignment])
    assert (project / "params.yaml").read_text() == PARAMS
    assert told in str(planned.changes[0])
    planned.write()
    assert read_params() == planned.params
    assert len(changed_lines(PARAMS, (project / "params.yaml").read_text())) in (1, 2)


@pytest.mark.parametrize("key", ["accumulation_steps", "threads"])
@pytest.mark.parametrize("written", ["2", "'2'"])
def test_a_number_in_place_of_a_word_is_written_as_one(project: Path, key: str, written: str) -> None:
    """Where there was ``auto`` it was written as the text '2'."""
    planned = plan_changes([f"training_setup.{key}={written}", "training_setup.epochs=4"])
    assert str(planned.changes[0]).endswith(f"{key}: auto -> 2")
    planned.write()
    found = yaml.safe_load((project / "params.yaml").read_text())["training_setup"]
    assert found[key] == (2 if written == "2" else "2")
    assert found["epochs"] == 4.0


def test_another_choice_is_named_beside_what_the_file_had(project: Path) -> None:
    (change,) = plan_changes(["data_preparation.sources.0={name: csv, path: data/raw/faq.csv}"]).changes
    assert str(change) == (
        "params.yaml: data_preparation.sources.0: {name: sample, title: sample, rows: 2000, intents: 12, seed: 20261} "
        "-> {name: csv, path: data/raw/faq.csv}"
    )
    changes = plan_changes(["training_setup={method: {name: full}, epochs: 3, seed: 17}"]).changes
    assert ("training_setup.epochs", 2.0, 3.0) in [(change.key, change.old, change.new) for change in changes]
    assert all(change.key.startswith("training_setup.") and change.old != change.new for change in changes)


def test_a_list_of_the_defaults_is_written_whole(project: Path) -> None:
    detectors = read_params().model_dump(mode="json")["monitoring"]["drift"]["detectors"]
    assert "detectors" not in PARAMS
    name, value = next((key, value) for key, value in detectors[0].items() if isinstance(value, float))
    plan_changes([f"monitoring.drift.detectors.0.{name}={value / 2}"]).write()
    written = read_yaml(Path("params.yaml"))["monitoring"]["drift"]["detectors"]
    assert written == [{**detectors[0], name: value / 2}, *detectors[1:]]


def test_all_problems_are_told_and_nothing_is_written(project: Path) -> None:
    wrong = [
        "training_setup.epoch=3", "training_setup.seed=many", "evaluation.metrics.9=loss", "epochs",
        "training_setup.seed=1",
        "nowhere.key=1", "training_setup.schedule=[",
    ]  # fmt: skip
    with pytest.raises(PipelineError) as raised:
        plan_changes(wrong)
    told = str(raised.value)
    assert 'params.yaml with -S: training_setup.epoch: unknown key; did you mean "epochs"?' in told
    for part in (
        'training_setup.seed: found "many"',
        "positions 0 to 4; found 9",
        "expected section.key=value",
        "training_setup.seed is set twice",
        "nowhere: unknown key",
        "-S training_setup.schedule=[: ",
    ):
        assert part in told
    assert (project / "params.yaml").read_text() == PARAMS


def test_what_is_there_already_is_no_change(project: Path) -> None:
    planned = plan_changes(["training_setup.epochs=2", "training_setup.max_steps=null"])
    assert planned.changes == []
    planned.write()
    assert (project / "params.yaml").read_text() == PARAMS
    assert json.dumps(planned.params.model_dump(mode="json")) == json.dumps(read_params().model_dump(mode="json"))
