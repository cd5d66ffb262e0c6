"""OpenAI's chat completions: the supported fields of a request, and the formats of answers and errors.

Supported: ``model``, ``messages``, ``max_tokens`` and ``max_completion_tokens``, ``temperature``, ``top_p``, ``stop``
(up to 4), ``seed``, ``stream`` and ``stream_options.include_usage``. Messages are read as those of data sets are
(`tasks.language_models.templates.message_format`): texts, text parts, refusals, and the tool calls of earlier turns
with their results; ``developer`` counts as ``system``. A single message of the assistant is a text to be continued,
without the chat template: what completions are elsewhere. What a message holds beside its text (``name``,
``tool_call_id``, reasoning) has no effect, and the header ``x-heptune-ignored`` names it. ``metadata.adapter`` names
the adapter that answers, as ``<model>:<adapter>`` does. Accepted and without effect, too: ``user``, all else in
``metadata``, ``safety_identifier``, ``prompt_cache_key``, ``service_tier``, ``store: false``, ``parallel_tool_calls``,
any field that is null, and every other known field at the value that has no effect (``n: 1``, ``logprobs: false``,
``tools: []``, penalties of 0, ...). Anything else is answered with 400 and the name of the field: several choices, log
probabilities, tools, structured output, penalties, logit bias, images and audio, reasoning effort, stored completions.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar, cast

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from tasks.contracts.records import Role
from tasks.gateway.engine import FinishReason
from tasks.language_models.templates.message_format import list_unused, read_text

Body = Mapping[str, Any]
Shape = TypeVar("Shape", bound=BaseModel)

TEXT_WITHOUT_CONTENT = {"refusal", "tool_calls", "function_call"}
# What OpenAI's API and the servers that imitate it give and take in a message.
MESSAGE_FIELDS = TEXT_WITHOUT_CONTENT | {
    "role",
    "content",
    "name",
    "tool_call_id",
    "audio",
    "annotations",
    "reasoning_content",
    "reasoning",
    "thinking",
}
MAX_STOPS, MAX_STOP_CHARACTERS = 4, 256
# What is expected, of fields whose own error messages do not say so.
EXPECTED = {
    "stop": f"a text, or a list of at most {MAX_STOPS} texts, each of 1 to {MAX_STOP_CHARACTERS} characters",
    "tools": "no tools: this gateway calls none; describe them in the system message",
    "functions": "no functions: this gateway calls none; describe them in the system message",
    "tool_choice": "none or auto, as this gateway calls no tools",
    "function_call": "none or auto, as this gateway calls no functions",
    "n": "1: ask again for another answer",
    "logprobs": "false: log probabilities are not given",
    "top_logprobs": "0: log probabilities are not given",
    "logit_bias": "none",
    "presence_penalty": "0",
    "frequency_penalty": "0",
    "store": "false: answers cannot be fetched later",
    "modalities": '["text"]',
    "response_format": '{"type": "text"}: the form of an answer is not enforced',
}
MAX_SHOWN_CHARACTERS = 60
HEADER_NAME, MAX_IGNORED = re.compile(r"[A-Za-z0-9_.]{1,60}"), 10


MESSAGE_CHARACTERS = 500


class ApiError(Exception):
    """An error response in OpenAI's format.

    Args:
        status: HTTP status.
        message: What was found, what was expected, the next step.
        code: Error code for programs.
        param: The invalid field.
        headers: Additional response headers.
    """

    def __init__(
        self,
        status: int,
        message: str,
        code: str | None = None,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        # What a client sent is repeated in part only.
        self.message = message if len(message) <= MESSAGE_CHARACTERS else f"{message[:MESSAGE_CHARACTERS]}…"
        self.code = code or "invalid_value"
        self.param = param if param is None else param[:MESSAGE_CHARACTERS]
        self.headers = dict(headers or {})

    def body(self) -> dict[str, Any]:
        """The JSON body that OpenAI's clients expect."""
        types = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error"}
        error_type = types.get(self.status, "invalid_request_error" if self.status < 500 else "server_error")
        return {"error": {"message": self.message, "type": error_type, "param": self.param, "code": self.code}}


class StrictModel(BaseModel):
    """A model without unknown fields and without coercion of types."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Turn(StrictModel):
    """One message as the chat template gets it.

    Attributes:
        role: Who wrote it.
        content: Its text.
        ignored: Its fields without effect.
    """

    role: Role
    content: str
    ignored: tuple[str, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _read(cls, message: Any) -> Any:
        """The text of a message in OpenAI's format; a message that is no object is left to pydantic."""
        if not isinstance(message, dict):
            return message
        given = {key: value for key, value in message.items() if value is not None}
        unknown = sorted(given.keys() - MESSAGE_FIELDS)
        if unknown:
            raise PydanticCustomError("extra_forbidden", "unknown field", {"name": unknown[0]})
        if given.get("audio"):
            raise ValueError("audio is not read; send text")
        role = "system" if given.get("role") == "developer" else given.get("role")
        read = {"role": role} if "role" in given else {}
        if given.keys() & {"content", *TEXT_WITHOUT_CONTENT}:
            read["content"] = read_text(given)
        return read | {"ignored": tuple(list_unused(given, "role", "content", role == "assistant"))}


class StreamOptions(StrictModel):
    """Options of a stream."""

    include_usage: bool = False
    include_obfuscation: Literal[False] | None = None


class ResponseFormat(StrictModel):
    """Plain text only."""

    type: Literal["text"]


Stop = Annotated[str, Field(min_length=1, max_length=MAX_STOP_CHARACTERS)]
Zero = Annotated[float, Field(ge=0, le=0)]


class ChatRequest(StrictModel):
    """A body of ``/v1/chat/completions``."""

    model: str
    messages: list[Turn] = Field(min_length=1)
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    stop: Stop | Annotated[list[Stop], Field(max_length=MAX_STOPS)] | None = None
    seed: int | None = Field(None, ge=-(2**63), le=2**63 - 1)
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: Annotated[int, Field(ge=1, le=1)] | None = None
    logprobs: Literal[False] | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=0)] | None = None
    logit_bias: dict[str, float] | None = Field(None, max_length=0)
    presence_penalty: Zero | None = None
    frequency_penalty: Zero | None = None
    response_format: ResponseFormat | None = None
    tools: list[Any] | None = Field(None, max_length=0)
    tool_choice: Literal["none", "auto"] | None = None
    functions: list[Any] | None = Field(None, max_length=0)
    function_call: Literal["none", "auto"] | None = None
    parallel_tool_calls: bool | None = None
    modalities: list[Literal["text"]] | None = None
    store: Literal[False] | None = None
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    metadata: dict[str, str] | None = None
    service_tier: Literal["auto", "default"] | None = None

    @model_validator(mode="before")
    @classmethod
    def _leave_out_nulls(cls, body: Any) -> Any:
        """Clients send null for what they do not set, also in fields newer than this gateway."""
        if not isinstance(body, dict):
            return body
        return {key: value for key, value in body.items() if value is not None}

    @property
    def token_limit(self) -> int | None:
        """The smaller of the two limits a client may set."""
        limits = [limit for limit in (self.max_tokens, self.max_completion_tokens) if limit is not None]
        return min(limits, default=None)

    @property
    def stops(self) -> tuple[str, ...]:
        """Stop texts as a tuple."""
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())

    @property
    def ignored(self) -> tuple[str, ...]:
        """Fields of messages without effect, each once; of a client's own names only those that fit into a header."""
        names = dict.fromkeys(name for turn in self.messages for name in turn.ignored)
        return tuple(name for name in names if HEADER_NAME.fullmatch(name))[:MAX_IGNORED]

    def turns(self) -> list[dict[str, str]]:
        """The conversation as input of a chat template."""
        return [{"role": turn.role, "content": turn.content} for turn in self.messages]


class FeedbackRequest(StrictModel):
    """A body of ``/v1/feedback``: the correct answer, the intent of the request, or both."""

    request_id: str = Field(min_length=1, max_length=128)
    correction: str | None = Field(None, max_length=100_000)
    label: str | None = Field(None, min_length=1, max_length=256)


class AdapterRequest(StrictModel):
    """A body of ``/v1/adapters``: the adapter of the store that is to answer too."""

    name: str = Field(min_length=1, max_length=64)


def parse(shape: type[Shape], raw: bytes) -> Shape:
    """Parse a body.

    Raises:
        ApiError: It is not JSON, or a field is wrong; the first invalid one is named.
    """
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise ApiError(400, f"the body is not JSON ({error}); send a JSON object", "invalid_json") from error
    if not isinstance(value, dict):
        raise ApiError(400, f"the body is a JSON {type(value).__name__}; send an object", "invalid_json")
    try:
        return shape.model_validate(value)
    except ValidationError as error:
        raise describe(cast(dict[str, Any], error.errors(include_url=False)[0])) from error


def describe(problem: Mapping[str, Any]) -> ApiError:
    """One validation error as an error response."""
    path = ".".join(str(part) for part in problem["loc"] if not str(part).startswith(("function-", "constrained-")))
    field = str(problem["loc"][0]) if problem["loc"] else None
    if problem["type"] == "extra_forbidden":
        name = problem.get("ctx", {}).get("name")
        path = f"{path}.{name[:MAX_SHOWN_CHARACTERS]}" if name else path
        return ApiError(400, f"unknown field {path!r}; remove it", "unknown_parameter", field)
    if problem["type"] == "missing":
        return ApiError(400, f"{path} is missing; add it", "missing_required_parameter", field)
    if field in EXPECTED:
        message = f"{field}: found {show(problem['input'])}, expected {EXPECTED[field]}"
    elif problem["type"] == "value_error":
        message = f"{path}: {str(problem['msg']).removeprefix('Value error, ')}"
    else:
        message = f"{path}: {problem['msg']}; this gateway supports no other value"
    return ApiError(400, message, "unsupported_value", field)


def show(value: Any) -> str:
    """A value in an error message."""
    if isinstance(value, list):
        return f"a list of {len(value)}"
    if isinstance(value, dict):
        return "an object"
    return orjson.dumps(value, default=str).decode()[:MAX_SHOWN_CHARACTERS]


def completion(
    request_id: str, created: int, model: str, release: str, text: str, reason: FinishReason, usage: Mapping[str, int]
) -> dict[str, Any]:
    """The body of a complete answer."""
    message = {"role": "assistant", "content": text, "refusal": None}
    return {
        "id": request_id,
        "object": "chat.completion",
        "created": created,
        "model": model,
        "system_fingerprint": release,
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": reason}],
        "usage": dict(usage),
    }


def chunk(
    request_id: str,
    created: int,
    model: str,
    release: str,
    delta: Mapping[str, str] | None,
    reason: FinishReason | None = None,
    usage: Mapping[str, int] | None = None,
    with_usage: bool = False,
) -> bytes:
    """One server-sent event of a streamed answer; without a delta it is the one with the usage."""
    choices = []
    if delta is not None:
        choices = [{"index": 0, "delta": dict(delta), "logprobs": None, "finish_reason": reason}]
    body: dict[str, Any] = {
        "id": request_id,
        "object": "chat.completion.chunk",
        "created": created,
        "model": model,
        "system_fingerprint": release,
        "choices": choices,
    }
    if with_usage:
        body["usage"] = usage
    return sse(body)


def sse(body: Body) -> bytes:
    """A server-sent event."""
    return b"data: " + orjson.dumps(body) + b"\n\n"


def count_usage(prompt_tokens: int, completion_tokens: int) -> dict[str, int]:
    """OpenAI's token counts; the end of turn is a generated token."""
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
    }
