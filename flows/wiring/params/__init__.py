"""The whole of ``params.yaml``: a section a stage, and one for each command beside them; read once and frozen."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError, model_validator

from flows.wiring import artifacts
from flows.wiring.params.messages import describe, join_choices
from flows.wiring.yaml_file import read_yaml
from tasks.annotation.params import Annotation
from tasks.contracts.errors import raise_all
from tasks.contracts.params import Section
from tasks.data_preparation.params import DataPreparation
from tasks.deployment.exports.export import why_not_exported
from tasks.deployment.params import EXPORTS, Release
from tasks.evaluation.params import Evaluation
from tasks.fine_tuning.params import FineTuning
from tasks.gateway.params import Gateway
from tasks.model_initialisation.params import ModelInitialisation
from tasks.monitoring.params import Monitoring
from tasks.search.params import ParamSearch
from tasks.synthesis.params import Synthesis
from tasks.synthesis.sampling.params import AnswerSampling
from tasks.training.methods import names_where
from tasks.training.objectives.contrastive import Contrastive
from tasks.training.objectives.reward_models.reward_objective import RewardObjective
from tasks.training.objectives.teaching.taught_objective import TaughtObjective
from tasks.training_setup.auto import Auto
from tasks.training_setup.params import TrainingSetup


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
    sampling: AnswerSampling | None = Field(
        default=None, description="rows that `heptune best-of-n` chooses among a model's answers; null: none"
    )
    search: ParamSearch | None = Field(default=None, description="trials of `heptune search`; null: none")

    @model_validator(mode="after")
    def _costs_are_there(self) -> Params:
        if self.training_setup.loss.needs_costs and not self.data_preparation.balancing.costs:
            raise ValueError(
                f"training_setup.loss: {self.training_setup.loss.name} takes the costs of confusing labels; set "
                "data_preparation.balancing.costs, such as {late_fee: {lost_item: 5.0}}"
            )
        return self

    @model_validator(mode="after")
    def _teachers_are_watched(self) -> Params:
        key = "training_setup.objective.teacher"
        for objective in (phase.objective for phase in self.training_setup.each_phase()):
            if not isinstance(objective, TaughtObjective):
                continue
            teacher = Path(os.path.normpath(objective.teacher))
            if artifacts.TEACHER not in (teacher, *teacher.parents):
                raise ValueError(
                    f"{key}: {teacher} is outside of {artifacts.TEACHER}, where DVC sees it change; put it there: "
                    f"cp -r {teacher} {artifacts.TEACHER / teacher.name}"
                )
            if teacher.is_symlink():
                raise ValueError(
                    f"{key}: {teacher} is a link to a folder, into which DVC does not look; link its files: "
                    f"rm {teacher} && cp -rs {teacher.resolve()} {teacher}"
                )
        return self

    @model_validator(mode="after")
    def _release_can_hold_what_is_trained(self) -> Params:
        method = self.training_setup.method
        if isinstance(method, Auto):  # takes a method that merges
            return self
        merging = " or ".join(names_where(lambda can: can.merging))
        problem = why_not_exported(self.deployment.release.export, method.name, method.can.merging, EXPORTS, merging)
        if problem:
            raise ValueError(problem)
        return self

    @model_validator(mode="after")
    def _training_can_be_repeated(self) -> Params:
        if self.evaluation.repeats and self.training_setup.phases:
            raise ValueError(
                f"evaluation makes {self.evaluation.describe_repeats()}, each of one phase; set evaluation.folds: null "
                "and training_seeds: 1, or leave training_setup.phases out"
            )
        if self.evaluation.repeats and isinstance(self.training_setup.objective, RewardObjective):
            raise ValueError(
                f"evaluation makes {self.evaluation.describe_repeats()} of models that answer, and objective "
                f"{self.training_setup.objective.name} gives rewards; set evaluation.folds: null and training_seeds: 1"
            )
        if self.evaluation.folds and isinstance(self.training_setup.objective, Contrastive):
            raise ValueError(
                f"evaluation.folds: {self.evaluation.folds} and objective contrastive, whose models rank the texts of "
                "all items: one of a fold would have fewer to choose from than the base; set evaluation.folds: null"
            )
        return self

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
        lines = join_choices(describe(Params, values, problem) for problem in told)
        raise_all([f"{source}: {line}" for line in lines], source)
        raise
