"""One truth, three doors: DVC, the command line and Prefect do the same work on the real engines.

The stages of the project used here do next to nothing, so that what is tested is the mechanism.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from flows.wiring.staleness import STAGES
from tests.flows.mlflow_runs import check_hashes, mlflow_runs
from tests.flows.small import child_environment, lay_database, make_project, outcomes, wait_for


def heptune(project: Path, *words: str, **extra: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "flows", *words],
        cwd=project,
        env={**child_environment(), **extra},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def set_param(project: Path, section: str, key: str, value: object) -> object:
    path = project / "params.yaml"
    values = yaml.safe_load(path.read_text())
    before, values[section][key] = values[section][key], value
    path.write_text(yaml.safe_dump(values, sort_keys=False))
    return before


class Api:
    """The few questions the tests ask of a Prefect server."""

    def __init__(self, url: str) -> None:
        self.url = url

    def find(self, kind: str, **filters: Any) -> list[dict[str, Any]]:
        answer = httpx.post(f"{self.url}/{kind}/filter", json=filters, timeout=30)
        answer.raise_for_status()
        found: list[dict[str, Any]] = answer.json()
        return found


@pytest.fixture(scope="module")
def api(prefect: str) -> Api:
    return Api(prefect)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, api: Api, empty_database: Path) -> Path:
    """A project whose seven stages ran once, by `heptune run`."""
    folder = make_project(tmp_path_factory.mktemp("doors") / "project", empty_database)
    done = heptune(folder, "run", "--reason", "first", PREFECT_API_URL=api.url)
    assert done.returncode == 0, done.stderr
    assert outcomes(done.stdout) == dict.fromkeys(STAGES, "Ran")
    return folder


def test_dvc_has_nothing_to_do_after_heptune_run(project: Path, api: Api) -> None:
    done = subprocess.run(
        ["dvc", "repro"], cwd=project, env=child_environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "Data and pipelines are up to date." in done.stdout + done.stderr
    again = heptune(project, "run", PREFECT_API_URL=api.url)
    assert outcomes(again.stdout) == dict.fromkeys(STAGES, "Unchanged")
    # The pages, which are the same for every run, find beside them which run wrote them.
    facts = (project / "reports/runs.js").read_text().splitlines()[0]
    assert [pairs[1][1].split(" (")[0] for pairs in json.loads(facts[len("const RUNS = ") : -1].strip()).values()] == [
        "first"
    ] * len(STAGES)


def test_dvc_repro_in_a_fresh_clone_writes_the_same_lock(project: Path, tmp_path: Path, empty_database: Path) -> None:
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "-q", str(project), str(clone)], check=True)
    lay_database(clone, empty_database)
    assert not (clone / "dvc.lock").exists()
    done = subprocess.run(
        ["dvc", "repro"], cwd=clone, env=child_environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert (clone / "dvc.lock").read_bytes() == (project / "dvc.lock").read_bytes()
    parents, children = mlflow_runs(clone)
    assert len(parents) == 1
    assert {run["parent"] for run in children} == {parents[0]["id"]}
    assert sorted(run["name"] for run in children) == sorted(STAGES)
    for run in children:
        check_hashes(run, clone)
    assert no_server_left(clone)


def no_server_left(project: Path) -> bool:
    """Whether the local server has ended with its owner, within half a minute."""
    record = project / ".heptune/prefect/server.json"
    for _ in range(300):
        if not record.exists():
            return True
        time.sleep(0.1)
    return False


def test_nothing_to_do_starts_nothing(project: Path) -> None:
    """No server is named, and none is started: DVC alone is asked."""
    page = project / "reports/index.html"
    page.unlink()
    done = heptune(project, "run")
    assert done.returncode == 0, done.stderr
    assert outcomes(done.stdout) == dict.fromkeys(STAGES, "Unchanged")
    assert page.is_file()
    assert not (project / ".heptune/prefect/server.json").exists()
    assert not (project / ".heptune/prefect/server.log").exists()


HEAVY = ("mlflow", "dvc", "torch", "transformers", "polars", "great_expectations", "evidently", "matplotlib")


def imported(folder: Path, *words: str, **extra: str) -> set[str]:
    """The packages that a Python process imports."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", *words],
        cwd=folder,
        env={**child_environment(), **extra},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    lines = (line for line in done.stderr.splitlines() if line.startswith("import time:"))
    return {line.rsplit("|", 1)[1].strip().partition(".")[0] for line in lines}


def test_a_stage_imports_nothing_that_it_does_not_need(project: Path, api: Api) -> None:
    found = imported(project, "tests.flows.small", "data_preparation", PREFECT_API_URL=api.url)
    assert "prefect" in found
    assert not found & set(HEAVY)


def test_a_run_with_nothing_to_do_imports_no_prefect(project: Path) -> None:
    found = imported(project, "flows", "run")
    assert "dvc" in found
    assert not found & {"prefect", *HEAVY} - {"dvc"}


def test_help_is_quick(tmp_path: Path) -> None:
    found = imported(tmp_path, "flows", "--help")
    assert "typer" in found
    assert not found & {"prefect", "pydantic", "numpy", "polars", "pyarrow", "httpx", "sqlalchemy", *HEAVY}


def test_one_key_reruns_its_stage_and_what_depends_on_it(project: Path, api: Api) -> None:
    lock = (project / "dvc.lock").read_bytes()
    before = set_param(project, "evaluation", "items", 300)
    changed = heptune(project, "run", PREFECT_API_URL=api.url)
    assert changed.returncode == 0, changed.stderr
    assert outcomes(changed.stdout) == {
        **dict.fromkeys(STAGES[:4], "Unchanged"),
        **dict.fromkeys(STAGES[4:], "Ran"),
    }
    set_param(project, "evaluation", "items", before)
    back = heptune(project, "run", PREFECT_API_URL=api.url)
    assert back.returncode == 0, back.stderr
    assert outcomes(back.stdout) == {
        **dict.fromkeys(STAGES[:4], "Unchanged"),
        **dict.fromkeys(STAGES[4:], "Restored"),
    }
    assert (project / "dvc.lock").read_bytes() == lock


def test_a_named_stage_runs_after_what_it_stands_on(project: Path, api: Api) -> None:
    lock = (project / "dvc.lock").read_bytes()
    before = set_param(project, "training_setup", "seed", 99)
    alone = heptune(project, "run", "--single-item", "fine_tuning", PREFECT_API_URL=api.url)
    assert outcomes(alone.stdout) == {"fine_tuning": "Unchanged"}
    assert alone.stderr == (
        "fine_tuning: on what is there, although training_setup changed and is not run (--single-item)\n"
    )
    done = heptune(project, "run", "fine_tuning", PREFECT_API_URL=api.url)
    assert outcomes(done.stdout) == {"training_setup": "Ran", "fine_tuning": "Ran"}, done.stderr
    assert "training_setup: brought up to date first, for fine_tuning" in done.stderr
    set_param(project, "training_setup", "seed", before)
    assert heptune(project, "run", "evaluation", PREFECT_API_URL=api.url).returncode == 0
    assert (project / "dvc.lock").read_bytes() == lock


def test_prefect_shows_stages_below_the_pipeline(project: Path, api: Api) -> None:
    pipelines = api.find("flow_runs", flow_runs={"name": {"any_": ["pipeline: first"]}})
    assert len(pipelines) == 1
    tasks = api.find("task_runs", task_runs={"flow_run_id": {"any_": [pipelines[0]["id"]]}})
    by_name = {task["name"]: task for task in tasks}
    assert set(by_name) == set(STAGES)
    assert {task["state_name"] for task in tasks} == {"Ran"}
    assert set(by_name["evaluation"]["tags"]) == {"heptune", "evaluation"}
    for name in STAGES:
        subflows = api.find("flow_runs", flow_runs={"parent_task_run_id": {"any_": [by_name[name]["id"]]}})
        assert [run["name"] for run in subflows] == [name]
        assert subflows[0]["state_type"] == "COMPLETED"
        inner = api.find("task_runs", task_runs={"flow_run_id": {"any_": [subflows[0]["id"]]}})
        assert {task["name"] for task in inner} == {"count_rows", "write_figures"}
        shown = api.find("artifacts", artifacts={"flow_run_id": {"any_": [subflows[0]["id"]]}})
        key = name.replace("_", "-")
        assert {f"{key}-figures", f"{key}-report"} <= {artifact["key"] for artifact in shown}


def test_mlflow_has_one_run_a_stage_with_the_hashes_of_the_lock(project: Path) -> None:
    parents, children = mlflow_runs(project)
    first = next(run for run in parents if run["tags"].get("heptune.reason") == "first")
    assert first["name"].startswith("first, 20")
    stages = {run["name"]: run for run in children if run["parent"] == first["id"]}
    assert set(stages) == set(STAGES)
    lock = yaml.safe_load((project / "dvc.lock").read_text())["stages"]
    for run in stages.values():
        assert run["status"] == "FINISHED"
        assert run["metrics"]["rows"] == 3.0
        assert run["metrics"]["loss"] == 0.25
        assert "count_rows.rows" not in run["metrics"], "the stage's own figure says it"
        assert {"heptune.git_commit", "heptune.params", "heptune.prefect_flow_run"} <= set(run["tags"])
        check_hashes(run, project)
    flow_run = stages["evaluation"]["tags"]["heptune.prefect_flow_run"]
    for name in STAGES:
        for out in lock[name]["outs"]:
            text = (project / out["path"]).read_text()
            assert flow_run not in text
            assert stages[name]["id"] not in text


def test_what_the_user_must_mend_fails_with_one_line_and_is_not_retried(project: Path, api: Api) -> None:
    trouble = project / "trouble"
    trouble.mkdir(exist_ok=True)
    (trouble / "fine_tuning").write_text("expected")
    try:
        done = heptune(project, "run", "--force", "--reason", "expected", "fine_tuning", PREFECT_API_URL=api.url)
    finally:
        shutil.rmtree(trouble)
    reason = "work/input.txt:3: no answer; fill it in"
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1] == f"heptune: fine_tuning: {reason}"
    assert "Traceback" not in done.stderr
    overview = project / "reports/index.html"
    assert f"Fine-tuning failed</b><p>{reason}</p>" in overview.read_text()
    runs = api.find("flow_runs", flow_runs={"name": {"any_": ["pipeline: expected"]}})
    assert [run["state"]["message"] for run in runs] == [f"fine_tuning: {reason}"]
    tasks = api.find(
        "task_runs", task_runs={"flow_run_id": {"any_": [runs[0]["id"]]}, "name": {"any_": ["fine_tuning"]}}
    )
    assert [(task["state_type"], task["run_count"]) for task in tasks] == [("FAILED", 1)]
    subflows = api.find("flow_runs", flow_runs={"parent_task_run_id": {"any_": [tasks[0]["id"]]}})
    assert [run["state"]["message"] for run in subflows] == [reason]
    assert heptune(project, "run", PREFECT_API_URL=api.url).returncode == 0
    assert reason not in overview.read_text()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, a disk without space")
def test_a_full_disk_is_one_line_and_the_finished_stages_are_kept(project: Path, api: Api) -> None:
    lock = (project / "dvc.lock").read_bytes()
    (project / "trouble").mkdir()
    (project / "trouble/fine_tuning").write_text("full disk")
    done = heptune(project, "run", "--force", "fine_tuning", PREFECT_API_URL=api.url)
    shutil.rmtree(project / "trouble")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("heptune: fine_tuning: ")
    assert "no space left on the disk; free some and run again" in last
    again = heptune(project, "run", PREFECT_API_URL=api.url)
    assert again.returncode == 0, again.stderr
    assert outcomes(again.stdout)["training_setup"] == "Unchanged"
    assert (project / "dvc.lock").read_bytes() == lock


def test_a_stage_that_was_killed_is_tried_once_more(project: Path, api: Api) -> None:
    (project / "trouble").mkdir()
    (project / "trouble/deployment").write_text("killed once")
    done = heptune(project, "run", "--force", "deployment", PREFECT_API_URL=api.url)
    shutil.rmtree(project / "trouble")
    assert done.returncode == 0, done.stderr
    assert outcomes(done.stdout) == {"deployment": "Ran"}
    _, children = mlflow_runs(project)
    killed, again = [run for run in children if run["name"] == "deployment"][-2:]
    assert (killed["status"], again["status"]) == ("KILLED", "FINISHED")
    assert killed["parent"] == again["parent"]
    lock = yaml.safe_load((project / "dvc.lock").read_text())["stages"]
    # What it wrote is not known; what it read is what the stages before had written.
    (dep,) = lock["deployment"]["deps"]
    assert {k: v for k, v in killed["tags"].items() if k.startswith("dvc.")} == {f"dvc.dep.{dep['path']}": dep["md5"]}
    check_hashes(again, project)


def test_a_stage_whose_sender_was_killed_gets_its_hashes_from_the_next(project: Path, api: Api) -> None:
    (project / "trouble").mkdir()
    (project / "trouble/monitoring").write_text("wait")
    process = subprocess.Popen(
        ["dvc", "repro", "--quiet", "--force", "--single-item", "monitoring"],
        cwd=project,
        env={**child_environment(), "PREFECT_API_URL": api.url},
    )
    try:
        wait_for(project / "trouble/monitoring.began", 120)
        os.kill(int((project / ".heptune/sender/pid").read_text()), signal.SIGKILL)
        (project / "trouble/monitoring.go").touch()
        assert process.wait(240) == 0
    finally:
        process.kill()
        shutil.rmtree(project / "trouble")
    assert len(list((project / ".heptune/unsent").iterdir())) == 1
    _, children = mlflow_runs(project)
    assert (children[-1]["name"], children[-1]["status"]) == ("monitoring", "FINISHED")
    check_hashes(children[-1], project)


def test_a_second_pipeline_in_one_checkout_is_refused(project: Path, api: Api) -> None:
    (project / "trouble").mkdir()
    (project / "trouble/data_preparation").write_text("wait")
    first = subprocess.Popen(
        [sys.executable, "-m", "flows", "run", "--force", "data_preparation"],
        cwd=project,
        env={**child_environment(), "PREFECT_API_URL": api.url},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        wait_for(project / "trouble/data_preparation.began")
        lock = (project / "dvc.lock").read_bytes()
        second = heptune(project, "run", PREFECT_API_URL=api.url)
        assert second.returncode == 1
        assert f"another pipeline is at work in this checkout (pid {first.pid})" in second.stderr
        assert (project / "dvc.lock").read_bytes() == lock
    finally:
        os.killpg(first.pid, signal.SIGKILL)
        first.communicate()
        shutil.rmtree(project / "trouble")
    after = heptune(project, "run", PREFECT_API_URL=api.url)
    assert after.returncode == 0, after.stderr


def test_wrong_params_are_reported_together_before_anything_runs(project: Path, api: Api) -> None:
    path = project / "params.yaml"
    text = path.read_text()
    values = yaml.safe_load(text)
    values["evaluation"]["itmes"] = 3
    values["training_setup"]["method"] = {"name": "lorra"}
    path.write_text(yaml.safe_dump(values))
    try:
        done = heptune(project, "run", PREFECT_API_URL=api.url)
    finally:
        path.write_text(text)
    assert done.returncode == 1
    assert 'params.yaml: evaluation.itmes: unknown key; did you mean "items"?' in done.stderr
    found = (
        'params.yaml: training_setup.method: unknown name "lorra"; did you mean "lora"? valid names: adalora, auto, '
    )
    assert found in done.stderr
    assert outcomes(done.stdout) == {}


def test_a_prefect_server_that_does_not_answer_is_named(project: Path) -> None:
    done = heptune(project, "run", "--force", PREFECT_API_URL="http://127.0.0.1:9/api")
    assert done.returncode == 1
    assert "Prefect at http://127.0.0.1:9/api does not answer" in done.stderr


def test_a_schema_can_be_printed(project: Path) -> None:
    done = heptune(project, "params", "--schema")
    schema = json.loads(done.stdout)
    assert list(schema["properties"]) == [*STAGES, "annotation", "synthesis", "sampling", "search"]
