"""The database of the request log, where one is configured."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from importlib.util import find_spec

from flows.commands.doctor.finding import Finding, Surroundings
from flows.wiring.releases.serving import STORE_VARIABLE

PORTS = {"postgresql": 5432}
TIMEOUT_S = 3.0


def examine(here: Surroundings) -> Iterator[Finding]:
    text = os.environ.get(STORE_VARIABLE)
    if not text:
        return
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        url = make_url(text)
    except ArgumentError:
        found = "is no address of a database; expected postgresql+psycopg://USER:PASSWORD@HOST:5432/NAME"
        yield Finding("error", STORE_VARIABLE, found, "correct it, or unset it for the checkout's own")
        return
    kind, _, driver = url.drivername.partition("+")
    if kind == "postgresql" and find_spec(driver or "psycopg2") is None:
        yield Finding(
            "error", STORE_VARIABLE, f"wants {driver or 'psycopg2'}, which is not installed",
            "`pip install 'heptune[postgres]'`, and write postgresql+psycopg://",
        )  # fmt: skip
        return
    if url.host and kind in PORTS:
        address = url.host, url.port or PORTS[kind]
        try:
            socket.create_connection(address, TIMEOUT_S).close()
        except OSError as error:
            found = f"nothing answers at {address[0]}:{address[1]} ({error.strerror or error})"
            yield Finding("error", STORE_VARIABLE, found, "start the database, or correct the address")
