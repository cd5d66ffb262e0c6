"""The quality gate: Great Expectations evaluates every check on the tables of `measures`.

Data that were not evaluated do not pass.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa

from tasks.contracts.errors import PipelineError, raise_all
from tasks.contracts.manifest import hash_file
from tasks.contracts.records import UNTRAINED
from tasks.corpus.rows.rows import Rows
from tasks.data_preparation.gate.accepted import Statistics, compare_versions, measure_version, read_accepted
from tasks.data_preparation.gate.approval import Approval, find_approval, name_findings
from tasks.data_preparation.gate.data_docs import write_docs
from tasks.data_preparation.gate.expectations import Check, list_checks, refuse_empty
from tasks.data_preparation.gate.measures import (
    TEXTS,
    describe_duplicates,
    describe_rows,
    describe_sources,
    describe_splits,
)
from tasks.data_preparation.gate.params import Gate
from tasks.data_preparation.gate.results import Result
from tasks.data_preparation.screening.params import Duplicates
from tasks.data_preparation.splitting.params import Split

# Unexpected values that a finding shows.
SHOWN_VALUES = 5
NULL_EXPECTATIONS = ("expect_column_values_to_be_null", "expect_column_values_to_not_be_null")
# Unexpected values that Great Expectations returns; the first distinct ones are shown.
RETURNED_VALUES = 100
# Rows of a column hashed at once, which bounds the memory.
ROWS_PER_DIGEST = 50_000


@dataclass(frozen=True)
class Verdict:
    """The outcome of the gate.

    Attributes:
        results: One per check, in the order of the suite.
        rows: Number of rows that were evaluated.
        data: SHA-256 of everything in the rows that training uses, see `hash_data`.
        sources: Measurements, one row per source.
        statistics: Statistics of this version, with which later versions are compared.
        approval: A person's approval to use the data although critical checks failed.
    """

    results: tuple[Result, ...]
    rows: int
    data: str = ""
    sources: pa.Table | None = None
    statistics: Statistics | None = None
    approval: Approval | None = None

    @property
    def failed(self) -> tuple[Result, ...]:
        """The checks that stop the pipeline, unless a person approves them."""
        return tuple(r for r in self.results if not r.success and r.check.severity == "critical")

    @property
    def warned(self) -> tuple[Result, ...]:
        """The failed checks that do not stop the pipeline and are shown on the stage's page."""
        return tuple(r for r in self.results if not r.success and r.check.severity == "warning")

    @property
    def findings(self) -> str:
        """Hash of the failed checks for an approval; empty when no check failed or nothing was evaluated."""
        if not (self.results and self.rows and self.failed):
            return ""
        failed = [
            {"check": r.check.name, "type": r.check.type, "kwargs": dict(r.check.kwargs), "finding": r.finding}
            for r in self.failed
        ]
        return name_findings(self.data, failed)

    @property
    def approved(self) -> bool:
        """Whether a person approved exactly these findings."""
        return bool(self.findings) and self.approval is not None and self.approval.findings == self.findings

    @property
    def passed(self) -> bool:
        return bool(self.results) and self.rows > 0 and (not self.failed or self.approved)

    @property
    def figures(self) -> dict[str, int]:
        counts = {"checks": len(self.results), "failed": len(self.failed), "warned": len(self.warned)}
        return counts | ({"approved": 1} if self.approved else {})


def check_quality(
    rows: Rows,
    settings: Gate,
    duplicates: Duplicates,
    split: Split,
    folder: Path,
    accepted: Path | None = None,
    approvals: Path | None = None,
    balance: Path | None = None,
) -> Verdict:
    """Evaluate the suite and write its data docs.

    Args:
        rows: Split rows.
        settings: Thresholds, severities, further expectations.
        duplicates: Thresholds of near duplicates, for the check of leaks.
        split: The configured shares.
        folder: Folder of the data docs.
        accepted: File with the statistics of the last accepted version; without it no comparison is made.
        approvals: Folder of the approvals.
        balance: Folder with the weights of the labels, part of what is approved.

    Returns:
        The verdict; it does not raise, so that the report can still be written.

    Raises:
        PipelineError: An expectation does not exist, expects nothing or has wrong arguments.
    """
    texts = any(name in TEXTS for item in settings.expectations for name in map(str, item.kwargs.values()))
    described = describe_rows(rows, duplicates, texts or any(map(_needs_all, settings.expectations)))
    tables = {
        "rows": described,
        "sources": describe_sources(rows, described, split),
        "splits": describe_splits(rows, split),
    }
    last = read_accepted(accepted) if accepted else None
    if last is not None:
        tables["changes"] = compare_versions(last, described)
    checks = list_checks(
        settings,
        labelled=described["label"].null_count < described.num_rows,
        steps=[step.name for step in rows.steps],
        changes=tables["changes"].column_names if "changes" in tables else (),
    )
    duplicated = describe_duplicates(rows, settings.max_duplicate_share)
    verdict = Verdict(
        tuple(
            replace(result, finding=f"{result.finding}: {duplicated}")
            if result.check.name == "duplicates_few" and not result.success
            else result
            for result in evaluate(checks, tables)
        ),
        described.num_rows,
        hash_data(rows, split.seed, balance),
        tables["sources"],
        measure_version(described),
    )
    if approvals and verdict.findings:
        verdict = replace(verdict, approval=find_approval(approvals, verdict.findings))
    document(verdict, folder)
    return verdict


def check_suite(settings: Gate) -> dict[str, int]:
    """Refuse expectations that cannot be evaluated, before any work is done.

    Returns:
        The number of expectations from params.

    Raises:
        PipelineError: An expectation does not exist, expects nothing or has wrong arguments.
    """
    custom = [check for check in list_checks(settings, labelled=False) if check.meaning == "from params"]
    if custom:
        refuse_empty(custom)
        make_expectations(custom)
    return {"expectations": len(custom)}


def document(verdict: Verdict, folder: Path) -> None:
    """Write the data docs of a verdict."""
    write_docs(
        verdict.results,
        verdict.sources if verdict.sources is not None else pa.table({}),
        verdict.passed,
        folder,
        {"data": verdict.data, "findings": verdict.findings},
        verdict.statistics,
        verdict.approval if verdict.approved else None,
    )


def hash_data(rows: Rows, seed: int, balance: Path | None) -> str:
    """SHA-256 of everything that a training on these rows would use, 64 hex digits.

    That is every column of the rows and of those with a rejected answer (ids, which are hashes of the messages and of
    the marks of answers without loss, labels,
    splits, other answers and their scores, repetitions), the weights of the sources with the seed of the repetitions,
    and the weights of the labels.

    Args:
        rows: Split rows.
        seed: Seed of the split.
        balance: Folder of the balance; None without one.
    """
    tables = [hash_rows(table) for table in (rows.table, rows.rejected) if table is not None]
    weights = sorted((origin.title, origin.weight) for origin in rows.origins)
    files = sorted(balance.iterdir()) if balance is not None else []
    balances = [(file.name, hash_file(file)) for file in files if file.is_file()]
    return hashlib.sha256(orjson.dumps([tables, weights, seed, balances])).hexdigest()


def hash_rows(table: pa.Table) -> str:
    """SHA-256 of the columns, 64 hex digits; without the file, and the messages and marks hashed in the id."""
    digest = hashlib.sha256()
    for name in sorted(set(table.column_names) - {"messages", UNTRAINED.name, "file"}):
        digest.update(orjson.dumps([name, table.num_rows]))
        # In pieces of a fixed size, so that the hash does not depend on the chunks in memory.
        for start in range(0, table.num_rows, ROWS_PER_DIGEST):
            digest.update(orjson.dumps(table[name].slice(start, ROWS_PER_DIGEST).to_pylist()))
    return digest.hexdigest()


def require_passed(verdict: Verdict) -> None:
    """Stop the pipeline unless the gate passed.

    Raises:
        PipelineError: Critical checks failed without an approval, or nothing was evaluated.
    """
    if not verdict.results or not verdict.rows:
        raise PipelineError("quality gate: nothing was evaluated; check the sources and data_preparation.gate")
    if verdict.passed:
        return
    raise_all(
        [
            f"quality gate: {r.check.name} failed, {r.finding}; expected: {r.check.meaning} "
            "(see reports/data_preparation/data_docs/index.html; fix the data, or approve the findings "
            "with `heptune approve`)"
            for r in verdict.failed
        ],
        "quality gate",
    )


def evaluate(checks: Sequence[Check], tables: Mapping[str, pa.Table]) -> list[Result]:
    """Run checks with Great Expectations.

    Args:
        checks: The suite.
        tables: ``rows``, ``sources``, ``splits`` and, once a version was accepted, ``changes``.

    Returns:
        One result per check, in order.

    Raises:
        PipelineError: The suite is empty, or an expectation does not exist, expects nothing or has wrong arguments,
            all reported together.
    """
    expectations = make_expectations(checks)
    refuse_empty(checks)
    import great_expectations as gx

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}  # type: ignore[assignment]
    asset = context.data_sources.add_pandas("tables").add_dataframe_asset("table")
    definition = asset.add_batch_definition_whole_dataframe("frame")

    results: dict[str, Result] = {}
    for name in dict.fromkeys(check.table for check in checks):
        of_table = [(c, e) for c, e in zip(checks, expectations, strict=True) if c.table == name]
        table = tables.get(name)
        if table is None:
            missing = "there is no accepted version yet" if name == "changes" else "there is no such table"
            results |= {check.name: Result(check, False, f"was not evaluated, {missing}") for check, _ in of_table}
            continue
        # Integers must not become floats in columns with nulls.
        outcome = definition.get_batch({"dataframe": table.to_pandas(integer_object_nulls=True)}).validate(
            gx.ExpectationSuite(name=name, expectations=[expectation for _, expectation in of_table]),
            result_format={"result_format": "SUMMARY", "partial_unexpected_count": RETURNED_VALUES},
        )
        # Great Expectations does not keep the order; the name of the check is in the meta data.
        outcome_of: dict[str, Any] = {item.expectation_config.meta["check"]: item for item in outcome.results}  # type: ignore[union-attr]
        results |= {check.name: judge(check, outcome_of.get(check.name), table) for check, _ in of_table}
    return [results[check.name] for check in checks]


def _needs_all(item: Any) -> bool:
    # An expectation that is not about a single column may use any column in its condition.
    return "column" not in item.kwargs or "row_condition" in item.kwargs


def make_expectations(checks: Sequence[Check]) -> list[Any]:
    """The expectations of checks.

    Raises:
        PipelineError: A type does not exist or refuses its arguments, all reported together.
    """
    # Great Expectations sends usage statistics unless this is set when it is imported.
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    from great_expectations.exceptions.exceptions import ExpectationNotFoundError
    from great_expectations.expectations.registry import (
        get_expectation_impl,
        list_registered_expectation_implementations,
    )

    logging.getLogger("great_expectations").setLevel(logging.WARNING)
    expectations: list[Any] = []
    problems: list[str] = []
    for check in checks:
        try:
            kind: Any = get_expectation_impl(check.type)
            expectations.append(kind(**check.kwargs, severity=check.severity, meta={"check": check.name}))
        except ExpectationNotFoundError:
            known = ", ".join(sorted(list_registered_expectation_implementations()))
            problems.append(f'quality gate: unknown expectation "{check.type}"; known are {known}')
        except ValueError as error:
            # Great Expectations bundles its own pydantic, whose validation errors are ValueErrors.
            detail = " ".join(str(error).split())
            problems.append(f"quality gate: {check.type} does not take {dict(check.kwargs)}: {detail}")
    raise_all(problems, "quality gate")
    return expectations


def judge(check: Check, outcome: Any, table: pa.Table) -> Result:
    """The result of a check; it has failed when there is no outcome, an error, or no value to evaluate.

    Args:
        check: The check.
        outcome: The outcome from Great Expectations.
        table: The table that was evaluated.
    """
    if outcome is None:
        return Result(check, False, "was not evaluated")
    error = find_error(outcome.exception_info or {})
    if error:
        return Result(check, False, f"could not be evaluated: {error}")
    details: dict[str, Any] = dict(outcome.result or {})
    values = count_values(check, table)
    if not details or not values:
        # Great Expectations counts a condition without values as met.
        return Result(check, False, "had no value to look at")
    if "element_count" not in details:
        return Result(check, bool(outcome.success), describe_aggregate(details))
    if outcome.success:
        return Result(check, True, describe_success(check, table, values))
    unexpected = int(details.get("unexpected_count") or 0)
    wrong = list(dict.fromkeys(details.get("partial_unexpected_list", [])))
    if values == 1 and wrong and check.table != "rows":
        return Result(check, False, f"found {_show_value(check, wrong[0], table)}")
    shown = ", ".join(_show_value(check, value, table) for value in wrong[:SHOWN_VALUES])
    return Result(check, False, f"{unexpected:,} of {values:,} values do not fit, such as {shown}")


def describe_success(check: Check, table: pa.Table, values: int) -> str:
    """The value of a single measurement, or the number of values that passed."""
    column = str(check.kwargs.get("column"))
    if values == 1 and check.table != "rows" and column in table.column_names:
        return f"found {_show_number(column, table[column].drop_null()[0].as_py())}"
    noun = {"rows": "row", "sources": "source", "splits": "split", "changes": "measurement"}[check.table]
    return f"the only {noun} passed" if values == 1 else f"all {values:,} {noun}s passed"


def _show_number(column: str, value: Any) -> str:
    """A value with the digits that a person reads: shares in percent."""
    if isinstance(value, float):
        return f"{value:.1%}" if column.endswith("_share") else f"{value:,.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value)[:60]


def _show_value(check: Check, value: Any, table: pa.Table) -> str:
    """A value, followed by the names of its sources or splits."""
    shown = _show_number(str(check.kwargs.get("column")), value)
    key = {"sources": "source", "splits": "split"}.get(check.table)
    if key is None:
        return shown
    names = [name for name, other in zip(*(table[c].to_pylist() for c in (key, check.kwargs["column"])), strict=True)
             if other == value]  # fmt: skip
    return f"{shown} ({', '.join(names)})"


def describe_aggregate(details: Mapping[str, Any]) -> str:
    """The finding of an expectation about a whole column or table."""
    observed = details.get("observed_value")
    if observed is not None:
        return f"found {observed:,}" if isinstance(observed, int | float) else f"found {observed}"
    parts = {
        "unexpected": details.get("partial_unexpected_list") or [],
        "missing": details.get("partial_missing_list") or [],
    }
    shown = [f"{name} {', '.join(map(str, values[:SHOWN_VALUES]))}" for name, values in parts.items() if values]
    return "; ".join(shown) or "as expected"


def count_values(check: Check, table: pa.Table) -> int:
    """Number of values that a check evaluates."""
    column = check.kwargs.get("column")
    if column not in table.column_names or check.type in NULL_EXPECTATIONS:
        return int(table.num_rows)
    return int(table.num_rows - table[column].null_count)


def find_error(info: Mapping[str, Any]) -> str:
    """The first line of the error of an evaluation; empty if there was none."""
    entries = [info] if "raised_exception" in info else [entry for entry in info.values() if isinstance(entry, dict)]
    for entry in entries:
        if entry.get("raised_exception"):
            return str(entry.get("exception_message") or "unknown error").splitlines()[0]
    return ""
