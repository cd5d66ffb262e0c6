"""A person decides where evaluation is undecided, in the Prefect UI, while the retrain waits.

With ``evaluation.gate.undecided: ask`` a retrain whose verdict is ``undecided`` pauses before it would keep what is in
use, and its page in the Prefect UI asks for a name, a reason and a decision. The verdict stays what it is, a function
of files; the promotion is one against it, recorded with name and reason as ``heptune promote --force`` records it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flows.wiring.settings import configure

configure()

from prefect.context import FlowRunContext  # noqa: E402 - the engines read their settings on import
from prefect.exceptions import FlowPauseTimeout  # noqa: E402
from prefect.flow_runs import pause_flow_run  # noqa: E402
from prefect.input import RunInput  # noqa: E402
from prefect.utilities.urls import url_for  # noqa: E402
from pydantic import Field  # noqa: E402

from flows.wiring import artifacts  # noqa: E402
from flows.wiring.releases.registry import Champion  # noqa: E402

logger = logging.getLogger(__name__)

POLL_S = 2


class PromotionForm(RunInput):
    """The form in the Prefect UI; the server checks its schema and rejects an empty name or reason."""

    name: str = Field(min_length=1, pattern=r"\S", description="who decides")
    reason: str = Field(min_length=1, pattern=r"\S", description="why the candidate is promoted, or is not")
    promote: bool = Field(default=False, description="on: the candidate replaces what is in use; off: it does not")


def ask_about_promotion(verdict: Mapping[str, Any], candidate: Champion, timeout_s: int) -> PromotionForm | None:
    """Pause this flow run until a person has answered its form; None where nobody did in time.

    Args:
        verdict: Evaluation's verdict, which is undecided.
        candidate: The registered candidate.
        timeout_s: How long to wait, seconds.
    """
    context = FlowRunContext.get()
    assert context is not None
    assert context.flow_run is not None
    page = url_for("flow-run", obj_id=context.flow_run.id)
    lines = [
        f"Evaluation is undecided about version {candidate.version}. Should it replace the {verdict['opponent']}?",
        "",
        *(f"* {reason}" for reason in verdict["reasons"]),
        "",
        f"Report: {artifacts.report('evaluation')} in {Path.cwd()}",
    ]
    logger.warning(
        "evaluation is undecided about version %d (%s); waiting %d s for a person at %s",
        candidate.version, verdict["reasons"][0], timeout_s, page,
    )  # fmt: skip
    try:
        return pause_flow_run(
            wait_for_input=PromotionForm.with_initial_data(description="\n".join(lines)),
            timeout=timeout_s,
            poll_interval=POLL_S,
        )
    except FlowPauseTimeout:
        return None
