"""The files of accepted rows and of refused drafts, and the figures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import orjson

from tasks.contracts.errors import PipelineError
from tasks.contracts.manifest import write_bytes, write_json
from tasks.contracts.records import content_id
from tasks.language_models.writers.cost import CallUsage
from tasks.synthesis.calls import STEPS
from tasks.synthesis.drafts import NOT_NEEDED, Draft, SynthesisResult
from tasks.synthesis.params import Synthesis


def list_turns(settings: Synthesis, draft: Draft) -> list[dict[str, str]]:
    """The conversation of a row."""
    system = [{"role": "system", "content": settings.system}] if settings.system else []
    return [
        *system,
        {"role": "user", "content": draft.instruction},
        {"role": "assistant", "content": draft.answer},
    ]


def describe_row(settings: Synthesis, result: SynthesisResult, draft: Draft) -> dict[str, Any]:
    """A row of the file: the conversation and its provenance."""
    turns = list_turns(settings, draft)
    judged = {"judge": (settings.judge or settings.teacher).describe(), "score": draft.score}
    return {
        "id": content_id(turns),
        "messages": turns,
        **({"label": draft.label} if draft.label is not None else {}),
        "topic": draft.topic,
        "teacher": settings.teacher.describe(),
        **(judged if draft.score is not None else {}),
        "rewrites": draft.rewrites,
        "checks": [check.name for check in settings.checks],
        "prompts": result.prompts,
        "seeds": list(draft.seeds),
    }


def write_synthetic(settings: Synthesis, result: SynthesisResult, path: Path, refused: Path) -> None:
    """Write both files, aside first and renamed into place.

    Args:
        settings: Settings of the run.
        result: Result of the run.
        path: File of the accepted rows.
        refused: File of the refused drafts, each with step and reason.

    Raises:
        PipelineError: No row was accepted; then only the refused drafts are result, and an existing file of rows stays.
    """
    write_lines(refused, (asdict(draft) for draft in result.refused))
    if not result.accepted:
        raise PipelineError(
            f"synthesis: no row was accepted ({result.ended}); {_explain(result, refused)}. Change prompts, "
            "checks or teacher and run again"
        )
    write_lines(path, (describe_row(settings, result, draft) for draft in result.accepted))


def _explain(result: SynthesisResult, refused: Path) -> str:
    if result.refused:
        return f"{refused} has the reason for each draft"
    steps: Mapping[str, CallUsage] = result.steps
    reasons = [f"{reason} ({step})" for step in STEPS for reason in steps[step].unusable]
    return f"no answer was usable: {', '.join(reasons) or 'there was none'}"


def write_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """A JSON object a line."""
    write_bytes(path, b"".join(encode(row) + b"\n" for row in rows))


def encode(row: Mapping[str, Any]) -> bytes:
    """One line of JSON; lone surrogates, which refused drafts may have, become question marks."""
    try:
        return orjson.dumps(row)
    except TypeError:
        return orjson.dumps(_encodable(row))


def _encodable(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, Mapping):
        return {_encodable(key): _encodable(inner) for key, inner in value.items()}
    return [_encodable(inner) for inner in value] if isinstance(value, list | tuple) else value


def list_figures(result: SynthesisResult) -> dict[str, int | float]:
    """The figures of the run."""
    steps: Mapping[str, CallUsage] = result.steps
    refused = [draft for draft in result.refused if draft.step != "topics" and draft.reason != NOT_NEEDED]
    proposed = len(result.accepted) + len(refused)
    figures: dict[str, int | float] = {
        "rows": len(result.accepted),
        "refused": len(refused),
        "acceptance_rate": round(len(result.accepted) / proposed, 6) if proposed else 0.0,
        "topics": len(result.topics),
        "calls": sum(usage.calls for usage in steps.values()),
        "prompt_tokens": sum(usage.prompt_tokens for usage in steps.values()),
        "completion_tokens": sum(usage.completion_tokens for usage in steps.values()),
        "cost": round(sum(usage.cost for usage in steps.values()), 9),
    }
    for step in STEPS:
        figures |= {f"{step}.calls": steps[step].calls, f"{step}.cost": round(steps[step].cost, 9)}
    return figures


def write_figures(result: SynthesisResult, path: Path) -> dict[str, int | float]:
    """Write the figures; returns them."""
    figures = list_figures(result)
    write_json(path, figures)
    return figures
