"""What is looked at, one file each; the tuple is the only registry."""

from __future__ import annotations

from typing import cast

from flows.commands.doctor.checks import (
    accelerator,
    base_model,
    build_locks,
    clock,
    cores,
    disk,
    dvc,
    git,
    leftovers,
    limits,
    memory,
    mlflow,
    packages,
    params,
    plan,
    ports,
    prefect,
    program,
    request_log,
    variables,
    write_access,
)
from flows.commands.doctor.finding import Examiner

# In the order in which a person would mend them.
CHECKS = cast(
    tuple[Examiner, ...],
    (
        program, packages, variables, write_access, disk, memory, cores, accelerator, limits, clock,
        git, dvc, params, base_model, plan, prefect, mlflow, request_log, ports, leftovers,
        build_locks,
    ),
)  # fmt: skip
