"""Retraining on drift, on schedule or by hand: decide, collect new data, run the pipeline, promote or keep.

Every step is safe to repeat: a killed retrain is started again by the next one, which finds the data already
written, the finished stages unchanged and the release already registered.

Triggers: ``heptune retrain`` (hand), a schedule, ``heptune watch``, or a Prefect automation on the event
``heptune.drift.detected`` of `flows.monitoring.announce`, whose payload gives ``reason`` and ``window``.
"""

from __future__ import annotations

import logging
import os
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any

from flows.wiring.settings import configure

configure()

from filelock import FileLock, Timeout  # noqa: E402 - the engines read their settings on import
from prefect import flow, task  # noqa: E402
from prefect.cache_policies import NO_CACHE  # noqa: E402
from prefect.client.orchestration import get_client  # noqa: E402
from prefect.concurrency.sync import concurrency  # noqa: E402
from prefect.states import Completed, Failed  # noqa: E402

from flows.monitoring import note_window  # noqa: E402
from flows.pipeline import (  # noqa: E402
    Report,
    end_recording,
    environment,
    run_pipeline,
    server_watched,
    show_links,
    stages_reported_to,
    this_flow_run,
)
from flows.wiring import artifacts  # noqa: E402
from flows.wiring.params import read_params  # noqa: E402
from flows.wiring.people.approval import freeze_accepted  # noqa: E402
from flows.wiring.people.screening import screen_rows  # noqa: E402
from flows.wiring.people.undecided import ask_about_promotion  # noqa: E402
from flows.wiring.releases.registry import Champion, Registry, open_registry  # noqa: E402
from flows.wiring.releases.serving import store_url  # noqa: E402
from flows.wiring.releases.snapshot import snapshot  # noqa: E402
from flows.wiring.releases.source import freeze_source  # noqa: E402
from flows.wiring.runs.recording import PIPELINE, REASON, Recorder  # noqa: E402
from flows.wiring.servers.flow_runs import note_run  # noqa: E402
from flows.wiring.servers.server import ensure_server, prefect_at  # noqa: E402
from flows.wiring.staleness import STAGES, dvc_skips  # noqa: E402
from flows.wiring.versions.commit import commit_inputs  # noqa: E402
from tasks.contracts.errors import PipelineError  # noqa: E402
from tasks.contracts.manifest import read_json, write_json  # noqa: E402
from tasks.corpus.personal_data.identifiers import replace_personal  # noqa: E402
from tasks.gateway.request_log.store import open_store  # noqa: E402
from tasks.monitoring.decisions import (  # noqa: E402
    Decision,
    DecisionKind,
    Trigger,
    append_decision,
    count_waiting,
    decide,
    read_decisions,
)
from tasks.monitoring.feedback import (  # noqa: E402
    REFUSED,
    FeedbackRow,
    choose_new,
    collect_corrections,
    read_versions,
    restore_version,
    set_version_aside,
    write_version,
)
from tasks.monitoring.params import Retraining  # noqa: E402
from tasks.monitoring.shares import describe_left_out, limit_shares  # noqa: E402

logger = logging.getLogger(__name__)

SET_ASIDE = artifacts.STATE / "feedback_set_aside.json"
DATA_STAGE = "data_preparation"
# What makes a model; traffic, which monitoring reads, does not.
LEARNING = tuple(stage for stage in STAGES if stage != "monitoring")
LOCK = artifacts.STATE / "retrain.lock"
LIMIT = "retrain"
LEASE_S = 60
# Longer than a lease, within which the slot of a killed retrain is freed.
SLOT_TIMEOUT_S = 75


@dataclass
class Attempt:
    """One retrain, from its trigger to its outcome."""

    trigger: Trigger
    reason: str
    window: str = ""
    force: bool = False
    retrain: str = field(default_factory=lambda: uuid.uuid4().hex[:12])
    versions: dict[str, Any] = field(default_factory=dict)

    def record(self, outcome: DecisionKind, why: str) -> Decision:
        """Append a decision to the journal and, at the end of a retrain, record it in MLflow."""
        versions = {**({"window": self.window} if self.window else {}), **self.versions}
        decision = Decision(
            time=time.time(),
            retrain=self.retrain,
            trigger=self.trigger,
            reason=self.reason,
            decision=outcome,
            why=why,
            versions=versions,
        )
        append_decision(artifacts.DECISIONS, decision)
        logger.info("retrain %s: %s", outcome, why)
        if outcome in ("promoted", "kept", "failed"):
            record_decision_in_mlflow(decision)
        return decision


def retrain(
    reason: str = "by hand",
    trigger: Trigger = "hand",
    window: str = "",
    report: Report | None = None,
    force: bool = False,
) -> Decision:
    """Retrain if allowed; returns the last decision.

    Args:
        reason: Why; recorded in the journal, in Prefect and in MLflow.
        trigger: ``hand``, ``drift`` or ``schedule``.
        window: SHA-256 of the window that drifted, if that is why.
        report: Called after each stage with its name, ``Ran`` or ``Unchanged``, and seconds.
        force: Also without anything new, where it is by hand.

    Raises:
        PipelineError: It started and failed; the journal records this too.
    """
    os.chdir(configure())
    read_params()
    url = ensure_server()
    with prefect_at(url), stages_reported_to(report), server_watched():
        state: Any = retraining(reason, trigger, window, force, return_state=True)
    if not state.is_completed():
        raise PipelineError(state.message or "the retrain failed")
    decision: Decision = state.result()
    return decision


@flow(name="retraining", flow_run_name="retraining: {reason}", persist_result=False, on_running=[note_run])
def retraining(reason: str = "by hand", trigger: Trigger = "hand", window: str = "", force: bool = False) -> Any:
    """Decide, add corrected rows to the data, run the pipeline, and promote if evaluation says so.

    Args:
        reason: Why; recorded in the journal and in MLflow.
        trigger: What requests it: hand, drift or schedule.
        window: SHA-256 of the window that drifted, if that is why.
        force: Also without anything new, where it is by hand.
    """
    os.chdir(configure())
    attempt = Attempt(trigger, reason, window, force)
    # The stages of all its pipelines, and the decision, are one run in MLflow.
    whole = {PIPELINE: this_flow_run(), REASON: f"retraining: {reason}"}
    try:
        with one_retrain(), environment(**whole):
            show_links()
            decision = run_retrain(attempt)
    except RetrainRunning as error:
        decision = attempt.record("refused", str(error))
    except PipelineError as error:
        return Failed(message=str(error))
    return Completed(name=decision.decision.capitalize(), message=decision.why, data=decision)


def run_retrain(attempt: Attempt) -> Decision:
    """The steps of a retrain, with every decision in the journal."""
    settings = read_params().monitoring.retraining
    considered = consider(attempt.trigger, attempt.window, step(gather_feedback), attempt.force)
    if not considered.allowed:
        return attempt.record("refused", considered.why)
    attempt.record("started", considered.why)
    try:
        version = step(write_version)(considered.rows, artifacts.FEEDBACK)
        attempt.versions["feedback"] = sorted(read_versions(artifacts.FEEDBACK))
        outcome, why = rebuild(attempt, version)
        if settings.commit:
            attempt.versions["commit"] = step(commit_inputs)(attempt.reason)
    except PipelineError as error:
        attempt.record("failed", str(error))
        raise
    return attempt.record(outcome, why)


@dataclass(frozen=True)
class Considered:
    """Whether a retrain may start now.

    Attributes:
        allowed: Whether it may.
        why: The grounds, and what is said about rows that are left out.
        rows: New corrected rows.
        waiting: Corrected rows that no finished retrain has used, these and those of earlier attempts.
    """

    allowed: bool
    why: str
    rows: list[FeedbackRow]
    waiting: int


def consider(
    trigger: Trigger,
    window: str,
    gather: Callable[..., tuple[list[FeedbackRow], list[str]]],
    force: bool = False,
) -> Considered:
    """Decide about a retrain by the journal, the params and the corrected rows; nothing else is done.

    Args:
        trigger: What requests it.
        window: SHA-256 of the window that drifted, if that is why.
        gather: `gather_feedback`, or what does the same.
        force: Also without anything new, where it is by hand.
    """
    settings = read_params().monitoring.retraining
    history = read_decisions(artifacts.DECISIONS)
    versions = read_versions(artifacts.FEEDBACK)
    rows, notes = gather(versions | read_versions(artifacts.FEEDBACK / REFUSED), settings)
    waiting = count_waiting(history, versions, len(rows))
    changed = trigger != "hand" or waiting > 0 or force or has_changed()
    allowed, why = decide(settings, history, trigger, time.time(), waiting, window, changed)
    return Considered(allowed, "; ".join([why, *notes]), rows, waiting)


def foresee_retrain(trigger: Trigger = "hand") -> Considered:
    """Whether a retrain would start now; nothing is written."""
    os.chdir(configure())
    return consider(trigger, "", partial(gather_feedback, keep=False))


def has_changed() -> bool:
    """Whether data, params or code differ from the last run's; also where that cannot be told: the run will say it."""
    try:
        return not dvc_skips(LEARNING)
    except PipelineError:
        return True


def rebuild(attempt: Attempt, version: str = "") -> tuple[DecisionKind, str]:
    """Run the pipeline against the current champion, then promote the candidate if it is proven better.

    Args:
        attempt: The retrain.
        version: Name of the feedback version that is new, if any.
    """
    registry = open_registry()
    champion = step(registry.freeze_champion)()
    step(freeze_source)(anew=True)
    attempt.versions["champion"] = champion.release if champion else None
    step(freeze_accepted)()
    prepare_data(attempt, version)
    run_pipeline(attempt.reason, stages=[stage for stage in STAGES if stage != DATA_STAGE], wait=True)
    candidate = step(registry.register)()
    attempt.versions |= {"release": candidate.release, "version": candidate.version}
    verdict = read_json(artifacts.EVALUATION_VERDICT)
    reasons = "; ".join(verdict["reasons"])
    if champion is not None and champion.release == candidate.release:
        return "kept", "the pipeline produced the release that is already champion"
    gate = read_params().evaluation.gate
    if verdict["verdict"] == "undecided" and gate.undecided == "ask":
        return resolve_undecided(registry, candidate, verdict, gate.undecided_timeout_s)
    if verdict["verdict"] != "promote":
        return "kept", reasons
    step(registry.promote)(candidate.version, reason=attempt.reason)
    return "promoted", reasons


def resolve_undecided(
    registry: Registry, candidate: Champion, verdict: Mapping[str, Any], timeout_s: int
) -> tuple[DecisionKind, str]:
    """Have a person decide; without an answer what is in use stays."""
    reasons = "; ".join(verdict["reasons"])
    answer = ask_about_promotion(verdict, candidate, timeout_s)
    if answer is None:
        return "kept", f"undecided, and nobody decided within {timeout_s:,} s: {reasons}"
    because = f"{answer.name}: {answer.reason}"
    if not answer.promote:
        return "kept", f"undecided, and not promoted by {because}; {reasons}"
    step(registry.promote)(candidate.version, force=True, reason=because)
    return "promoted", f"undecided, and promoted by {because}; {reasons}"


def prepare_data(attempt: Attempt, version: str) -> None:
    """Prepare the data; a new feedback version with which that fails is set aside, and the retrain goes on without it.

    Raises:
        PipelineError: The data cannot be prepared without the new version either.
    """
    try:
        run_pipeline(attempt.reason, stages=[DATA_STAGE], wait=True)
    except PipelineError as error:
        if not version:
            raise
        aside = step(set_version_aside)(artifacts.FEEDBACK, version)
        try:
            run_pipeline(f"{attempt.reason}, without the new feedback", stages=[DATA_STAGE], wait=True)
        except PipelineError:
            # The new rows are not the cause.
            step(restore_version)(artifacts.FEEDBACK, version)
            raise error from None
        logger.error("the new feedback is set aside in %s, and the retrain goes on: %s", aside, error)
        attempt.versions["feedback"] = sorted(read_versions(artifacts.FEEDBACK))
        attempt.versions["set_aside"] = {version: str(error)}


def gather_feedback(
    known: dict[str, list[str]], settings: Retraining, keep: bool = True
) -> tuple[list[FeedbackRow], list[str]]:
    """Corrected rows of the request log that are in no feedback version yet, and what is said about the others.

    Requests that cannot be used, with their reasons, and keys or texts with too many rows are written to
    ``.heptune/feedback_set_aside.json``.

    Args:
        known: Feedback versions, also refused ones, with the content hashes of their rows.
        settings: Limits of the share of one key and one text.
        keep: Whether that file is written.
    """
    store = open_store(store_url())
    try:
        log = store.read_window(status=200)
    finally:
        store.close()
    corrections = collect_corrections(log, replace_personal)
    corrections = replace(corrections, rows=choose_new(corrections.rows, known))
    corrections = screen_rows(corrections, read_params().data_preparation)
    rows, left_out = limit_shares(
        corrections.rows,
        settings.maximum_key_share,
        settings.maximum_text_share,
        settings.minimum_new_rows,
        artifacts.TRAIN,
    )
    notes = describe_left_out(left_out)
    if corrections.set_aside:
        notes.append(f"{len(corrections.set_aside):,} corrected rows cannot be used (see {SET_ASIDE})")
    if not keep:
        return rows, notes
    for note in notes:
        logger.warning("%s", note)
    report = {
        "set_aside": [asdict(item) for item in corrections.set_aside],
        "left_out": [asdict(item) for item in left_out],
    }
    write_json(SET_ASIDE, report, private=True)
    return rows, notes


def step(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function as a Prefect task named after it."""
    as_task: Any = task(name=function.__name__, cache_policy=NO_CACHE, persist_result=False)
    wrapped: Callable[..., Any] = as_task(function)
    return wrapped


class RetrainRunning(Exception):
    """Another retrain is running."""


@contextmanager
def one_retrain() -> Iterator[None]:
    """Lock this checkout and, through the Prefect server, all other machines for one retrain.

    Raises:
        RetrainRunning: Another one is running.
    """
    LOCK.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(LOCK, timeout=0):
            with get_client(sync_client=True) as client:
                client.upsert_global_concurrency_limit_by_name(LIMIT, 1)
            slot = concurrency(LIMIT, occupy=1, timeout_seconds=SLOT_TIMEOUT_S, lease_duration=LEASE_S, strict=True)
            with occupy(slot):
                yield
    except Timeout as error:
        raise RetrainRunning("another retrain is running in this checkout") from error


@contextmanager
def occupy(slot: Any) -> Iterator[None]:
    """Occupy a slot of the Prefect server; only a timeout of the wait means that another retrain is running."""
    try:
        slot.__enter__()
    except TimeoutError as error:
        raise RetrainRunning(f"another retrain holds the slot {LIMIT!r} of the Prefect server") from error
    try:
        yield
    finally:
        slot.__exit__(None, None, None)


def record_decision_in_mlflow(decision: Decision) -> None:
    """Record the decision as tags of the retrain's MLflow run."""
    tags = {
        "heptune.kind": "retraining",
        "heptune.retrain": decision.retrain,
        "heptune.trigger": decision.trigger,
        "heptune.reason": decision.reason,
        "heptune.decision": decision.decision,
        "heptune.why": decision.why,
        **{f"heptune.{key}": str(value) for key, value in decision.versions.items()},
    }
    status = "FAILED" if decision.decision == "failed" else "FINISHED"
    Recorder("retraining", os.environ[PIPELINE], tags, whole=True).finish(status)
    end_recording()


@flow(name="monitor traffic", persist_result=False, on_running=[note_run])
def monitor_traffic() -> Any:
    """Freeze the newest traffic and compare it; the stage itself announces drift, which may trigger an automation."""
    os.chdir(configure())
    try:
        verdict = monitor("monitor traffic")
    except PipelineError as error:
        return Failed(message=str(error))
    name = verdict["verdict"].replace("_", " ").capitalize()
    return Completed(name=name, message="; ".join(verdict["reasons"]), data=verdict)


def monitor(reason: str) -> dict[str, Any]:
    """One snapshot and one monitoring stage; returns the verdict."""
    snapshot()
    run_pipeline(reason, ["monitoring"], wait=True)
    verdict: dict[str, Any] = read_json(artifacts.DRIFT_VERDICT)
    return verdict


def watch(interval_s: float = 300.0, looks: int | None = None) -> None:
    """Snapshot, monitor, retrain on drift; repeated after each interval, until stopped.

    A failed check is logged, and the next one tries again.

    Args:
        interval_s: Pause between two checks, seconds.
        looks: Number of checks; unlimited by default.
    """
    done = 0
    while looks is None or done < looks:
        if done:
            time.sleep(interval_s)
        done += 1
        try:
            look()
        except PipelineError as error:
            logger.warning("this check failed, the next is in %.0f s: %s", interval_s, error)


def look() -> Decision | None:
    """One snapshot, one monitoring stage, and a retrain if enough consecutive windows drifted."""
    os.chdir(configure())
    verdict = monitor("watch")
    streak = note_window(verdict)
    logger.info("%s: %s", verdict["verdict"].replace("_", " "), "; ".join(verdict["reasons"]))
    needed = read_params().monitoring.retraining.consecutive
    if verdict["verdict"] != "drift" or streak < needed:
        return None
    return retrain(verdict["reasons"][0], "drift", verdict["window"])
