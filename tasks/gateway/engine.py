"""The interface between gateway and engine, in plain types, without tensors or HTTP."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from tasks.training.stored_adapter import StoredAdapter

FinishReason = Literal["stop", "length"]


@dataclass(frozen=True)
class Delta:
    """Text that is final and may be sent; empty while a character or a stop text is incomplete."""

    text: str


@dataclass(frozen=True)
class Finished:
    """The last event of an answered request.

    Attributes:
        reason: ``stop`` at the end of turn or a stop text, ``length`` at the token limit.
        tokens: All generated ids, including the end of turn where the model generated it.
        ended: Whether the last id is the end of turn.
    """

    reason: FinishReason
    tokens: tuple[int, ...]
    ended: bool


@dataclass(frozen=True)
class Failed:
    """The last event of a request the engine could not answer."""

    message: str


Event = Delta | Finished | Failed


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen.

    Attributes:
        temperature: 0 is greedy; otherwise logits are divided by it.
        top_p: Probability mass of the smallest set of tokens sampled from; 1: all tokens.
        seed: Makes a sampled answer reproducible, up to rounding of the probabilities.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None


@dataclass(eq=False)
class GenerationRequest:
    """One request to an engine.

    Attributes:
        prompt: Token ids of the rendered conversation.
        max_new_tokens: Maximum tokens to generate; prompt and answer together fit the context.
        emit: Called with the events in order, on a thread of the engine; it must not block or raise.
        sampling: How tokens are chosen.
        stops: Texts that end the answer and are not part of it.
        adapter: Name of the adapter that answers beside the model; None: the model alone.
        cancelled: Set it to free the row for others; a cancelled request gets no further events.
    """

    prompt: Sequence[int]
    max_new_tokens: int
    emit: Callable[[Event], None]
    sampling: Sampling = Sampling()
    stops: tuple[str, ...] = ()
    adapter: str | None = None
    cancelled: bool = field(default=False)


@dataclass(frozen=True)
class EngineLoad:
    """What an engine has to do, and what a draft saved it.

    Attributes:
        waiting: Requests in the queue.
        running: Requests being decoded.
        proposed: Tokens that a draft has proposed, since the engine was loaded.
        accepted: Those of them that the model chose.
    """

    waiting: int
    running: int
    proposed: int = 0
    accepted: int = 0


class PromptRefused(Exception):
    """The conversation cannot be rendered for this model; the message is for the client."""


class Engine(Protocol):
    """A loaded model that decodes requests in batches."""

    @property
    def context(self) -> int:
        """Maximum tokens of prompt and answer together."""

    @property
    def alive(self) -> bool:
        """Whether submitted requests will be answered."""

    def cannot_fit(self, texts: Sequence[str]) -> bool:
        """Whether messages with these contents certainly have more tokens than the context; cheap for any length."""

    def encode(self, messages: Sequence[Mapping[str, str]]) -> list[int]:
        """Prompt ids of a conversation, up to the assistant's answer.

        Those of a single turn of the assistant are of a text to be continued, without the chat template.

        Raises:
            PromptRefused: The chat template or the tokenizer rejects it.
        """

    @property
    def adapters(self) -> frozenset[str]:
        """Names of the adapters that requests may ask for."""

    def load_adapter(self, adapter: StoredAdapter) -> None:
        """Answer with an adapter too; returns when it does, at once where it did before.

        Raises:
            PipelineError: It was trained on other weights, or this engine cannot serve adapters.
        """

    def unload_adapter(self, name: str) -> None:
        """Answer with an adapter no longer; returns when the requests that ask for it are finished."""

    def submit(self, request: GenerationRequest) -> None:
        """Queue a request; returns at once."""

    def load(self) -> EngineLoad:
        """The current load."""

    def close(self) -> None:
        """Finish all submitted requests, then free the model. Safe to call twice."""
