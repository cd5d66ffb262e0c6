"""``heptune status``, ``list`` and what follows from a run: asked of files, DVC and MLflow's tables alone."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from flows.commands.state import at_work, conclusion
from flows.commands.state.conclusion import conclude, conclude_failure, list_steps
from flows.commands.state.mlflow_records import ModelVersion
from flows.commands.state.mlflow_store import open_store
from flows.commands.state.stale import StageState, differences, inspect_stages
from flows.wiring import artifacts
from flows.wiring.params import Params, read_params
from flows.wiring.releases.serving import noted
from flows.wiring.staleness import STAGES
from flows.wiring.versions.dvc_repository import open_repository
from tasks.contracts.errors import PipelineError
from tasks.contracts.manifest import write_json
from tasks.monitoring.decisions import Decision, append_decision
from tests.checkout import ROOT
from tests.flows.small import child_environment


@pytest.fixture(scope="module")
def brought_up_to_date(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout whose stages copy a file, as DVC left it after `dvc repro`."""
    folder = tmp_path_factory.mktemp("status") / "checkout"
    (folder / "tasks").mkdir(parents=True)
    (folder / "tasks/code.py").write_text("one")
    (folder / "params.yaml").write_text(yaml.safe_dump(Params().model_dump(mode="json"), sort_keys=False))
    stages = {}
    for before, name in zip(("", *STAGES), STAGES, strict=False):
        deps = ["tasks/code.py", *([f"{before}.txt"] if before else [])]
        command = f"cat {' '.join(deps)} > {name}.txt"
        stages[name] = {"cmd": command, "deps": deps, "params": [name], "outs": [f"{name}.txt"]}
    (folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}, sort_keys=False))
    for words in (["dvc", "init", "-q", "--no-scm"], ["dvc", "repro", "-q"]):
        subprocess.run(words, cwd=folder, env=child_environment(), check=True, capture_output=True)
    return folder


@pytest.fixture
def checkout(brought_up_to_date: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(brought_up_to_date, tmp_path / "checkout")
    monkeypatch.chdir(tmp_path / "checkout")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    return tmp_path / "checkout"


def states() -> dict[str, StageState]:
    return {state.stage: state for state in inspect_stages()}


def test_what_is_stale_says_why(checkout: Path) -> None:
    assert {state.state for state in states().values()} == {"up to date"}

    values = yaml.safe_load((checkout / "params.yaml").read_text())
    values["training_setup"] |= {"epochs": 7.0, "seed": 18}
    (checkout / "params.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
    before = Params().model_dump(mode="json")["training_setup"]
    found = states()
    assert found["training_setup"].reasons == [
        f"training_setup.epochs: {before['epochs']} -> 7.0",
        f"training_setup.seed: {before['seed']} -> 18",
    ]
    assert found["training_setup"].state == "stale"
    assert (found["fine_tuning"].state, found["fine_tuning"].after) == ("waits", ["training_setup"])
    assert found["model_initialisation"].state == "up to date"

    (checkout / "evaluation.txt").unlink()
    (checkout / "tasks/code.py").write_text("two")
    found = states()
    assert found["model_initialisation"].reasons == ["code modified: tasks/code.py"]
    assert "evaluation.txt is not what it wrote (deleted)" in found["evaluation"].reasons
    assert "file deleted: evaluation.txt" in found["deployment"].reasons

    (checkout / "dvc.lock").unlink()
    assert {tuple(state.reasons) for state in states().values()} == {("never run here",)}


def test_a_look_is_not_in_the_way_of_a_pipeline(checkout: Path) -> None:
    with open_repository() as repo, repo.lock:
        assert {state.state for state in states().values()} == {"up to date"}
    (checkout / "dvc.lock").write_text("stages: {data_prep")
    with pytest.raises(PipelineError, match="not YAML"):
        inspect_stages()


def test_a_gateway_is_told_with_what_it_serves(checkout: Path) -> None:
    class Health(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'{"status": "degraded", "release": "abc"}')

    with ThreadingHTTPServer(("127.0.0.1", 0), Health) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}"
        with noted(url):
            (found,) = at_work.list_serving()
        server.shutdown()
    assert found == at_work.ServingGateway(url, os.getpid(), "degraded", "abc")
    assert at_work.ask_health(url) == ("starting", "")


@pytest.mark.parametrize(
    ("before", "now", "told"),
    [
        ({"a": 1}, {"a": 1}, []),
        ({"a": 1}, {"a": 2, "b": None}, ["s.a: 1 -> 2", "s.b: (default) -> null"]),
        ({"a": {"b": [1, 2]}}, {"a": {"b": [1, 3]}}, ["s.a.b.1: 2 -> 3"]),
        ({"a": [1]}, {"a": [1, 2]}, ["s.a: [1] -> [1, 2]"]),
        ({"a": 1}, {}, ["s.a: 1 -> (default)"]),
    ],
)
def test_differences_are_named_down_to_single_values(before: Any, now: Any, told: list[str]) -> None:
    assert list(differences("s", before, now)) == told


def test_status_and_list_answer_without_an_engine(checkout: Path) -> None:
    decision = Decision(time=1.8e9, retrain="r", trigger="hand", reason="try", decision="kept", why="no better")
    append_decision(artifacts.DECISIONS, decision)
    artifacts.REFUSED.mkdir(parents=True)
    (artifacts.REFUSED / "one.jsonl").write_text("{}\n")
    code = (
        "import sys; from flows.commands.command_line import app\n"
        "app(sys.argv[1:], standalone_mode=False)\n"
        "heavy = {'torch', 'mlflow', 'prefect', 'pandas', 'transformers', 'sqlalchemy'} & sys.modules.keys()\n"
        "sys.exit(f'imported: {heavy}' if heavy else 0)"
    )
    answers = {}
    for name in ("status", "list"):
        done = subprocess.run(
            [sys.executable, "-c", code, name, "--json"],
            cwd=checkout, env=child_environment(), capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        answers[name] = json.loads(done.stdout)
    assert [stage["state"] for stage in answers["status"]["stages"]] == ["up to date"] * 7
    assert answers["status"]["champion"] is None
    assert answers["status"]["decision"]["why"] == "no better"
    assert answers["status"]["mlflow"] == {"error": None, "unsent": 0, "refused": 1}
    assert answers["status"]["commands"] == answers["status"]["gateways"] == []
    assert answers["status"]["next"] == []
    assert answers["list"] == {"model": "heptune", "versions": [], "runs": []}
    assert not (checkout / ".heptune/mlflow.db").exists()


VERDICT = {
    "verdict": "promote",
    "reasons": ["better than the base: accuracy rose"],
    "primary": "loss",
    "opponent": "base",
    "champion": None,
    "comparisons": {"candidate_vs_base": {"loss": {"low": -0.5, "high": -0.1}}},
}
REGISTERED = ModelVersion(1, "mine", "promote", 0.0, ["challenger"])
OTHER = ModelVersion(1, "other", "promote", 0.0, ["champion"])


@pytest.mark.parametrize(
    ("versions", "steps"),
    [
        ([], ["`heptune register`", "`heptune promote`", "`heptune serve`"]),
        ([REGISTERED], ["`heptune promote`", "`heptune serve`"]),
        ([ModelVersion(1, "mine", "promote", 0.0, ["champion"])], ["`heptune serve`"]),
        ([OTHER], ["`heptune retrain`, because version 1 has become champion since the comparison"]),
    ],
)
def test_what_follows_from_a_verdict(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, versions: list[ModelVersion], steps: list[str]
) -> None:
    write_json(artifacts.RELEASE / "manifest.json", {"release": "mine"})
    monkeypatch.setattr("flows.wiring.releases.serving.list_gateways", list)
    assert list_steps(VERDICT, versions) == steps
    monkeypatch.setattr("flows.wiring.releases.serving.list_gateways", lambda: ["one"])
    assert list_steps(VERDICT, versions) == [step for step in steps if "serve" not in step]


@pytest.mark.parametrize(
    ("reason", "low", "high", "told"),
    [
        ("too few items to judge: 24 scored", -1.0, 1.0, "add rows to data_preparation.sources"),
        ("not proven better than the base", -1.0, 1.0, "hold out more rows"),
        ("worse than the base", 0.1, 1.0, "change what is learned"),
    ],
)
def test_a_candidate_that_is_kept_back_is_told_what_to_change(
    checkout: Path, reason: str, low: float, high: float, told: str
) -> None:
    compared = {"candidate_vs_base": {"loss": {"low": low, "high": high}}}
    write_json(
        artifacts.EVALUATION_VERDICT, {**VERDICT, "verdict": "keep", "reasons": [reason], "comparisons": compared}
    )
    found = conclude([], "heptune")
    assert found.lines[0] == f"verdict: keep; {reason}"
    assert told in found.lines[1]
    assert found.lines[1].endswith("then `heptune run`")


def test_stages_that_are_left_come_first(checkout: Path) -> None:
    stale = [StageState("evaluation", ["code"], []), StageState("deployment", [], ["evaluation"])]
    write_json(artifacts.EVALUATION_VERDICT, VERDICT)
    assert conclude(stale, "heptune").lines == ["next: `heptune run` (evaluation, deployment to do)"]
    assert conclude(stale[1:], "heptune").lines == [
        "verdict: promote; better than the base: accuracy rose",
        "next: `heptune run` (deployment to do)",
    ]


def test_a_failed_gate_says_how_to_go_on() -> None:
    found = conclude_failure(PipelineError("data_preparation: quality gate: enough_rows failed, found 3"))
    assert found.verdict == "failed"
    assert "`heptune approve --name NAME --reason WHY`" in found.lines[-1]
    assert found.lines[-1].endswith("then `heptune run`")
    assert conclude_failure(PipelineError("fine_tuning: no memory")).lines == [
        "next: correct it, then `heptune run`; finished stages are kept"
    ]


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (["/x/.venv/bin/python", "-m", "flows", "watch"], "watch"),
        (["python", "/x/.venv/bin/heptune", "run", "--wait"], "run --wait"),
        (["python", "/x/.venv/bin/dvc", "repro"], "dvc repro"),
        (["prefect", "worker"], "prefect worker"),
    ],
)
def test_commands_are_named_as_they_were_typed(words: list[str], name: str) -> None:
    assert " ".join(at_work.name_command(words)) == name


def test_a_store_that_is_none_says_what_is_expected(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PipelineError, match="expected a server"):
        open_store("mlruns")
    with pytest.raises(PipelineError, match="does not answer"):
        open_store("http://127.0.0.1:9").read_runs(3)
    with pytest.raises(PipelineError, match="does not answer"):
        open_store("postgresql+psycopg://nobody@127.0.0.1:9/none").read_versions("heptune")


def test_the_shipped_pipeline_is_understood() -> None:
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    assert list(stages).index("evaluation") == conclusion.EVALUATED
    read_params.cache_clear()
