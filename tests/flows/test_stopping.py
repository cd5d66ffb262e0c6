"""Signals end a command and its stage; kills leave nothing behind for long: no process, no run that seems to run."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from flows.wiring.processes import mark_process, show_mark
from flows.wiring.servers.server import RECORD
from flows.wiring.stage import MESSAGES, leave_message
from tests.checkout import ROOT
from tests.flows.small import child_environment, make_project, wait_for, wait_for_mlflow

STAGE = "data_preparation"
HEPTUNE = [sys.executable, "-m", "flows", "run", STAGE]
DVC = ["dvc", "repro", STAGE]


@pytest.fixture
def project(tmp_path: Path, empty_database: Path) -> Path:
    folder = make_project(tmp_path / "project", empty_database)
    (folder / "trouble").mkdir()
    return folder


def start(project: Path, words: list[str], kind: str = "wait", **extra: str) -> subprocess.Popen[str]:
    """A command whose stage is at work when this returns."""
    (project / "trouble" / STAGE).write_text(kind)
    process = subprocess.Popen(
        words,
        cwd=project,
        env={**child_environment(), **extra},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # Tests may themselves be run by nohup, which commands inherit.
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),
    )
    wait_for(project / "trouble" / f"{STAGE}.began", 120)
    return process


def stage_of(project: Path) -> psutil.Process:
    """The process of the stage at work."""
    (record,) = (project / ".heptune/processes").glob("*.json")
    return psutil.Process(int(record.stem.partition("-")[0]))


def processes_in(project: Path) -> list[psutil.Process]:
    """All processes at work in a project."""
    found = []
    for process in psutil.process_iter():
        try:
            if Path(process.cwd()) == project and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.Error, OSError):
            continue
    return found


def until(condition: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"it did not happen in {seconds:.0f} s"
        time.sleep(0.1)


def run_again(project: Path, **extra: str) -> None:
    """The stage, without the trouble."""
    shutil.rmtree(project / "trouble")
    done = subprocess.run(
        HEPTUNE, cwd=project, env={**child_environment(), **extra}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert (project / "work" / f"{STAGE}.txt").is_file()


def states(project: Path) -> set[tuple[str, str]]:
    """Flow and task runs by state in the local Prefect server's database."""
    with sqlite3.connect(project / ".heptune/prefect/prefect.db") as database:
        rows = database.execute("select name, state_type from flow_run union select name, state_type from task_run")
        return set(rows.fetchall())


def in_mlflow(project: Path) -> list[tuple[str, str]]:
    """Names, without the date of a pipeline's, and status of all runs."""
    wait_for_mlflow(project)
    with sqlite3.connect(project / ".heptune/mlflow.db") as database:
        runs = database.execute("select name, status from runs order by rowid").fetchall()
    return [(name.split(",")[0], status) for name, status in runs]


def test_signals_end_the_command_and_its_stage_for_good(project: Path, prefect: str) -> None:
    """Whichever of the two gets the signal: within 10 s, in one line, with the shell's exit code, and never again."""

    def to_both(process: subprocess.Popen[str], number: int) -> None:
        os.killpg(process.pid, number)

    def to_command(process: subprocess.Popen[str], number: int) -> None:
        process.send_signal(number)

    def to_stage(_process: subprocess.Popen[str], number: int) -> None:
        stage_of(project).send_signal(number)

    cases = (
        (signal.SIGINT, to_both, "wait", 130),
        (signal.SIGINT, to_command, "wait", 130),
        (signal.SIGTERM, to_command, "stuck", 143),
        (signal.SIGTERM, to_stage, "stuck", 143),
        (signal.SIGHUP, to_both, "wait", 129),
    )
    others = {run["id"] for run in stage_runs(prefect)}
    for number, send, kind, code in cases:
        process = start(project, HEPTUNE, kind, PREFECT_API_URL=prefect)
        below = psutil.Process(process.pid).children(recursive=True)
        below = [child for child in below if "flows.wiring.runs.sending" not in child.cmdline()]
        (project / f"trouble/{STAGE}.began").unlink()
        began = time.monotonic()
        send(process, number)
        _, errors = process.communicate(timeout=60)
        gone, alive = psutil.wait_procs(below, timeout=max(0.0, began + 10 - time.monotonic()))
        assert (alive, len(gone)) == ([], len(below)), (number, send.__name__)
        assert time.monotonic() - began < 10
        assert process.returncode == code, errors
        name = signal.Signals(number).name
        last = f"heptune: stopped by {name}; what is finished is kept, the next run goes on from there"
        assert errors.splitlines()[-1] == last
        assert "Traceback" not in errors
        assert not (project / f"trouble/{STAGE}.began").exists(), "it was started again"
    until(lambda: not processes_in(project), 30)
    run_again(project, PREFECT_API_URL=prefect)
    assert set(in_mlflow(project)[:-2]) == {("by hand", "KILLED"), (STAGE, "KILLED")}
    found = [run["state_type"] for run in stage_runs(prefect) if run["id"] not in others]
    # The stuck ones could not say it themselves; the next command did.
    assert sorted(found) == ["COMPLETED", *["CRASHED"] * len(cases)]


def stage_runs(server: str) -> list[dict[str, Any]]:
    """All flow runs of the stage that a Prefect server knows."""
    body = {"flow_runs": {"name": {"any_": [STAGE]}}}
    found: list[dict[str, Any]] = httpx.post(f"{server}/flow_runs/filter", json=body, timeout=30).json()
    return found


def test_a_command_whose_stage_was_stopped_ends_in_time_too() -> None:
    """Whatever keeps it, though it got no signal itself."""
    code = "import time; from flows.wiring.stopping import *; listen(0.5, last_words='so'); {}end_in_time(15)"
    for said in ("", "say_last_words(15); "):
        command = [sys.executable, "-c", f"{code.format(said)}; time.sleep(60)"]
        done = subprocess.run(command, cwd=ROOT, timeout=30, check=False, capture_output=True, text=True)
        assert done.returncode == 128 + signal.SIGTERM
        assert done.stderr == "heptune: stopped by SIGTERM; so\n"


def test_a_command_under_nohup_outlives_its_terminal() -> None:
    code = (
        "import os, signal, time; from flows.wiring.stopping import *; signal.signal(signal.SIGHUP, signal.SIG_IGN); "
        "listen(0.2); os.kill(os.getpid(), signal.SIGHUP); time.sleep(1); print('alive')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, timeout=30, check=False, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, "alive\n"), done.stderr


@pytest.mark.slow
def test_a_second_ctrl_c_ends_at_once(project: Path, prefect: str) -> None:
    process = start(project, HEPTUNE, "stuck", PREFECT_API_URL=prefect)
    below = [found for found in processes_in(project) if found.name() == "sleep"]
    os.killpg(process.pid, signal.SIGINT)
    time.sleep(1.2)
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(2) == 130
    assert len(below) == 1
    psutil.wait_procs(below, timeout=2)
    assert not below[0].is_running()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_stage_ends_with_dvc(project: Path, prefect: str, number: int) -> None:
    process = start(project, DVC, PREFECT_API_URL=prefect)
    stage = stage_of(project)
    (os.killpg if number == signal.SIGINT else os.kill)(process.pid, number)
    process.communicate(timeout=60)
    psutil.wait_procs([stage], timeout=10)
    assert not stage.is_running()
    run_again(project, PREFECT_API_URL=prefect)


@pytest.mark.slow
def test_what_a_killed_command_left_is_brought_to_an_end(project: Path) -> None:
    """The local server ends by itself, the stage too, and no run counts as running after the next command."""
    process = start(project, HEPTUNE, "stuck")
    url, _ = read_record_of(project)
    stage = stage_of(project)
    process.kill()
    stage.kill()  # at the same time, so that neither says a word
    process.wait(10)
    until(lambda: not is_up(url), 15)
    assert "RUNNING" in {state for _, state in states(project)}
    sleeping = [found for found in processes_in(project) if found.name() == "sleep"]
    assert len(sleeping) == 1, "the stage was killed before it could end its child"
    run_again(project)
    psutil.wait_procs(sleeping, timeout=1)
    assert not sleeping[0].is_running()
    assert states(project) >= {("pipeline: by hand", "CRASHED"), (STAGE, "CRASHED"), (STAGE, "COMPLETED")}
    assert "RUNNING" not in {state for _, state in states(project)}
    assert {status for _, status in in_mlflow(project)} == {"KILLED", "FINISHED"}
    until(lambda: not processes_in(project), 30)
    assert not list((project / ".heptune/processes").iterdir())
    assert not (project / RECORD).exists()


def read_record_of(project: Path) -> tuple[str, int]:
    record = json.loads((project / RECORD).read_text())
    return record["url"], int(record["server"].partition("-")[0])


def is_up(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health", timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


@pytest.mark.slow
def test_a_server_that_is_killed_while_it_starts_is_started_once_more(project: Path) -> None:
    """Also past records: of a process that is gone, and of one whose id another process has now."""
    mark = mark_process(os.getpid())
    folder = (project / RECORD).parent
    folder.mkdir(parents=True)
    (project / RECORD).write_text(
        json.dumps({"url": "http://127.0.0.1:9/api", "server": show_mark((mark[0], mark[1] + 5, mark[2]))})
    )
    (project / ".heptune/processes").mkdir()
    other = project / f".heptune/processes/{show_mark((mark[0], mark[1] + 5, mark[2]))}.json"
    other.write_text('{"owner": null}')
    (project / "trouble" / STAGE).unlink(missing_ok=True)
    process = subprocess.Popen(
        HEPTUNE, cwd=project, env=child_environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )

    def server() -> psutil.Process | None:
        found = [
            c for c in psutil.Process(process.pid).children() if "flows.wiring.servers.serving_prefect" in c.cmdline()
        ]
        return found[0] if found else None

    until(lambda: server() is not None, 60)
    first = server()
    assert first is not None
    first.kill()
    _, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors
    assert not other.exists()
    assert psutil.pid_exists(os.getpid())


@pytest.mark.slow
def test_a_server_is_shared_until_its_last_user_has_ended(project: Path) -> None:
    """A second command goes on although the one that started the server has ended."""
    first = start(project, HEPTUNE)
    url, _ = read_record_of(project)
    code = (
        "import os, time; from flows.wiring.settings import configure; os.chdir(configure())\n"
        "from flows.wiring.servers.server import ensure_server\nprint(ensure_server(), flush=True)\ninput()"
    )
    second = subprocess.Popen(
        [sys.executable, "-c", code], cwd=project, env=child_environment(),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert second.stdout is not None
    assert second.stdout.readline().strip() == url
    first.kill()
    first.communicate()
    time.sleep(3)
    assert is_up(url)
    second.communicate("\n", timeout=30)
    until(lambda: not is_up(url), 15)


def test_a_message_for_a_pipeline_that_is_gone_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped together, the pipeline may remove the folder of its messages before the stage leaves one."""
    monkeypatch.setenv(MESSAGES, str(tmp_path))
    assert leave_message("stopped", "15")
    assert (tmp_path / "stopped").read_text() == "15"
    monkeypatch.setenv(MESSAGES, str(tmp_path / "gone"))
    assert leave_message("stopped", "15")
    monkeypatch.delenv(MESSAGES)
    assert not leave_message("stopped", "15")
