"""Groups of suites by what they ask for: general ability, reasoning, following instructions, safety.

A group stands for its members: each is a suite of its own in tables, figures and the gate, with the role, the margin
and the number of items of the group. The first three are the tasks ``local_...`` of
`tasks.evaluation.suites.lm_eval`, which read local files; ``safety`` has the suites of safety that need neither files
nor a guard model, with the margins usual for each.

Good for a first answer to "what did tuning spoil?", before there are questions of your own.

Example:
    ``{name: general, files: data/suites, items: 100, role: guard, margin: 0.05}``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from tasks.contracts.params import Reads, Section
from tasks.evaluation.suites.lm_eval import LmEval
from tasks.evaluation.suites.safety import SAFETY
from tasks.evaluation.suites.suite import Role, SuiteSection

if TYPE_CHECKING:
    from tasks.evaluation.suites.suite import Suite

# Task to params that differ from the defaults.
MEMBERS: dict[str, dict[str, dict[str, Any]]] = {
    "general": {
        "local_arc_easy": {},
        "local_boolq": {},
        "local_commonsense_qa": {},
        "local_copa": {},
        "local_lambada": {},
        "local_piqa": {},
        "local_squad_v2": {},
        "local_winogrande": {},
    },
    "reasoning": {
        "local_bbh": {},
        "local_gsm8k": {"measure": "exact_match, flexible-extract"},
        "local_simple_arithmetic": {},
        "local_svamp": {},
    },
    "instruction": {"local_ifeval": {"chat_template": True}},
}

# Those that any data can be asked about; exposure wants canaries or codes, and errors by group want groups.
SELF_SUFFICIENT = (
    "stereotype",
    "memorisation",
    "adversarial_edits",
    "style_shift",
    "adversarial_demonstrations",
    "unknown_answers",
    "swapped_names",
    "tone",
)


class SuiteGroup(SuiteSection):
    """Several suites under one name."""

    name: Literal["general", "reasoning", "instruction"]
    files: Annotated[str | None, Reads("folder")] = Field(
        default=None, description="folder of the files of the local tasks; null: that in HEPTUNE_BENCHMARKS"
    )

    @property
    def key(self) -> str:
        return self.name

    def expand(self) -> list[Suite]:
        """The suites that it stands for."""
        shared = {"items": self.items, "role": self.role, "margin": self.margin, "files": self.files}
        return [
            LmEval.model_validate({"task": task, "title": f"{self.name} {task}", **shared, **params})
            for task, params in MEMBERS[self.name].items()
        ]


class SafetyGroup(Section):
    """The suites of safety that run on the run's own data."""

    name: Literal["safety"] = "safety"
    items: int | None = Field(default=None, ge=1, description="maximum number of questions of each; null: its own")
    role: Role = Field(
        default="shown", description="guard: the gate looks at each, with its usual margin; shown: at none"
    )

    def expand(self) -> list[Suite]:
        """The suites that it stands for."""
        given = {"role": self.role} | ({"items": self.items} if self.items else {})
        by_name = {one.model_fields["name"].default: one for one in SAFETY}
        return [by_name[name].model_validate(given) for name in SELF_SUFFICIENT]
