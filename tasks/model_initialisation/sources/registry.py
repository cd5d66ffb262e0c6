"""A model version of the registry: training goes on from the champion, or from any release before it.

Example: ``source: {name: registry, alias: champion}`` or ``{name: registry, version: 3}``. Good for continual learning,
where a retrain adds what is new to a model that has learned the rest; what the champion has forgotten of its own base
stays forgotten, so look at the comparison with the base in the evaluation now and then.

An alias moves, so what it names is frozen in ``models/source.json`` when a retrain begins, or a run with another
source: after a promotion the same run has nothing to do until the next retrain.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from tasks.contracts.errors import PipelineError
from tasks.contracts.params import Section
from tasks.model_initialisation.sources.access import NO_ACCESS, Access


class RegisteredVersion(Section):
    """A release in the model registry, by alias or version."""

    immutable: ClassVar[bool] = False

    name: Literal["registry"] = "registry"
    alias: str | None = Field(
        default=None, pattern=r"^[a-z][\w-]*$", description="champion, or another alias of the registered model"
    )
    version: int | None = Field(default=None, ge=1, description="number of a model version; or an alias")

    @model_validator(mode="after")
    def _one_name(self) -> Self:
        if (self.alias is None) == (self.version is None):
            raise ValueError("a registry source has an alias or a version, exactly one of them")
        return self

    @property
    def asked(self) -> str:
        """What is looked up: ``alias champion`` or ``version 3``."""
        return f"alias {self.alias}" if self.alias is not None else f"version {self.version}"

    def fetch(self, access: Access = NO_ACCESS) -> Path:
        """The model folder of the frozen release, verified, and fetched if it is not stored locally.

        Raises:
            PipelineError: Nothing was frozen for it, or the release cannot be had.
        """
        if access.open_release is None:
            raise PipelineError(f"{self.asked}: only a flow opens the registry; run `heptune run`")
        return access.open_release(self.asked)

    def origin(self, folder: Path) -> dict[str, str]:
        return {"registry": self.asked, "release": folder.parent.name}

    def reference(self, folder: Path) -> dict[str, str]:
        return {"folder": folder.resolve().as_posix()}

    def facts(self, folder: Path) -> dict[str, str]:
        return {}
