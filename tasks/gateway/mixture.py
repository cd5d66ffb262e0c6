"""Mixture of agents, served: other models propose, and the release makes one answer of their proposals.

See `tasks.language_models.writers.mixture` (Wang et al. 2024, arXiv:2406.04692). The release is the aggregator, so the
answer is decoded, streamed and limited as ever; only its conversation has the proposals in its system turn. The tokens
of all models are counted. A model that fails or takes longer than its ``timeout_s`` is left out.

Example:
    ``mixture: {layers: [[{name: openai, url: "http://127.0.0.1:8001/v1", model: a, timeout_s: 10, retries: 0}]]}``;
    clients then ask for ``heptune+mixture``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

from pydantic import Field

from tasks.contracts.params import Section
from tasks.language_models.writers.mixture import Proposals, propose
from tasks.language_models.writers.openai import OpenAi

# What the name of the served model ends in; no adapter's does, as those have a colon.
MIXTURE = "+mixture"


class MixtureProposers(Section):
    """The models that propose; serve a folder of your own behind a URL first."""

    layers: tuple[Annotated[tuple[OpenAi, ...], Field(min_length=1)], ...] = Field(
        min_length=1, description="models behind URLs that propose, layer by layer"
    )
    least_proposals: int = Field(default=1, ge=1, description="proposals of the last layer without which none answers")

    def propose(self, turns: Sequence[Mapping[str, str]]) -> Proposals:
        """The proposals for a conversation; those that failed are left out."""
        return propose(self.layers, [[dict(turn) for turn in turns]], None)[0]
