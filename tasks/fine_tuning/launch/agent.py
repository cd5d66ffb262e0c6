"""Starts the ranks of this machine and watches them, with PyTorch's elastic agent.

The agent runs in a thread beside, so that signals reach the stage and what the first rank reports is recorded in its
own context. The first rank that fails ends all; its reason is that of the run.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.contracts.errors import PipelineError
from tasks.fine_tuning.launch.job import Job

if TYPE_CHECKING:
    import psutil
    from torch.distributed.elastic.multiprocessing.errors import ProcessFailure
    from torch.distributed.launcher.api import LaunchConfig

logger = logging.getLogger(__name__)

RANK = "tasks.fine_tuning.rank"
POLL_S = 0.1
# Together within the time that a stage has to end.
LEAVE_S, END_S = 3.5, 1.5
# What a rank says that failed because another one was gone.
LOST = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "NCCL", "Timed out waiting", "Gloo")


def run_ranks(job: Job, receive: Callable[[], None]) -> None:
    """Train on all ranks of this machine, together with those of the other machines.

    Args:
        job: What they work on.
        receive: Called every now and then in this thread, to handle what the first rank says.

    Raises:
        PipelineError: A rank failed, a machine did not come, or this one cannot make what the ranks need.
    """
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    job.plan.distribution.prepare_here()
    failures: list[BaseException] = []

    def watch() -> None:
        try:
            launch(job)
        except BaseException as error:  # noqa: BLE001  # raised again by the thread that waits
            failures.append(error)

    agent = threading.Thread(target=watch, name="ranks", daemon=True)
    agent.start()
    try:
        while agent.is_alive():
            agent.join(POLL_S)
            receive()
        receive()
    except BaseException:
        # They finish their step and seal it, if there is time.
        job.leave.touch()
        agent.join(LEAVE_S)
        try:
            receive()  # their last words: which step is saved
        finally:
            end(list_ranks(job))
        raise
    if not failures:
        return
    if isinstance(failures[0], ChildFailedError):
        raise PipelineError(describe_failure(job, failures[0].failures)) from failures[0]
    raise PipelineError(describe_absence(job, failures[0])) from failures[0]


def launch(job: Job) -> None:
    """Run the agent until all ranks of this machine have ended."""
    from torch.distributed.launcher.api import elastic_launch

    for name in ("api", "multiprocessing.api", "agent.server.api", "rendezvous"):
        logging.getLogger(f"torch.distributed.elastic.{name}").setLevel(logging.CRITICAL)
    elastic_launch(make_config(job), sys.executable)("-m", RANK, str(job.folder), str(os.getpid()))


def make_config(job: Job) -> LaunchConfig:
    """The agent's configuration: no restarts, since checkpoints resume a run; output to files beside the job."""
    from torch.distributed.elastic.multiprocessing.api import DefaultLogsSpecs, Std
    from torch.distributed.launcher.api import LaunchConfig

    plan, distribution = job.plan, job.plan.distribution
    place: dict[str, Any] = {"rdzv_backend": "c10d", "rdzv_endpoint": "127.0.0.1:0", "local_addr": "127.0.0.1"}
    if distribution.nodes > 1:
        endpoint = find_rendezvous(distribution.rendezvous)  # type: ignore[union-attr]
        configs = {"rank": 0, "timeout": distribution.timeout_s}  # type: ignore[union-attr]
        place = {"rdzv_backend": "static", "rdzv_endpoint": endpoint, "rdzv_configs": configs}
    return LaunchConfig(
        min_nodes=distribution.nodes,
        max_nodes=distribution.nodes,
        nproc_per_node=plan.world_size // distribution.nodes,
        run_id="heptune",
        max_restarts=0,
        monitor_interval=POLL_S,
        logs_specs=DefaultLogsSpecs(log_dir=str(job.folder / "output"), redirects=Std.ALL),
        **place,
    )


def find_rendezvous(planned: str | None) -> str:
    """Where the machines meet: as the environment has it, which a scheduler sets, else as planned."""
    address = os.environ.get("MASTER_ADDR")
    if address:
        port = os.environ.get("MASTER_PORT") or (planned or "").rpartition(":")[2]
        return f"{address}:{port}"
    return planned or ""


def list_ranks(job: Job) -> list[psutil.Process]:
    """The processes of this machine's ranks, which have sessions of their own."""
    import psutil

    found = []
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            if str(job.folder) in process.cmdline():
                found.append(process)
    return found


def end(processes: list[psutil.Process]) -> None:
    """Ask processes to end, and kill those that do not in time."""
    import psutil

    for process in processes:
        with suppress(psutil.Error):
            process.send_signal(signal.SIGTERM)
    _, left = psutil.wait_procs(processes, END_S)
    for process in left:
        with suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(left, END_S)


def describe_failure(job: Job, failures: dict[int, ProcessFailure]) -> str:
    """The reason of the rank that failed first, in one line for expected failures, else with its traceback.

    A rank that only lost another one is not the reason, as long as there is a better one.
    """
    reasons = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(job.folder.glob("error-*.json"))]
    reasons.sort(key=lambda reason: (not reason["expected"], reason["time"]))
    own = [reason for reason in reasons if reason["expected"] or not any(mark in reason["text"] for mark in LOST)]
    if own:
        return own[0]["text"] if own[0]["expected"] else f"rank {own[0]['rank']} failed:\n{own[0]['text'].rstrip()}"
    told = {reason["rank"] for reason in reasons}
    silent = [failure for rank, failure in sorted(failures.items()) if rank not in told and failure.exitcode != 0]
    # Those that the agent itself asked to end are no reason.
    first = next((failure for failure in silent if failure.exitcode != -signal.SIGTERM), None)
    if first is None and reasons:
        return f"rank {reasons[0]['rank']} lost another machine's rank; see what ended there, and run again"
    if first is None:
        first = min(failures.values(), key=lambda failure: failure.timestamp)
    rank = first.local_rank
    if first.exitcode == -signal.SIGKILL:
        return (
            f"rank {rank} was killed (SIGKILL), which the system does when memory runs out; lower "
            "training_setup.batch_size or free memory, and run again: it resumes from the last checkpoint"
        )
    how = f"by {signal.Signals(-first.exitcode).name}" if first.exitcode < 0 else f"with exit code {first.exitcode}"
    words = last_words(job.folder / "output", rank)
    return f"rank {rank} ended {how}{words}; run again: it resumes from the last checkpoint"


def last_words(output: Path, rank: int) -> str:
    """The last line that a rank wrote to its standard error, in parentheses."""
    lines = [
        line.strip()
        for path in output.rglob(f"{rank}/stderr.log")
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines()
        if line.strip()
    ]
    return f" ({lines[-1][:300]})" if lines else ""


def describe_absence(job: Job, error: BaseException) -> str:
    """Why the agent itself failed, which is where machines meet."""
    distribution = job.plan.distribution
    if distribution.nodes > 1 and "imed out" in str(error):
        return (
            f"not all of {distribution.nodes} machines came to "
            f"{find_rendezvous(distribution.rendezvous)} within "  # type: ignore[union-attr]
            f"{distribution.timeout_s} s; "  # type: ignore[union-attr]
            "start the others as models/plan/launch says, or raise training_setup.distribution.timeout_s"
        )
    return f"the ranks did not start ({type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''})"
