"""Params of the gateway. A new engine is one file in ``engines/`` and its name in `Engine`."""

from __future__ import annotations

from pydantic import Field

from tasks.contracts.params import Section
from tasks.gateway.engines.transformers import Transformers
from tasks.gateway.mixture import MixtureProposers

# The union is the registry. With the second engine it reads
# Annotated[Transformers | Vllm, Field(discriminator="name")].
Engine = Transformers


class Gateway(Section):
    """Settings of the server."""

    engine: Engine = Field(default=Transformers(), description="engine that decodes")
    model_name: str = Field(default="heptune", min_length=1, description="name of the model in requests")
    adapters: tuple[str, ...] = Field(
        default=(), description="adapters of `heptune adapters` that answer as <model_name>:<adapter> from the start"
    )
    mixture: MixtureProposers | None = Field(
        default=None,
        description="models that propose to the release, which then answers as <model_name>+mixture too; null: none",
    )
    poll_s: float = Field(default=1.0, gt=0, description="seconds between two checks for a new champion")
    max_new_tokens: int = Field(
        default=256, ge=1, description="maximum tokens of an answer when the client sets no limit"
    )
    temperature: float = Field(
        default=0.0, ge=0, le=2, description="temperature when the client sets none; 0 is greedy"
    )
    max_queue: int = Field(
        default=128, ge=1, description="maximum number of waiting requests; more are answered with 429"
    )
    max_body_bytes: int = Field(default=1_000_000, ge=1024, description="largest request body")
    max_head_bytes: int = Field(
        default=16_384, ge=1024, description="bytes of a request's line and headers that may wait for their end"
    )
    max_connections: int = Field(
        default=500, ge=1, description="open connections; fewer where the process may not open so many files"
    )
    head_timeout_s: float = Field(default=10.0, gt=0, description="seconds in which the head of a request must arrive")
    body_timeout_s: float = Field(default=30.0, gt=0, description="seconds in which the body of a request must arrive")
    write_timeout_s: float = Field(
        default=30.0, gt=0, description="seconds after which a client that does not read its answer is disconnected"
    )
    max_feedback_per_hour: int = Field(
        default=2000, ge=1, description="feedback that one key may give in an hour; without keys, all clients together"
    )
    shutdown_s: int = Field(default=30, ge=0, description="seconds that running requests have to finish at shutdown")
    public_metrics: bool = Field(default=False, description="serve /metrics without a key although keys are required")
    log_queue: int = Field(
        default=10_000, ge=1, description="requests queued for the database before they are written to a file"
    )
    log_days: float | None = Field(
        default=180.0, gt=0, description="age at which logged requests are deleted, days; null: never"
    )
    log_rows: int | None = Field(
        default=1_000_000, ge=1, description="logged requests kept, the newest; null: all of them"
    )
