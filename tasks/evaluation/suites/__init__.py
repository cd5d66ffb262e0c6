"""Suites of questions beside the held-out items, one file each; the union is their registry."""

from __future__ import annotations

from typing import Annotated, Any, get_args

from pydantic import Field

from tasks.evaluation.suites.known_answers import KnownAnswers
from tasks.evaluation.suites.multiple_choice import MultipleChoice
from tasks.evaluation.suites.safety import AnySafetySuite

AnySuite = Annotated[MultipleChoice | KnownAnswers | AnySafetySuite, Field(discriminator="name")]

SUITES: tuple[type[Any], ...] = get_args(get_args(AnySuite)[0])
