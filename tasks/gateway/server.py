"""The HTTP side of the gateway.

``POST /v1/chat/completions`` (supported fields: `tasks.gateway.chat`), ``GET /v1/models`` and
``/v1/models/{name}``, ``POST /v1/feedback`` (``request_id`` with ``correction`` and/or ``label``), ``GET /healthz`` and
``GET /metrics``. Nothing else of OpenAI's API is supported: no completions, responses, embeddings, files or
batches. Errors have OpenAI's format.
"""

from __future__ import annotations

import logging
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Request
from fastapi.responses import JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST
from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from tasks.contracts.errors import PipelineError
from tasks.gateway.chat import ApiError, ChatRequest, FeedbackRequest, parse
from tasks.gateway.completions import CLIENT_GONE, answer_chat
from tasks.gateway.keys import Key
from tasks.gateway.state import GatewayState, is_loopback

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
        body = parse(ChatRequest, await read_body(request, state.params.max_body_bytes))
        return await answer_chat(state, body, key, request)

    @app.post("/v1/feedback")
    async def feedback(request: Request, key: Allowed) -> Response:
        body = parse(FeedbackRequest, await read_body(request, state.params.max_body_bytes))
        return await take_feedback(state, body)

    @app.get("/v1/models")
    async def models(key: Allowed) -> dict[str, Any]:
        return {"object": "list", "data": [describe_model(state)]}

    @app.get("/v1/models/{name}")
    async def model(name: str, key: Allowed) -> dict[str, Any]:
        if name != state.params.model_name:
            raise ApiError(404, f"no model {name!r}; ask for {state.params.model_name!r}", "model_not_found", "model")
        return describe_model(state)

    @app.get("/healthz")
    async def health() -> Response:
        return JSONResponse(describe_health(state), status_code=200 if state.ready else 503)

    @app.get("/metrics")
    async def metrics(request: Request) -> Response:
        if not state.params.public_metrics:
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
        # Prevents DNS rebinding: a web page must not reach the model through its own name for 127.0.0.1.
        host = request.url.hostname or ""
        if not is_loopback(host):
            raise ApiError(
                403, f"host {host!r} is not this machine; make a key with `heptune keys add NAME`", "wrong_host"
            )
        return None
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    key = state.keyring.find(given.strip()) if scheme.lower() == "bearer" else None
    if key is None:
        found = "the API key is not valid" if given else "no API key"
        message = f"{found}; send Authorization: Bearer KEY with a key of `heptune keys add NAME`"
        raise ApiError(401, message, "invalid_api_key", headers={"WWW-Authenticate": "Bearer"})
    return key


async def read_body(request: Request, limit: int) -> bytes:
    """The whole body.

    Raises:
        ApiError: It is too large, or not declared as JSON.
    """
    # Browsers send other content types to other origins without a preflight request, but not JSON.
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise ApiError(
            415, f"content type {kind or 'none'!r}; send content-type: application/json", "wrong_content_type"
        )
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > limit:
            raise ApiError(413, f"the body has more than {limit} bytes; shorten it", "body_too_large")
    return bytes(body)


async def take_feedback(state: GatewayState, body: FeedbackRequest) -> Response:
    """Store feedback on an answer.

    Raises:
        ApiError: It is empty, or there was no such request.
    """
    if body.correction is None and body.label is None:
        raise ApiError(
            400, "empty feedback; give a correction, a label, or both", "missing_required_parameter", "correction"
        )
    writer = state.writer
    if not writer.is_pending(body.request_id):
        try:
            known = await run_in_threadpool(writer.store.known, body.request_id)
        except (SQLAlchemyError, OSError):
            # Without the database this is unknown; feedback on an unknown request does no harm when replayed.
            known = True
        if not known:
            raise ApiError(
                404, f"no request {body.request_id!r}; give the id of an answer", "request_not_found", "request_id"
            )
    try:
        writer.feedback(body.request_id, body.correction, body.label)
    except PipelineError as error:
        raise ApiError(400, str(error)) from error
    state.metrics.feedback.inc()
    return JSONResponse({"object": "feedback", "request_id": body.request_id, "accepted": True})


def describe_model(state: GatewayState) -> dict[str, Any]:
    """The model in OpenAI's format, with the release that answers."""
    return {
        "id": state.params.model_name,
        "object": "model",
        "created": state.since,
        "owned_by": "heptune",
        "release": state.releases.release,
    }


def describe_health(state: GatewayState) -> dict[str, Any]:
    """The health status for probes and people."""
    log = state.writer.state()
    return {
        "live": True,
        "ready": state.ready,
        "release": state.releases.release,
        "refused_release": state.releases.refused,
        "log": {"database_up": log.database_up, "pending": log.pending, "spooled": log.spooled - log.replayed},
    }
