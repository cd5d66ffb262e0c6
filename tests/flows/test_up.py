"""`heptune up`: its worker runs the deployments, its automation answers drift, and Ctrl-C leaves nothing behind."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import yaml

from flows.commands.deployments import deploy, set_schedules
from flows.wiring.artifacts import RELEASE, STORE
from flows.wiring.params import Params
from flows.wiring.runs.addresses import ADDRESSES
from flows.wiring.runs.records import mlflow_of, record_of_page
from flows.wiring.servers.server import free_port, prefect_at
from flows.wiring.staleness import STAGES
from tasks.contracts.manifest import read_json, write_json
from tasks.contracts.records import RequestLog
from tasks.deployment.release import seal_release
from tasks.gateway.request_log.store import open_store
from tasks.gateway.request_log.tables import request_row
from tasks.monitoring.schedule import Schedule
from tests.browser import open_browser
from tests.checkout import ROOT
from tests.flows.doors import Doors
from tests.flows.mlflow_runs import check_hashes, mlflow_runs
from tests.flows.pages import walk_pages
from tests.flows.small import child_environment, lay_database, make_project, wait_for

EVENT = """
import os
from flows.wiring.settings import configure
configure()
from prefect.events import emit_event
from prefect.events.worker import EventsWorker
emit_event(
    event="heptune.drift.detected",
    resource={"prefect.resource.id": "heptune.model.heptune"},
    payload={"reason": "new words", "window": "ab" * 32},
)
EventsWorker.instance().drain()
"""


REQUEST: dict[str, Any] = {
    "id": "chatcmpl-1", "received_at": 1.0, "model": "heptune", "key": None,
    "messages": [{"role": "user", "content": "a secret"}], "answer": "hello",
    "prompt_tokens": 3, "completion_tokens": 1, "latency_ms": 12.0, "status": 200,
}  # fmt: skip


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> Path:
    folder = make_project(tmp_path_factory.mktemp("up") / "project", empty_database)
    shutil.copy(ROOT / "prefect.yaml", folder)
    for name in ("flows", "tasks"):
        (folder / name).symlink_to(ROOT / name)
    # The small stages make no release; this one is there as if the stage deployment had made it.
    release = folder / RELEASE
    (release / "model").mkdir(parents=True)
    (release / "model/weights.txt").write_text("weights")
    write_json(folder / "work/verdict.json", {"verdict": "promote", "reasons": [], "champion": None})
    seal_release(release, folder / "work/verdict.json", {"model": "heptune"})
    return folder


@pytest.fixture(scope="module")
def up(project: Path) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """The API of a running `heptune up`, and its process."""
    ports = free_port(), free_port(), free_port()
    words = ["--prefect-port", str(ports[0]), "--mlflow-port", str(ports[1]), "--reports-port", str(ports[2])]
    process = subprocess.Popen(
        [sys.executable, "-m", "flows", "up", *words],
        cwd=project,
        env=child_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    said: list[str] = []
    try:
        for line in process.stdout:
            said.append(line)
            if "Ctrl-C" in line:
                break
        assert f"http://127.0.0.1:{ports[0]}" in "".join(said), "".join(said)
        assert httpx.get(f"http://127.0.0.1:{ports[1]}/health", timeout=10).status_code == 200
        threading.Thread(target=process.stdout.read, daemon=True).start()
        yield f"http://127.0.0.1:{ports[0]}/api", process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(60)


def find(api: str, flow: str) -> list[dict[str, Any]]:
    question = {"flows": {"name": {"any_": [flow]}}, "flow_runs": {"deployment_id": {"is_null_": False}}}
    runs: list[dict[str, Any]] = httpx.post(f"{api}/flow_runs/filter", json=question, timeout=30).json()
    return runs


def wait_until(condition: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"it did not happen in {seconds:.0f} s"
        time.sleep(0.5)


def test_a_deployment_writes_the_same_lock_as_the_command_line(
    project: Path, up: tuple[str, subprocess.Popen[str]], tmp_path: Path, empty_database: Path
) -> None:
    """All stages run; three are enough to see that the entries are the same."""
    api, _ = up
    deployment = httpx.get(f"{api}/deployments/name/pipeline/pipeline", timeout=30).json()
    asked = httpx.post(f"{api}/deployments/{deployment['id']}/create_flow_run", json={}, timeout=30)
    asked.raise_for_status()
    address = f"{api}/flow_runs/{asked.json()['id']}"
    wait_until(lambda: httpx.get(address, timeout=30).json()["state_type"] in ("COMPLETED", "FAILED", "CRASHED"), 300)
    run = httpx.get(address, timeout=30).json()
    assert run["state_type"] == "COMPLETED", run["state"]
    parents, children = mlflow_runs(project)
    assert len(parents) == 1
    assert [child["name"] for child in children] == list(STAGES)
    for child in children:
        check_hashes(child, project)
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "-q", str(project), str(clone)], check=True)
    lay_database(clone, empty_database)
    done = subprocess.run(
        [sys.executable, "-m", "flows", "run", STAGES[2]],
        cwd=clone,
        env={**child_environment(), "PREFECT_API_URL": api},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    ours, theirs = (yaml.safe_load((folder / "dvc.lock").read_text())["stages"] for folder in (project, clone))
    assert set(ours) == set(STAGES)
    assert theirs == {name: ours[name] for name in STAGES[:3]}


def test_any_door_leads_to_any_other_in_three_clicks(project: Path, up: tuple[str, subprocess.Popen[str]]) -> None:
    served = json.loads((project / ADDRESSES).read_text())
    environment = child_environment()
    done = subprocess.run([sys.executable, "-m", "flows", "register"], cwd=project, env=environment, check=False)
    assert done.returncode == 0
    release = read_json(project / RELEASE / "manifest.json")["release"]
    store = open_store(f"sqlite:///{project / STORE}")
    store.insert([request_row(RequestLog.model_validate(REQUEST | {"release": release}))], [])
    store.close()

    tuned, deployed = record_of_page("fine_tuning", project), record_of_page("deployment", project)
    assert tuned is not None
    assert deployed is not None
    ids = {record.stage: mlflow_of(record, project) for record in (tuned, deployed)}
    doors = {
        "Prefect": f"{served['prefect']}/runs/flow-run/{tuned.flow_run}",
        "MLflow": f"{served['mlflow']}/#/runs/{ids['fine_tuning'].run}",  # type: ignore[union-attr]
        "revision": f"{served['reports']}/revisions/{tuned.commit.removesuffix('+changes')}",
        "version": f"{served['mlflow']}/#/models/heptune/versions/1",
        "report": f"{served['reports']}/runs/{tuned.flow_run}/fine_tuning/index.html",
        "request": f"{served['reports']}/requests/{REQUEST['id']}",
        "Prefect, of the pipeline": f"{served['prefect']}/runs/flow-run/{tuned.pipeline}",
        "MLflow, of the release's stage": f"{served['mlflow']}/#/runs/{ids['deployment'].run}",  # type: ignore[union-attr]
    }
    ways = Doors(served["prefect"], served["mlflow"])
    far = {}
    for start, page in doors.items():
        for goal, end in doors.items():
            if start != goal:
                far[start, goal] = ways.clicks(page, end.__eq__)
    assert max(far.values()) <= 3


def find_artifact(api: str, flow_run: str, key: str) -> str:
    """Path of an artifact of a flow run in Prefect's UI."""
    question = {"artifacts": {"flow_run_id": {"any_": [flow_run]}, "key": {"any_": [key]}}}
    (found,) = httpx.post(f"{api}/artifacts/filter", json=question, timeout=30).json()
    return f"/artifacts/artifact/{found['id']}"


def test_the_doors_are_drawn_and_can_be_clicked_on(project: Path, up: tuple[str, subprocess.Popen[str]]) -> None:
    """What the test above reads from the servers' APIs, as their pages draw it: run after it, with what it made."""
    api, _ = up
    served = json.loads((project / ADDRESSES).read_text())
    tuned = record_of_page("fine_tuning", project)
    assert tuned is not None
    known = mlflow_of(tuned, project)
    assert known is not None
    prefect_run = f"{served['prefect']}/runs/flow-run/{tuned.flow_run}"
    mlflow_run, version = f"{served['mlflow']}/#/runs/{known.run}", f"{served['mlflow']}/#/models/heptune/versions/1"
    reports, page = f"{served['reports']}/", f"{served['reports']}/runs/{tuned.flow_run}/"
    with open_browser() as tab:
        tab.resize(1280)
        # Three clicks from a flow run, of a stage or of a pipeline: the tab, the artifact, the link.
        for flow_run, key, link, goal in (
            (tuned.flow_run, "fine-tuning-links", f"{page}mlflow", mlflow_run),
            (tuned.pipeline, "pipeline-links", f"{reports}pipelines/{tuned.pipeline}/version", version),
        ):
            tab.visit(f"{served['prefect']}/runs/flow-run/{flow_run}")
            artifact = f"a[href='{find_artifact(api, flow_run, key)}']"
            tab.show(artifact, by="li#artifacts")
            tab.click(artifact)
            assert tab.click(f"a[href='{link}']").replace(f"/experiments/{known.experiment}", "") == goal
        # MLflow's pages lead back, to the report and to everything else.
        tab.visit(mlflow_run)
        for link in (prefect_run, f"{page}fine_tuning/index.html", page):
            tab.wait_for(f"a[href='{link}']")
        assert tab.click(f"a[href='{page}']") == page
        release = read_json(project / RELEASE / "manifest.json")["release"]
        tab.visit(version)
        tab.wait_for(f"a[href='{reports}releases/{release}']")
        # Every page of the server of reports works, on a phone too.
        walk = walk_pages(tab, reports, reports, passed_by="/hashes/")
        assert walk.faults == []
        for path in ("reports/index.html", f"runs/{tuned.flow_run}/", f"pipelines/{tuned.pipeline}"):
            assert f"{reports}{path}" in walk.pages


def test_an_old_run_shows_its_own_report(project: Path, up: tuple[str, subprocess.Popen[str]]) -> None:
    served = json.loads((project / ADDRESSES).read_text())
    old = record_of_page("fine_tuning", project)
    assert old is not None
    address = f"{served['reports']}/runs/{old.flow_run}/fine_tuning/index.html"
    before = httpx.get(address, timeout=30).text
    assert "A small stage." in before
    page = project / "reports/fine_tuning/index.html"
    shown = page.read_text()
    page.write_text("of a later run")
    try:
        assert httpx.get(address, timeout=30).text == before
        newest = f"{served['reports']}/reports"
        assert httpx.get(f"{newest}/fine_tuning/index.html", timeout=30).text == "of a later run"
        assert "/runs/" in httpx.get(f"{newest}/evaluation/index.html", timeout=30).text
        assert 'href="/"' in httpx.get(f"{newest}/index.html", timeout=30).text
        other = httpx.get(f"{served['reports']}/runs/{old.flow_run}/evaluation/index.html", timeout=30)
        assert "<h1>evaluation" in other.text, "of the same pipeline"
        for path in ("fine_tuning/../../../../../params.yaml", "fine_tuning/%2e%2e/%2e%2e/params.yaml"):
            assert httpx.get(f"{served['reports']}/runs/{old.flow_run}/{path}", timeout=30).status_code == 404
        assert httpx.get(address, headers={"host": "evil.example"}, timeout=30).status_code == 400
    finally:
        page.write_text(shown)


def test_drift_starts_a_retrain_that_says_why_it_may_not(project: Path, up: tuple[str, subprocess.Popen[str]]) -> None:
    api, _ = up
    environment = {**child_environment(), "PREFECT_API_URL": api}
    subprocess.run([sys.executable, "-c", EVENT], cwd=project, env=environment, check=True)
    wait_until(lambda: any(run["state_name"] == "Refused" for run in find(api, "retraining")), 180)
    (run,) = find(api, "retraining")
    assert run["parameters"] == {"reason": "new words", "trigger": "drift", "window": "ab" * 32}
    assert "0 corrected rows are waiting" in run["state"]["message"]


def test_deploying_again_keeps_what_people_paused_and_sets_schedules_that_changed(
    project: Path, up: tuple[str, subprocess.Popen[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    from prefect.client.orchestration import get_client

    api, _ = up
    monkeypatch.chdir(project)
    monkeypatch.setenv("PREFECT_API_URL", api)

    def with_schedule(schedule: object) -> Params:
        return Params.model_validate({"monitoring": {"retraining": {"schedule": schedule}}})

    with prefect_at(api), get_client(sync_client=True) as client:
        name = "retraining/retraining"
        client.pause_deployment(client.read_deployment_by_name("pipeline/pipeline").id)
        retraining = client.read_deployment_by_name(name)
        (automation,) = client.read_resource_related_automations(f"prefect.deployment.{retraining.id}")
        client.pause_automation(automation.id)
        lines = deploy(project, with_schedule({"cron": "0 3 * * sun", "timezone": "Europe/Berlin"}))
        assert lines == ["retraining: runs at 0 3 * * sun (Europe/Berlin), from monitoring.retraining.schedule"]
        assert client.read_deployment_by_name("pipeline/pipeline").paused
        assert not client.read_deployment_by_name(name).paused
        (automation,) = client.read_resource_related_automations(f"prefect.deployment.{retraining.id}")
        assert not automation.enabled
        client.resume_automation(automation.id)

        (set_one,) = client.read_deployment_schedules(retraining.id)
        assert (set_one.active, set_one.parameters) == (True, {"reason": "schedule", "trigger": "schedule"})
        client.update_deployment_schedule(retraining.id, set_one.id, active=False)
        unchanged = {name: Schedule(cron="0 3 * * sun", timezone="Europe/Berlin")}
        assert set_schedules(client, unchanged) == [
            "retraining: would run at 0 3 * * sun (Europe/Berlin), but is paused, as it was set in Prefect; "
            "monitoring.retraining.schedule in params.yaml says runs at 0 3 * * sun (Europe/Berlin)"
        ]
        assert [(each.id, each.active) for each in client.read_deployment_schedules(retraining.id)] == [
            (set_one.id, False)
        ]
        assert set_schedules(client, {name: Schedule(cron="30 4 * * *")}) == [
            "retraining: runs at 30 4 * * * (UTC), from monitoring.retraining.schedule"
        ]
        assert [each.schedule.cron for each in client.read_deployment_schedules(retraining.id)] == ["30 4 * * *"]
        assert set_schedules(client, {name: None}) == [
            "retraining: has no schedule, from monitoring.retraining.schedule"
        ]
        assert client.read_deployment_schedules(retraining.id) == []
        assert set_schedules(client, {name: None}) == []


def test_a_run_that_is_cancelled_in_prefect_leaves_nothing_running(
    project: Path, up: tuple[str, subprocess.Popen[str]]
) -> None:
    api, _ = up
    trouble = project / "trouble"
    trouble.mkdir()
    (trouble / "data_preparation").write_text("wait")
    deployment = httpx.get(f"{api}/deployments/name/pipeline/pipeline", timeout=30).json()["id"]
    httpx.patch(f"{api}/deployments/{deployment}", json={"paused": False}, timeout=30).raise_for_status()
    asked = {"parameters": {"reason": "to be cancelled", "stages": ["data_preparation"], "force": True}}
    run = httpx.post(f"{api}/deployments/{deployment}/create_flow_run", json=asked, timeout=30).json()["id"]
    try:
        wait_for(trouble / "data_preparation.began", 180)
        stages = [psutil.Process(pid) for pid in psutil.pids() if is_stage(pid, project)]
        assert len(stages) == 1
        state = {"state": {"type": "CANCELLING"}}
        httpx.post(f"{api}/flow_runs/{run}/set_state", json=state, timeout=30).raise_for_status()
        wait_until(lambda: httpx.get(f"{api}/flow_runs/{run}", timeout=30).json()["state_type"] == "CANCELLED", 120)
        _, alive = psutil.wait_procs(stages, timeout=15)
        assert alive == []
        asked_for = {"flow_runs": {"name": {"any_": ["data_preparation"]}}, "sort": "START_TIME_DESC"}

        def newest() -> Any:
            return httpx.post(f"{api}/flow_runs/filter", json=asked_for, timeout=30).json()[0]

        # It says so itself where it has the time; else `heptune up` does for it.
        wait_until(lambda: newest()["state_type"] in ("CANCELLED", "CRASHED"), 60)
        assert newest()["start_time"] > httpx.get(f"{api}/flow_runs/{run}", timeout=30).json()["start_time"]
    finally:
        shutil.rmtree(trouble)


def is_stage(pid: int, project: Path) -> bool:
    """Whether a process is a stage of the project."""
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        return "tests.flows.small" in process.cmdline() and Path(process.cwd()) == project
    return False


def test_ctrl_c_ends_everything(project: Path, up: tuple[str, subprocess.Popen[str]]) -> None:
    api, process = up
    below = psutil.Process(process.pid).children(recursive=True)
    assert len(below) >= 3
    process.send_signal(signal.SIGINT)
    assert process.wait(90) == 0
    gone, alive = psutil.wait_procs(below, timeout=30)
    assert alive == []
    assert len(gone) == len(below)
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", int(api.split(":")[2].split("/")[0]))) != 0
    assert not (project / ".heptune/prefect/server.json").exists()
