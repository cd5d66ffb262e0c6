"""Section ``deployment.release`` of ``params.yaml``."""

from __future__ import annotations

from pydantic import Field

from tasks.contracts.params import Section
from tasks.deployment.exports.safetensors import Safetensors

# The registry of exports: from the second one on `Annotated[A | B, Field(discriminator="name")]`.
Export = Safetensors
EXPORTS = (Safetensors(),)


class Parity(Section):
    """How the release is compared with the trained model."""

    prompts: int = Field(default=32, ge=1, description="Held-out prompts answered by all three models, rows.")
    max_new_tokens: int = Field(default=64, ge=1, description="Maximum length of the compared answers, tokens.")
    minimum_match: float = Field(
        default=1.0,
        ge=0,
        le=1,
        description="Share of answers that must equal the trained model's token for token. Below 1 only "
        "where the export rounds (bf16); prompts must always match.",
    )


class Release(Section):
    """Contents of a release, and what it must prove."""

    model: str = Field(default="heptune", min_length=1, description="Name in the model registry.")
    export: Export = Field(default_factory=Safetensors, description="Format of the model's weights.")
    parity: Parity = Field(
        default_factory=Parity, description="Proof that the release answers as the trained model does."
    )
    languages: tuple[str, ...] = Field(default=("en",), description="Languages named on the model card, ISO 639-1.")
