"""CPU cores: what the container allows against what params and variables ask for."""

from __future__ import annotations

import os
from collections.abc import Iterator

from flows.commands.doctor.finding import Finding, Surroundings

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "POLARS_MAX_THREADS")


def examine(here: Surroundings) -> Iterator[Finding]:
    cores, whole = here.machine.cores, os.cpu_count() or 1
    if cores < whole:
        found = f"this process may use {cores} of {whole} cores, by its affinity or the container's quota"
        yield Finding("note", "cores", found, "give it more if they are idle")
    for name in THREADS:
        text = os.environ.get(name)
        if text is None:
            continue
        if not text.isdigit() or not int(text):
            yield Finding("error", name, f"is {text!r}; expected a number of threads", f"set it to {cores} or unset it")
        elif int(text) > cores:
            yield Finding(
                "warning", name, f"is {text}, and {cores} cores may be used: threads would wait for one another",
                f"set it to {cores} or unset it",
            )  # fmt: skip
    settings = here.params.training_setup if here.params else None
    if settings and settings.threads != "auto" and settings.threads * settings.processes > cores:
        yield Finding(
            "error", "training_setup.threads", f"{settings.threads} threads x {settings.processes} processes, and "
            f"{cores} cores may be used; the plan is refused", f"set threads: {max(1, cores // settings.processes)}",
        )  # fmt: skip
