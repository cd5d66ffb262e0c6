"""Approvals: a person decides that data may be used although critical checks failed.

An approval is a file below ``data/raw``, and so an input of the stage: every checkout that has it produces the same
bytes without asking again. Its name is a hash of the data (everything that a training would use: rows, labels, splits,
other answers with their scores, weights) and of the failed checks with their arguments and findings.
It is valid for exactly these: other findings, or the same findings on other data, need another approval.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import orjson
from pydantic import Field, ValidationError, field_validator

from tasks.contracts.errors import PipelineError
from tasks.contracts.manifest import read_json, write_json
from tasks.contracts.params import Section


class Approval(Section):
    """Who approved which findings, and why.

    Attributes:
        findings: Hash of the findings, see `name_findings`.
        name: Name of the person.
        reason: Why the data may be used.
        checks: Failed check to its finding.
    """

    findings: str = Field(pattern="^[0-9a-f]{64}$")
    name: str
    reason: str
    checks: dict[str, str]

    @field_validator("name", "reason")
    @classmethod
    def _not_blank(cls, text: str) -> str:
        words = " ".join(text.split())
        if not words:
            raise ValueError("is empty")
        return words


def name_findings(data: str, failed: list[dict[str, Any]]) -> str:
    """SHA-256 of the data and of the checks that failed on them, 64 hex digits."""
    return hashlib.sha256(orjson.dumps([data, failed], option=orjson.OPT_SORT_KEYS, default=str)).hexdigest()


def make_approval(findings: str, name: str, reason: str, checks: dict[str, str]) -> Approval:
    """Create an approval.

    Raises:
        PipelineError: Name or reason is empty.
    """
    try:
        return Approval(findings=findings, name=name, reason=reason, checks=checks)
    except ValidationError as error:
        empty = " and ".join(str(problem["loc"][0]) for problem in error.errors())
        raise PipelineError(f"approval: {empty} must not be empty; say who approves and why") from error


def find_approval(folder: Path, findings: str) -> Approval | None:
    """The approval of these findings, if there is one.

    Raises:
        PipelineError: The file of that name is not this approval.
    """
    path = folder / f"{findings}.approval"
    if not path.is_file():
        return None
    try:
        approval = Approval.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except ValueError as error:
        raise PipelineError(
            f"{path}: not an approval ({str(error).splitlines()[0]}); delete it and approve again"
        ) from error
    if approval.findings != findings:
        raise PipelineError(f"{path}: approves other findings ({approval.findings[:12]}); delete it and approve again")
    return approval


def write_approval(folder: Path, approval: Approval) -> Path:
    """Write an approval below ``data/raw``, from where later runs read it."""
    path = folder / f"{approval.findings}.approval"
    write_json(path, approval.model_dump(mode="json"))
    return path


def approve_findings(docs: Path, folder: Path, name: str, reason: str) -> Approval:
    """Approve the failed checks in the data docs of the last run, for the next run to read.

    Args:
        docs: The data docs.
        folder: Folder of the approvals.
        name: Name of the person.
        reason: Why the data may be used.

    Raises:
        PipelineError: No check failed, nothing was evaluated, or name or reason is empty.
    """
    outcome: dict[str, Any] = read_json(docs / "validation.json")
    if outcome["passed"]:
        raise PipelineError(
            "approval: there is nothing to approve, as the last run has no failed critical check or is already approved"
        )
    if not outcome["findings"]:
        raise PipelineError(
            "approval: a run in which nothing was evaluated cannot be approved; fix data_preparation.sources"
        )
    checks = {
        result["name"]: result["finding"]
        for result in outcome["results"]
        if result["severity"] == "critical" and not result["success"]
    }
    approval = make_approval(outcome["findings"], name, reason, checks)
    write_approval(folder, approval)
    return approval
