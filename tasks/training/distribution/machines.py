"""The params of every distribution over several machines."""

from __future__ import annotations

import re

from pydantic import Field

from tasks.contracts.params import Section

DEFAULT_PORT = 29400


class Machines(Section):
    """How many machines train together, and where they meet."""

    nodes: int = Field(default=1, ge=1, description="machines; each has as many processes")
    rendezvous: str | None = Field(
        default=None,
        description="host:port of the first machine, where all meet; MASTER_ADDR and MASTER_PORT of the environment "
        "come first; null: one machine only",
    )
    hosts: list[str] = Field(
        default=[],
        description="names of the machines, the first one first, for DeepSpeed's hostfile and for ssh; may be left out",
    )
    timeout_s: int = Field(
        default=600, ge=1, description="seconds to wait for a rank that is missing or does not answer"
    )

    def ranks(self, processes: int) -> int:
        return processes * self.nodes

    def machine_problems(self, name: str, processes: int, least: int = 2) -> list[str]:
        """Too few ranks to share anything, and machines that do not know where to meet."""
        problems = []
        if self.ranks(processes) < least:
            problems.append(
                f"distribution: {name} shares the work of several processes, but processes is {processes} on "
                f"{self.nodes} machine; set processes to the number of accelerators or distribution: {{name: single}}"
            )
        if self.nodes > 1 and self.rendezvous is None:
            problems.append(
                f"distribution.rendezvous: missing for {self.nodes} machines; expected host:port of the first one, "
                f"such as train-0:{DEFAULT_PORT}"
            )
        if self.rendezvous is not None and not re.fullmatch(r"[^\s:/]+:\d{1,5}", self.rendezvous):
            problems.append(
                f'distribution.rendezvous: found "{self.rendezvous}"; expected host:port of the first machine, such as '
                f"train-0:{DEFAULT_PORT}"
            )
        if self.hosts and len(self.hosts) != self.nodes:
            problems.append(
                f"distribution.hosts: {len(self.hosts)} names for {self.nodes} machines; expected a name for each, or "
                "none"
            )
        return problems

    @property
    def reads_back(self) -> bool:
        return True

    def missing_here(self) -> list[str]:
        return []

    def prepare_here(self) -> None:
        """Nothing."""

    def on_machines(self) -> str:
        return f" on {self.nodes} machines" if self.nodes > 1 else ""
