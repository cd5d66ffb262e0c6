"""Every command of the parser: its help, its ``--json`` and its ``--verbose``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import typer

from flows.commands.command_line import GROUPS, app
from tests.flows.small import child_environment

# They run until they are stopped, or tell a story.
WITHOUT_ANSWER = {"demo", "serve", "up", "watch"}
# In a checkout where nothing has run, without a Prefect server; most of them have to say that something is missing.
CALLS: dict[str, list[str]] = {
    "accept": [],
    "adapters combine": ["both", "--of", "one,two"],
    "adapters cut": ["one", "4", "--as", "small"],
    "adapters keep": ["one"],
    "adapters list": [],
    "annotate export": [],
    "annotate import": ["nowhere.json"],
    "annotate next": [],
    "approve": ["--name", "Ada", "--reason", "a pilot"],
    "best-of-n": [],
    "compare": ["--methods", "full", "--seeds", "1", "--steps", "1"],
    "doctor": [],
    "evaluate": ["base"],
    "fetch": ["nothing"],
    "judge agreement": ["pairs.json"],
    "keys add": ["ada"],
    "keys list": [],
    "keys remove": ["ada"],
    "leaderboard": [],
    "list": [],
    "plan": [],
    "params": ["-S", "training_setup.seed=3"],
    "pretrain-base": ["--corpus", "nowhere"],
    "promote": [],
    "purge": ["--key", "nobody"],
    "register": [],
    "retrain": ["--dry-run"],
    "rollback": [],
    "run": ["--dry-run"],
    "sample": ["table.csv", "--rows", "10"],
    "search": ["--dry-run"],
    "snapshot": [],
    "status": [],
    "stop": [],
    "synthesize": ["--dry-run"],
}


def commands(group: Any, before: str = "") -> Iterator[tuple[str, Any]]:
    """Name and command, those of inner groups too."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{before}{name} ")
        else:
            yield f"{before}{name}", command


ALL = dict(commands(typer.main.get_command(app)))


def test_no_command_takes_the_name_of_another() -> None:
    """Typer lets the last one have it."""
    names = [
        (command.name or command.callback.__name__).replace("_", "-")
        for group in GROUPS
        for command in group.app.registered_commands
        if command.callback
    ]
    assert [name for name, count in Counter(names).items() if count > 1] == []
    assert {"sample", "best-of-n"} <= set(names)


@pytest.mark.parametrize("name", ALL)
def test_a_command_says_what_it_and_its_options_do(name: str) -> None:
    assert (ALL[name].help or "").split("\n")[0].endswith(".")
    options = {option: param for param in ALL[name].params for option in param.opts}
    assert {"--verbose", "-v"} <= set(options)
    assert ("--json" in options) == (name not in WITHOUT_ANSWER)
    assert [option for option, param in options.items() if not param.help] == []


def test_with_json_every_command_writes_one_object(tmp_path: Path) -> None:
    assert set(CALLS) == set(ALL) - WITHOUT_ANSWER
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    (tmp_path / "params.yaml").write_text("data_preparation: {}\n")
    (tmp_path / "models/base").mkdir(parents=True)
    (tmp_path / "models/base/config.json").touch()
    verdicts = {"swap = False": {"winner": "1"}, "swap = True": {"winner": "1"}}
    pair = {"input": "q", "output_1": "yes", "output_2": "no", "label": 1, "results": [verdicts]}
    (tmp_path / "pairs.json").write_text(json.dumps([pair]))
    subprocess.run(["dvc", "init", "-q", "--no-scm"], cwd=tmp_path, env=child_environment(), check=True)
    environment = {**child_environment(), "PREFECT_API_URL": "http://127.0.0.1:9/api"}
    done = subprocess.run(
        [sys.executable, "-m", "tests.flows.test_commands"],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300, check=True,
    )  # fmt: skip
    found = {name: (code, text) for name, code, text in json.loads(done.stdout.splitlines()[-1])}
    assert set(found) == set(CALLS)
    answers = {}
    for name, (code, text) in found.items():
        assert text.count("\n") == 1, f"{name}: {text}"
        answers[name] = json.loads(text)
        assert isinstance(answers[name], dict)
        assert ("error" in answers[name]) == bool(code), name
    assert answers["keys list"]["keys"][0]["name"] == "ada"
    assert answers["params"]["training_setup"]["seed"] == 3
    assert "seed: 3" in (tmp_path / "params.yaml").read_text()
    assert answers["stop"] == {"stopped": []}
    assert answers["list"] == {"model": "heptune", "versions": [], "runs": []}
    assert answers["retrain"]["would_start"]
    assert not answers["retrain"]["would_start_by_itself"]
    assert answers["retrain"]["why"].startswith("0 corrected rows are waiting")
    assert answers["judge agreement"]["accuracy"] == 1
    assert (tmp_path / "reports/judge_agreement/index.html").is_file()
    assert answers["sample"]["path"] == str(tmp_path / "table.csv")
    assert "prefect" in {one["check"] for one in answers["doctor"]["findings"] if one["severity"] == "error"}
    assert answers["register"]["error"].startswith("models/release: no manifest.json")


def drive() -> None:
    """The process under test: every call with its exit code and what came to stdout."""
    results = []
    stdout = os.dup(1)
    for name, words in CALLS.items():
        with Path("stdout.txt").open("w+b") as stream:
            os.dup2(stream.fileno(), 1)
            code = 0
            try:
                # What a command exits with is returned then, not raised.
                code = int(bool(app([*name.split(), *words, "--json"], standalone_mode=False)))
            except BaseException as error:  # noqa: BLE001 - reported
                code = 1
                sys.stderr.write(f"{name}: {error}\n")
            os.dup2(stdout, 1)
            stream.seek(0)
            results.append((name, code, stream.read().decode()))
    sys.stdout.write(json.dumps(results) + "\n")


def heptune(folder: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "flows", *words],
        cwd=folder,
        env={**child_environment(), **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_version_is_that_of_the_package(tmp_path: Path) -> None:
    done = heptune(tmp_path, "--version")
    assert done.stdout == f"heptune {version('heptune')}\n"


def test_verbose_adds_the_traceback_of_an_expected_failure(tmp_path: Path) -> None:
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    (tmp_path / "params.yaml").write_text("data_preparation: {}\ntraining_setup: {epoch: 1}\n")
    expected = 'heptune: params.yaml: training_setup.epoch: unknown key; did you mean "epochs"?\n'
    assert heptune(tmp_path, "params").stderr == expected
    for words in (["-v", "params"], ["params", "-v"]):
        told = heptune(tmp_path, *words).stderr
        assert told.startswith("Traceback")
        assert told.endswith(expected)


def test_the_shell_completes_commands(tmp_path: Path) -> None:
    asked = {"_HEPTUNE_COMPLETE": "complete_bash", "COMP_WORDS": "heptune re", "COMP_CWORD": "1"}
    script = "import sys; sys.argv[0] = 'heptune'; from flows.commands.command_line import main; main()"
    environment = {**child_environment(), **asked}
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["register", "retrain"]


if __name__ == "__main__":
    drive()
