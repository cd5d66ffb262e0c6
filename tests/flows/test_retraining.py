"""Retraining on the real Prefect, MLflow, git and request store: what is decided, recorded, and survives a kill.

The seven stages are replaced by one function that lays down a release and a verdict; the flow around them is
the real one, in a process of its own.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from filelock import FileLock

from flows.wiring.processes import mark_process, show_mark
from flows.wiring.servers.server import RECORD
from tasks.contracts.errors import PipelineError
from tasks.contracts.manifest import read_json, write_json
from tasks.contracts.records import REQUESTS
from tasks.contracts.tables import read_table, write_table
from tasks.deployment.release import seal_release
from tasks.gateway.request_log.store import open_store
from tasks.gateway.request_log.tables import feedback_row, request_row
from tests.flows.small import child_environment, lay_database, wait_for_mlflow
from tests.tasks.monitoring.requests import make_request, make_table, make_traffic

GIT = ["git", "-c", "user.name=t", "-c", "user.email=t@localhost"]


def lay_release(weights: str, verdict: str, champion: str | None) -> Path:
    """A small sealed release and evaluation's verdict where the pipeline leaves them."""
    folder = Path("models/release")
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "model").mkdir(parents=True)
    (folder / "model/weights.txt").write_text(weights)
    write_table(make_traffic(40, 1), folder / "baseline.parquet", REQUESTS)
    decided = Path("reports/evaluation/verdict.json")
    values = {"verdict": verdict, "reasons": [f"{weights} is {verdict}"], "champion": champion, "opponent": "champion"}
    write_json(decided, values)
    seal_release(folder, decided, {"model": "heptune"})
    return folder


def log_requests(project: Path, corrected: int, release: str = "ab" * 32, key: str | None = None) -> None:
    """Write requests, of which so many are corrected, into the project's store."""
    from tasks.contracts.records import RequestLog

    rows = [make_request(f"question {n} of ann@example.org", "no", n, release=release, key=key) for n in range(60)]
    feedback = [feedback_row(row["id"], f"answer {row['id']}", "ask", key) for row in rows[:corrected]]
    store = open_store(f"sqlite:///{project.resolve() / '.heptune/requests.db'}")
    store.insert([request_row(RequestLog.model_validate(row)) for row in rows], feedback)
    store.close()


def drive(orders: list[dict[str, Any]]) -> None:
    """The process under test: each order is a retrain whose pipeline makes the release it is told to."""
    import flows.retraining
    from flows.monitoring import announce
    from flows.wiring import artifacts

    for order in orders:
        if order.get("announce"):
            sys.stdout.write(f"{announce('heptune', order['consecutive'])}\n")
            continue

        def pipeline(reason: str, stages: list[str], order: dict[str, Any] = order, **_: object) -> dict[str, str]:
            if stages == ["data_preparation"]:
                if order.get("poison") and list(artifacts.FEEDBACK.glob("*.jsonl")):
                    raise PipelineError("data_preparation: quality gate: bad_rows_few failed")
                return {"data_preparation": "Ran"}
            if order.get("kill"):
                os._exit(9)
            if order.get("fail"):
                raise PipelineError("fine_tuning: no memory; lower the batch")
            lay_release(order["make"], order["verdict"], read_json(artifacts.CHAMPION)["release"])
            return {"deployment": "Ran"}

        flows.retraining.run_pipeline = pipeline  # type: ignore[assignment]
        try:
            flows.retraining.retrain(order["reason"], order["trigger"], order.get("window", ""))
        except PipelineError as error:
            sys.stdout.write(f"{error}\n")


@pytest.fixture
def project(tmp_path: Path, empty_database: Path) -> Path:
    """A git checkout as a user has it, without stages."""
    folder = tmp_path / "project"
    folder.mkdir()
    lay_database(folder, empty_database)
    (folder / "dvc.yaml").write_text("stages: {}\n")
    settings = {"cool_down_hours": 1.0, "minimum_new_rows": 20, "commit": True}
    gate = {"undecided": "ask", "undecided_timeout_s": 120}
    values = {"monitoring": {"retraining": settings}, "evaluation": {"gate": gate}}
    (folder / "params.yaml").write_text(yaml.safe_dump(values))
    (folder / ".gitignore").write_text(".heptune/\nmodels/release/\nreports/\n")
    for words in (["init", "-q", "-b", "main"], ["add", "."], ["commit", "-q", "-m", "begin"]):
        subprocess.run([*GIT, *words], cwd=folder, check=True)
    return folder


def run(project: Path, prefect: str | None, *orders: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    names = {f"GIT_{who}_{what}": "t@localhost" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    return subprocess.run(
        [sys.executable, "-m", "tests.flows.test_retraining", json.dumps(orders)],
        cwd=project,
        env={**child_environment(), **names, **({"PREFECT_API_URL": prefect} if prefect else {})},
        capture_output=True,
        text=True,
        check=False,
    )


def answer_form(server: str, name: str) -> None:
    """Wait for a flow run that asks a person, and answer its form as the Prefect UI does."""
    body = {"flow_runs": {"name": {"any_": [name]}, "state": {"type": {"any_": ["PAUSED"]}}}}
    while not (paused := httpx.post(f"{server}/flow_runs/filter", json=body, timeout=30).json()):
        time.sleep(0.3)
    asked = httpx.post(
        f"{server}/flow_runs/{paused[0]['id']}/input/filter", json={"prefix": "paused", "limit": 10}, timeout=30
    ).json()
    assert any("three is undecided" in each["value"] for each in asked)
    form = {"name": "Ada", "reason": "the wording is better", "promote": True}
    url = f"{server}/flow_runs/{paused[0]['id']}/resume"
    while httpx.post(url, json={"run_input": form}, timeout=30).status_code == httpx.codes.SERVICE_UNAVAILABLE:
        time.sleep(0.5)


def journal(project: Path) -> list[dict[str, Any]]:
    path = project / ".heptune/decisions.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def test_what_a_retrain_does_and_records(project: Path, prefect: str) -> None:
    order = {"reason": "new words", "trigger": "drift", "window": "w1", "make": "one", "verdict": "promote"}
    # No variable names a server, but one of this checkout is up: the flow goes there and starts none of its own.
    write_json(project / RECORD, {"url": prefect, "server": show_mark(mark_process(os.getpid()))})
    assert run(project, None, order).returncode == 0
    name = {"flow_runs": {"name": {"any_": ["retraining: new words"]}}}
    assert len(httpx.post(f"{prefect}/flow_runs/filter", json=name, timeout=30).json()) == 1
    (project / RECORD).unlink()
    assert [d["decision"] for d in journal(project)] == ["refused"]
    assert journal(project)[0]["why"].startswith("0 corrected rows are waiting; 20 are needed")

    log_requests(project, corrected=30)
    answering = threading.Thread(target=answer_form, args=(prefect, "retraining: close"), daemon=True)
    answering.start()
    said = run(
        project,
        prefect,
        order,
        {**order, "window": "w2"},
        {**order, "trigger": "hand", "make": "two", "verdict": "keep"},
        {**order, "trigger": "hand", "reason": "try", "fail": True},
        {**order, "trigger": "hand", "reason": "close", "make": "three", "verdict": "undecided"},
    )
    answering.join(1)
    assert not answering.is_alive()
    assert said.returncode == 0, said.stderr
    assert "fine_tuning: no memory; lower the batch" in said.stdout
    found = journal(project)[1:]
    assert [(d["trigger"], d["decision"]) for d in found] == [
        ("drift", "started"), ("drift", "promoted"),
        ("drift", "refused"),
        ("hand", "started"), ("hand", "kept"),
        ("hand", "started"), ("hand", "failed"),
        ("hand", "started"), ("hand", "promoted"),
    ]  # fmt: skip
    assert found[0]["retrain"] == found[1]["retrain"] != found[3]["retrain"]
    assert found[0]["why"] == "30 corrected rows are waiting"
    assert found[1]["why"] == "one is promote"
    assert found[2]["why"].startswith("cooling down after the last retrain")
    assert found[4]["why"] == "two is keep"
    assert found[6]["why"] == "fine_tuning: no memory; lower the batch"
    assert found[8]["why"] == "undecided, and promoted by Ada: the wording is better; three is undecided"

    (version,) = (project / "data/raw/feedback").iterdir()
    rows = [json.loads(line) for line in version.read_text().splitlines()]
    assert len(rows) == 30
    assert "ann@example.org" not in version.read_text()
    assert found[1]["versions"]["feedback"] == [version.stem]
    assert found[1]["versions"]["champion"] is None
    assert found[4]["versions"]["champion"] == found[1]["versions"]["release"]
    assert read_json(project / "models/champion.json")["version"] == 1
    check_records(project, found)


def check_records(project: Path, found: list[dict[str, Any]]) -> None:
    """MLflow carries the end of each retrain; git has the inputs on branches, and the checkout is untouched."""
    from mlflow import MlflowClient

    wait_for_mlflow(project)
    client = MlflowClient(tracking_uri=f"sqlite:///{project / '.heptune/mlflow.db'}")
    number = client.get_experiment_by_name("heptune").experiment_id
    runs = client.search_runs([number], "tags.`heptune.kind` = 'retraining'", order_by=["attributes.start_time"])
    assert [r.data.tags["heptune.decision"] for r in runs] == ["promoted", "kept", "failed", "promoted"]
    assert runs[0].data.tags["heptune.reason"] == "new words"
    aliases = client.get_registered_model("heptune").aliases
    assert {name: int(version) for name, version in aliases.items()} == {"champion": 3, "previous": 1}
    tags = client.get_model_version("heptune", "3").tags
    assert (tags["promoted_because"], tags["forced"]) == ("Ada: the wording is better", "yes")

    def git(*words: str) -> str:
        return subprocess.run([*GIT, *words], cwd=project, check=True, capture_output=True, text=True).stdout.strip()

    assert git("rev-parse", "--abbrev-ref", "HEAD") == "main"
    assert git("rev-list", "--count", "main") == "1"
    assert git("rev-parse", "retrain/new-words") == found[4]["versions"]["commit"]
    assert git("rev-parse", "retrain/new-words~1") == found[1]["versions"]["commit"]
    held = git("ls-tree", "-r", "--name-only", "retrain/new-words").splitlines()
    assert held == [
        ".gitignore", f"data/raw/feedback/{found[1]['versions']['feedback'][0]}.jsonl", "dvc.yaml",
        "models/champion.json", "params.yaml",
    ]  # fmt: skip


def test_feedback_that_cannot_be_prepared_is_set_aside_and_the_retrain_goes_on(project: Path, prefect: str) -> None:
    log_requests(project, corrected=30)
    order = {"reason": "again", "trigger": "hand", "make": "one", "verdict": "promote"}
    done = run(project, prefect, {**order, "poison": True}, {**order, "make": "two"})
    assert done.returncode == 0, done.stderr
    found = journal(project)
    assert [d["decision"] for d in found] == ["started", "promoted", "started", "promoted"]
    ((version, why),) = found[1]["versions"]["set_aside"].items()
    assert "bad_rows_few failed" in why
    assert found[1]["versions"]["feedback"] == []
    assert [path.name for path in (project / "data/raw/feedback/refused").iterdir()] == [f"{version}.jsonl"]
    # Its rows are not taken again.
    assert not list((project / "data/raw/feedback").glob("*.jsonl"))


def test_a_failure_that_feedback_does_not_cause_leaves_it_where_it_is(project: Path, prefect: str) -> None:
    log_requests(project, corrected=30)
    run(project, prefect, {"reason": "x", "trigger": "hand", "make": "one", "verdict": "promote", "fail": True})
    assert [d["decision"] for d in journal(project)] == ["started", "failed"]
    assert len(list((project / "data/raw/feedback").glob("*.jsonl"))) == 1


def test_one_key_alone_is_limited_and_the_journal_says_so(project: Path, prefect: str) -> None:
    log_requests(project, corrected=30, key="0123456789abcdef")
    order = {"reason": "again", "trigger": "drift", "make": "one", "verdict": "promote"}
    assert run(project, prefect, order).returncode == 0
    why = journal(project)[0]["why"]
    assert why.startswith("20 corrected rows are waiting; 10 of 30 corrected rows of key 0123456789abcdef are left out")
    (version,) = (project / "data/raw/feedback").iterdir()
    assert len(version.read_text().splitlines()) == 20
    report = json.loads((project / ".heptune/feedback_set_aside.json").read_text())
    assert report["left_out"][0]["left_out"] == 10
    assert (project / ".heptune/feedback_set_aside.json").stat().st_mode & 0o777 == 0o600


@pytest.mark.slow
def test_a_killed_retrain_is_taken_up_by_the_next(project: Path, prefect: str) -> None:
    """Its rows still count as new, the cool-down does not hold, and its slot comes back within a lease."""
    log_requests(project, corrected=30)
    order = {"reason": "drift", "trigger": "drift", "make": "one", "verdict": "promote"}
    assert run(project, prefect, {**order, "kill": True}).returncode == 9
    assert [d["decision"] for d in journal(project)] == ["started"]
    assert run(project, prefect, order).returncode == 0
    assert [d["decision"] for d in journal(project)] == ["started", "started", "promoted"]
    assert len(list((project / "data/raw/feedback").iterdir())) == 1


def test_one_at_a_time(project: Path, prefect: str) -> None:
    order = {"reason": "again", "trigger": "hand", "make": "one", "verdict": "promote"}
    with FileLock(project / ".heptune/retrain.lock"):
        assert run(project, prefect, order).returncode == 0
    assert [(d["decision"], d["why"]) for d in journal(project)] == [
        ("refused", "another retrain is running in this checkout")
    ]


def test_drift_is_announced_once_a_window(project: Path, prefect: str) -> None:
    verdict = project / "reports/monitoring/verdict.json"
    orders = [{"announce": True, "consecutive": 2}]
    said = []
    for window in ("a", "b", "b", "c"):
        outcome = "no_drift" if window == "c" else "drift"
        write_json(verdict, {"verdict": outcome, "reasons": ["new words"], "rows": 9, "window": window})
        said.append(run(project, prefect, *orders).stdout.strip())
    assert said == ["False", "True", "True", "False"]
    events: list[dict[str, Any]] = []
    for _ in range(60):
        question = {"filter": {"event": {"name": ["heptune.drift.detected"]}}}
        events = httpx.post(f"{prefect}/events/filter", json=question, timeout=30).json()["events"]
        if events:
            break
        time.sleep(0.5)
    assert len({event["id"] for event in events}) == len(events) == 1
    assert events[0]["resource"]["prefect.resource.id"] == "heptune.model.heptune"
    assert events[0]["payload"] == {"window": "b", "reason": "new words", "reasons": ["new words"], "rows": 9}


def test_snapshot_freezes_the_champions_traffic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from flows.wiring.releases.registry import Registry
    from flows.wiring.releases.snapshot import snapshot

    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text("{}\n")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    registry = Registry("helper", tmp_path / "releases", f"sqlite:///{tmp_path / 'mlflow.db'}")
    url = f"sqlite:///{tmp_path / '.heptune/requests.db'}"
    with pytest.raises(PipelineError, match='"helper" has no champion, so there is no baseline'):
        snapshot(url, registry=registry)

    release = registry.register(lay_release("one", "promote", None)).release
    registry.promote()
    log_requests(tmp_path, corrected=2, release=release)
    store = open_store(url)
    from tasks.contracts.records import RequestLog

    store.insert([request_row(RequestLog.model_validate(make_request("old", number=999)))], [])
    store.close()
    frozen = snapshot(url, rows=50, registry=registry)
    assert (frozen.release, frozen.window_rows, frozen.baseline_rows) == (release, 50, 40)
    window = read_table(Path("data/production/window.parquet"), REQUESTS)
    # The newest fifty of the champion's sixty; the request of another release is newer still, and left out.
    assert window["id"].to_pylist() == [f"r{n}" for n in range(10, 60)]
    assert read_table(Path("data/production/baseline.parquet"), REQUESTS) == make_table(make_traffic(40, 1).to_pylist())
    before = Path("data/production/window.parquet").read_bytes()
    snapshot(url, rows=50, registry=registry)
    assert Path("data/production/window.parquet").read_bytes() == before
    assert snapshot(url, since=1055.0, registry=registry).window_rows == 5


if __name__ == "__main__":
    drive(json.loads(sys.argv[1]))
