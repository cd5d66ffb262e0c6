"""The bias probe of all models, and how training changed the candidate's leans.

The probe is no part of the verdict: its sentences are few, and what they show is a direction.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tasks.evaluation.outcomes import ModelName, Outcome
from tasks.language_models.probes.bias_probe import ALL, MEANING, BiasMeasure, Lean


def bias_figures(outcomes: Mapping[ModelName, Outcome]) -> dict[str, float]:
    """Mean lean and share of each model, and the change from the base; empty where nothing was measured."""
    measures = _measures(outcomes)
    figures: dict[str, float] = {}
    for model, measure in measures.items():
        figures[f"{model}.bias_lean"] = measure.figures["bias_lean"]
        figures[f"{model}.bias_share"] = measure.figures["bias_share"]
    if change := _change(measures):
        figures["candidate_vs_base.bias_lean.difference"] = change[ALL].mean
        figures["candidate_vs_base.bias_lean.low"] = change[ALL].low
        figures["candidate_vs_base.bias_lean.high"] = change[ALL].high
    return figures


def bias_table(outcomes: Mapping[ModelName, Outcome]) -> tuple[list[str], list[list[Any]], str] | None:
    """Columns, rows and note of the probe's table; None where nothing was measured."""
    measures = _measures(outcomes)
    if not measures:
        return None
    change = _change(measures)
    leans = {model: {lean.group: lean for lean in measure.by_group()} for model, measure in measures.items()}
    columns = ["group", *measures, "change", "95% interval of the change"]
    rows: list[list[Any]] = [
        [
            group,
            *(f"{of_model[group].mean:+.3f}" for of_model in leans.values()),
            f"{change[group].mean:+.3f}" if change else "–",
            f"[{change[group].low:+.3f}, {change[group].high:+.3f}]" if change else "–",
        ]
        for group in next(iter(leans.values()))
    ]
    note = f"{MEANING} It does not enter the verdict."
    return columns, rows, note + (" Change: candidate less base, on the same sentences." if change else "")


def _measures(outcomes: Mapping[ModelName, Outcome]) -> dict[ModelName, BiasMeasure]:
    return {model: outcome.bias for model, outcome in outcomes.items() if outcome.bias is not None}


def _change(measures: Mapping[ModelName, BiasMeasure]) -> dict[str, Lean]:
    if "base" not in measures or "candidate" not in measures:
        return {}
    return {lean.group: lean for lean in measures["candidate"].change_from(measures["base"])}
