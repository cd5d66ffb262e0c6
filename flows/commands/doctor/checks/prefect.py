"""Prefect's API: the server that is configured, or the one of this checkout."""

from __future__ import annotations

import os
from collections.abc import Iterator

from flows.commands.doctor.finding import Finding, Surroundings
from flows.wiring.processes import has_process
from flows.wiring.servers.server import is_healthy, read_record

VARIABLE = "PREFECT_API_URL"


def examine(here: Surroundings) -> Iterator[Finding]:
    url = os.environ.get(VARIABLE)
    own, mark = read_record()
    if url and url != own:
        if not url.rstrip("/").endswith("/api") and "/api/" not in url:
            found = f"is {url}, the address of the page; expected that of the API"
            yield Finding("error", VARIABLE, found, f"set it to {url.rstrip('/')}/api")
        elif not is_healthy(url.rstrip("/")):
            yield Finding(
                "error",
                VARIABLE,
                f"Prefect at {url} does not answer",
                "start it, or unset the variable for a local one",
            )
    if mark is not None and has_process(mark) and not is_healthy(own):
        found = f"the server of this checkout (pid {mark[0]}) does not answer at {own}"
        yield Finding("warning", "Prefect", found, "wait where it has just started; else end that process")
