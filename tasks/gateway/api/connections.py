"""What one connection may cost: time to send a request, bytes of its head, time to take its answer; and their number.

h11 bounds the head of a request (httptools does not); the deadlines are checked for all connections together, a few
times a second. When there are as many connections as allowed, the one that has kept the gateway waiting longest makes
room, so that half-sent requests do not lock others out.
"""

from __future__ import annotations

import asyncio
import logging
import resource
import time
from dataclasses import dataclass, field, replace
from typing import Any

import psutil
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

logger = logging.getLogger(__name__)

CHECK_INTERVAL_S = 0.25
# Seconds that the last bytes of an answer have to leave after the connection was closed.
CLOSING_S = 5.0
# At shutdown, seconds that a request has to arrive completely, and a stalled client to take what it was sent.
SHUTDOWN_S = 1.0
# Connections that may be accepted before the first of them is counted.
BACKLOG = 100
# Handles for the database, its log files, the spool and the libraries.
RESERVED_HANDLES = 64
FEWEST_CONNECTIONS = 16


@dataclass(frozen=True)
class ConnectionLimits:
    """Limits of the connections of one server.

    Attributes:
        connections: Maximum number of open connections.
        head_s: Seconds in which the head of a request must arrive.
        write_s: Seconds without progress after which a client that does not read its answer is disconnected.
        head_bytes: Maximum bytes of the head of a request.
    """

    connections: int
    head_s: float
    write_s: float
    head_bytes: int


def fit_to_handles(limits: ConnectionLimits) -> ConnectionLimits:
    """The limits, with fewer connections where this process may not open so many files."""
    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if allowed == resource.RLIM_INFINITY:
        return limits
    room = max(FEWEST_CONNECTIONS, allowed - psutil.Process().num_fds() - RESERVED_HANDLES - BACKLOG)
    if room < limits.connections:
        logger.warning(
            "this process may open %d files, so at most %d connections are kept instead of %d; raise `ulimit -n`",
            allowed, room, limits.connections,
        )  # fmt: skip
    return replace(limits, connections=min(limits.connections, room))


def raise_handle_limit() -> None:
    """Let this process open as many files as it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (OSError, ValueError) as error:
            logger.info("the limit of open files stays at %d (%s)", soft, error)


class LimitedConfig(uvicorn.Config):
    """The server's settings with limits of its connections."""

    def __init__(self, app: Any, limits: ConnectionLimits, **settings: Any) -> None:
        super().__init__(
            app,
            http=LimitedConnection,
            ws="none",
            h11_max_incomplete_event_size=limits.head_bytes,
            backlog=BACKLOG,
            **settings,
        )
        self.limits = limits
        self.watch = ConnectionWatch()


@dataclass
class ConnectionWatch:
    """Checks the deadlines of all connections while there are any."""

    connections: set[LimitedConnection] = field(default_factory=set)
    running: bool = False

    def add(self, connection: LimitedConnection) -> None:
        self.connections.add(connection)
        if not self.running:
            self.running = True
            connection.loop.call_later(CHECK_INTERVAL_S, self._check, connection.loop)

    def _check(self, loop: asyncio.AbstractEventLoop) -> None:
        now = time.monotonic()
        for connection in list(self.connections):
            connection.check_deadlines(now)
        self.running = bool(self.connections)
        if self.running:
            loop.call_later(CHECK_INTERVAL_S, self._check, loop)


class LimitedConnection(H11Protocol):
    """One connection that keeps to the limits of its server."""

    config: LimitedConfig

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.limits, self.watch = self.config.limits, self.config.watch
        # When the connection was made, its last request began or its last answer ended.
        self._since = time.monotonic()
        self._request: object = None
        self._stalled_since: float | None = None
        self._closing_since: float | None = None
        self._shutdown_since: float | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.watch.add(self)
        open_ones = [c for c in self.watch.connections if not c.transport.is_closing()]
        if len(open_ones) <= self.limits.connections:
            return
        waited_for = [(since, id(c), c) for c in open_ones if c is not self and (since := c.waiting_since) is not None]
        if waited_for:
            min(waited_for)[2].transport.abort()
        else:
            self._refuse(b"503 Service Unavailable")

    def connection_lost(self, exc: Exception | None) -> None:
        self.watch.connections.discard(self)
        super().connection_lost(exc)

    def handle_events(self) -> None:
        super().handle_events()
        if self.cycle is not self._request:
            self._request, self._since = self.cycle, time.monotonic()

    def on_response_complete(self) -> None:
        self._since = time.monotonic()
        super().on_response_complete()

    def pause_writing(self) -> None:
        self._stalled_since = time.monotonic()
        super().pause_writing()

    def resume_writing(self) -> None:
        self._stalled_since = None
        super().resume_writing()

    def shutdown(self) -> None:
        self._shutdown_since = time.monotonic()
        super().shutdown()

    @property
    def _awaits_head(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    @property
    def _awaits_body(self) -> bool:
        return not self._awaits_head and self.cycle.more_body and not self.cycle.response_started

    @property
    def waiting_since(self) -> float | None:
        """Since when the client has owed the rest of a request; None while it waits for its answer."""
        return self._since if self._awaits_head or self._awaits_body else None

    def check_deadlines(self, now: float) -> None:
        """Close the connection if a deadline has passed; the deadline of a body is the application's."""
        if self.transport.is_closing():
            self._closing_since = self._closing_since or now
        shutting_down_for = 0.0 if self._shutdown_since is None else now - self._shutdown_since
        stalled_for = 0.0 if self._stalled_since is None else now - self._stalled_since
        if (
            (self._closing_since is not None and now - self._closing_since > CLOSING_S)
            or stalled_for > self.limits.write_s
            or (shutting_down_for > SHUTDOWN_S and (self._awaits_body or stalled_for > SHUTDOWN_S))
        ):
            self.transport.abort()
        elif self._closing_since is None and self._awaits_head and now - self._since > self.limits.head_s:
            self._refuse(b"408 Request Timeout")

    def _refuse(self, status: bytes) -> None:
        if self.cycle is None:
            self.transport.write(b"HTTP/1.1 " + status + b"\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
        self.transport.close()
