"""One rank, ``python -m tasks.fine_tuning.rank FOLDER PARENT``, started by an agent with ``RANK`` and its like set.

It ends with its agent, however that ends, and leaves the reason of a failure in the job's folder.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.contracts.errors import PipelineError, raise_all
from tasks.contracts.manifest import write_json
from tasks.fine_tuning.allocation import settle_allocation
from tasks.fine_tuning.checkpoints import Checkpoints, RunOrigin
from tasks.fine_tuning.launch.job import Job, read_job, wait_for_job, written
from tasks.fine_tuning.launch.messages import MessageSender
from tasks.fine_tuning.origin import hash_origin, origin_of
from tasks.fine_tuning.rows import Splits
from tasks.fine_tuning.trainer.start import make_trainer, reproducible, step_of, train
from tasks.training.plan import Plan

if TYPE_CHECKING:
    from tasks.fine_tuning.trainer.fine_tuner import FineTuner

logger = logging.getLogger(__name__)

POLL_S = 0.5


def main(folder: Path, parent: int | None = None) -> int:
    """Work on the job of a folder.

    Args:
        folder: The job's.
        parent: Process id of the agent; by default the process that started this one.

    Returns:
        The exit code.
    """
    end_with_parent(parent)
    rank = int(os.environ["RANK"])
    try:
        job = read_job(folder)
        os.environ.setdefault("OMP_NUM_THREADS", str(job.plan.threads))
        with joined(job.plan):
            run_rank(job)
    except Left:
        return 0
    except BaseException as error:  # noqa: BLE001  # told by the process that started the ranks
        leave_reason(folder / f"error-{rank}.json", rank, error)
        return 1
    return 0


def run_elsewhere(plan: Plan, tokenize: Callable[[], Splits], initial: Path, checkpoints: Path, keep: int) -> int:
    """Train as one of the ranks of a machine that is not the first; the first rank of the machine tokenizes for all.

    Args:
        plan: What to run.
        tokenize: Gives training and validation rows.
        initial: Folder written by model initialisation.
        checkpoints: Folder of all runs' checkpoints, which all machines share.
        keep: Newest checkpoints kept while the run is under way.

    Returns:
        The exit code.
    """
    machine = int(os.environ.get("GROUP_RANK", "0"))
    if machine == 0:
        print("the first machine trains by `heptune run` or `dvc repro`, which start its ranks", file=sys.stderr)  # noqa: T201
        return 1
    folder = checkpoints.absolute() / f"ranks-{machine}-{os.getppid()}"
    if os.environ["LOCAL_RANK"] != "0":
        wait_for_job(folder, plan.distribution.timeout_s)  # type: ignore[union-attr]
        return main(folder)
    splits = tokenize()
    with written(folder, plan, splits, origin_of(plan, splits, initial), initial, checkpoints, keep):
        return main(folder)


def run_rank(job: Job) -> FineTuner:
    """Train as one of the ranks; the first one reports, and leaves the trained weights and the log.

    Returns:
        The trainer, for those who want to see what this rank held.

    Raises:
        PipelineError: The ranks do not fit together, or as in one process.
    """
    import torch
    from safetensors.torch import save_file

    plan = job.plan
    settle_allocation(plan.release_freed_memory)
    check_ranks(job)
    is_first = torch.distributed.get_rank() == 0
    sender = MessageSender(job.messages) if is_first else None
    if sender:
        logging.getLogger("tasks").addHandler(sender)
        logging.getLogger("tasks").setLevel(logging.INFO)
    store = Checkpoints(job.checkpoints, job.origin, job.keep, plan.distribution.state_files)
    with reproducible(plan):
        listeners = [sender.metrics] if sender else []
        trainer = make_trainer(plan, job.splits, job.initial, store, listeners, shown=sender, start=job.start)
        found: list[Path | None] = [store.newest() if is_first else None]
        torch.distributed.broadcast_object_list(found)
        train(trainer, found[0], SharedInterrupt(job.leave))
        trainer.restore_kept()
        trained = plan.distribution.gather(trainer.model)
    if is_first:
        save_file(trained, job.trained)
        trainer.method_steps.save(job.folder)
        state = trainer.state
        steps = {"steps": state.global_step, "kept_step": trainer.kept_step, "resumed_at": step_of(found[0])}
        write_json(job.result, {"history": state.log_history, **steps})
        logging.getLogger("tasks").removeHandler(sender)  # type: ignore[arg-type]
    torch.distributed.barrier()
    return trainer


class SharedInterrupt:
    """A mark in the job's folder that asks the ranks to end; all of them take notice at the end of the same step.

    Args:
        mark: The file, which one machine's ranks see.
    """

    def __init__(self, mark: Path) -> None:
        self.mark = mark
        self.seen = False

    @property
    def number(self) -> int | None:
        """SIGTERM once any rank sees the mark. All ranks ask together, as they do all things after a step."""
        import torch

        if not self.seen:
            seen = torch.tensor(int(self.mark.exists()))
            torch.distributed.all_reduce(seen, torch.distributed.ReduceOp.MAX)
            self.seen = bool(seen.item())
        return signal.SIGTERM if self.seen else None

    @contextmanager
    def deferred(self) -> Iterator[None]:
        yield

    def leave(self) -> None:
        raise Left


class Left(Exception):
    """This rank was asked to end, and its checkpoint is sealed."""


@contextmanager
def joined(plan: Plan) -> Iterator[None]:
    """The process group of all ranks, over gloo on CPUs and NCCL on accelerators.

    Raises:
        PipelineError: Not all ranks came in time, or more came than the plan has.
    """
    import torch
    from torch.distributed import DistError

    timeout = plan.distribution.timeout_s  # type: ignore[union-attr]
    if plan.device == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    backend = "gloo" if plan.device == "cpu" else "cpu:gloo,cuda:nccl"
    try:
        torch.distributed.init_process_group(backend, timeout=timedelta(seconds=timeout))
    except DistError as error:
        raise PipelineError(
            f"rank {os.environ['RANK']} of {os.environ['WORLD_SIZE']}: not all ranks came within {timeout} s "
            f"({type(error).__name__}); look at the other machines, or raise training_setup.distribution.timeout_s"
        ) from error
    started = torch.distributed.get_world_size()
    if started != plan.world_size:
        raise PipelineError(
            f"the plan takes {plan.world_size} processes, but {started} started; start "
            f"{plan.world_size // plan.distribution.nodes} on each of {plan.distribution.nodes} machines"
        )
    if plan.distribution.name == "zero":
        import deepspeed
        from deepspeed.ops import __compatible_ops__

        # What it would compile for a minute at its first start on CPUs: collectives for inference, unused in training.
        __compatible_ops__["deepspeed_shm_comm"] = False
        # Before any base is read: stage 3 splits it while it is read.
        deepspeed.init_distributed(dist_backend=backend, verbose=False)
    yield
    # Not after a failure: the others may be gone.
    torch.distributed.destroy_process_group()


def check_ranks(job: Job) -> None:
    """Compare what the ranks would train on and with, and where they would keep it, before the first step.

    Raises:
        PipelineError: Machines differ in data, plan, base, code or libraries, or do not share the checkpoints' folder.
    """
    import torch

    here = hash_origin(job.plan, job.origin.data, job.initial, job.start)
    mine = {"host": os.uname().nodename, "rank": torch.distributed.get_rank(), "origin": vars(here)}
    everyone: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(everyone, mine)
    first = everyone[0]
    problems = []
    for other in everyone[1:]:
        differences = RunOrigin(**first["origin"]).differences(other["origin"])
        if differences:
            problems.append(
                f"rank {other['rank']} on {other['host']} has {', '.join(differences)} than rank 0 on {first['host']}; "
                "bring both machines to the same commit, `dvc pull` and the same environment"
            )
    raise_all(problems, "the ranks do not fit together")
    if job.plan.distribution.nodes > 1:
        _check_shared(job.checkpoints)


def _check_shared(folder: Path) -> None:
    import torch

    mark = folder / ".shared"
    if torch.distributed.get_rank() == 0:
        folder.mkdir(parents=True, exist_ok=True)
        mark.touch()
    torch.distributed.barrier()
    seen: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(seen, mark.is_file())
    if torch.distributed.get_rank() == 0:
        mark.unlink()
    if not all(seen):
        raise PipelineError(
            f"{folder}: rank {seen.index(False)} does not see what rank 0 writes there; mount one file system for the "
            "checkpoints on all machines"
        )


def end_with_parent(parent: int | None = None) -> None:
    """End this process when the one that started it is gone."""
    parent = parent or os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(POLL_S)
        os._exit(1)

    threading.Thread(target=watch, name="parent", daemon=True).start()


def leave_reason(path: Path, rank: int, error: BaseException) -> None:
    """Write why a rank failed, where the stage's process looks for it."""
    expected = isinstance(error, PipelineError)
    text = str(error) if expected else "".join(traceback.format_exception(error))
    values = {"rank": rank, "expected": expected, "text": text, "time": time.time()}
    path.with_suffix(".part").write_text(json.dumps(values), encoding="utf-8")
    path.with_suffix(".part").replace(path)
    print(text, file=sys.stderr, flush=True)  # noqa: T201  # for an agent that is not a stage


if __name__ == "__main__":
    code = main(Path(sys.argv[1]), int(sys.argv[2]))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # threads of libraries would hold up the end
