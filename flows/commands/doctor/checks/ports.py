"""Ports that ``heptune up`` and ``heptune serve`` take by default, held by other programs."""

from __future__ import annotations

import socket
from collections.abc import Iterator

from flows.commands.doctor.finding import Finding, Surroundings
from flows.wiring.releases.serving import PORT, list_gateways
from flows.wiring.runs.addresses import MLFLOW_PORT, PREFECT_PORT, REPORTS_PORT

# Port to the option that chooses another one.
PORTS = {
    PREFECT_PORT: "heptune up --prefect-port",
    MLFLOW_PORT: "heptune up --mlflow-port",
    REPORTS_PORT: "heptune up --reports-port",
    PORT: "heptune serve --port",
}


def examine(here: Surroundings) -> Iterator[Finding]:
    from flows.commands.state.at_work import list_commands

    working = {one.command.partition(" ")[0] for one in list_commands()}
    gateways = {gateway.url.rpartition(":")[2] for gateway in list_gateways()}
    for port, option in PORTS.items():
        own = str(port) in gateways if "serve" in option else "up" in working
        if not own and is_taken(port):
            found = "is taken by another program"
            yield Finding("warning", f"port {port}", found, f"end it, or choose another: {option} NUMBER")


def is_taken(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return True
    return False
