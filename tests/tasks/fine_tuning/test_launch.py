"""The stage's process and its ranks: what the first one says is heard, one that fails ends all, and none is left."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from tasks.contracts.errors import PipelineError
from tasks.fine_tuning.checkpoints import RunOrigin
from tasks.fine_tuning.launch import agent
from tasks.fine_tuning.launch.job import ARRAYS, Job, read_job, written
from tasks.fine_tuning.launch.messages import MessageSender, Receiver
from tasks.fine_tuning.origin import origin_of
from tasks.fine_tuning.rank import run_elsewhere
from tasks.training.answer_costs import AnswerCosts
from tasks.training.rows import TokenizedRows
from tests.checkout import ROOT
from tests.tasks.fine_tuning.small import make_plan, make_splits

PLAN = make_plan(world_size=2, distribution={"name": "ddp"})
LOST = [False, "RuntimeError: Connection closed by peer"]
ORIGIN = RunOrigin("data", "plan", "model", "code", "libraries", 2)


@pytest.fixture(autouse=True)
def fake_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent, "RANK", "tests.tasks.fine_tuning.fake_rank")


def make_job(folder: Path, **ends: Any) -> Job:
    folder.mkdir(exist_ok=True)
    (folder / "ends.json").write_text(json.dumps({name.removeprefix("rank"): end for name, end in ends.items()}))
    return Job(folder, PLAN, None, ORIGIN, folder, folder, 1)  # type: ignore[arg-type]  # they read no rows


def left(folder: Path) -> list[int]:
    pids = [int(path.read_text()) for path in folder.glob("pid-*")]
    return [pid for pid in pids if psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE]


def test_what_the_first_rank_says_is_heard_in_order(tmp_path: Path) -> None:
    job = make_job(tmp_path / "job", rank0=["tell", 12], rank1=["sleep", 0])
    heard: list[int] = []
    agent.run_ranks(job, Receiver(job.messages, {"metrics": lambda message: heard.append(message["step"])}).receive)
    assert heard == list(range(12))
    assert left(job.folder) == []


@pytest.mark.parametrize(
    ("ends", "words"),
    [
        (
            {"rank1": ["fail", [True, "step 3: the training loss is nan; lower it"]]},
            r"^step 3: the training loss is nan",
        ),
        ({"rank1": ["fail", [False, "Traceback\nKeyError: 'x'"]]}, r"^rank 1 failed:\nTraceback\nKeyError: 'x'$"),
        ({"rank1": ["signal", signal.SIGKILL]}, r"^rank 1 was killed \(SIGKILL\).* resumes from the last checkpoint$"),
        ({"rank1": ["exit", 3]}, r"^rank 1 ended with exit code 3 \(no such kernel\); run again"),
        # Rank 0 only lost rank 1.
        ({"rank0": ["lose", LOST], "rank1": ["signal", signal.SIGKILL]}, r"^rank 1 was killed"),
        ({"rank0": ["lose", LOST], "rank1": ["fail", [True, "the disk is full"]]}, r"^the disk is full$"),
    ],
    ids=["expected", "unexpected", "killed", "crashed", "lost-killed", "lost-failed"],
)
def test_one_that_fails_ends_all_with_its_reason(tmp_path: Path, ends: dict[str, Any], words: str) -> None:
    job, began = make_job(tmp_path / "job", **ends), time.monotonic()
    with pytest.raises(PipelineError, match=words):
        agent.run_ranks(job, lambda: None)
    assert time.monotonic() - began < 30  # 10 s on a machine that does nothing else
    assert left(job.folder) == []


def test_a_signal_to_the_stage_ends_the_ranks(tmp_path: Path) -> None:
    """Also those that do not hear SIGTERM."""
    job = make_job(tmp_path / "job", rank1=["stay", 60])

    def stop() -> None:
        if len(list(job.folder.glob("pid-*"))) == 2:
            time.sleep(0.2)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        agent.run_ranks(job, stop)
    assert left(job.folder) == []


def test_the_last_words_of_ranks_that_leave_are_heard(tmp_path: Path) -> None:
    job = make_job(tmp_path / "job", rank0=["leave", 7], rank1=["leave", 7])
    heard: list[int] = []
    receiver = Receiver(job.messages, {"metrics": lambda message: heard.append(message["step"])})

    def stop() -> None:
        receiver.receive()
        if not heard and len(list(job.folder.glob("pid-*"))) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        agent.run_ranks(job, stop)
    assert heard == [7]
    assert left(job.folder) == []


def test_ranks_end_with_a_stage_that_is_killed(tmp_path: Path) -> None:
    job = make_job(tmp_path / "job", rank0=["follow", 60], rank1=["follow", 60])
    code = (
        "from pathlib import Path\n"
        "from tests.tasks.fine_tuning import test_launch as t\n"
        "t.agent.RANK = 'tests.tasks.fine_tuning.fake_rank'\n"
        f"t.agent.run_ranks(t.Job(Path({str(job.folder)!r}), t.PLAN, None, t.ORIGIN, None, None, 1), lambda: None)"
    )
    stage = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT)
    until = time.monotonic() + 120
    while len(list(job.folder.glob("following-*"))) < 2:
        assert time.monotonic() < until
        assert stage.poll() is None
        time.sleep(0.05)
    assert len(left(job.folder)) == 2
    stage.kill()
    stage.wait()
    until = time.monotonic() + 30
    while left(job.folder):
        assert time.monotonic() < until
        time.sleep(0.1)


def test_ranks_read_what_was_written(initial: Path, tmp_path: Path) -> None:
    splits = make_splits(initial)
    origin = origin_of(PLAN, splits, initial)
    folder = tmp_path / "ranks"
    with written(folder, PLAN, splits, origin, initial, tmp_path / "checkpoints", 2):
        job = read_job(folder)
        assert (job.plan, job.origin, job.keep) == (PLAN, origin, 2)
        assert isinstance(job.splits.train.tokens, np.memmap), "each rank would hold a copy of its own"
        assert origin_of(job.plan, job.splits, job.initial) == origin
    assert not folder.exists()
    others = {"dropped", "cut", "ids", "costs", "per_item", "columns", "notes", "task_names"}
    only_of_the_plan = {"full_lengths"}
    assert {field.name for field in fields(TokenizedRows)} == {*ARRAYS, *others, *only_of_the_plan}, "is one lost?"


def test_ranks_read_costs_too(initial: Path, tmp_path: Path) -> None:
    splits = make_splits(initial)
    costs = AnswerCosts(*(np.arange(n) for n in (3, 3, 2, 1, 1)))
    with_costs = replace(splits, train=replace(splits.train, costs=costs))
    origin = origin_of(PLAN, with_costs, initial)
    assert origin != origin_of(PLAN, splits, initial)
    with written(tmp_path / "ranks", PLAN, with_costs, origin, initial, tmp_path, 2):
        job = read_job(tmp_path / "ranks")
        assert origin_of(job.plan, job.splits, job.initial) == origin


def test_messages_that_are_half_written_wait(tmp_path: Path) -> None:
    heard: list[Any] = []
    path = tmp_path / "messages.jsonl"
    receiver = Receiver(path, {"step": heard.append})
    receiver.receive()
    sender = MessageSender(path)
    sender.advance(1)
    sender.stream.write('{"kind": "step", ')
    sender.stream.flush()
    receiver.receive()
    assert heard == [{"step": 1}]
    sender.stream.write('"step": 2}\n')
    receiver.receive()
    assert heard == [{"step": 1}, {"step": 2}]


def test_the_first_machine_is_not_started_by_torchrun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GROUP_RANK", "0")
    assert run_elsewhere(PLAN, lambda: None, tmp_path, tmp_path, 1) == 1  # type: ignore[arg-type,return-value]
    assert "`heptune run`" in capsys.readouterr().err


def test_a_machine_that_does_not_come_is_waited_for_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    monkeypatch.delenv("MASTER_ADDR", raising=False)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    machines = {"name": "ddp", "nodes": 2, "rendezvous": f"127.0.0.1:{port}", "timeout_s": 2}
    plan = make_plan(world_size=2, distribution=machines)
    job = Job(tmp_path, plan, None, ORIGIN, tmp_path, tmp_path, 1)  # type: ignore[arg-type]
    with pytest.raises(PipelineError, match=rf"not all of 2 machines came to 127.0.0.1:{port} within 2 s; start the"):
        agent.run_ranks(job, lambda: None)
