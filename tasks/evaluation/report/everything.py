"""``report.json``: all that the page shows, and what it has no room for, for programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tasks.contracts.manifest import write_json
from tasks.evaluation.report.background import Background, list_costs, thin
from tasks.evaluation.report.blocks import ReportBlock
from tasks.evaluation.report.changes import Change
from tasks.evaluation.report.examples import show_prompt, truncate
from tasks.evaluation.scoring import Scoreboard
from tasks.evaluation.slices.scores import Slice
from tasks.evaluation.verdict import PromotionVerdict

VERSION = 1


def write_everything(
    board: Scoreboard,
    verdict: PromotionVerdict,
    sentence: str,
    turning_points: Sequence[str],
    slices: Sequence[Slice],
    examples: Sequence[Change],
    background: Background,
    settings: Mapping[str, Any],
    blocks: Sequence[ReportBlock],
    path: Path,
) -> None:
    """Write it; numbers that are none are null.

    Args:
        board: Scores and comparisons.
        verdict: The decision.
        sentence: It in plain English.
        turning_points: What would change it.
        slices: Scores of the slices.
        examples: The answers that the page shows.
        background: What is behind the models.
        settings: Params of the stage, defaults included.
        blocks: What other rooms measured.
        path: The file to write.
    """
    values = {
        "version": VERSION,
        "sentence": sentence,
        "would_change_it": list(turning_points),
        "verdict": verdict.model_dump(),
        "confidence": board.confidence,
        "power": board.power,
        "scores": {
            model: {
                name: {**board.estimates[model, name]._asdict(), "items": board.scores[model, name].items}
                for name in board.metrics
            }
            for model in board.outcomes
        },
        "titles": {name: metric.title for name, metric in board.metrics.items()},
        "not_applicable": board.not_applicable,
        "incomparable": board.incomparable,
        "slices": [describe_slice(one) for one in slices],
        "curve": {"points": thin(background.curve), "diagnosis": dict(background.diagnosis)},
        "examples": [describe_change(one) for one in examples],
        "costs": {str(name): value for name, value in list_costs(background, board.outcomes)},
        "lineage": dict(background.lineage),
        "libraries": dict(background.libraries),
        "params": dict(settings),
        "answers": {model: outcome.figures for model, outcome in board.outcomes.items()},
        "blocks": [{"title": one.title, "summary": one.summary, **one.values} for one in blocks],
    }
    write_json(path, values)


def describe_slice(one: Slice) -> dict[str, Any]:
    """A slice as JSON has it."""
    return {
        "by": one.dimension,
        "group": one.name,
        "items": one.items,
        "scores": one.values,
        "candidate_low": one.ends[0],
        "candidate_high": one.ends[1],
        **one.comparison.model_dump(include={"difference", "low", "high", "detectable"}),
        "too_small": one.too_small,
        "items_needed": one.enough,
        "stands_out": one.stands_out,
    }


def describe_change(change: Change) -> dict[str, Any]:
    """An answer that changed, as far as the page shows it."""
    return {
        "item": change.item.id,
        "gain": change.gain,
        "scores": change.values,
        "prompt": [{"role": role, "content": text} for role, text in show_prompt(change)],
        "reference": truncate(change.item.reference),
        "answers": {model: truncate(answer) for model, answer in change.answers.items()},
    }
