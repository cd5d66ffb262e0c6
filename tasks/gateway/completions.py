"""One chat request from body to answer, streamed or complete, and its row in the request log."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

import anyio
from fastapi import Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from tasks.contracts.records import Message, RequestLog
from tasks.gateway.api.chat import ApiError, ChatRequest, chunk, completion, count_usage, sse
from tasks.gateway.api.keys import Key
from tasks.gateway.engine import Delta, Event, Failed, Finished, GenerationRequest, PromptRefused, Sampling
from tasks.gateway.mixture import MIXTURE
from tasks.gateway.releases import Slot
from tasks.gateway.state import GatewayState
from tasks.language_models.writers.mixture import Proposals, add_proposals

logger = logging.getLogger(__name__)

CLIENT_GONE = 499
# What the log keeps of a conversation that was refused before it reached the engine.
REFUSED_CHARACTERS = 1000
REFUSED_TURNS = 20


@dataclass(eq=False)
class Exchange:
    """A chat request while it is answered. `end` must be called; it may be called twice.

    Attributes:
        state: State of the gateway.
        body: The client's request.
        key: The client's key, where keys are required.
        adapter: Name of the adapter that answers; None: the model alone.
        id: Id for the client, the log and feedback.
        status: HTTP status for the log; 499 until there is an answer.
        prompt_tokens: Tokens of the prompt, and of the prompts of a mixture's other models.
        completion_tokens: Tokens of the answer, and of the proposals of a mixture.
        proposals: What the other models of a mixture propose.
    """

    state: GatewayState
    body: ChatRequest
    key: Key | None
    adapter: str | None = None
    id: str = field(default_factory=lambda: f"chatcmpl-{uuid.uuid4().hex}")
    received_at: float = field(default_factory=time.time)
    started: float = field(default_factory=time.perf_counter)
    status: int = CLIENT_GONE
    prompt_tokens: int = 0
    completion_tokens: int = 0
    text: list[str] = field(default_factory=list)
    generation: GenerationRequest | None = None
    proposals: Proposals = field(default_factory=Proposals)
    lease: ExitStack = field(default_factory=ExitStack)
    ended: bool = False

    def __post_init__(self) -> None:
        self.slot: Slot = self.lease.enter_context(self.state.releases.lease())
        self.events: asyncio.Queue[Event] = asyncio.Queue()
        self._loop = asyncio.get_running_loop()

    @property
    def is_mixed(self) -> bool:
        """Whether other models are asked for proposals first."""
        return self.body.model == self.state.mixture_name

    @property
    def headers(self) -> dict[str, str]:
        """Headers with the request id, the release that answers, and what had no effect in the messages."""
        ignored = {"x-heptune-ignored": ", ".join(self.body.ignored)} if self.body.ignored else {}
        return {"x-request-id": self.id, "x-heptune-release": self.slot.release} | ignored

    async def begin(self) -> None:
        """Encode the conversation and submit it to the engine, what costs least first.

        Raises:
            ApiError: It cannot be answered.
        """
        self._check_queue()
        turns = self.body.turns()
        with self.state.admission.encoding():
            await self._check_length(turns)
            if self.is_mixed:
                turns = await self._add_proposals(turns)
            prompt = await self._encode(turns)
        self.prompt_tokens = len(prompt)
        limit = self._token_limit()
        self.prompt_tokens += self.proposals.prompt_tokens or 0
        temperature = self.body.temperature
        self.generation = GenerationRequest(
            prompt=prompt,
            max_new_tokens=limit,
            emit=self._emit,
            sampling=Sampling(
                temperature=self.state.params.temperature if temperature is None else temperature,
                top_p=1.0 if self.body.top_p is None else self.body.top_p,
                seed=self.body.seed,
            ),
            stops=self.body.stops,
            adapter=self.adapter,
        )
        self.slot.engine.submit(self.generation)

    def _check_queue(self) -> None:
        waiting = self.slot.engine.load().waiting
        if self.state.admission.is_full(waiting):
            seconds = self.state.expected_wait_s()
            message = f"{waiting} requests are waiting; try again in {seconds} s"
            raise ApiError(429, message, "queue_full", headers={"Retry-After": str(seconds)})

    async def _check_length(self, turns: list[dict[str, str]]) -> None:
        engine = self.slot.engine
        texts = [turn["content"] for turn in turns]
        if await anyio.to_thread.run_sync(engine.cannot_fit, texts, limiter=self.state.encoders):
            message = (
                f"{len(texts)} messages of {sum(map(len, texts)):,} characters are more than the context of "
                f"{engine.context} tokens; shorten the messages"
            )
            raise ApiError(400, message, "context_length_exceeded", "messages")

    async def _encode(self, turns: list[dict[str, str]]) -> list[int]:
        try:
            return await anyio.to_thread.run_sync(self.slot.engine.encode, turns, limiter=self.state.encoders)
        except PromptRefused as error:
            raise ApiError(400, str(error), "prompt_refused", "messages") from error

    async def _add_proposals(self, turns: list[dict[str, str]]) -> list[dict[str, str]]:
        mixture = self.state.params.mixture
        assert mixture is not None, "a mixture is asked for by a name that there is only with one"
        self.proposals = await anyio.to_thread.run_sync(mixture.propose, turns, limiter=self.state.proposing)
        if len(self.proposals.texts) < mixture.least_proposals:
            message = (
                f"{len(self.proposals.texts)} models made a proposal, {mixture.least_proposals} are needed; ask for "
                f"{self.state.params.model_name!r}, or try again"
            )
            raise ApiError(503, message, "too_few_proposals")
        # Where not all proposals fit into the context of the release, the last ones are left out.
        for count in range(len(self.proposals.texts), mixture.least_proposals - 1, -1):
            mixed = add_proposals(turns, self.proposals.texts[:count])
            if len(await self._encode(mixed)) + (self.body.token_limit or 1) <= self.slot.engine.context:
                return mixed
        message = (
            f"the messages and {mixture.least_proposals} of the proposals are more than the context of "
            f"{self.slot.engine.context} tokens; shorten the messages, or ask for {self.state.params.model_name!r}"
        )
        raise ApiError(400, message, "context_length_exceeded", "messages")

    def _token_limit(self) -> int:
        context, requested = self.slot.engine.context, self.body.token_limit
        room = context - self.prompt_tokens
        if room < 1 or (requested is not None and requested > room):
            answer_tokens = "" if requested is None else f" and {requested} for the answer"
            message = (
                f"the messages take {self.prompt_tokens} tokens{answer_tokens}; the context holds {context}; "
                "shorten the messages or lower max_tokens"
            )
            raise ApiError(400, message, "context_length_exceeded", "messages")
        return min(self.state.params.max_new_tokens, room) if requested is None else requested

    def _emit(self, event: Event) -> None:
        """Called on the engine's thread; an answer that is not streamed wakes the event loop only once."""
        if isinstance(event, Delta):
            self.text.append(event.text)
            if not self.body.stream:
                return
        try:
            self._loop.call_soon_threadsafe(self.events.put_nowait, event)
        except RuntimeError:
            # The event loop has ended, so there is no client to answer.
            if self.generation is not None:
                self.generation.cancelled = True

    def finish(self, event: Finished) -> None:
        """Record that the answer is complete."""
        self.completion_tokens = len(event.tokens) + (self.proposals.completion_tokens or 0)
        self.status = 200

    def end(self, error: ApiError | None = None) -> None:
        """Count and log the request, and end its lease of the release."""
        if self.ended:
            return
        self.ended = True
        if error is not None:
            self.status = error.status
        if self.generation is not None:
            self.generation.cancelled = True
        self.lease.close()
        seconds = time.perf_counter() - self.started
        metrics = self.state.metrics
        metrics.requests.labels(str(self.status), str(bool(self.body.stream)).lower()).inc()
        if self.status == 200:
            self.state.record_seconds(seconds)
            metrics.seconds.observe(seconds)
            metrics.tokens_in.inc(self.prompt_tokens)
            metrics.tokens_out.inc(self.completion_tokens)
        elif self.status == CLIENT_GONE:
            metrics.errors.labels("client_gone").inc()
        # A client that retries sends the same prompt again, so its text is not logged here.
        turns = [] if self.status == 429 else self.body.turns()
        if self.generation is None:
            turns = cut_turns(turns)
        self.state.writer.log(
            RequestLog(
                id=self.id,
                received_at=self.received_at,
                model=self.body.model
                if self.adapter is None or self.is_mixed
                else name_adapter(self.state, self.adapter),
                # Not the release's own answers: monitoring holds those against its baseline.
                release=self.slot.release
                + ("" if self.adapter is None else f":{self.adapter}")
                + (MIXTURE if self.is_mixed else ""),
                key=self.key.logged_as if self.key else None,
                messages=[Message.model_validate(turn) for turn in turns],
                answer="".join(self.text),
                prompt_tokens=self.prompt_tokens,
                completion_tokens=self.completion_tokens,
                latency_ms=seconds * 1000,
                status=self.status,
            )
        )


class ExchangeStream(StreamingResponse):
    """A stream that ends its exchange even when the client disconnects before the first byte."""

    def __init__(self, exchange: Exchange) -> None:
        super().__init__(
            stream_answer(exchange),
            media_type="text/event-stream",
            headers={**exchange.headers, "Cache-Control": "no-cache"},
        )
        self._exchange = exchange

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._exchange.end()


async def answer_chat(state: GatewayState, body: ChatRequest, key: Key | None, request: Request) -> Response:
    """Answer a chat request.

    Raises:
        ApiError: It cannot be answered.
    """
    exchange = Exchange(state, body, key, choose_adapter(state, body))
    streaming = False
    try:
        await exchange.begin()
        if not body.stream:
            return await answer_complete(exchange, request)
        streaming = True
        return ExchangeStream(exchange)
    except ApiError as error:
        error.headers.update(exchange.headers)
        exchange.end(error)
        raise
    except Exception:
        exchange.status = 500
        raise
    finally:
        if not streaming:
            exchange.end()


def choose_adapter(state: GatewayState, body: ChatRequest) -> str | None:
    """The adapter that a request asks for, by its model (``<model>:<adapter>``) or its tag (``metadata.adapter``).

    Raises:
        ApiError: There is no such model or adapter, or model and tag name two adapters.
    """
    name, served = state.params.model_name, state.list_models()
    tagged = (body.metadata or {}).get("adapter")
    if body.model in (name, state.releases.release, state.mixture_name):
        asked = tagged
    else:
        asked = next((adapter for adapter, model in served.items() if adapter and model == body.model), "")
        if not asked:
            shown = ", ".join(map(repr, state.list_names()))
            raise ApiError(404, f"no model {body.model!r}; there are {shown}", "model_not_found", "model")
        if tagged not in (None, asked):
            message = f"model {body.model!r} and metadata.adapter {tagged!r} name two adapters; name one"
            raise ApiError(400, message, "unsupported_value", "metadata")
    if asked is not None and asked not in served:
        shown = ", ".join(repr(adapter) for adapter in served if adapter) or "none"
        raise ApiError(404, f"no adapter {asked!r}; there are {shown}", "adapter_not_found", "metadata")
    return asked


def name_adapter(state: GatewayState, adapter: str) -> str:
    """The model name by which an adapter is asked for."""
    return f"{state.params.model_name}:{adapter}"


async def answer_complete(exchange: Exchange, request: Request) -> Response:
    """The answer as one JSON object, unless the client disconnects first."""
    answered = asyncio.ensure_future(exchange.events.get())
    disconnected = asyncio.ensure_future(wait_for_disconnect(request))
    try:
        await asyncio.wait({answered, disconnected}, return_when=asyncio.FIRST_COMPLETED)
        if not answered.done():
            return Response(status_code=CLIENT_GONE)
        event = answered.result()
    finally:
        answered.cancel()
        disconnected.cancel()
    if not isinstance(event, Finished):
        raise engine_failure(event)
    exchange.finish(event)
    body = completion(
        exchange.id,
        int(exchange.received_at),
        exchange.body.model,
        exchange.slot.release,
        "".join(exchange.text),
        event.reason,
        count_usage(exchange.prompt_tokens, exchange.completion_tokens),
    )
    return JSONResponse(body, headers=exchange.headers)


async def wait_for_disconnect(request: Request) -> None:
    """Return when the client has closed the connection; the body must have been read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def stream_answer(exchange: Exchange) -> AsyncIterator[bytes]:
    """The answer as server-sent events, one per piece of text."""
    options = exchange.body.stream_options
    with_usage = options is not None and options.include_usage
    head = (exchange.id, int(exchange.received_at), exchange.body.model, exchange.slot.release)
    yield chunk(*head, {"role": "assistant", "content": ""}, with_usage=with_usage)
    first = True
    while isinstance(event := await exchange.events.get(), Delta):
        if first:
            exchange.state.metrics.first_token.observe(time.perf_counter() - exchange.started)
            first = False
        yield chunk(*head, {"content": event.text}, with_usage=with_usage)
    if isinstance(event, Finished):
        exchange.finish(event)
        yield chunk(*head, {}, reason=event.reason, with_usage=with_usage)
        if with_usage:
            usage = count_usage(exchange.prompt_tokens, exchange.completion_tokens)
            yield chunk(*head, None, usage=usage, with_usage=True)
        # Logged before the client knows that this is all, so that feedback may follow at once.
        exchange.end()
    else:
        error = engine_failure(event)
        exchange.state.metrics.errors.labels(error.code).inc()
        exchange.end(error)
        yield sse(error.body())
    yield b"data: [DONE]\n\n"


def cut_turns(turns: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
    """The beginning of a refused conversation, for the log: at most `REFUSED_CHARACTERS` in all."""
    room, kept = REFUSED_CHARACTERS, []
    for turn in turns[:REFUSED_TURNS]:
        content = turn["content"]
        shown = content if len(content) <= room else f"{content[:room]}… ({len(content) - room:,} characters cut)"
        kept.append({"role": turn["role"], "content": shown})
        room -= len(content)
        if room <= 0:
            break
    return kept


def engine_failure(event: Event) -> ApiError:
    """The error response for an engine failure."""
    reason = event.message if isinstance(event, Failed) else "no answer"
    return ApiError(500, f"the engine could not answer ({reason}); try again", "engine_error")
