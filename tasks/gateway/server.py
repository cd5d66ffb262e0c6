"""The HTTP side of the gateway.

``POST /v1/chat/completions`` (supported fields: `tasks.gateway.api.chat`), ``GET /v1/models`` and
``/v1/models/{name}``, ``POST /v1/feedback`` (``request_id`` with ``correction`` and/or ``label``), ``GET /healthz`` and
``GET /metrics``; ``GET /v1/adapters``, and for administrators ``POST /v1/adapters`` (``name``) and ``DELETE
/v1/adapters/{name}``. Nothing else of OpenAI's API is supported: no completions, responses, embeddings, files or
batches. Errors have OpenAI's format.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Annotated, Any

import anyio
from fastapi import Depends, FastAPI, Request
from fastapi.responses import JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from tasks.contracts.errors import PipelineError
from tasks.gateway.api.chat import AdapterRequest, ApiError, ChatRequest, FeedbackRequest, parse
from tasks.gateway.api.host import names_this_machine
from tasks.gateway.api.keys import Key
from tasks.gateway.completions import CLIENT_GONE, answer_chat
from tasks.gateway.engine import Engine
from tasks.gateway.params import Gateway
from tasks.gateway.state import GatewayState

logger = logging.getLogger(__name__)


async def authorise(request: Request) -> Key | None:
    """Check the key before the body is read."""
    return check_key(request.app.state.gateway, request)


Allowed = Annotated[Key | None, Depends(authorise)]


def create_app(state: GatewayState) -> FastAPI:
    """The application of one gateway."""
    app = FastAPI(title="heptune", openapi_url=None, docs_url=None, redoc_url=None)
    app.state.gateway = state

    @app.post("/v1/chat/completions")
    async def chat(request: Request, key: Allowed) -> Response:
        body = parse(ChatRequest, await read_body(request, state.params))
        return await answer_chat(state, body, key, request)

    @app.post("/v1/feedback")
    async def feedback(request: Request, key: Allowed) -> Response:
        body = parse(FeedbackRequest, await read_body(request, state.params))
        await state.desk.take(body, key.logged_as if key else None)
        state.metrics.feedback.inc()
        return JSONResponse({"object": "feedback", "request_id": body.request_id, "accepted": True})

    @app.get("/v1/models")
    async def models(key: Allowed) -> dict[str, Any]:
        return {"object": "list", "data": [describe_model(state, name) for name in state.list_names()]}

    @app.get("/v1/models/{name}")
    async def model(name: str, key: Allowed) -> dict[str, Any]:
        known = state.list_names()
        if name not in known:
            shown = ", ".join(map(repr, known))
            raise ApiError(404, f"no model {name!r}; there are {shown}", "model_not_found", "model")
        return describe_model(state, name)

    @app.get("/v1/adapters")
    async def adapters(key: Allowed) -> dict[str, Any]:
        return describe_adapters(state)

    @app.post("/v1/adapters")
    async def load(request: Request, key: Allowed) -> dict[str, Any]:
        check_admin(key)
        body = parse(AdapterRequest, await read_body(request, state.params))
        await change_adapters(state, body.name, state.shelf.load)
        return describe_adapters(state)

    @app.delete("/v1/adapters/{name}")
    async def unload(name: str, key: Allowed) -> dict[str, Any]:
        check_admin(key)
        if name not in state.list_models() or not name:
            shown = ", ".join(repr(adapter) for adapter in state.list_models() if adapter) or "none"
            raise ApiError(404, f"no adapter {name!r}; there are {shown}", "adapter_not_found")
        await change_adapters(state, name, state.shelf.unload)
        return describe_adapters(state)

    @app.get("/healthz")
    async def health(request: Request) -> Response:
        check_host(state, request)
        return JSONResponse(describe_health(state), status_code=200 if state.ready else 503)

    @app.get("/metrics")
    async def metrics(request: Request) -> Response:
        if state.params.public_metrics:
            check_host(state, request)
        else:
            check_key(state, request)
        return Response(state.metrics.page(), media_type=CONTENT_TYPE_LATEST)

    @app.exception_handler(ApiError)
    async def refuse(request: Request, error: ApiError) -> Response:
        state.metrics.errors.labels(error.code).inc()
        return JSONResponse(error.body(), status_code=error.status, headers=error.headers)

    @app.exception_handler(HTTPException)
    async def refuse_route(request: Request, error: HTTPException) -> Response:
        message = (
            f"{request.method} {request.url.path}: {error.detail}; see GET /v1/models and POST /v1/chat/completions"
        )
        if request.url.path == "/v1/completions":
            message += ", where a single message of the assistant is a text to be continued"
        refused = ApiError(error.status_code, message, "not_found" if error.status_code == 404 else "not_allowed")
        return JSONResponse(refused.body(), status_code=error.status_code, headers=error.headers)

    @app.exception_handler(ClientDisconnect)
    async def leave(request: Request, error: ClientDisconnect) -> Response:
        return Response(status_code=CLIENT_GONE)

    @app.exception_handler(Exception)
    async def fail(request: Request, error: Exception) -> Response:
        state.metrics.errors.labels("internal_error").inc()
        failed = ApiError(
            500, f"the gateway failed ({type(error).__name__}); its log has the details", "internal_error"
        )
        return JSONResponse(failed.body(), status_code=500)

    return app


def check_key(state: GatewayState, request: Request) -> Key | None:
    """The client's key, or None where keys are off.

    Raises:
        ApiError: No key or an invalid one; or, where keys are off, a request for another host name.
    """
    if not state.keyring.required:
        check_host(state, request)
        return None
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    key = state.keyring.find(given.strip()) if scheme.lower() == "bearer" else None
    if key is None:
        found = "the API key is not valid" if given else "no API key"
        message = f"{found}; send Authorization: Bearer KEY with a key of `heptune keys add NAME`"
        raise ApiError(401, message, "invalid_api_key", headers={"WWW-Authenticate": "Bearer"})
    return key


def check_host(state: GatewayState, request: Request) -> None:
    """Where keys are off, refuse requests for another host name than this machine's, see `tasks.gateway.api.host`.

    Raises:
        ApiError: The host is another one, or malformed.
    """
    hosts = [value for name, value in request.scope["headers"] if name == b"host"]
    if not state.keyring.required and not names_this_machine(hosts):
        shown = ", ".join(repr(host.decode("latin-1"))[:100] for host in hosts) or "none"
        message = f"host {shown} is not this machine; ask for 127.0.0.1, or make a key with `heptune keys add NAME`"
        raise ApiError(403, message, "wrong_host")


async def read_body(request: Request, params: Gateway) -> bytes:
    """The whole body.

    Raises:
        ApiError: It is too large, takes too long, or is not declared as JSON.
    """
    limit = params.max_body_bytes
    # Browsers send other content types to other origins without a preflight request, but not JSON.
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise ApiError(
            415, f"content type {kind or 'none'!r}; send content-type: application/json", "wrong_content_type"
        )
    too_large = ApiError(413, f"the body has more than {limit} bytes; shorten it", "body_too_large")
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and (len(declared) > 20 or int(declared) > limit):
        raise too_large
    body = bytearray()
    try:
        async with asyncio.timeout(params.body_timeout_s):
            async for part in request.stream():
                body += part
                if len(body) > limit:
                    raise too_large
    except TimeoutError as error:
        message = f"the body did not arrive within {params.body_timeout_s:g} s; send it again"
        raise ApiError(408, message, "body_timeout", headers={"Connection": "close"}) from error
    return bytes(body)


def check_admin(key: Key | None) -> None:
    """Refuse a client that may not change what is served.

    Raises:
        ApiError: It has no key of an administrator.
    """
    if key is None or not key.admin:
        found = "keys are off here" if key is None else f"the key of {key.name} is none of an administrator"
        message = f"{found}; send one of `heptune keys add NAME --admin`"
        raise ApiError(403, message, "admin_key_needed")


async def change_adapters(state: GatewayState, name: str, change: Callable[[str, Engine], None]) -> None:
    """Load or unload an adapter while requests are answered.

    Raises:
        ApiError: It does not fit the model that answers.
    """
    release = ""
    while release != state.releases.release:  # a new champion may have taken over meanwhile
        with state.releases.lease() as slot:
            release = slot.release
            try:
                await anyio.to_thread.run_sync(change, name, slot.engine)
            except PipelineError as error:
                raise ApiError(400, str(error), "adapter_refused", "name") from error


def describe_adapters(state: GatewayState) -> dict[str, Any]:
    """The adapters that answer, and the model name of each."""
    served = {adapter: model for adapter, model in state.list_models().items() if adapter}
    return {"object": "list", "data": [{"name": name, "model": model} for name, model in served.items()]}


def describe_model(state: GatewayState, name: str) -> dict[str, Any]:
    """A model in OpenAI's format, with the release that answers."""
    return {
        "id": name,
        "object": "model",
        "created": state.since,
        "owned_by": "heptune",
        "release": state.releases.release,
    }


def describe_health(state: GatewayState) -> dict[str, Any]:
    """The health status for probes and people."""
    log = state.writer.state()
    problems = state.list_problems()
    return {
        "live": True,
        "ready": state.ready,
        "status": "degraded" if problems else "ok",
        "problems": problems,
        "release": state.releases.release,
        "refused_release": state.releases.refused,
        "log": {
            "database_up": log.database_up,
            "pending": log.pending,
            "spooled": log.spooled - log.replayed,
            "lost": log.lost,
        },
    }
