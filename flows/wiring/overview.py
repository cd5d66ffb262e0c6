"""``reports/index.html``: one page that links every stage's report and shows its main figures."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flows.wiring import artifacts

TITLES = {
    "data_preparation": ("Data preparation", "sources to splits, behind a quality gate"),
    "model_initialisation": ("Model initialisation", "the base model, pinned and described"),
    "training_setup": ("Training setup", "the resolved plan, before any training"),
    "fine_tuning": ("Fine-tuning", "loss curves, checkpoints, weights"),
    "evaluation": ("Evaluation", "base, champion and candidate on the same held-out items"),
    "deployment": ("Deployment", "merged, exported, parity proven"),
    "monitoring": ("Monitoring", "traffic against the frozen baseline"),
}
FIGURES_SHOWN = 4
# The most important figures; others follow where these are missing.
MAIN_FIGURES = {
    "data_preparation": ("rows_read", "rows_train", "rows_test", "labels"),
    "model_initialisation": ("parameters", "context", "base_bits_per_byte", "tokens_per_word"),
    "training_setup": ("steps", "tokens", "trainable_parameters", "predicted_memory_bytes"),
    "fine_tuning": ("steps", "train_loss", "validation_loss", "trained_parameters"),
    "evaluation": ("items", "candidate.intent_accuracy", "candidate.exact_match", "candidate.loss"),
    "deployment": ("parity_answers_identical", "max_logit_difference", "model_bytes", "parameters"),
    "monitoring": ("alerts", "compared", "window_rows", "baseline_rows"),
}


def write_overview(root: Path = Path()) -> Path:
    """Write the page from the existing reports."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    stages = [describe(root, name) for name in TITLES]
    environment = Environment(loader=PackageLoader("flows.wiring"), autoescape=True, undefined=StrictUndefined)
    text = environment.get_template("overview.html").render(
        stages=stages,
        verdict=read(root / artifacts.EVALUATION_VERDICT),
        drift=read(root / artifacts.DRIFT_VERDICT),
        champion=read(root / artifacts.CHAMPION),
    )
    path = root / artifacts.INDEX
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(f".{os.getpid()}.part")
    aside.write_text(text, encoding="utf-8")
    aside.replace(path)
    return path


def is_current(root: Path = Path()) -> bool:
    """Whether the page is newer than everything that it shows."""
    page = root / artifacts.INDEX
    if not page.is_file():
        return False
    shown = [artifacts.EVALUATION_VERDICT, artifacts.DRIFT_VERDICT, artifacts.CHAMPION, artifacts.CARD_PAGE]
    shown += [path for name in TITLES for path in (artifacts.report(name), artifacts.metrics(name))]
    written = page.stat().st_mtime_ns
    return all(path.stat().st_mtime_ns <= written for path in (root / path for path in shown) if path.is_file())


def describe(root: Path, name: str) -> dict[str, Any]:
    from tasks.pages.page import show

    title, subtitle = TITLES[name]
    page = root / artifacts.report(name)
    figures = read(root / artifacts.metrics(name))
    main = [key for key in MAIN_FIGURES[name] if key in figures]
    shown = (main + [key for key in figures if key not in main])[:FIGURES_SHOWN]
    card = root / artifacts.CARD_PAGE if name == "data_preparation" else None
    return {
        "title": title,
        "subtitle": subtitle,
        "card": f"{name}/{card.name}" if card and card.is_file() else None,
        "href": f"{name}/index.html" if page.is_file() else None,
        "figures": [(re.sub(r"[_.]", " ", key), show(figures[key])) for key in shown],
    }


def read(path: Path) -> Mapping[str, Any]:
    """A JSON object; empty when the file is missing."""
    import orjson

    if not path.is_file():
        return {}
    value: Mapping[str, Any] = orjson.loads(path.read_bytes())
    return value
