"""Nothing that was flushed is lost: not when the process is killed, not when the tracking server is gone."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

from tests.flows.small import child_environment

KILLED = """
import os
from flows.wiring.settings import configure
configure()
from flows.wiring.recording import Recorder
recorder = Recorder("fine_tuning", "p1", {"heptune.stage": "fine_tuning"})
for step in range(2500):
    recorder.metrics(step, {"loss": 1.0 / (step + 1), "rate": float(step)})
recorder.flush()
os.kill(os.getpid(), 9)
"""

GONE = """
from flows.wiring.settings import configure
configure()
from flows.wiring.recording import Recorder
recorder = Recorder("evaluation", "p2", {"heptune.stage": "evaluation"})
recorder.metrics(1, {"score": 0.5})
recorder.metrics(2, {"score": 0.75})
recorder.finish("FINISHED")
"""

SENT = """
from flows.wiring.settings import configure
configure()
from flows.wiring.recording import send_unsent
print(send_unsent())
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


def test_flushed_metrics_survive_a_kill(tmp_path: Path) -> None:
    (tmp_path / "dvc.yaml").touch()
    done = python(KILLED, tmp_path)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert values(tmp_path, "loss") == [(step, 1.0 / (step + 1)) for step in range(2500)]
    assert len(values(tmp_path, "rate")) == 2500


def test_what_a_missing_server_did_not_take_is_kept_and_sent_later(tmp_path: Path) -> None:
    (tmp_path / "dvc.yaml").touch()
    away = python(GONE, tmp_path, MLFLOW_TRACKING_URI="http://127.0.0.1:9")
    assert away.returncode == 0, away.stderr
    assert "did not answer; its entries are kept" in away.stderr
    kept = list((tmp_path / ".heptune/unsent").iterdir())
    assert len(kept) == 1
    still_away = python(SENT, tmp_path, MLFLOW_TRACKING_URI="http://127.0.0.1:9")
    assert still_away.stdout.strip() == "0"
    assert kept[0].exists()
    back = python(SENT, tmp_path)
    assert back.stdout.strip() == "1", back.stderr
    assert not kept[0].exists()
    assert values(tmp_path, "score") == [(1, 0.5), (2, 0.75)]
    with sqlite3.connect(tmp_path / ".heptune/mlflow.db") as database:
        runs = database.execute("select name, status from runs order by name").fetchall()
    assert runs == [("evaluation", "FINISHED"), ("pipeline", "FINISHED")]


def test_telemetry_is_off_and_a_users_choice_is_kept(tmp_path: Path) -> None:
    (tmp_path / "dvc.yaml").touch()
    code = (
        "import os; from flows.wiring.settings import configure; configure(); print(os.environ['DO_NOT_TRACK'], "
        "os.environ['MLFLOW_DISABLE_TELEMETRY'], os.environ['PREFECT_SERVER_ANALYTICS_ENABLED'])"
    )
    assert python(code, tmp_path).stdout.split() == ["1", "true", "false"]
    assert python(code, tmp_path, DO_NOT_TRACK="0").stdout.split() == ["0", "true", "false"]
