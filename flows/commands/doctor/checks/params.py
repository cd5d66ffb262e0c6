"""``params.yaml``: read, what it names is there, and the secrets that it names are in the environment."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from flows.commands.doctor.finding import Finding, Surroundings
from flows.wiring import artifacts
from flows.wiring.params import Params, read_params
from flows.wiring.preflight.paths import check_inputs
from flows.wiring.staleness import STAGES
from tasks.contracts.errors import PipelineError


def examine(here: Surroundings) -> Iterator[Finding]:
    if here.params is None:
        try:
            read_params()
        except PipelineError as error:
            yield from split(error, "mend it; `heptune params --schema` says what is allowed")
        return
    try:
        check_inputs(here.params, STAGES, list(Params.model_fields))
    except PipelineError as error:
        yield from split(error, "put it there, or change the key")
    for key, name in find_secrets(here.params, ""):
        if not os.environ.get(name):
            found = f"wants the secret in the variable {name}, which is not set"
            yield Finding("error", f"{artifacts.PARAMS}: {key}", found, f"export {name}=VALUE")


def split(error: PipelineError, fix: str) -> Iterator[Finding]:
    """A finding for each problem of a list; what its sentence already advises is its fix."""
    first, *more = str(error).splitlines()
    for line in [one.removeprefix("  - ") for one in more] or [first]:
        place, _, rest = line.partition(": ")
        found, _, advice = rest.rpartition("; ")
        yield Finding("error", place, found or rest, advice if found else fix)


def find_secrets(value: Any, key: str) -> Iterator[tuple[str, str]]:
    """Key and variable of every secret that params name: ``*_env``, and the values of ``*_secrets``."""
    if isinstance(value, BaseModel):
        for name in type(value).model_fields:
            inner, place = getattr(value, name), f"{key}.{name}" if key else name
            if name.endswith("_env") and isinstance(inner, str):
                yield place, inner
            elif name.endswith("_secrets") and isinstance(inner, Mapping):
                yield from ((f"{place}.{part}", str(variable)) for part, variable in inner.items())
            else:
                yield from find_secrets(inner, place)
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from find_secrets(item, f"{key}.{index}")
