"""One record type per stage boundary, each with the Arrow schema it is written in."""

from __future__ import annotations

import hashlib
from itertools import pairwise
from typing import Any, Literal

import orjson
import pyarrow as pa

from tasks.contracts.record import Record

Role = Literal["system", "user", "assistant", "tool"]


class Message(Record):
    """One turn of a conversation."""

    role: Role
    content: str


class Example(Record):
    """One training row, in the canonical shape.

    Attributes:
        id: Content hash of the messages and of ``untrained``, 16 hex digits.
        messages: The whole conversation; the assistant's turns are the supervised ones, and the last turn is one.
        source: Name of the source it came from.
        row: Position in that source, counted from 1.
        label: Intent or class, where the source has one.
        cluster: Id of its near-duplicate cluster (its own id when it stands alone).
        untrained: Places in ``messages``, from 0, of answers that carry no loss; never the last. The column exists
            only where a row has such answers.
    """

    id: str
    messages: list[Message]
    source: str
    row: int
    label: str | None = None
    cluster: str
    untrained: list[int] | None = None


class ScoredAnswer(Record):
    """One of several answers to a prompt.

    Attributes:
        turns: The turns after the prompt.
        score: How good it is, larger is better; comparable within one prompt only.
    """

    turns: list[Message]
    score: float


class AnswerSet(Record):
    """A prompt with all its answers: preferences, rankings, choices, or one answer marked good or bad.

    Attributes:
        id: That of the example with the preferred answer.
        split: ``train``, ``validation`` or ``test``.
        prompt: The turns before the answers.
        answers: The preferred one first; a single one of score 1 or 0 is marked good or bad, and
            between them is the mean of several marks.
        source: Name of the source it came from.
        row: Position in that source, counted from 1.
        cluster: That of the example.
        steps: Whether each step of the only answer is right, its steps being parted by `STEP_END`. The column exists
            only where a row has such marks.
    """

    id: str
    split: str
    prompt: list[Message]
    answers: list[ScoredAnswer]
    source: str
    row: int
    cluster: str
    steps: list[bool] | None = None


class Prediction(Record):
    """One model's answer to one held-out item.

    Attributes:
        item: The ``id`` of the example.
        model: ``base``, ``champion`` or ``candidate``.
        source: Source of the example.
        label: Label of the example, if any.
        prompt: The messages before the answer.
        reference: The held-out answer.
        answer: What the model wrote.
        loss: Mean negative log-likelihood of the reference, nats per token.
        tokens: Number of tokens of the reference, its end of turn included.
        scores: Metric name to this item's value.
    """

    item: str
    model: str
    source: str
    label: str | None
    prompt: list[Message]
    reference: str
    answer: str
    loss: float
    tokens: int
    scores: dict[str, float]


class RequestLog(Record):
    """One answered (or refused) request of the gateway.

    Attributes:
        id: Unique id, also given to the client.
        received_at: Seconds since the epoch.
        model: Name the client asked for.
        release: Hash of the release that answered.
        key: Hash of the API key, or None without keys.
        messages: The prompt.
        answer: The generated text.
        prompt_tokens: Tokens of the rendered prompt.
        completion_tokens: Tokens generated.
        latency_ms: From the last byte of the request to the last of the answer.
        status: HTTP status.
        correction: The right answer, when feedback gave one.
        label: Intent given with the feedback.
    """

    id: str
    received_at: float
    model: str
    release: str
    key: str | None = None
    messages: list[Message]
    answer: str
    prompt_tokens: int
    completion_tokens: int
    latency_ms: float
    status: int
    correction: str | None = None
    label: str | None = None


MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
EXAMPLES = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("messages", MESSAGES, nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("row", pa.int64(), nullable=False),
        pa.field("label", pa.string()),
        pa.field("cluster", pa.string(), nullable=False),
    ]
)
# Column beside those of `EXAMPLES`, written only where a row has answers without loss.
UNTRAINED = pa.field("untrained", pa.list_(pa.int32()))
ANSWER_SETS = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
        pa.field("prompt", MESSAGES, nullable=False),
        pa.field("answers", pa.list_(pa.struct([("turns", MESSAGES), ("score", pa.float64())])), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("row", pa.int64(), nullable=False),
        pa.field("cluster", pa.string(), nullable=False),
    ]
)
# Column beside those of `ANSWER_SETS`, written only where the steps of an answer are marked.
STEPS = pa.field("steps", pa.list_(pa.bool_()))
STEP_END = "\n\n"  # between two steps of an answer
QUARANTINE = pa.schema(
    [
        pa.field("source", pa.string(), nullable=False),
        pa.field("row", pa.int64(), nullable=False),
        pa.field("step", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("content", pa.string(), nullable=False),
    ]
)
PREDICTIONS = pa.schema(
    [
        pa.field("item", pa.string(), nullable=False),
        pa.field("model", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("label", pa.string()),
        pa.field("prompt", MESSAGES, nullable=False),
        pa.field("reference", pa.string(), nullable=False),
        pa.field("answer", pa.string(), nullable=False),
        pa.field("loss", pa.float64(), nullable=False),
        pa.field("tokens", pa.int64(), nullable=False),
        pa.field("scores", pa.list_(pa.struct([("metric", pa.string()), ("value", pa.float64())]))),
    ]
)
REQUESTS = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("received_at", pa.float64(), nullable=False),
        pa.field("model", pa.string(), nullable=False),
        pa.field("release", pa.string(), nullable=False),
        pa.field("key", pa.string()),
        pa.field("messages", MESSAGES, nullable=False),
        pa.field("answer", pa.string(), nullable=False),
        pa.field("prompt_tokens", pa.int64(), nullable=False),
        pa.field("completion_tokens", pa.int64(), nullable=False),
        pa.field("latency_ms", pa.float64(), nullable=False),
        pa.field("status", pa.int64(), nullable=False),
        pa.field("correction", pa.string()),
        pa.field("label", pa.string()),
    ]
)


def content_id(messages: list[dict[str, Any]], untrained: list[int] | None = None) -> str:
    """Content hash of a conversation: 16 hex digits of SHA-256 over role and content.

    Args:
        messages: The turns.
        untrained: Places of answers without loss; with any, the hash is another, since the row teaches something else.
    """
    return _hash_turns([(m["role"], m["content"]) for m in messages], untrained)


def content_ids(messages: pa.ListArray, untrained: list[list[int] | None] | None = None) -> list[str]:
    """`content_id` of each conversation, with its answers without loss where there are any."""
    flat = messages.flatten()
    turns = list(zip(flat.field("role").to_pylist(), flat.field("content").to_pylist(), strict=True))
    offsets = messages.offsets.to_pylist()
    first = offsets[0] if offsets else 0
    return [
        _hash_turns(turns[start - first : end - first], places)
        for (start, end), places in zip(pairwise(offsets), untrained or [None] * len(messages), strict=True)
    ]


def _hash_turns(turns: list[tuple[str, str]], untrained: list[int] | None) -> str:
    return hashlib.sha256(orjson.dumps([turns, untrained] if untrained else turns)).hexdigest()[:16]


# Examples as tokens, by `tasks.language_models.encoding`.
ENCODED = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("input_ids", pa.list_(pa.int32()), nullable=False),
        pa.field("labels", pa.list_(pa.int32()), nullable=False),
        pa.field("full_length", pa.int64(), nullable=False),
        pa.field("refused", pa.string()),
        pa.field("place", pa.int64(), nullable=False),
    ]
)
