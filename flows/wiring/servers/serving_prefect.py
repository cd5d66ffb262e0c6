"""The process of the checkout's Prefect server: it serves until no user of it is alive, or until it is asked to end."""

from __future__ import annotations

import json
import logging
import os
import socket
import sys
import threading
import time

from filelock import FileLock, Timeout

from flows.wiring.processes import mark_process, show_mark
from flows.wiring.servers.server import RECORD, has_users
from flows.wiring.settings import configure

POLL_S = 0.5
# Connections and services have so long to end, seconds.
CONNECTIONS_S, END_S = 2, 5.0


def serve(port: int) -> None:
    """Run a server on loopback.

    Args:
        port: Where; 0: any free port.
    """
    with socket.socket() as bound:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(("127.0.0.1", port))
        address = f"http://127.0.0.1:{bound.getsockname()[1]}/api"
        mark = show_mark(mark_process(os.getpid()))
        aside = RECORD.with_suffix(f".{os.getpid()}.part")
        aside.write_text(json.dumps({"url": address, "server": mark}), encoding="utf-8")
        aside.replace(RECORD)
        os.environ |= {"PREFECT_API_URL": address, "PREFECT_UI_API_URL": address}

        import uvicorn
        from prefect.server.api.server import create_app

        config = uvicorn.Config(
            create_app(final=True), log_level="warning", timeout_graceful_shutdown=CONNECTIONS_S, lifespan="on"
        )
        server = uvicorn.Server(config)
        threading.Thread(target=end_without_users, args=(server,), daemon=True).start()
        server.run(sockets=[bound])


def end_without_users(server: object) -> None:
    """Ask the server to end once it has no user; the lock keeps new ones from finding it meanwhile."""
    while True:
        time.sleep(POLL_S)
        if has_users():
            continue
        try:
            with FileLock(RECORD.with_suffix(".lock"), timeout=0):
                if has_users():
                    continue
                RECORD.unlink(missing_ok=True)
        except Timeout:
            continue
        server.should_exit = True  # type: ignore[attr-defined]
        time.sleep(END_S)
        os._exit(0)


if __name__ == "__main__":
    os.chdir(configure())
    logging.basicConfig(format="%(asctime)s %(message)s")
    serve(int(sys.argv[1]))
