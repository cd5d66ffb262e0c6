"""What is behind the models of an evaluation: the loss curve, what training took, and where everything came from.

All of it is read from files that earlier stages wrote. A file that is not there leaves its part of the page out.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from tasks.contracts.manifest import NAME, find_json, hash_file
from tasks.evaluation.outcomes import Outcome
from tasks.pages.page import count_steps, plot_style
from tasks.pages.text import plot_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LIBRARIES = ("numpy", "peft", "scikit-learn", "scipy", "tokenizers", "torch", "transformers")
# More points cannot be told apart on the plot.
MAXIMUM_POINTS = 400
SHOWN_DIGITS = 16
_HASH = re.compile("[0-9a-f]{32,}")


@dataclass(frozen=True)
class Background:
    """What is known of the models beside their answers.

    Attributes:
        curve: Points of the loss curve: step, loss, eval_loss.
        diagnosis: What it says: shape, text, marked_step, unit; empty where there is none.
        training: Figures of fine-tuning.
        lineage: Name to where something came from, or its hash.
        libraries: Name to version.
    """

    curve: Sequence[Mapping[str, Any]] = ()
    diagnosis: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    lineage: Mapping[str, str] = field(default_factory=dict)
    libraries: Mapping[str, str] = field(default_factory=dict)


def read_background(
    training: Path,
    initial: Path,
    tuned: Path,
    test: Path,
    settings: Mapping[str, Any],
    champion: str | None,
    code: Sequence[Path],
) -> Background:
    """Read it.

    Args:
        training: Folder of fine-tuning's report.
        initial: Folder of the base model.
        tuned: Folder of the tuned model.
        test: The held-out rows.
        settings: Params of the stage, defaults included.
        champion: Release hash of the champion, if any.
        code: Folders and files of the stage's own code.
    """
    try:
        curve = orjson.loads((training / "curve.json").read_bytes())
    except (OSError, orjson.JSONDecodeError):
        curve = []
    base, trained = find_json(initial / NAME), find_json(tuned / NAME)
    source = "@".join(str(value) for value in (base.get("source") or {}).values())
    method = trained.get("method") or {}
    lineage = {
        "base": source,
        "licence of the base": str(base.get("licence") or ""),
        "base, manifest": hash_file(initial / NAME) if base else "",
        "tuned by": str(method.get("name", "")),
        "tuned, manifest": hash_file(tuned / NAME) if trained else "",
        "training rows": str(trained.get("data") or ""),
        "training plan": str(trained.get("plan") or ""),
        "training seed": str(trained.get("seed", "")),
        "training libraries": str(trained.get("libraries") or ""),
        "champion, release": champion or "none",
        "held-out rows": hash_file(test),
        "params of evaluation": hashlib.sha256(orjson.dumps(settings, option=orjson.OPT_SORT_KEYS)).hexdigest(),
        "code of evaluation": hash_code(code),
    }
    return Background(
        curve,
        find_json(training / "diagnosis.json"),
        find_json(training / "metrics.json"),
        {name: text for name, text in lineage.items() if text},
        read_versions(),
    )


def shorten_hash(text: str) -> str:
    """The beginning of a hash; any other text as it is."""
    return text[:SHOWN_DIGITS] if _HASH.fullmatch(text) else text


def hash_code(paths: Sequence[Path]) -> str:
    """SHA-256 over the names and texts of Python files, 64 hex digits."""
    digest = hashlib.sha256()
    for path in paths:
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            digest.update(f"{file.relative_to(path.parent).as_posix()} {hash_file(file)}\n".encode())
    return digest.hexdigest()


def read_versions() -> dict[str, str]:
    """Versions of the libraries that decide about answers and scores."""
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def list_costs(background: Background, outcomes: Mapping[str, Outcome]) -> list[list[Any]]:
    """What training and evaluation took, as (what, how much), as far as it is the same whenever they run."""
    figures, rows = background.training, list[list[Any]]()
    if per_epoch := figures.get("tokens_per_epoch"):
        epochs = float(figures.get("epochs") or 1)
        rows.append(["tokens trained on", round(per_epoch * epochs)])
        if supervised := figures.get("supervised_tokens_per_epoch"):
            rows.append(["of these in answers", round(supervised * epochs)])
    for key, name in (("steps", "optimizer steps"), ("trained_parameters", "trained parameters")):
        if key in figures:
            rows.append([name, figures[key]])
    if figures.get("bytes"):
        rows.append(["trained weights, MB", round(figures["bytes"] / 1e6, 1)])
    for model, outcome in outcomes.items():
        if outcome.answer_tokens.any():
            rows.append([f"tokens answered by the {model}", int(outcome.answer_tokens.sum())])
    rows.append(["tokens of references, scored by each model", int(max(o.tokens.sum() for o in outcomes.values()))])
    return rows


def thin(points: Sequence[Any]) -> list[Any]:
    """Points at equal distances where there are too many, the last one among them."""
    step = max(1, -(-len(points) // MAXIMUM_POINTS))
    return list(points)[::-1][::step][::-1]


def plot_curve(background: Background) -> Figure:
    """Training and validation loss over steps, with the step that the diagnosis speaks of."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(plot_style()):
        figure = Figure(figsize=(8.6, 2.8), layout="constrained")
        axes: Any = figure.subplots()
        for key, label, width in (("loss", "training", 1.0), ("eval_loss", "validation", 2.0)):
            points = [(point["step"], point[key]) for point in background.curve if point.get(key) is not None]
            if points := thin(points):
                marker = "o" if key == "eval_loss" else ""
                axes.plot(
                    *zip(*points, strict=True), linewidth=width, marker=marker, markersize=4, label=plot_text(label)
                )
        if (step := background.diagnosis.get("marked_step")) is not None:
            label = f"{background.diagnosis.get('shape')}: step {step:,}"
            axes.axvline(step, color="0.45", linestyle=":", linewidth=1.2, label=plot_text(label))
        count_steps(axes)
        axes.set_ylabel(plot_text(f"loss, {background.diagnosis.get('unit', 'nats per token')}"))
        if axes.dataLim.y0 >= 0:
            axes.set_ylim(bottom=0)
        axes.legend()
    return figure
