"""Main memory: enough for the plan now, beside what else runs; and the shared part that processes exchange through."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

from flows.commands.doctor.finding import Finding, Surroundings
from flows.wiring import artifacts
from tasks.contracts.manifest import find_json

GIB = 2**30
LEAST_BYTES = 3 * GIB
SHARED_BYTES = GIB


def examine(here: Surroundings) -> Iterator[Finding]:
    import psutil

    if here.machine.memory_bytes < LEAST_BYTES:
        yield Finding(
            "warning", "memory", f"this process may use {here.machine.memory_bytes / GIB:.1f} GiB; the stages want "
            f"{LEAST_BYTES / GIB:.0f} GiB and more", "raise the container's limit, or take a larger machine",
        )  # fmt: skip
    plan = find_json(artifacts.PLAN / "plan.json")
    processes = int(plan.get("world_size") or 1)
    needed = int(plan.get("predicted_memory_bytes") or 0) * processes if plan.get("device") == "cpu" else 0
    available = psutil.virtual_memory().available
    if needed > available:
        yield Finding(
            "warning", "memory", f"{available / GIB:.1f} GiB available now, the plan wants {needed / GIB:.1f} GiB",
            "end other programs, or take a smaller batch_size",
        )  # fmt: skip
    shared = here.system / "dev/shm"
    many = here.params is not None and here.params.training_setup.processes > 1
    if (many or here.machine.accelerators > 1) and shared.is_dir():
        total = shutil.disk_usage(shared).total
        if total < SHARED_BYTES:
            yield Finding(
                "error" if many else "warning", str(shared), f"{total / 2**20:,.0f} MiB of shared memory; several "
                f"processes want {SHARED_BYTES / GIB:.0f} GiB and more", "start the container with --shm-size=8g",
            )  # fmt: skip
