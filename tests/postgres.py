"""A PostgreSQL server of the tests' own, from the binaries of the machine."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

BINARIES = [
    *sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True),
    *(Path(p) for p in os.environ.get("PATH", "").split(os.pathsep)),
]


@dataclass
class Database:
    """A database that can be taken away and brought back."""

    url: str
    stop: object
    start: object


def find_postgres() -> Path | None:
    return next(
        (folder for folder in BINARIES if (folder / "initdb").exists() and (folder / "postgres").exists()), None
    )


@contextmanager
def running_postgres() -> Iterator[Database]:
    """A server on a free port, of an unprivileged user where the tests run as root; skips without binaries."""
    binaries = find_postgres()
    if binaries is None:
        pytest.skip("no PostgreSQL binaries (initdb, postgres) on this machine")
    user: dict[str, object] = {}
    # The server's user must reach the folder; pytest's own is closed to others.
    home = Path(f"/tmp/heptune-pg-{os.getpid()}")
    home.mkdir()
    if os.geteuid() == 0:
        try:
            account = pwd.getpwnam("postgres")
        except KeyError:
            home.rmdir()
            pytest.skip("PostgreSQL does not run as root, and there is no user postgres")
        os.chown(home, account.pw_uid, account.pw_gid)
        user = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
    data = home / "data"
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]

    def run(program: str, *arguments: str) -> None:
        command = [str(binaries / program), *arguments]
        subprocess.run(command, check=True, cwd=home, stdout=subprocess.DEVNULL, timeout=120, **user)  # type: ignore[call-overload]

    def start() -> None:
        options = f"-c listen_addresses=127.0.0.1 -c port={port} -c unix_socket_directories='' -c fsync=off"
        run("pg_ctl", "-D", str(data), "-w", "-t", "120", "-l", str(home / "log"), "-o", options, "start")

    def stop() -> None:
        run("pg_ctl", "-D", str(data), "-w", "-m", "immediate", "stop")

    try:
        run("initdb", "-D", str(data), "-U", "heptune", "-A", "trust", "-E", "UTF8", "--locale=C", "-N")
        start()
        yield Database(f"postgresql://heptune@127.0.0.1:{port}/postgres", stop, start)
        stop()
    finally:
        shutil.rmtree(home, ignore_errors=True)
