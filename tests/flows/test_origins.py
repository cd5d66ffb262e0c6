"""What is behind two models, and what of it differs."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from flows.wiring import artifacts
from flows.wiring.params import Params
from flows.wiring.releases.named_models import NamedModel
from flows.wiring.releases.origins import ModelOrigin, compare_origins, list_params, read_origin
from tasks.contracts.manifest import write_json

OLD = {"training_setup.epochs": 2, "training_setup.method.name": "lora", "evaluation.items": 400}
NEW = {"training_setup.epochs": 3, "training_setup.method.name": "full", "evaluation.items": 400}


def no_model() -> None:
    raise AssertionError("nothing is loaded to tell where a model comes from")


def test_only_what_differs_is_told() -> None:
    before = ModelOrigin(OLD, {"train.parquet": "aa", "test.parquet": "bb"}, {"base": "org/base", "method": "lora"})
    after = ModelOrigin(
        NEW | {"training_setup.method.rank": 8}, {"train.parquet": "cc", "test.parquet": "bb"}, {"base": "org/base"}
    )
    changes, note = compare_origins(before, after)
    assert [tuple(one) for one in changes] == [
        ("model", "method", "lora", None),
        ("data", "train.parquet", "aa", "cc"),
        ("params", "training_setup.epochs", 2, 3),
        ("params", "training_setup.method.name", "lora", "full"),
        ("params", "training_setup.method.rank", None, 8),
    ]
    assert note == "1 settings are the same."
    changes, note = compare_origins(before, ModelOrigin(model={"base": "org/base"}))
    assert [one.part for one in changes] == ["model"]
    assert note == "Of one of them no data is recorded. Of one of them no params is recorded."


def test_the_settings_of_a_release_are_those_that_decide_about_it() -> None:
    found = list_params(Params())
    assert found["evaluation.gate.primary"] == "intent_accuracy"
    assert found["deployment.release.model"] == "heptune"
    assert not [key for key in found if key.startswith(("monitoring", "search", "deployment.gateway"))]


def test_a_release_says_what_it_was_made_of_and_what_was_just_trained_is_the_checkouts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    facts = {"release": "ab" * 32, "base": {"hub": "org/base", "revision": "r1"}, "method": "lora", "params": OLD}
    write_json(tmp_path / "kept/manifest.json", facts | {"data": {"train.parquet": "c" * 64, "extra.parquet": "d"}})
    released = NamedModel("version 3", tmp_path / "kept/model", "", no_model, "3", "f" * 40)
    origin = read_origin(released)
    assert origin.params == OLD
    assert origin.data == {"train.parquet": "c" * 12}
    assert origin.model["base"] == "org/base@r1"
    assert origin.commit == "f" * 40
    assert read_origin(NamedModel("x", tmp_path / "plain", "", no_model, "plain")) == ModelOrigin()
    (tmp_path / artifacts.PARAMS).write_text("training_setup: {epochs: 7}\n")
    write_json(artifacts.INITIAL / "manifest.json", {"source": {"hub": "org/base", "revision": "r1"}})
    write_json(artifacts.TUNED / "manifest.json", {"method": {"name": "full"}})
    write_json(artifacts.PREPARED / "manifest.json", {"files": {"test.parquet": {"sha256": "e" * 64}}})
    tuned = read_origin(NamedModel("tuned", artifacts.INITIAL, "", no_model, "tuned"))
    assert tuned.params["training_setup.epochs"] == 7
    assert tuned.data == {"test.parquet": "e" * 12}
    assert tuned.model == {"base": "org/base@r1", "method": "full"}
    base = read_origin(NamedModel("base", artifacts.INITIAL, "", no_model, "base"))
    assert base == ModelOrigin(model={"base": "org/base@r1"})


def test_commits_are_compared_file_by_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    def git(*words: str) -> str:
        named = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
        return subprocess.run(["git", *named, *words], check=True, capture_output=True, text=True).stdout.strip()

    git("init", "-q")
    commits = []
    for number in range(2):
        for name in ("flows/a.py", "tasks/b.py", "docs/c.md"):
            Path(name).parent.mkdir(exist_ok=True)
            Path(name).write_text(f"{name} {number if 'a' in Path(name).name else 0}")
        git("add", ".")
        git("commit", "-qm", "a commit", "--allow-empty")
        commits.append(git("rev-parse", "HEAD"))
    old, new = (ModelOrigin(commit=commit) for commit in (commits[0], f"{commits[1]}+changes"))
    found, _ = compare_origins(old, new)
    assert [tuple(one) for one in found] == [
        ("code", "commit", commits[0][:12], f"{commits[1][:12]} with changes"),
        ("code", "files that differ", None, "flows/a.py"),
    ]
    assert not compare_origins(old, old)[0]
    assert len(compare_origins(old, ModelOrigin(commit="0" * 40))[0]) == 1, "a commit that is not here"
