"""The file of accepted rows, the file of refused ones, and the figures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import orjson

from tasks.contracts.errors import PipelineError
from tasks.contracts.manifest import write_bytes, write_json
from tasks.contracts.records import content_id
from tasks.synthesis.calls import STEPS, Spent
from tasks.synthesis.drafts import NOT_NEEDED, Draft, Written
from tasks.synthesis.params import Synthesis


def list_turns(settings: Synthesis, draft: Draft) -> list[dict[str, str]]:
    """The conversation of a row."""
    system = [{"role": "system", "content": settings.system}] if settings.system else []
    return [
        *system,
        {"role": "user", "content": draft.instruction},
        {"role": "assistant", "content": draft.answer},
    ]


def describe_row(settings: Synthesis, written: Written, draft: Draft) -> dict[str, Any]:
    """A row as the file has it: the conversation, and where it is from."""
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
        "prompts": written.prompts,
        "seeds": list(draft.seeds),
    }


def write_synthetic(settings: Synthesis, written: Written, path: Path, refused: Path) -> None:
    """Write both files, aside first and renamed into place.

    Args:
        settings: Of the run.
        written: What it wrote.
        path: Of the accepted rows.
        refused: Of the others, each with step and reason.

    Raises:
        PipelineError: No row was accepted; then only the refused ones are written, and a file of an earlier run stays.
    """
    write_lines(refused, (asdict(draft) for draft in written.refused))
    if not written.accepted:
        raise PipelineError(
            f"synthesis: no row was accepted ({written.ended}); {_explain(written, refused)}. Change prompts, "
            "checks or teacher and run again"
        )
    write_lines(path, (describe_row(settings, written, draft) for draft in written.accepted))


def _explain(written: Written, refused: Path) -> str:
    if written.refused:
        return f"{refused} says why each was refused"
    steps: Mapping[str, Spent] = written.steps
    why = [f"{reason} ({step})" for step in STEPS for reason in steps[step].unusable]
    return f"no answer could be used: {', '.join(why) or 'there was none'}"


def write_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """A JSON object a line."""
    write_bytes(path, b"".join(encode(row) + b"\n" for row in rows))


def encode(row: Mapping[str, Any]) -> bytes:
    """One line; halves of surrogate pairs, which refused rows may hold, as question marks."""
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


def list_figures(written: Written) -> dict[str, int | float]:
    """The run in numbers."""
    steps: Mapping[str, Spent] = written.steps
    refused = [draft for draft in written.refused if draft.step != "topics" and draft.reason != NOT_NEEDED]
    proposed = len(written.accepted) + len(refused)
    figures: dict[str, int | float] = {
        "rows": len(written.accepted),
        "refused": len(refused),
        "acceptance_rate": round(len(written.accepted) / proposed, 6) if proposed else 0.0,
        "topics": len(written.topics),
        "calls": sum(spent.calls for spent in steps.values()),
        "prompt_tokens": sum(spent.prompt_tokens for spent in steps.values()),
        "completion_tokens": sum(spent.completion_tokens for spent in steps.values()),
        "cost": round(sum(spent.cost for spent in steps.values()), 9),
    }
    for step in STEPS:
        figures |= {f"{step}.calls": steps[step].calls, f"{step}.cost": round(steps[step].cost, 9)}
    return figures


def write_figures(written: Written, path: Path) -> dict[str, int | float]:
    """Write the figures; returns them."""
    figures = list_figures(written)
    write_json(path, figures)
    return figures
