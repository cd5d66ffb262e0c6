"""What belongs together: the runs, releases, revisions and requests of a checkout, each with links to the others."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from textwrap import shorten
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from flows.wiring import artifacts
from flows.wiring.browsing.live import Curve, read_curves
from flows.wiring.releases.serving import store_url
from flows.wiring.runs import addresses
from flows.wiring.runs.records import (
    LONGEST_NAME,
    RunRecord,
    find_record,
    hash_page,
    mlflow_of,
    name_run,
    read_records,
    show_time,
)
from flows.wiring.runs.releases import name_release, read_versions

RUNS_SHOWN = 200
REQUESTS_SHOWN = 20
SHORT = 12


@dataclass(frozen=True)
class Link:
    """A link with the words for it."""

    text: str
    href: str


@dataclass(frozen=True)
class LinkTable:
    """Rows under a heading; a cell is text or a link."""

    heading: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str | Link]]


@dataclass(frozen=True)
class Door:
    """A page: what something is, where else it is seen, and what belongs to it."""

    title: str
    facts: Sequence[tuple[str, str | Link]] = ()
    groups: Sequence[LinkTable] = ()
    curves: Sequence[Curve] = ()
    live: bool = False
    links: Sequence[Link] = field(default_factory=list)


def list_runs() -> Door:
    """The newest runs of all stages."""
    links = [Link("Newest reports", "/reports/index.html")]
    links += [Link("Prefect", addresses.prefect_ui()), Link("MLflow", addresses.mlflow_ui())]
    return Door("Runs", groups=[_runs("Runs, the newest first", islice(read_records(), RUNS_SHOWN))], links=links)


def open_run(flow_run: str) -> Door | None:
    """A run of a stage."""
    record = find_record(flow_run)
    if record is None:
        return None
    running = record.state == "RUNNING"
    facts: list[tuple[str, str | Link]] = [
        ("began", show_time(record.began)),
        ("state", record.state.lower() + (f": {record.message}" if record.message else "")),
        ("pipeline", _pipeline(record)),
        ("revision", _revision(record.commit)),
    ]
    if record.experiment:
        facts.append(("DVC experiment", record.experiment))
    if record.ended:
        facts.insert(1, ("took", f"{record.ended - record.began:,.0f} s"))
    groups = []
    for name, digest in record.about.items():
        is_release = name in ("release", "champion", "answered_by")
        facts.append((name.replace("_", " "), _release(digest) if is_release else digest[:SHORT]))
    known = mlflow_of(record)
    if known:
        for heading, hashes in (("What it read", known.deps), ("What it wrote", known.outs)):
            rows = [(path, Link(digest, f"/hashes/{digest}")) for path, digest in hashes.items()]
            groups.append(LinkTable(heading, ("path", "MD5, as in dvc.lock"), rows))
    if release := _release_of(record):
        if release not in record.about.values():
            facts.append(("release of the pipeline", _release(release)))
        groups.insert(0, _requests(release))
    return Door(
        f"Run of {record.stage.replace('_', ' ')}",
        facts,
        groups,
        read_curves(flow_run) if running else (),
        running,
        _links(record),
    )


def open_pipeline(key: str) -> Door | None:
    """The runs of a pipeline."""
    records = [record for record in read_records() if record.pipeline == key]
    if not records:
        return None
    links = [] if key.startswith("dvc-") else [Link("Prefect run", addresses.flow_run_page(key))]
    if parent := next((known.parent for record in records if (known := mlflow_of(record))), ""):
        links.append(Link("MLflow run", addresses.mlflow_page(parent)))
    first = records[-1]
    facts: list[tuple[str, str | Link]] = [("began", show_time(first.began)), ("revision", _revision(first.commit))]
    return Door(f"Pipeline: {name_run(first)}", facts, [_runs("Its stages", reversed(records))], (), links=links)


def open_release(release: str) -> Door | None:
    """A release, by its hash or the beginning of it."""
    records = [
        record
        for record in read_records()
        if any(digest.startswith(release) for name, digest in record.about.items() if name not in ("data", "window"))
    ]
    versions = read_versions(artifacts.RELEASES)
    whole = next((digest for digest in versions if digest.startswith(release)), "")
    whole = whole or next((d for r in records for d in r.about.values() if d.startswith(release)), "")
    if not whole:
        return None
    links, facts = [], list[tuple[str, str | Link]]([("hash", whole)])
    if found := versions.get(whole):
        facts.append(("model version", f"{found.model} {found.version}"))
        links.append(Link("Model version", addresses.version_page(found.model, found.version)))
    if maker := next((record for record in records if record.about.get("release") == whole), None):
        facts += [
            ("made", show_time(maker.began)),
            ("revision", _revision(maker.commit)),
            ("pipeline", _pipeline(maker)),
        ]
        links += [link for link in _links(maker) if link not in links]
    groups = [_runs("Runs that made, compared or monitored it", records), _requests(whole)]
    return Door(f"Release {whole[:SHORT]}", facts, groups, links=links)


def open_revision(commit: str) -> Door | None:
    """The runs at a git commit, or its beginning."""
    records = [record for record in read_records() if record.commit.startswith(commit)]
    if not records:
        return None
    facts = [("commit", records[0].commit.removesuffix("+changes")), ("show it", f"git show {commit[:SHORT]}")]
    return Door(f"Revision {commit[:SHORT]}", facts, [_runs("Runs at this revision", records)])


def open_hash(digest: str) -> Door | None:
    """The runs that wrote or read a file or folder, by its MD5 in ``dvc.lock``."""
    wrote, read = list[RunRecord](), list[RunRecord]()
    paths = set[str]()
    for record in read_records():
        if known := mlflow_of(record):
            for found, hashes in ((wrote, known.outs), (read, known.deps)):
                named = [path for path, value in hashes.items() if value == digest]
                if named:
                    found.append(record)
                    paths.update(named)
    if not paths:
        return None
    groups = [_runs("Runs that wrote it", wrote), _runs("Runs that read it", read)]
    return Door(", ".join(sorted(paths)), [("MD5", digest)], groups)


def open_request(request_id: str) -> Door | None:
    """A request of the log, without its texts.

    Raises:
        PipelineError: The request log does not answer.
    """
    from tasks.gateway.request_log.store import open_store

    store = open_store(store_url())
    try:
        found = store.describe_request(request_id)
    finally:
        store.close()
    if found is None:
        return None
    release = str(found["release"])
    facts: list[tuple[str, str | Link]] = [
        ("received", show_time(found["received_at"])),
        ("status", str(found["status"])),
        ("took", f"{found['latency_ms']:,.0f} ms"),
        ("tokens", f"{found['prompt_tokens']} and {found['completion_tokens']} of the answer"),
        ("release", _release(release)),
    ]
    of_release = open_release(release) if release else None
    if of_release:
        facts += [fact for fact in of_release.facts if fact[0] != "hash"]
    return Door(f"Request {request_id}", facts, links=of_release.links if of_release else ())


def find_address(flow_run: str, door: str) -> str | None:
    """Address of the MLflow run (``mlflow``), model version (``version``) or newest request (``request``) of a run.

    Raises:
        PipelineError: The request log does not answer.
    """
    record = find_record(flow_run)
    if record is None:
        return None
    known = mlflow_of(record)
    return _follow(door, known.run if known else "", _release_of(record))


def find_pipeline_address(key: str, door: str) -> str | None:
    """Address of what `find_address` finds, of a whole pipeline, or of the report of its evaluation (``report``).

    Raises:
        PipelineError: The request log does not answer.
    """
    records = [record for record in read_records() if record.pipeline == key]
    if door == "report":
        evaluated = (record for record in records if record.stage == "evaluation" and record.page)
        return next((f"/runs/{record.flow_run}/{record.stage}/index.html" for record in evaluated), None)
    parent = next((known.parent for record in records if (known := mlflow_of(record))), "")
    return _follow(door, parent, next((found for record in records if (found := _release_of(record))), ""))


def _follow(door: str, mlflow_run: str, release: str) -> str | None:
    if door == "mlflow" and mlflow_run:
        return addresses.mlflow_page(mlflow_run)
    if door == "version" and (found := read_versions(artifacts.RELEASES).get(release)):
        return addresses.version_page(found.model, found.version)
    if door == "request" and release and (newest := _read_requests(release, 1)):
        return f"/requests/{quote(newest[0]['id'], safe='')}"
    return None


def find_report(flow_run: str, stage: str) -> RunRecord | None:
    """The run whose report of a stage belongs to a run: its own, its pipeline's, or the newest before it."""
    record = find_record(flow_run)
    if record is None or record.stage == stage:
        return record
    others = [other for other in read_records(stage) if other.page]
    beside = [other for other in others if other.pipeline == record.pipeline]
    return next(iter(beside or [other for other in others if other.began <= record.began]), None)


def report_folder(record: RunRecord) -> Path | None:
    """Where the files of a run's report lie on this machine; None where only MLflow's server has them."""
    known = mlflow_of(record)
    place = urlsplit(known.artifacts) if known else None
    if place and place.scheme in ("", "file") and (folder := Path(unquote(place.path)) / "report").is_dir():
        return folder
    # Not sent yet: the stage's own folder, as long as no later run has written it.
    folder = artifacts.report(record.stage).parent
    return folder if record.page and record.page == hash_page(record.stage) else None


def _links(record: RunRecord) -> list[Link]:
    links = [Link("Prefect run", addresses.flow_run_page(record.flow_run))]
    if known := mlflow_of(record):
        links.append(Link("MLflow run", addresses.mlflow_page(known.run)))
    if record.page:
        links.append(Link("Report", f"/runs/{record.flow_run}/{record.stage}/index.html"))
    versions = read_versions(artifacts.RELEASES)
    if found := versions.get(_release_of(record)):
        links.append(Link("Model version", addresses.version_page(found.model, found.version)))
    return links


def _release_of(record: RunRecord) -> str:
    """The release that a run made or monitored, or that its pipeline made; empty where there is none."""
    if own := record.about.get("release") or record.about.get("answered_by"):
        return own
    beside = (other for other in read_records("deployment") if other.pipeline == record.pipeline)
    return next((other.about["release"] for other in beside if "release" in other.about), "")


def _runs(heading: str, records: Iterable[RunRecord]) -> LinkTable:
    rows = []
    for record in records:
        known = mlflow_of(record)
        rows.append(
            (
                Link(record.stage.replace("_", " "), f"/runs/{record.flow_run}/"),
                show_time(record.began),
                _pipeline(record),
                record.state.lower(),
                _revision(record.commit),
                Link("Prefect", addresses.flow_run_page(record.flow_run)),
                Link("MLflow", addresses.mlflow_page(known.run)) if known else "",
                Link("report", f"/runs/{record.flow_run}/{record.stage}/index.html") if record.page else "",
            )
        )
    return LinkTable(heading, ("stage", "began", "pipeline", "state", "revision", "", "", ""), rows)


def _requests(release: str) -> LinkTable:
    """The newest requests that a release answered, without their texts."""
    from tasks.contracts.errors import PipelineError

    heading = "Newest requests that it answered"
    try:
        found = _read_requests(release, REQUESTS_SHOWN)
    except PipelineError as error:
        return LinkTable(heading, ("",), [(str(error),)])
    rows = [
        (Link(row["id"], f"/requests/{quote(row['id'], safe='')}"), show_time(row["received_at"]), str(row["status"]))
        for row in found
    ]
    return LinkTable(heading, ("request", "received", "status"), rows)


def _pipeline(record: RunRecord) -> Link:
    return Link(shorten(name_run(record), LONGEST_NAME, placeholder="…"), f"/pipelines/{record.pipeline}")


def _read_requests(release: str, limit: int) -> Sequence[Mapping[str, Any]]:
    from tasks.gateway.request_log.store import open_store

    store = open_store(store_url())
    try:
        return store.list_requests(release, limit)
    finally:
        store.close()


def _revision(commit: str) -> str | Link:
    if commit == "none":
        return "no git"
    whole = commit.removesuffix("+changes")
    return Link(whole[:SHORT] + (" with changes" if whole != commit else ""), f"/revisions/{whole}")


def _release(digest: str) -> Link:
    return Link(name_release(artifacts.RELEASES, digest), f"/releases/{digest}")
