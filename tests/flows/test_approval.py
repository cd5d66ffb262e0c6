"""A failed gate and a person, with a real Prefect server and a real DVC: paused, answered as the UI answers, recorded,
never asked twice, and asked again when the data change."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from mlflow import MlflowClient

from flows.wiring import artifacts
from tasks.contracts.manifest import read_json, read_manifest
from tests.checkout import ROOT
from tests.flows.small import SYLLABLES, child_environment, make_project, wait_for_mlflow

ROWS = 200
ANSWER = {"name": "Ada Lovelace", "reason": "a pilot, 200 rows will do", "approve": True}


@pytest.fixture
def project(tmp_path: Path, empty_database: Path) -> Path:
    """A project whose gate asks for more rows than there are, and then for a person."""
    folder = make_project(tmp_path / "project", empty_database)
    (folder / artifacts.RAW).mkdir(parents=True)
    write_rows(folder, ROWS)
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    declared = stages["data_preparation"]
    # The code of the stages is not in this project.
    declared["deps"] = ["data/raw"]
    (folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"data_preparation": declared}}, sort_keys=False))
    values = yaml.safe_load((folder / artifacts.PARAMS).read_text())
    values["data_preparation"]["sources"] = [{"name": "jsonl", "path": "data/raw/faq.jsonl", "title": "faq"}]
    values["data_preparation"]["gate"] |= {"min_rows": 1000, "approval": "ask", "approval_timeout_s": 120}
    (folder / artifacts.PARAMS).write_text(yaml.safe_dump(values, sort_keys=False))
    return folder


def write_rows(project: Path, count: int) -> None:
    rows = [
        {
            "question": " ".join(SYLLABLES[(place * i + i // 25) % 25] for place in range(1, 7)),
            "answer": f"{SYLLABLES[i % 25]} it is.",
        }
        for i in range(count)
    ]
    (project / artifacts.RAW / "faq.jsonl").write_text("\n".join(json.dumps(row) for row in rows))


def set_gate(project: Path, **values: Any) -> None:
    params = yaml.safe_load((project / artifacts.PARAMS).read_text())
    params["data_preparation"]["gate"] |= values
    (project / artifacts.PARAMS).write_text(yaml.safe_dump(params, sort_keys=False))


def start(project: Path, server: str, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", *(words or ("dvc", "repro", "-q"))],
        cwd=project,
        env={**child_environment(), "PREFECT_API_URL": server},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    out, err = process.communicate(timeout=240)
    return process.returncode, out + err


def wait_paused(server: str, process: subprocess.Popen[str], seen: set[str]) -> str:
    """The id of the flow run that waits for a person."""
    deadline = time.monotonic() + 200
    while time.monotonic() < deadline:
        body = {"flow_runs": {"state": {"type": {"any_": ["PAUSED"]}}}}
        for run in httpx.post(f"{server}/flow_runs/filter", json=body, timeout=30).json():
            if run["id"] not in seen and run["state"]["state_details"]["run_input_keyset"]:
                seen.add(run["id"])
                return str(run["id"])
        assert process.poll() is None, process.communicate()
        time.sleep(0.3)
    raise AssertionError("no flow run paused")


def answer(server: str, run: str, **form: Any) -> dict[str, Any]:
    """What the form of the Prefect UI sends; a server whose SQLite is busy says 503 and is asked again."""
    for _ in range(20):
        reply = httpx.post(f"{server}/flow_runs/{run}/resume", json={"run_input": form}, timeout=30)
        if reply.status_code != httpx.codes.SERVICE_UNAVAILABLE:
            break
        time.sleep(0.5)
    reply.raise_for_status()
    found: dict[str, Any] = reply.json()
    return found


def read_outs(project: Path) -> dict[str, bytes]:
    folders = [project / artifacts.PREPARED, project / artifacts.REPORTS / "data_preparation"]
    return {str(p.relative_to(project)): p.read_bytes() for f in folders for p in sorted(f.rglob("*")) if p.is_file()}


def test_a_person_approves_in_the_ui_once(project: Path, prefect: str) -> None:
    seen: set[str] = set()
    process = start(project, prefect)
    run = wait_paused(prefect, process, seen)
    form = httpx.post(
        f"{prefect}/flow_runs/{run}/input/filter", json={"prefix": "paused", "limit": 10}, timeout=30
    ).json()
    asked = {each["key"].rpartition("-")[2]: json.loads(each["value"]) for each in form}
    assert set(asked["schema"]["properties"]) == {"name", "reason", "approve"}
    assert "**enough_rows**: found " in asked["description"]
    # The server itself does not take an empty name or reason, so the form stays open.
    for empty in ({"name": "", "reason": "x"}, {"name": "Ada", "reason": "  "}, {"reason": "x"}):
        refused = answer(prefect, run, approve=True, **empty)
        assert refused["status"] == "REJECT", refused
    assert answer(prefect, run, **ANSWER)["status"] == "ACCEPT"
    code, said = finish(process)
    assert code == 0, said

    manifest = read_manifest(project / artifacts.PREPARED, verify=True)
    assert manifest["approval"]["name"] == "Ada Lovelace"
    assert manifest["approval"]["reason"] == "a pilot, 200 rows will do"
    assert set(manifest["approval"]["checks"]) == {"enough_rows"}
    [kept] = (project / artifacts.APPROVALS).iterdir()
    assert kept.name == f"{manifest['approval']['findings']}.approval"
    for page in (artifacts.report("data_preparation"), artifacts.DATA_DOCS / "index.html"):
        assert "Ada Lovelace" in (project / page).read_text()
    approvals = {"artifacts": {"flow_run_id": {"any_": [run]}, "key": {"any_": ["data-preparation-approval"]}}}
    shown = httpx.post(f"{prefect}/artifacts/filter", json=approvals, timeout=30).json()
    assert any("Ada Lovelace" in artifact["data"] for artifact in shown)
    wait_for_mlflow(project)
    mlflow = MlflowClient(f"sqlite:///{project / '.heptune/mlflow.db'}")
    runs = [r for e in mlflow.search_experiments() for r in mlflow.search_runs([e.experiment_id])]
    assert any(r.data.tags.get("heptune.gate_approved_by") == "Ada Lovelace" for r in runs)

    first = read_outs(project)
    began = time.monotonic()
    code, said = finish(start(project, prefect))
    assert code == 0, said
    assert read_outs(project) == first
    assert "data_preparation" in (project / "dvc.lock").read_text()
    idle = finish(start(project, prefect, "dvc", "status"))
    assert "up to date" in idle[1], (idle, time.monotonic() - began)

    # From nothing but the inputs: no question, the same bytes.
    code, said = finish(start(project, prefect, "dvc", "repro", "-q", "-f", "--no-run-cache"))
    assert code == 0, said
    assert read_outs(project) == first

    # Other data with the same finding are other data.
    write_rows(project, ROWS - 1)
    process = start(project, prefect)
    run = wait_paused(prefect, process, seen)
    assert answer(prefect, run, name="Grace", reason="too few", approve=False)["status"] == "ACCEPT"
    code, said = finish(process)
    assert code != 0
    assert "enough_rows failed, and Grace refused to approve it (too few)" in said
    assert "Traceback" not in said
    assert not (project / artifacts.PREPARED / "manifest.json").exists()
    assert len(list((project / artifacts.APPROVALS).iterdir())) == 1


@pytest.mark.slow
def test_approval_on_the_command_line(project: Path, prefect: str) -> None:
    cli = ("flows", "approve", "--name", "Ada", "--reason")
    # While the stage waits.
    process = start(project, prefect, "flows.data_preparation")
    wait_paused(prefect, process, set())
    code, said = finish(start(project, prefect, *cli, " "))
    assert code == 1
    assert "reason must not be empty" in said
    code, said = finish(start(project, prefect, *cli, "a pilot"))
    assert code == 0, said
    code, said = finish(process)
    assert code == 0, said
    first = read_manifest(project / artifacts.PREPARED)
    assert first["approval"]["reason"] == "a pilot"

    # Without a server to ask at: the gate fails, a person approves, the next run finds it.
    set_gate(project, approval="refuse", min_rows=2000)
    code, said = finish(start(project, prefect, "flows.data_preparation"))
    assert code == 1
    assert "approve the findings with `heptune approve`" in said
    code, said = finish(start(project, prefect, "flows", "accept"))
    assert code == 1
    assert "not complete" in said
    assert finish(start(project, prefect, *cli, "still a pilot"))[0] == 0
    assert finish(start(project, prefect, "flows.data_preparation"))[0] == 0
    assert read_manifest(project / artifacts.PREPARED)["approval"]["reason"] == "still a pilot"
    code, said = finish(start(project, prefect, *cli, "again"))
    assert code == 1
    assert "nothing to approve" in said
    assert finish(start(project, prefect, "flows", "accept"))[0] == 0
    assert read_json(project / artifacts.ACCEPTED)["rows"] == first["counts"]["train"] + sum(
        first["counts"][name] for name in ("validation", "test")
    )


def test_nobody_answers(project: Path, prefect: str) -> None:
    set_gate(project, approval_timeout_s=3)
    code, said = finish(start(project, prefect, "flows.data_preparation"))
    assert code == 1
    assert "enough_rows failed, and nobody approved it within 3 s" in said
    assert "Traceback" not in said
    assert not (project / artifacts.WAITING).exists()
