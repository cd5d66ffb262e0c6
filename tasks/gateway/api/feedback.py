"""Feedback on answers: who may give it, how much of it, and in what form."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

import anyio
from sqlalchemy.exc import SQLAlchemyError

from tasks.contracts.errors import PipelineError
from tasks.corpus.text.labels import find_label_fault
from tasks.gateway.api.chat import ApiError, FeedbackRequest

if TYPE_CHECKING:
    from tasks.gateway.request_log.writer import RequestWriter

logger = logging.getLogger(__name__)

HOUR_S = 3600.0
# Threads that may wait for the database at the same time; answers never wait for these.
LOOKUPS = 4


class FeedbackQuota:
    """How much feedback each key has given in the current hour.

    Args:
        per_hour: Maximum for one key; all clients without a key count as one.
    """

    def __init__(self, per_hour: int) -> None:
        self._per_hour = per_hour
        self._hour = 0.0
        self._given: dict[str | None, int] = {}

    def take(self, key: str | None) -> None:
        """Count feedback of a key.

        Raises:
            ApiError: The key has given all it may.
        """
        now = time.monotonic()
        if now - self._hour >= HOUR_S:
            self._hour, self._given = now, {}
        given = self._given.get(key, 0)
        if given >= self._per_hour:
            seconds = int(self._hour + HOUR_S - now) + 1
            message = f"{given} feedbacks of this key in an hour; the maximum is {self._per_hour}; go on in {seconds} s"
            raise ApiError(429, message, "feedback_quota", headers={"Retry-After": str(seconds)})
        self._given[key] = given + 1


class FeedbackDesk:
    """Takes feedback for the request log.

    Args:
        writer: The request log.
        quota: How much each key may give.
    """

    def __init__(self, writer: RequestWriter, quota: FeedbackQuota) -> None:
        self._writer = writer
        self._quota = quota
        self._lookups = anyio.CapacityLimiter(LOOKUPS)

    async def take(self, body: FeedbackRequest, key: str | None) -> None:
        """Log feedback on an answer that was given to the same key.

        Args:
            body: The feedback.
            key: The client's key as logged, None without keys.

        Raises:
            ApiError: It is empty or malformed, there was no such request of this key, or its quota is used up.
        """
        check_feedback(body)
        if not await self._may_give(body.request_id, key):
            # The same answer for requests of others: nobody learns which ids exist.
            message = f"no request {body.request_id!r} of this client; give the id of an answer that you got"
            raise ApiError(404, message, "request_not_found", "request_id")
        self._quota.take(key)
        try:
            self._writer.feedback(body.request_id, body.correction, body.label, key)
        except PipelineError as error:
            raise ApiError(400, str(error)) from error

    async def _may_give(self, request_id: str, key: str | None) -> bool:
        owner = self._writer.find_owner(request_id)
        if owner is None:
            try:
                owner = await anyio.to_thread.run_sync(self._writer.store.find_owner, request_id, limiter=self._lookups)
            except (SQLAlchemyError, OSError):
                # Without the database this is unknown. The log compares the keys when it is read.
                return True
        return owner == (key,)


def check_feedback(body: FeedbackRequest) -> None:
    """Refuse what could not be used.

    Raises:
        ApiError: Nothing is given, or the label is no name of a class.
    """
    if body.correction is None and body.label is None:
        raise ApiError(
            400, "empty feedback; give a correction, a label, or both", "missing_required_parameter", "correction"
        )
    if body.label is not None and (fault := find_label_fault(body.label)):
        raise ApiError(400, f"label: {fault}; give the name of a class on one line", "unsupported_value", "label")
