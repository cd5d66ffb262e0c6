"""Params of model initialisation. The union of sources is their registry."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Literal, Self

from pydantic import Field, FiniteFloat, model_validator

from tasks.contracts.params import Section
from tasks.language_models.templates.rendering import TEMPLATE_DATE
from tasks.model_initialisation.sources.folder import Folder
from tasks.model_initialisation.sources.gguf import Gguf
from tasks.model_initialisation.sources.hub import Hub
from tasks.model_initialisation.sources.registry import RegisteredVersion

FoldedRole = Literal["system", "tool"]
Source = Annotated[Folder | Gguf | Hub | RegisteredVersion, Field(discriminator="name")]


class Licences(Section):
    """Which licences a base may have."""

    deny: tuple[str, ...] = Field(
        default=(), description="names as on model cards that stop the stage, * for anything: [cc-by-nc-*, llama2]"
    )


class Vocabulary(Section):
    """What is added to the base's vocabulary."""

    add: tuple[str, ...] = Field(
        default=(), description="terms that become tokens of their own, initialised with the mean of their pieces"
    )
    pad: str | None = Field(
        default=None,
        min_length=1,
        description="token to pad with; null: the base's, or one that its vocabulary has for it",
    )


class ModelInitialisation(Section):
    """The base model, and how it is stored."""

    source: Source = Field(
        default=Folder(), description="a local folder, a GGUF file, a hub model at a commit, or a registered version"
    )
    candidates: tuple[Source, ...] = Field(
        default=(), description="other sources, compared with this one by their loss per byte on validation rows"
    )
    choose: Literal["source", "recommended"] = Field(
        default="source",
        description="source: take it whatever the comparison says, which the page shows; recommended: take the "
        "smallest candidate that is not proven worse than the best",
    )
    candidate_rows: int = Field(
        default=64, ge=8, le=1000, description="validation rows that candidates are compared on"
    )
    licenses: Licences = Field(default_factory=Licences)
    vocabulary: Vocabulary = Field(default_factory=Vocabulary)
    reference: bool = Field(default=False, description="store only hashes and load the files from their source")
    chat_template: Literal["own", "chatml"] = Field(
        default="own", description="own: the model's; chatml: supply one, for base models that have none"
    )
    template_date: date = Field(
        default=TEMPLATE_DATE,
        description="the date for chat templates that write today's, such as gpt-oss's",
    )
    template_arguments: dict[str, bool | int | FiniteFloat | str] = Field(
        default={},
        description="values for names that the chat template reads, such as enable_thinking (Qwen3) or "
        "reasoning_effort (gpt-oss); written into the template, so that training, evaluation and whoever serves the "
        "release use them",
    )
    fold_roles: tuple[FoldedRole, ...] = Field(
        default=(),
        description="roles that the chat template does not write, system or tool; the user's turns get their texts",
    )
    sample_rows: int = Field(
        default=32, ge=1, le=1000, description="number of training rows on which the loss of the base is measured"
    )
    measure_up_to_parameters: int = Field(
        default=2_000_000_000, ge=0, description="larger models are described without loading them; 0 never loads"
    )

    @model_validator(mode="after")
    def _reference_is_unchanged(self) -> Self:
        if self.reference and (self.vocabulary.add or self.vocabulary.pad):
            raise ValueError("reference: true stores no files, so vocabulary can change nothing; set reference: false")
        return self
