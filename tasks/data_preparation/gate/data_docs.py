"""Data docs: the suite and its results as a page and as JSON, offline and deterministic.

The pages of Great Expectations itself load scripts from the network and contain run times, so they are not used.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from tasks.contracts.manifest import seal, write_json
from tasks.data_preparation.gate.accepted import STATISTICS, Statistics
from tasks.data_preparation.gate.approval import Approval
from tasks.data_preparation.gate.results import Result
from tasks.pages.page import Page

TABLES = (
    ("Checks of the rows", "rows"),
    ("Checks of the sources", "sources"),
    ("Checks of the splits", "splits"),
    ("Comparison with the last accepted version", "changes"),
)


def write_docs(
    results: Sequence[Result],
    sources: pa.Table,
    passed: bool,
    folder: Path,
    facts: Mapping[str, str],
    statistics: Statistics | None,
    approval: Approval | None,
) -> None:
    """Write ``index.html``, ``suite.json``, ``validation.json`` and ``statistics.json``.

    Args:
        results: In the order of the suite.
        sources: Measurements, one row per source.
        passed: Whether the data passed the gate.
        folder: Emptied first.
        facts: ``data`` and ``findings``: hashes of the data and of the findings an approval refers to.
        statistics: Statistics of this version.
        approval: Approval of the failed checks, if there is one.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    suite = [
        {
            "name": r.check.name,
            "table": r.check.table,
            "type": r.check.type,
            "kwargs": dict(r.check.kwargs),
            "severity": r.check.severity,
        }
        for r in results
    ]
    outcomes = [
        {"name": r.check.name, "severity": r.check.severity, "success": r.success, "finding": r.finding}
        for r in results
    ]
    write_json(folder / "suite.json", suite)
    approved = approval.model_dump(mode="json") if approval else None
    write_json(folder / "validation.json", {"passed": passed, "results": outcomes, "approval": approved, **facts})
    write_json(folder / STATISTICS, statistics.model_dump(mode="json") if statistics else None)
    _make_page(results, sources, passed, approval).write(folder / "index.html")
    files = [folder / name for name in ("index.html", "suite.json", "validation.json", STATISTICS)]
    seal(folder, files, {"passed": passed, "checks": len(results)})


def _make_page(results: Sequence[Result], sources: pa.Table, passed: bool, approval: Approval | None) -> Page:
    passing = sum(r.success for r in results)
    page = Page(
        "Data docs",
        f"{passing} of {len(results)} checks passed. A failed critical check stops the pipeline unless a person "
        "approves the findings; warnings are only reported.",
        verdict="approved" if approval else "passed" if passed else "failed",
        tone="warn" if approval else "good" if passed else "bad",
        stage="data_preparation",
        inside="data_docs",
    )
    if approval:
        page.listing(
            [f"{name}: {finding}" for name, finding in approval.checks.items()],
            f"Approved by {approval.name}: {approval.reason}",
        )
    for title, table in TABLES:
        if table == "changes" and not any(r.check.table == table for r in results):
            page.text("There is no accepted version to compare with yet; the command heptune accept accepts this one.")
            continue
        page.table(
            title,
            ["check", "result", "finding", "expectation", "severity"],
            [
                [
                    r.check.name,
                    "passed" if r.success else "FAILED",
                    r.finding,
                    r.check.meaning,
                    r.check.severity,
                ]
                for r in results
                if r.check.table == table
            ],
        )
    names = [
        "source",
        "rows_read",
        "rows_used",
        "used_share",
        "bad_share",
        "duplicate_share",
        "most_copies",
        "supervised_words",
    ]
    page.table(
        "Measurements of each source",
        [name.replace("_", " ") for name in names],
        [[_show_measure(name, row[name]) for name in names] for row in sources.to_pylist()],
    )
    page.table(
        "Definition of the checks in Great Expectations",
        ["check", "type", "arguments"],
        [
            [
                r.check.name,
                r.check.type,
                ", ".join(f"{k}={v}" for k, v in r.check.kwargs.items() if v is not None),
            ]
            for r in results
        ],
    )
    return page


def _show_measure(name: str, value: Any) -> Any:
    return f"{value:.1%}" if name.endswith("_share") and value is not None else value
