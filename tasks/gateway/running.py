"""Running a gateway: in the foreground until a signal, or in a thread for the duration of a block."""

from __future__ import annotations

import logging
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import uvicorn

from tasks.contracts.errors import PipelineError
from tasks.gateway.api.connections import (
    BACKLOG,
    ConnectionLimits,
    LimitedConfig,
    fit_to_handles,
    raise_handle_limit,
)
from tasks.gateway.params import Gateway
from tasks.gateway.releases import Resolve
from tasks.gateway.server import create_app
from tasks.gateway.state import GatewayState

logger = logging.getLogger(__name__)

START_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class RunningGateway:
    """A running gateway.

    Attributes:
        url: Its address, without ``/v1``.
        state: Its state, for inspection.
    """

    url: str
    state: GatewayState


def serve(
    params: Gateway,
    resolve: Resolve,
    host: str,
    port: int,
    store_url: str,
    spool: Path,
    keys: Path,
    adapters: Path | None = None,
    on_ready: Callable[[str, str], None] = lambda url, release: None,
) -> None:
    """Answer until SIGINT, SIGTERM or SIGHUP; then finish running requests and write the log.

    Args:
        params: Settings.
        resolve: Release hash and model folder of the champion; called every ``params.poll_s``.
        host: Address to listen on; any other than loopback needs keys.
        port: Port to listen on.
        store_url: Database of the request log.
        spool: File for rows while the database is unavailable.
        keys: File of the API keys.
        adapters: Folder of the adapters that may be served; None: none may.
        on_ready: Called with the address and the release once it answers.

    Raises:
        PipelineError: The port is taken, keys are missing, or there is no release to serve.
    """
    raise_handle_limit()
    listener = bind(host, port)
    with listener:
        state = GatewayState(params, resolve, host, store_url, spool, keys, adapters)
        try:
            server = make_server(state)
            # The socket is listening: connections made now are answered as soon as the server runs.
            on_ready(address(listener), state.releases.release)
            with handling_signals(server):
                server.run(sockets=[listener])
        finally:
            state.close()


@contextmanager
def running_gateway(
    params: Gateway,
    resolve: Resolve,
    store_url: str,
    spool: Path,
    keys: Path,
    host: str = "127.0.0.1",
    port: int = 0,
    adapters: Path | None = None,
) -> Iterator[RunningGateway]:
    """A gateway in a thread of this process, on a free port by default; closed at the end of the block.

    Raises:
        PipelineError: As `serve`.
    """
    with bind(host, port) as listener:
        state = GatewayState(params, resolve, host, store_url, spool, keys, adapters)
        try:
            server = make_server(state)
            thread = threading.Thread(target=server.run, args=([listener],), name="gateway", daemon=True)
            thread.start()
            try:
                deadline = time.monotonic() + START_TIMEOUT_S
                while not server.started:
                    if not thread.is_alive() or time.monotonic() > deadline:
                        raise PipelineError(f"the gateway did not start within {START_TIMEOUT_S:.0f} s; see its log")
                    time.sleep(0.01)
                yield RunningGateway(address(listener), state)
            finally:
                server.should_exit = True
                thread.join()
        finally:
            state.close()


def make_server(state: GatewayState) -> uvicorn.Server:
    """A server that does not configure logging and waits for running requests at shutdown."""
    params = state.params
    limits = ConnectionLimits(
        params.max_connections, params.head_timeout_s, params.write_timeout_s, params.max_head_bytes
    )
    return uvicorn.Server(
        LimitedConfig(
            create_app(state),
            fit_to_handles(limits),
            log_config=None,
            log_level="warning",
            access_log=False,
            lifespan="off",
            server_header=False,
            timeout_graceful_shutdown=params.shutdown_s,
        )
    )


def bind(host: str, port: int) -> socket.socket:
    """A listening socket.

    Raises:
        PipelineError: The address is in use, not allowed or not one of this machine.
    """
    if not 0 <= port <= 65535:
        raise PipelineError(f"cannot listen on port {port}; choose one of 1 to 65535 with --port")
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, socket_address = found[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise PipelineError(f"cannot listen on {host}:{port} ({error}); choose another --host or --port") from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(socket_address)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise PipelineError(
            f"cannot listen on {host}:{port} ({error.strerror}); stop what uses the port or choose another with --port"
        ) from error
    return listener


def address(listener: socket.socket) -> str:
    """URL of a listening socket."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


@contextmanager
def handling_signals(server: uvicorn.Server) -> Iterator[None]:
    """Let a signal end the block instead of the process, so that the code after it runs.

    The server handles SIGINT and SIGTERM while it runs and raises them again when it ends; that the terminal was closed
    (SIGHUP) ends it in the same way, unless that is ignored (``nohup``).
    """

    def ignore(number: int, frame: FrameType | None) -> None:
        logger.info("ended by %s", signal.Signals(number).name)

    def hang_up(number: int, frame: FrameType | None) -> None:
        (ignore if server.should_exit else server.handle_exit)(number, frame)

    before: dict[signal.Signals, Any] = {
        number: signal.signal(number, ignore) for number in (signal.SIGINT, signal.SIGTERM)
    }
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        before[signal.SIGHUP] = signal.signal(signal.SIGHUP, hang_up)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
