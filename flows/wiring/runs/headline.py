"""What heads the MLflow run of a pipeline: how the model was made, how good it is, and what was decided.

The names are the same in every run, so that MLflow's table and comparison put runs side by side.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from flows.wiring import artifacts
from tasks.contracts.manifest import find_json


class Headline(NamedTuple):
    """Params, figures and tags of a pipeline's run."""

    params: dict[str, Any]
    figures: dict[str, float]
    tags: dict[str, str]


Part = Callable[[Path], Headline]


def read_headline(stage: str, root: Path = Path()) -> Headline:
    """What is known once a stage has ended: of it and of the stages before it, whether these ran or were unchanged.

    Monitoring stands alone: the traffic that it reads may be of an earlier release.
    """
    if stage == "monitoring":
        return of_traffic(root)
    headline = Headline({}, {}, {})
    for name, part in PARTS.items():
        found = part(root)
        headline.params.update(found.params)
        headline.figures.update(found.figures)
        headline.tags.update(found.tags)
        if name == stage:
            break
    return headline


def of_data(root: Path) -> Headline:
    figures = find_json(root / artifacts.metrics("data_preparation"))
    return Headline(_present({"rows_train": figures.get("rows_train"), "rows_test": figures.get("rows_test")}), {}, {})


def of_base(root: Path) -> Headline:
    source = find_json(root / artifacts.INITIAL / "manifest.json").get("source", {})
    return Headline(_present({"base": "@".join(str(value) for value in source.values() if value)}), {}, {})


def of_plan(root: Path) -> Headline:
    plan = find_json(root / artifacts.PLAN / "plan.json")
    settings = {"method": plan.get("method", {}).get("name")}
    settings |= {key: plan.get(key) for key in ("learning_rate", "steps", "seed", "device")}
    return Headline(_present(settings), {}, {})


def of_training(root: Path) -> Headline:
    figures = find_json(root / artifacts.metrics("fine_tuning"))
    return Headline({}, _present({key: figures.get(key) for key in ("train_loss", "validation_loss")}), {})


def of_verdict(root: Path) -> Headline:
    """The candidate's metrics as the verdict has them, and its decision."""
    figures = find_json(root / artifacts.metrics("evaluation"))
    verdict = find_json(root / artifacts.EVALUATION_VERDICT)
    scores = {key: value for key, value in figures.items() if key.startswith("candidate.")}
    reasons = "; ".join(verdict.get("reasons", []))
    tags = _present({"heptune.verdict": verdict.get("verdict"), "heptune.verdict_reasons": reasons})
    return Headline({}, scores, tags)


def of_release(root: Path) -> Headline:
    release = find_json(root / artifacts.RELEASE / "manifest.json").get("release")
    return Headline({}, {}, _present({"heptune.release": release}))


def of_traffic(root: Path) -> Headline:
    return Headline({}, {}, _present({"heptune.drift": find_json(root / artifacts.DRIFT_VERDICT).get("verdict")}))


# In the order in which the stages run.
PARTS: Mapping[str, Part] = {
    "data_preparation": of_data,
    "model_initialisation": of_base,
    "training_setup": of_plan,
    "fine_tuning": of_training,
    "evaluation": of_verdict,
    "deployment": of_release,
    "monitoring": of_traffic,
}


def _present(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value not in (None, "")}
