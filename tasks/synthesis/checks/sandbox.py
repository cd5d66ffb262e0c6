"""The process in which `python.py` runs code: a script of the standard library alone, started by its path."""

import ctypes
import json
import os
import resource
import signal
import sys
from typing import Any

# Constants of <sched.h> and <sys/mount.h>.
NEW_USER, NEW_NET, NEW_PID, NEW_MOUNTS, NEW_IPC = 0x10000000, 0x40000000, 0x20000000, 0x00020000, 0x08000000
PRIVATE, RECURSIVE_MOUNT = 1 << 18, 0x4000
MOUNT_SETATTR, AT_FDCWD, AT_RECURSIVE, READ_ONLY = 442, -100, 0x8000, 1
DIE_WITH_PARENT = 1


def isolate() -> bool:
    """Isolate this process from network, other processes and writable disks; returns whether that worked."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(NEW_USER | NEW_NET | NEW_PID | NEW_MOUNTS | NEW_IPC):
        return False
    if libc.mount(b"none", b"/", None, PRIVATE | RECURSIVE_MOUNT, None):
        return False
    wanted = (ctypes.c_uint64 * 4)(READ_ONLY, 0, 0, 0)
    return not libc.syscall(MOUNT_SETATTR, AT_FDCWD, b"/", AT_RECURSIVE, wanted, ctypes.sizeof(wanted))


def limit(seconds: float, memory: int) -> None:
    """Limit the resources of this process."""
    cpu_seconds = int(seconds) + 1
    for resource_kind, maximum in (
        (resource.RLIMIT_CPU, cpu_seconds),
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, 32),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(resource_kind, (maximum, maximum))


def run(code: str, tests: str) -> str:
    """Run code and then its tests; ``passed``, or the name of what was raised."""
    names: dict[str, object] = {"__name__": "answer"}
    try:
        exec(compile(code, "answer", "exec"), names)
        exec(compile(tests, "tests", "exec"), names)
    except BaseException as error:  # noqa: BLE001 - whatever the code raises is its failure
        return type(error).__name__
    return "passed"


def work(task: dict[str, Any]) -> None:
    """The child process: without output streams, limited, exits by itself."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(DIE_WITH_PARENT, signal.SIGKILL)
    out = os.dup(1)
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    limit(task["seconds"], task["memory"])
    os.write(out, f"\n{task['token']} {run(task['code'], task['tests'])}\n".encode())
    os._exit(0)


def main() -> None:
    """Read the task, start the child, and end it when its time is over."""
    task = json.load(sys.stdin)
    if task["isolated"] and not (sys.platform == "linux" and isolate()):
        os.write(1, b"no isolation\n")
        return
    # The first process of a new PID namespace is a child of the process that created it.
    child = os.fork()
    if not child:
        work(task)
    signal.signal(signal.SIGALRM, lambda *_: os.kill(child, signal.SIGKILL))
    signal.setitimer(signal.ITIMER_REAL, task["seconds"])
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) in (signal.SIGKILL, signal.SIGXCPU):
        os.write(1, f"\n{task['token']} TimeoutError\n".encode())


if __name__ == "__main__":
    main()
