"""Suites of questions beside the held-out items, one file each; the union is their registry."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any, get_args

from pydantic import Field

from tasks.evaluation.suites.groups import SafetyGroup, SuiteGroup
from tasks.evaluation.suites.judged_turns import JudgedTurns
from tasks.evaluation.suites.known_answers import KnownAnswers
from tasks.evaluation.suites.lm_eval import LmEval
from tasks.evaluation.suites.multiple_choice import MultipleChoice
from tasks.evaluation.suites.safety import AnySafetySuite

if TYPE_CHECKING:
    from tasks.evaluation.suites.suite import Suite

AnySuite = Annotated[
    LmEval | MultipleChoice | KnownAnswers | JudgedTurns | AnySafetySuite | SuiteGroup | SafetyGroup,
    Field(discriminator="name"),
]

SUITES: tuple[type[Any], ...] = get_args(get_args(AnySuite)[0])


def expand_suites(suites: Iterable[Any]) -> list[Suite]:
    """Suites, and in place of each group its members."""
    return [
        one for suite in suites for one in (suite.expand() if isinstance(suite, SuiteGroup | SafetyGroup) else [suite])
    ]


def list_leaks(suite: Suite) -> dict[str, str]:
    """Name to the file or folder of items that must not be in the training rows, as far as a suite reads local ones."""
    if isinstance(suite, LmEval):
        return suite.leaks
    files = getattr(suite, "files", None)
    return {suite.key: str(files)} if files else {}
