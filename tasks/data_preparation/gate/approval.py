"""A person's word that data may be used although critical checks failed.

It is a file below ``data/raw``, and so an input of the stage: whoever has it gets the same bytes without being asked.
It is named after what it is about, the failed checks with their arguments and findings and the data themselves, and
holds for exactly that: other findings, or other data with the same ones, ask again.
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
    """Who lets which findings pass, and why.

    Attributes:
        findings: What it is about, see `name_findings`.
        name: Of the person.
        reason: Why the data may be used.
        checks: Failed check to what was found.
    """

    findings: str = Field(pattern="^[0-9a-f]{64}$")
    name: str
    reason: str
    checks: dict[str, str]

    @field_validator("name", "reason")
    @classmethod
    def _says_something(cls, text: str) -> str:
        words = " ".join(text.split())
        if not words:
            raise ValueError("is empty")
        return words


def name_findings(data: str, failed: list[dict[str, Any]]) -> str:
    """SHA-256 of the data and the checks that failed on them."""
    return hashlib.sha256(orjson.dumps([data, failed], option=orjson.OPT_SORT_KEYS, default=str)).hexdigest()


def make_approval(findings: str, name: str, reason: str, checks: dict[str, str]) -> Approval:
    """An approval.

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
        PipelineError: The file of that name holds something else.
    """
    path = folder / f"{findings}.approval"
    if not path.is_file():
        return None
    try:
        found = Approval.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except ValueError as error:
        raise PipelineError(
            f"{path}: not an approval ({str(error).splitlines()[0]}); delete it and approve again"
        ) from error
    if found.findings != findings:
        raise PipelineError(f"{path}: approves other findings ({found.findings[:12]}); delete it and approve again")
    return found


def write_approval(folder: Path, approval: Approval) -> Path:
    """Write an approval as the input it is from now on."""
    path = folder / f"{approval.findings}.approval"
    write_json(path, approval.model_dump(mode="json"))
    return path


def approve_findings(docs: Path, folder: Path, name: str, reason: str) -> Approval:
    """Approve what the data docs of the last run show, for the next run to find.

    Args:
        docs: The data docs.
        folder: Where approvals lie.
        name: Of the person.
        reason: Why.

    Raises:
        PipelineError: Nothing failed, nothing was evaluated, or name or reason is empty.
    """
    outcome: dict[str, Any] = read_json(docs / "validation.json")
    if outcome["passed"]:
        raise PipelineError("approval: no critical check failed in the last run, or it is approved; nothing to approve")
    if not outcome["findings"]:
        raise PipelineError(
            "approval: nothing was evaluated in the last run, which nobody can approve; mend the sources"
        )
    checks = {
        result["name"]: result["finding"]
        for result in outcome["results"]
        if result["severity"] == "critical" and not result["success"]
    }
    approval = make_approval(outcome["findings"], name, reason, checks)
    write_approval(folder, approval)
    return approval
