"""Approval of a failed gate by a person, in the Prefect UI or on the command line, stored as an input.

With ``data_preparation.gate.approval: ask`` the stage pauses when critical checks fail, and its page in the Prefect UI
asks for a name, a reason and a decision. An approval is written below ``data/raw`` and applies to exactly these
findings on exactly these data; the outputs of the stage depend on its files alone, so the next run does not ask
again.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from flows.wiring.settings import configure

configure()

from prefect.artifacts import create_markdown_artifact  # noqa: E402 - the engines read their settings on import
from prefect.context import FlowRunContext  # noqa: E402
from prefect.exceptions import FlowPauseTimeout, PrefectException  # noqa: E402
from prefect.flow_runs import pause_flow_run, resume_flow_run  # noqa: E402
from prefect.input import RunInput  # noqa: E402
from prefect.settings import PREFECT_API_URL, temporary_settings  # noqa: E402
from prefect.utilities.urls import url_for  # noqa: E402
from pydantic import Field  # noqa: E402

from flows.wiring import artifacts  # noqa: E402
from flows.wiring.stage import recorder, task  # noqa: E402
from tasks.contracts.errors import PipelineError  # noqa: E402
from tasks.contracts.manifest import NAME, read_json, write_json  # noqa: E402
from tasks.corpus.rows.rows import Rows  # noqa: E402
from tasks.data_preparation.gate.accepted import Statistics, accept_version  # noqa: E402
from tasks.data_preparation.gate.approval import Approval, approve_findings, make_approval, write_approval  # noqa: E402
from tasks.data_preparation.gate.gate import Verdict, document  # noqa: E402
from tasks.data_preparation.gate.params import Gate  # noqa: E402
from tasks.data_preparation.output.report import write_report  # noqa: E402

logger = logging.getLogger(__name__)

POLL_S = 2


class ApprovalForm(RunInput):
    """The form in the Prefect UI; the server checks its schema and rejects an empty name or reason."""

    name: str = Field(min_length=1, pattern=r"\S", description="who decides")
    reason: str = Field(min_length=1, pattern=r"\S", description="why the data may be used, or may not")
    approve: bool = Field(default=False, description="on: use the data in spite of the findings; off: stop")


def resolve_failed_gate(verdict: Verdict, rows: Rows, settings: Gate) -> Verdict:
    """Ask a person about a failed gate if configured, and record who approved it.

    Returns:
        The verdict, with the approval if there is one.

    Raises:
        PipelineError: The person refused, or nobody answered in time.
    """
    if settings.approval == "ask" and verdict.findings and not verdict.passed:
        approval = ask_person(verdict, settings.approval_timeout_s)
        write_approval(artifacts.APPROVALS, approval)
        verdict = replace(verdict, approval=approval)
        task(document)(verdict, artifacts.DATA_DOCS)
        task(write_report)(rows, verdict, artifacts.report("data_preparation"))
    if verdict.approved and verdict.approval:
        record_approval(verdict.approval)
    return verdict


def ask_person(verdict: Verdict, timeout_s: int) -> Approval:
    """Pause this flow run until a person has answered its form.

    Raises:
        PipelineError: The person refused, or nobody answered in time.
    """
    context = FlowRunContext.get()
    assert context is not None
    assert context.flow_run is not None
    run = str(context.flow_run.id)
    failed = {result.check.name: result.finding for result in verdict.failed}
    page = artifacts.DATA_DOCS / "index.html"
    lines = [f"* **{r.check.name}**: {r.finding}; expected: {r.check.meaning}" for r in verdict.failed]
    text = "\n".join(
        ["The quality gate failed. May these data be used?", "", *lines, "", f"Data docs: {page} in {Path.cwd()}"]
    )
    logger.warning(
        "the quality gate failed (%s); waiting %d s for a person at %s, or for `heptune approve` in this checkout",
        ", ".join(failed), timeout_s, url_for("flow-run", obj_id=run),
    )  # fmt: skip
    try:
        with waiting_for_approval(run):
            answer = pause_flow_run(
                wait_for_input=ApprovalForm.with_initial_data(description=text), timeout=timeout_s, poll_interval=POLL_S
            )
    except FlowPauseTimeout as error:
        raise PipelineError(
            f"quality gate: {', '.join(failed)} failed, and nobody approved it within {timeout_s} s; "
            "correct the data, or approve it with `heptune approve` and run again"
        ) from error
    if not answer.approve:
        recorder().tags({"heptune.gate_refused_by": answer.name, "heptune.gate_refused_because": answer.reason})
        raise PipelineError(
            f"quality gate: {', '.join(failed)} failed, and {answer.name} refused to approve it ({answer.reason}); "
            "correct the data and run again"
        )
    return make_approval(verdict.findings, answer.name, answer.reason, failed)


@contextmanager
def waiting_for_approval(run: str) -> Iterator[None]:
    """Record which flow run waits for a person."""
    write_json(artifacts.WAITING, {"flow_run": run, "api": PREFECT_API_URL.value()})
    try:
        yield
    finally:
        artifacts.WAITING.unlink(missing_ok=True)


def record_approval(approval: Approval) -> None:
    """Record who approved what, and why, in MLflow and the Prefect UI."""
    recorder().tags(
        {
            "heptune.gate_approved_by": approval.name,
            "heptune.gate_approved_because": approval.reason,
            "heptune.gate_findings": approval.findings,
        }
    )
    lines = [f"* {name}: {finding}" for name, finding in approval.checks.items()]
    text = "\n".join([f"**{approval.name}** approved a failed gate: {approval.reason}", "", *lines])
    create_markdown_artifact(key="data-preparation-approval", markdown=text, description="Approval of a failed gate")


def approve(name: str, reason: str) -> Approval:
    """Approve the findings of the last run; a stage that waits for it continues.

    Raises:
        PipelineError: There is nothing to approve, or name or reason is empty.
    """
    approval = approve_findings(artifacts.DATA_DOCS, artifacts.APPROVALS, name, reason)
    if artifacts.WAITING.is_file():
        waiting_run = read_json(artifacts.WAITING)
        try:
            with temporary_settings({PREFECT_API_URL: waiting_run["api"]}):
                resume_flow_run(
                    waiting_run["flow_run"],
                    run_input={"name": approval.name, "reason": approval.reason, "approve": True},
                )
        except (PrefectException, OSError) as error:
            logger.warning("the approval is stored, but the waiting run could not be resumed (%s); run again", error)
    return approval


def accept() -> Statistics:
    """Make the prepared data the reference version for later comparisons.

    Raises:
        PipelineError: There are no complete prepared data that passed the gate.
    """
    return accept_version(artifacts.PREPARED, artifacts.DATA_DOCS, artifacts.ACCEPTED)


def freeze_accepted() -> int | None:
    """As `accept`, at the start of a retrain; without complete prepared data the last version stays the reference.

    Returns:
        Rows of the version.
    """
    if not (artifacts.PREPARED / NAME).is_file():
        return None
    try:
        return accept().rows
    except PipelineError as error:
        logger.warning("the data will be compared with an older version: %s", error)
        return None
