"""Nothing that was recorded is lost: not when a process is killed, not when the tracking server is gone."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from flows.wiring import artifacts
from flows.wiring.processes import mark_process
from flows.wiring.runs.entry_file import EntryFile, settle
from flows.wiring.runs.mlflow_entries import escape
from flows.wiring.runs.recording import UNANSWERED, UNSENT, Recorder, ensure_sender
from flows.wiring.runs.sending import Sender, experiment_id
from flows.wiring.versions import lineage
from tests.flows.small import child_environment, wait_for, wait_for_mlflow

KILLED = """
import os
from flows.wiring.settings import configure
configure()
from flows.wiring.processes import mark_process
from flows.wiring.runs.recording import Recorder
recorder = Recorder("fine_tuning", "p1", {"heptune.stage": "fine_tuning"}, mark_process(os.getpid()))
for step in range(2500):
    recorder.metrics(step, {"loss": 1.0 / (step + 1), "rate": float(step)})
os.kill(os.getpid(), 9)
"""

GONE = """
from flows.wiring.settings import configure, log_to_terminal
configure()
log_to_terminal()
from flows.wiring.runs.recording import Recorder, wait_until_sent, warn_unanswered
recorder = Recorder("evaluation", "p2", {"heptune.stage": "evaluation"})
recorder.metrics(1, {"score": 0.5})
recorder.metrics(2, {"score": 0.75})
recorder.finish("FINISHED")
wait_until_sent(120)
warn_unanswered()
warn_unanswered()
"""

SENT = """
from flows.wiring.settings import configure
configure()
from flows.wiring.runs.recording import ensure_sender, wait_until_sent
ensure_sender()
print(int(wait_until_sent(120)))
"""


def python(code: str, folder: Path, **extra: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env={**child_environment(), **extra},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def values(folder: Path, key: str) -> list[tuple[int, float]]:
    with sqlite3.connect(folder / ".heptune/mlflow.db") as database:
        return database.execute("select step, value from metrics where key = ? order by step", [key]).fetchall()


def runs(folder: Path) -> list[tuple[str, str]]:
    with sqlite3.connect(folder / ".heptune/mlflow.db") as database:
        found = database.execute("select name, status from runs order by name desc").fetchall()
    # The pipeline's run is named by its reason and the time.
    return [(re.sub(r", \d{4}-\d\d-\d\d \d\d:\d\d$", "", name), status) for name, status in found]


def test_recorded_metrics_survive_a_kill(tmp_path: Path) -> None:
    (tmp_path / "dvc.yaml").touch()
    done = python(KILLED, tmp_path)
    assert done.returncode == -signal.SIGKILL, done.stderr
    wait_for_mlflow(tmp_path)
    assert values(tmp_path, "loss") == [(step, 1.0 / (step + 1)) for step in range(2500)]
    assert len(values(tmp_path, "rate")) == 2500
    assert runs(tmp_path) == [("fine_tuning", "KILLED"), ("dvc repro", "KILLED")]


def test_what_a_missing_server_did_not_take_is_kept_and_sent_later(tmp_path: Path) -> None:
    (tmp_path / "dvc.yaml").touch()
    away = python(GONE, tmp_path, MLFLOW_TRACKING_URI="http://127.0.0.1:9")
    assert away.returncode == 0, away.stderr
    assert away.stderr.count("did not answer; its entries are kept") == 1
    kept = list((tmp_path / ".heptune/unsent").iterdir())
    assert len(kept) == 1
    still_away = python(SENT, tmp_path, MLFLOW_TRACKING_URI="http://127.0.0.1:9")
    assert still_away.stdout.strip() == "0"
    assert kept[0].exists()
    back = python(SENT, tmp_path)
    assert back.stdout.strip() == "1", back.stderr
    assert not kept[0].exists()
    assert values(tmp_path, "score") == [(1, 0.5), (2, 0.75)]
    assert runs(tmp_path) == [("evaluation", "FINISHED"), ("dvc repro", "FINISHED")]


def test_a_sender_that_is_killed_is_followed_by_the_next(tmp_path: Path) -> None:
    """The first is killed while a run is at work; the run ends unheard, and a sender started later completes it."""
    (tmp_path / "dvc.yaml").touch()
    code = GONE.replace("recorder.metrics(2", "input()\nrecorder.metrics(2").split("wait_until_sent(120)")[0]
    writer = subprocess.Popen(
        [sys.executable, "-c", code], cwd=tmp_path, env=child_environment(), stdin=subprocess.PIPE, text=True
    )
    database = tmp_path / ".heptune/mlflow.db"
    pid = tmp_path / ".heptune/sender/pid"
    try:
        wait_for(pid)
        deadline = time.monotonic() + 120
        while not (database.is_file() and has_metrics(database)):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        os.kill(int(pid.read_text()), signal.SIGKILL)
    finally:
        writer.communicate("\n", timeout=60)
    assert len(list((tmp_path / ".heptune/unsent").iterdir())) == 1
    assert values(tmp_path, "score") == [(1, 0.5)]
    wait_for_mlflow(tmp_path)
    assert values(tmp_path, "score") == [(1, 0.5), (2, 0.75)]
    assert runs(tmp_path) == [("evaluation", "FINISHED"), ("dvc repro", "FINISHED")]


def has_metrics(database: Path) -> bool:
    with sqlite3.connect(database) as connection:
        try:
            return bool(connection.execute("select 1 from metrics where key = 'score'").fetchall())
        except sqlite3.OperationalError:
            return False


# -- the sender, in this process ---------------------------------------------------------------------


@pytest.fixture
def uri(empty_database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A checkout's MLflow; senders are started by hand."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mlflow.db").write_bytes(empty_database.read_bytes())
    address = f"sqlite:///{tmp_path / 'mlflow.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    monkeypatch.setattr("flows.wiring.runs.recording.ensure_sender", lambda: None)
    Path(".heptune/sender").mkdir(parents=True)
    return address


def recorded(uri: str) -> dict[str, Any]:
    """The runs of stages by name."""
    client = MlflowClient(tracking_uri=uri)
    found = client.search_runs([experiment_id(client)])
    return {run.info.run_name: run for run in found if "heptune.kind" not in run.data.tags}


def send(uri: str) -> bool:
    sender = Sender(uri)
    sender.look()
    return sender.send_all()


def test_what_mlflow_refuses_is_set_aside_and_holds_up_nothing(uri: str) -> None:
    first = Recorder("evaluation", "p", {"heptune.stage": "evaluation"})
    first.params({"same": 1, "what?": 2})
    first.params({"other": 3, "same": "another value", "third": 4})
    first.metrics(1, {"score?": 0.5, "loss": 0.25})
    with first.path.open("a") as stream:
        stream.write("no JSON\n" + json.dumps({"kind": "dance"}) + "\n" + json.dumps({"kind": "tags"}) + "\n")
    first.tags({"after": "all"})
    first.finish("FINISHED")
    second = Recorder("deployment", "p", {})
    second.finish("FINISHED")
    assert send(uri)
    found = recorded(uri)
    data = found["evaluation"].data
    assert data.params == {"same": "1", "what:3f": "2", "other": "3", "third": "4"}
    assert data.metrics == {"score:3f": 0.5, "loss": 0.25}
    assert data.tags["after"] == "all"
    assert {run.info.status for run in found.values()} == {"FINISHED"}
    assert not list(UNSENT.iterdir())
    refused = [json.loads(line) for line in (artifacts.REFUSED / first.path.name).read_text().splitlines()]
    assert [entry["entry"] for entry in refused] == [
        {"kind": "params", "values": {"same": "another value"}},
        {"kind": "dance"},
        {"kind": "tags"},
        "no JSON\n",
    ]
    assert "already logged" in refused[0]["reason"] or "Changing param values" in refused[0]["reason"]


def test_a_file_without_a_beginning_is_set_aside(uri: str) -> None:
    UNSENT.mkdir()
    (UNSENT / "1-torn.jsonl").write_text('{"kind": "cre\n{"kind": "tags", "values": {"a": "b"}}\n')
    assert send(uri)
    assert not list(UNSENT.iterdir())
    assert len((artifacts.REFUSED / "1-torn.jsonl").read_text().splitlines()) == 2


def test_sending_twice_changes_nothing(uri: str) -> None:
    """As after a sender that was killed between telling MLflow and noting it."""
    run = Recorder("evaluation", "p", {})
    run.params({"a": 1})
    run.metrics(1, {"loss": 0.5})
    Path("page.html").write_text("a page")
    run.artifact(Path("page.html"))
    run.table("answers.json", {"prompt": ["Where?", "When?"], "candidate": ["Here.", "您好"], "loss": [0.5, None]})
    run.table("nothing.json", {})
    Path("page.html").write_text("of a later run")
    sender = Sender(uri)
    sender.look()
    assert sender.send_all()
    (state,) = Path(".heptune/sender").glob("*.json")
    state.write_text(json.dumps({"offset": 0, "run": None, "creating": True, "uri": uri}))
    run.metrics(2, {"loss": 0.25})
    run.finish("FINISHED")
    assert send(uri)
    client = MlflowClient(tracking_uri=uri)
    assert len(client.search_runs([experiment_id(client)])) == 2
    (found,) = recorded(uri).values()
    history = client.get_metric_history(found.info.run_id, "loss")
    assert [(metric.step, metric.value) for metric in history] == [(1, 0.5), (2, 0.25)]
    (page,) = Path(".heptune/mlflow-artifacts").rglob("page.html")
    assert page.read_text() == "a page"
    table = client.load_table(experiment_id(client), "answers.json", extra_columns=["run_id"])
    assert table["candidate"].tolist() == ["Here.", "您好"], "sent twice, there once"
    assert (table["loss"][0], table["run_id"].unique().tolist()) == (0.5, [found.info.run_id])
    assert json.loads(found.data.tags["mlflow.loggedArtifacts"]) == [{"path": "answers.json", "type": "table"}]
    assert not list(Path(".heptune/sender/files").iterdir())


def test_a_bulky_page_is_kept_with_the_newest_runs_only(uri: str) -> None:
    client = MlflowClient(tracking_uri=uri)
    for number in range(4):
        run = Recorder("monitoring", "p", {})
        for name in ("evidently.html", "index.html"):
            Path(name).write_text(f"window {number}")
            run.artifact(Path(name), "report")
        run.keep_newest("report/evidently.html", 2)
        run.finish("FINISHED")
        assert send(uri)
    found = client.search_runs([experiment_id(client)], "attributes.run_name = 'monitoring'")
    kept = {}
    for run_kept in sorted(found, key=lambda each: each.info.start_time):
        paths = client.list_artifacts(run_kept.info.run_id, "report")
        kept[run_kept.info.run_id] = [Path(each.path).name for each in paths]
    whole, rest = ["evidently.html", "index.html"], ["index.html"]
    assert list(kept.values()) == [rest, rest, whole, whole]


def test_an_entry_at_which_the_server_fails_again_and_again_is_set_aside(
    uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    log_batch = MlflowClient.log_batch

    def fail(client: MlflowClient, run_id: str, *args: Any, **kwargs: Any) -> Any:
        if any(metric.key == "bad" for metric in kwargs.get("metrics", ())):
            raise MlflowException("the server stumbled")
        return log_batch(client, run_id, *args, **kwargs)

    monkeypatch.setattr(MlflowClient, "log_batch", fail)
    run = Recorder("evaluation", "p", {})
    run.metrics(1, {"good": 1.0, "bad": 2.0})
    run.finish("FINISHED")
    other = Recorder("deployment", "p", {})
    other.metrics(1, {"good": 1.0})
    other.finish("FINISHED")
    sender = Sender(uri)
    sender.look()
    assert [sender.send_all() for _ in range(4)] == [False, False, False, True]
    found = recorded(uri)
    assert found["evaluation"].data.metrics == found["deployment"].data.metrics == {"good": 1.0}
    assert "the server stumbled" in (artifacts.REFUSED / run.path.name).read_text()


def test_a_silent_server_is_told_of_once_each_time(
    uri: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A short run may end before its sender knows; then the next run says it."""
    started = list[Any]()
    monkeypatch.setattr("flows.wiring.runs.recording.subprocess.Popen", lambda words, **_: started.append(words))
    told = []
    for since in (1.0, 1.0, 2.0):
        UNANSWERED.write_text(json.dumps({"uri": "http://127.0.0.1:9", "since": since}))
        ensure_sender()
        assert not UNANSWERED.exists()
        told.append(caplog.text.count("the MLflow server at http://127.0.0.1:9 did not answer"))
    assert told == [1, 1, 2]
    assert len(started) == 3


def lock(stage: str, figures: str, out: str) -> None:
    """Write what DVC would after a stage."""
    outs = [{"path": "models/out", "md5": out}, {"path": f"reports/{stage}/metrics.json", "md5": figures}]
    deps = [{"path": "data/in", "md5": "a" * 32}, {"path": "tasks/x", "md5": "b" * 32}]
    Path("dvc.lock").write_text(yaml.safe_dump({"stages": {stage: {"deps": deps, "outs": outs}}}))


def test_hashes_are_those_that_dvc_wrote_after_this_run(uri: str) -> None:
    stage, figures = "evaluation", Path("reports/evaluation/metrics.json")
    figures.parent.mkdir(parents=True)
    figures.write_text("{}")
    digest = "99914b932bd37a50b983c5e7c90ae93b"  # of "{}"
    lock(stage, digest, "0" * 32)
    run = Recorder(stage, "p", {}, mark_process(os.getpid()))
    run.finish("FINISHED", lineage.describe_written(stage))
    file = EntryFile(run.path)
    settle(file)
    assert not file.ended, "dvc.lock is still the one of the run before"
    lock(stage, "f" * 32, "1" * 32)
    time.sleep(lineage.SETTLED_S)
    settle(file)
    assert not file.ended, "the entry is of other figures"
    lock(stage, digest, "2" * 32)
    settle(file)
    assert not file.ended, "DVC may still be writing"
    time.sleep(lineage.SETTLED_S)
    settle(file)
    assert file.ended
    assert send(uri)
    (found,) = recorded(uri).values()
    tags = {key: value for key, value in found.data.tags.items() if key.startswith("dvc.")}
    assert tags == {
        "dvc.dep.data/in": "a" * 32,
        "dvc.dep.tasks/x": "b" * 32,
        "dvc.out.models/out": "2" * 32,
        "dvc.out.reports/evaluation/metrics.json": digest,
    }
    inputs = [(item.dataset.name, item.dataset.digest) for item in found.inputs.dataset_inputs]
    assert inputs == [("data/in", "a" * 32)]


def test_no_hashes_where_dvc_ended_without_writing_its_lock(uri: str) -> None:
    run = Recorder("evaluation", "p", {}, mark_process(os.getpid()))
    run.finish("FINISHED", lineage.describe_written("evaluation"))
    text = run.path.read_text().replace(
        json.dumps(mark_process(os.getpid())), json.dumps([os.getpid(), 1.0, socket.gethostname()])
    )
    run.path.write_text(text)
    file = EntryFile(run.path)
    settle(file)
    assert file.ended
    assert send(uri)
    (found,) = recorded(uri).values()
    assert found.info.status == "FINISHED"
    assert not [key for key in found.data.tags if key.startswith("dvc.")]


@pytest.mark.parametrize(
    ("key", "escaped"),
    [
        ("data/prepared/train.parquet", "data/prepared/train.parquet"),
        ("what?", "what:3f"),
        ("a//b", "a:2f:2fb"),
        ("../up", ":2e.:2fup"),
        ("", ":-"),
        (":-", ":3a-"),
        ("?a", ":3f:61"),
        (":", ":"),
        ("what:3f", "what:3a:33:66"),
        ("1:1", "1:3a:31"),
        ("\ud800", ":d800"),
        ("日本", "日本"),
        ("/top", ":2ftop"),
        ("x" * 251, "x" * 237 + ":" + hashlib.sha256(b"x" * 251).hexdigest()[:12]),
    ],
)
def test_escaped_keys_are_taken_by_mlflow(key: str, escaped: str, uri: str) -> None:
    assert escape(key) == escaped
    client = MlflowClient(tracking_uri=uri)
    run = client.create_run(experiment_id(client)).info.run_id
    client.log_param(run, escape(key), 1)
    assert client.get_run(run).data.params == {escape(key): "1"}


def test_no_label_merges_with_another_or_holds_up_the_queue(uri: str) -> None:
    keys = [
        "plain",
        "what?",
        "what:3f",
        "/",
        "//",
        "..",
        ".",
        "a/../b",
        "",
        ":",
        ":0",
        ":-",
        "\11",
        "\x11",
        "x" * 300,
        "x" * 299 + "y",
    ]
    keys += ["a\nb", "a\tb", "café", "\N{GRINNING FACE}", "a/", "/a", " a ", "a.", "\0", "a\\b", "é" * 260, "%", " "]
    first = Recorder("evaluation", "p", {})
    first.metrics(1, {key: float(index) for index, key in enumerate(keys)})
    first.params({key: index for index, key in enumerate(keys)})
    first.tags({key: str(index) for index, key in enumerate(keys)})
    first.finish("FINISHED")
    Recorder("deployment", "p", {}).finish("FINISHED")
    assert send(uri)
    found = recorded(uri)
    assert {run.info.status for run in found.values()} == {"FINISHED"}
    data = found["evaluation"].data
    assert data.metrics == {escape(key): float(index) for index, key in enumerate(keys)}
    assert data.params == {escape(key): str(index) for index, key in enumerate(keys)}
    assert {key: data.tags[escape(key)] for key in keys} == {key: str(index) for index, key in enumerate(keys)}
    assert not list(UNSENT.iterdir())
    assert not artifacts.REFUSED.exists()


def test_telemetry_is_off_and_a_users_choice_is_kept(tmp_path: Path) -> None:
    (tmp_path / "dvc.yaml").touch()
    code = (
        "import os; from flows.wiring.settings import configure; configure(); print(os.environ['DO_NOT_TRACK'], "
        "os.environ['MLFLOW_DISABLE_TELEMETRY'], os.environ['PREFECT_SERVER_ANALYTICS_ENABLED'])"
    )
    assert python(code, tmp_path).stdout.split() == ["1", "true", "false"]
    assert python(code, tmp_path, DO_NOT_TRACK="0").stdout.split() == ["0", "true", "false"]


def test_settings_of_memory_reach_what_is_started(tmp_path: Path) -> None:
    (tmp_path / "dvc.yaml").touch()
    code = (
        "import os; from flows.wiring.settings import MEMORY, configure\n"
        "for name in MEMORY: os.environ.pop(name, None)\n"
        "configure(); print(MEMORY.items() <= os.environ.items())"
    )
    assert python(code, tmp_path).stdout.split() == ["True"]
