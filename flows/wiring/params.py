"""The whole of ``params.yaml``: a section a stage, and one for each command beside them; read once and frozen."""

from __future__ import annotations

import difflib
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, ValidationError, model_validator

from flows.wiring import artifacts
from flows.wiring.yaml_file import read_yaml
from tasks.annotation.params import Annotation
from tasks.contracts.errors import raise_all
from tasks.contracts.params import Section
from tasks.data_preparation.params import DataPreparation
from tasks.deployment.params import Release
from tasks.evaluation.params import Evaluation
from tasks.fine_tuning.params import FineTuning
from tasks.gateway.params import Gateway
from tasks.model_initialisation.params import ModelInitialisation
from tasks.monitoring.params import Monitoring
from tasks.synthesis.params import Synthesis
from tasks.training_setup.params import TrainingSetup

# Keys of earlier versions and where they stand now.
MOVED = {
    "data_preparation.annotation": "annotation",
    "data_preparation.synthesis": "synthesis",
    "evaluation.gate.must_not_fall": "evaluation.gate.must_not_worsen",
}
SHOULD = "Input should be "
# In YAML's words.
KINDS = {
    "tuple_type": "a list",
    "dict_type": "keys with values",
    "model_type": "keys with values",
    "model_attributes_type": "keys with values",
}


class Deployment(Section):
    """Stage 6 and the server that lives on after it."""

    release: Release = Field(default_factory=Release, description="what the release holds and must prove")
    gateway: Gateway = Field(default_factory=Gateway, description="the server; no DVC dependency")


class Params(Section):
    """All seven stages, one section each, and the commands that feed the first."""

    data_preparation: DataPreparation = Field(default_factory=DataPreparation)
    model_initialisation: ModelInitialisation = Field(default_factory=ModelInitialisation)
    training_setup: TrainingSetup = Field(default_factory=TrainingSetup)
    fine_tuning: FineTuning = Field(default_factory=FineTuning)
    evaluation: Evaluation = Field(default_factory=Evaluation)
    deployment: Deployment = Field(default_factory=Deployment)
    monitoring: Monitoring = Field(default_factory=Monitoring)
    annotation: Annotation = Field(default_factory=Annotation, description="what `heptune annotate` asks people")
    synthesis: Synthesis | None = Field(
        default=None, description="rows that `heptune synthesize` has a teacher write; null: none"
    )

    @model_validator(mode="after")
    def _batches_can_be_stratified(self) -> Params:
        if self.data_preparation.balancing.stratified_batches and self.training_setup.packing != "none":
            raise ValueError(
                "data_preparation.balancing.stratified_batches needs one conversation per row; "
                "set training_setup.packing: none"
            )
        return self


@lru_cache(maxsize=4)
def read_params(path: Path = artifacts.PARAMS) -> Params:
    """Read and validate the whole file.

    Raises:
        PipelineError: The file cannot be read, or any key of any section is wrong; all errors are listed with file,
            key, what was found and what is allowed.
    """
    return validate(read_yaml(path), str(path))


def validate(values: Mapping[str, Any], source: str) -> Params:
    """All params from the values of the file.

    Args:
        values: Sections to keys and values.
        source: Where they are from, for messages.

    Raises:
        PipelineError: Any key of any section is wrong; all errors are listed.
    """
    try:
        return Params.model_validate(values)
    except ValidationError as error:
        problems = error.errors()
        # A list of which every member is wrong counts as empty too.
        wrong = {problem["loc"][:-cut] for problem in problems for cut in range(1, len(problem["loc"]))}
        told = [problem for problem in problems if problem["type"] != "too_short" or problem["loc"] not in wrong]
        raise_all(join_choices([describe(source, values, problem) for problem in told]), source)
        raise


def describe(path: str, values: Any, problem: Any) -> str:
    """One line for one pydantic error: file, key, what was found, what is allowed."""
    keys = list_keys(values, problem["loc"])
    key = ".".join(keys) or "(top)"
    found = problem["input"]
    kind = problem["type"]
    if key in MOVED:
        return f'{path}: {key}: this is now "{MOVED[key]}", counted from the top level; write it there'
    if kind == "extra_forbidden":
        allowed = known_keys(problem["loc"][:-1])
        near = difflib.get_close_matches(keys[-1], allowed, 1)
        hint = f'did you mean "{near[0]}"?' if near else f"known keys: {', '.join(allowed)}"
        return f"{path}: {key}: unknown key; {hint}"
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        tag = problem["ctx"].get("tag")
        names = valid_names(problem["loc"])
        near = difflib.get_close_matches(str(tag), names, 1)
        said = f'unknown name "{tag}"' if tag else 'no "name"'
        hint = f'did you mean "{near[0]}"? ' if near else ""
        return f"{path}: {key}: {said}; {hint}valid names: {', '.join(names)}"
    text = (
        f"{SHOULD}{KINDS[kind]}"
        if kind in KINDS
        else problem["msg"].removeprefix("Value error, ").replace("Tuple", "List")
    )
    if kind == "string_type" and isinstance(found, bool | int | float):
        text += ", in quotes where YAML takes it for something else"
    shown = "" if isinstance(found, dict | list) or kind == "value_error" else f"found {found!r}; "
    return f"{path}: {key}: {shown}{text}"


def join_choices(lines: Iterable[str]) -> list[str]:
    """One line for the kinds of value that a key may have, where pydantic has a problem for each."""
    told: dict[str, list[str]] = {}
    for line in lines:
        head, _, wanted = line.partition(SHOULD)
        told.setdefault(head, []).append(wanted)
    return [head + (SHOULD + " or ".join(wanted) if wanted[0] else "") for head, wanted in told.items()]


def list_keys(values: Any, location: tuple[int | str, ...]) -> list[str]:
    """The keys as the file has them, without what pydantic adds: names of plug-ins, validators, members of unions."""
    keys = []
    for part in location:
        inner = values.get(part) if isinstance(values, Mapping) else None
        if isinstance(values, list) and isinstance(part, int):
            inner = values[part]
        elif not isinstance(values, Mapping) or "[" in str(part) or (part not in values and values.get("name") == part):
            continue
        keys.append(str(part))
        values = inner
    return keys


def known_keys(location: tuple[int | str, ...]) -> list[str]:
    """The keys a section or plug-in at this place may hold."""
    return sorted({name for model in models_at(location) for name in model.model_fields})


def valid_names(location: tuple[int | str, ...]) -> list[str]:
    names = {
        value
        for model in models_at(location)
        if "name" in model.model_fields
        for value in typing.get_args(model.model_fields["name"].annotation)
    }
    return sorted(names)


def models_at(location: tuple[int | str, ...]) -> list[type[BaseModel]]:
    found: list[type[BaseModel]] = [Params]
    for part in location:
        inner: list[type[BaseModel]] = []
        for model in found:
            if isinstance(part, str) and part in model.model_fields:
                inner += list(models_in(model.model_fields[part].annotation))
        if not inner:
            named = [m for m in found if "name" in m.model_fields and part in name_values(m)]
            inner = named or found
        found = inner
    return found


def name_values(model: type[BaseModel]) -> tuple[Any, ...]:
    return typing.get_args(model.model_fields["name"].annotation)


def models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in typing.get_args(annotation):
        if isinstance(inner, type | types.UnionType) or typing.get_origin(inner):
            yield from models_in(inner)
