"""The processes of `code.py`: one that holds an answer, one that judges it. A script of the standard library alone,
started by its path as ``processes.py answer`` or ``processes.py judge``, with its task as JSON on stdin.
"""

import ctypes
import importlib.util
import json
import os
import platform
import resource
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

# Constants of <sched.h>, <sys/mount.h>, <sys/prctl.h>, <linux/capability.h>, <linux/audit.h> and <linux/seccomp.h>.
NEW_USER, NEW_NET, NEW_PID, NEW_MOUNTS, NEW_IPC = 0x10000000, 0x40000000, 0x20000000, 0x00020000, 0x08000000
PRIVATE, BIND, RECURSIVE_MOUNT, DETACH = 1 << 18, 1 << 12, 0x4000, 2
MOUNT_SETATTR, AT_FDCWD, AT_RECURSIVE, READ_ONLY = 442, -100, 0x8000, 1
DIE_WITH_PARENT, DUMPABLE, NO_NEW_PRIVILEGES, SECCOMP, FILTER = 1, 4, 38, 22, 2
CAPABILITIES_3 = 0x20080522
REFUSE, ALLOW, NOT_PERMITTED, NO_SUCH_CALL = 0x00050000, 0x7FFF0000, 1, 38
# Other processes, other privileges, sockets, kernel interfaces, and memory that no limit of the process counts.
REFUSED = {
    "x86_64": (
        0xC000003E, 155,
        (41, 42, 56, 57, 58, 59, 62, 29, 101, 129, 155, 165, 166, 200, 234, 248, 249, 250, 272, 298, 304, 308, 310, 311,
         319, 321, 322, 323, 425, 434, 438),
    ),
    "aarch64": (
        0xC00000B7, 41,
        (39, 40, 41, 97, 117, 129, 130, 131, 138, 194, 198, 203, 217, 218, 219, 220, 221, 241, 265, 268, 270, 271, 279,
         280, 281, 282, 425, 434, 438),
    ),
}  # fmt: skip
CLONE3, OTHER_TABLE = 435, 0x40000000
# Shared libraries that modules of the standard library may load, and devices that are harmless.
LIBRARIES = ("/lib", "/lib64", "/usr/lib", "/usr/lib64")
DEVICES = ("/dev/null", "/dev/zero", "/dev/urandom")


def isolate(libc: Any) -> bool:
    """Leave network, other processes and all files but Python's own behind; returns whether that worked."""
    user, group = os.getuid(), os.getgid()
    if libc.unshare(NEW_USER | NEW_NET | NEW_PID | NEW_MOUNTS | NEW_IPC):
        return False
    try:
        for name, text in (("setgroups", "deny"), ("uid_map", f"0 {user} 1"), ("gid_map", f"0 {group} 1")):
            Path(f"/proc/self/{name}").write_text(text)
        return not libc.mount(b"none", b"/", None, PRIVATE | RECURSIVE_MOUNT, None) and change_root(libc)
    except OSError:
        return False


def change_root(libc: Any) -> bool:
    """Make an empty root, read-only, that shows Python and its libraries; returns whether that worked."""
    # Nothing that is wanted lies below /proc, so the new root can be made there; the old one goes with it.
    root = Path("/proc")
    if libc.mount(b"tmpfs", bytes(root), b"tmpfs", 0, b"size=1m"):
        return False
    for wanted in (*LIBRARIES, str(Path(os.__file__).parent), *DEVICES):
        path, inside = Path(wanted), Path(f"{root}{wanted}")
        if not path.exists() or inside.exists() or inside.is_symlink():
            continue
        inside.parent.mkdir(parents=True, exist_ok=True)
        if path.is_symlink():
            inside.symlink_to(path.readlink())
            continue
        if path.is_dir():
            inside.mkdir()
        else:
            inside.touch()
        if libc.mount(bytes(path), bytes(inside), None, BIND | RECURSIVE_MOUNT, None):
            return False
    os.chdir(root)
    pivot = REFUSED[platform.machine()][1]
    if libc.syscall(pivot, b".", b".") or libc.umount2(b".", DETACH):
        return False
    os.chdir("/")
    attributes = (ctypes.c_uint64 * 4)(READ_ONLY, 0, 0, 0)
    return not libc.syscall(MOUNT_SETATTR, AT_FDCWD, b"/", AT_RECURSIVE, attributes, ctypes.sizeof(attributes))


def drop_privileges(libc: Any) -> bool:
    """Give up all capabilities, and the system calls of `REFUSED`; returns whether that worked."""
    libc.capset((ctypes.c_uint32 * 2)(CAPABILITIES_3, 0), (ctypes.c_uint32 * 6)())
    architecture, _, refused = REFUSED[platform.machine()]
    # A classic BPF program over struct seccomp_data: number at 0, architecture at 4.
    load, equal, at_least, end = 0x20, 0x15, 0x35, 0x06
    count = len(refused)
    program = [(load, 0, 0, 4), (equal, 0, count + 3, architecture), (load, 0, 0, 0)]
    program += [(at_least, count + 1, 0, OTHER_TABLE), (equal, count + 2, 0, CLONE3)]
    program += [(equal, count - index, 0, number) for index, number in enumerate(refused)]
    program += [(end, 0, 0, ALLOW), (end, 0, 0, REFUSE | NOT_PERMITTED), (end, 0, 0, REFUSE | NO_SUCH_CALL)]
    packed = b"".join(
        code.to_bytes(2, sys.byteorder) + bytes((yes, no)) + value.to_bytes(4, sys.byteorder)
        for code, yes, no, value in program
    )
    buffer = ctypes.create_string_buffer(packed, len(packed))

    class Program(ctypes.Structure):
        _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_void_p)]

    described = Program(len(program), ctypes.addressof(buffer))
    return not libc.prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0) and not libc.prctl(
        SECCOMP, FILTER, ctypes.byref(described), 0, 0
    )


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


def load_remote() -> Any:
    """The module beside this file; its folder is no search path, since names of the standard library stand in it."""
    spec = importlib.util.spec_from_file_location("remote", Path(__file__).with_name("remote.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def work(role: str, task: dict[str, Any], libc: Any, remote: Any) -> None:
    """The child process: without input and output, limited, exits by itself."""
    out = os.dup(1)
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    if libc is not None:
        libc.prctl(DIE_WITH_PARENT, signal.SIGKILL, 0, 0, 0)
        if role == "judge":  # unreadable for a process of the same user
            libc.prctl(DUMPABLE, 0, 0, 0, 0)
    line = socket.socket(fileno=task["socket"])
    limit(task["seconds"] + (role == "judge"), task["memory"])
    if libc is not None and not drop_privileges(libc) and task["isolated"]:
        os.write(out, b"no isolation\n")
        os._exit(0)
    if role == "answer":
        os.close(out)
        remote.serve(line, task["code"])
    else:
        began = time.monotonic()
        verdict = remote.judge(line, task["tests"], task["own_builtins"])
        if verdict == "ended" and time.monotonic() - began > 0.9 * task["seconds"]:
            verdict = "TimeoutError"
        os.write(out, f"{verdict}\n".encode())
    os._exit(0)


def main() -> None:
    """Read the task, start the child, and end it when its time is over."""
    role, task = sys.argv[1], json.load(sys.stdin)
    remote = load_remote()
    known = sys.platform == "linux" and platform.machine() in REFUSED
    libc = ctypes.CDLL(None, use_errno=True) if known else None
    if task["isolated"] and not (libc is not None and isolate(libc)):
        os.write(1, b"no isolation\n")
        return
    # The first process of a new PID namespace is a child of the process that created it.
    child = os.fork()
    if not child:
        work(role, task, libc, remote)
    os.close(task["socket"])
    signal.signal(signal.SIGALRM, lambda *_: os.kill(child, signal.SIGKILL))
    signal.setitimer(signal.ITIMER_REAL, task["seconds"] + (role == "judge"))
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) in (signal.SIGKILL, signal.SIGXCPU) and role == "judge":
        os.write(1, b"TimeoutError\n")


if __name__ == "__main__":
    main()
