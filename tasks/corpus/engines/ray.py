"""A Ray cluster, through Prefect's Ray task runner: each part is a task run of Prefect's and a task of Ray's.

Good for: more rows than one machine's cores get through. The nodes need this package (`pip install 'heptune[ray]'`) of
the same version; they need neither the sources nor the repository, since parts travel to them. A part whose worker
dies is done again elsewhere.

Example: ``engine: {name: ray, address: "ray://head.local:10001", workers: 64}``.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tasks.contracts.params import Section


class Ray(Section):
    """A Ray cluster."""

    name: Literal["ray"] = "ray"
    address: str = Field(
        default="auto",
        min_length=1,
        description="host:port of the head, ray://host:port from outside the cluster, or auto: the cluster of this "
        "machine, started for the run where there is none",
    )
    workers: int = Field(default=4, ge=1, description="parts at work at a time, a core each")
    rows_per_task: int = Field(default=20_000, ge=100, description="rows of a part")
