"""Reward models of answers and of steps go through the seven stages, and what is released opens as a classifier."""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path
from typing import Any

import pytest

from flows.pipeline import STAGES
from flows.wiring import artifacts
from tests.flows.small import SYLLABLES, outcomes
from tests.flows.whole import command, make_checkout

pytestmark = pytest.mark.slow


def write_rows(path: Path, kind: str) -> None:
    """Questions of which no two say the same; polite answers beat rude ones, and looking up beats guessing."""
    draw = random.Random(0)

    def word() -> str:
        return "".join(draw.choices(SYLLABLES, k=2))

    path.parent.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    for number in range(300):
        prompt, topic = f"Where is the {word()} of {word()} and {word()}?", f"{word()} {word()} {word()}"
        if kind == "pairs":
            chosen, rejected = f"We will look for {topic} now.", f"You ask of {topic} too often."
            rows.append({"prompt": prompt, "chosen": chosen, "rejected": rejected})
        else:
            right, wrong = f"We look {topic} up.", f"We guess about {topic}."
            steps = [right, wrong] if number % 2 else [right, f"Then we look {word()} {word()} up."]
            rows.append({"prompt": prompt, "completions": steps, "labels": [True, number % 2 == 0]})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


@pytest.mark.parametrize(
    ("kind", "objective", "metric"),
    [("pairs", "reward_model", "reward_accuracy"), ("steps", "process_reward_model", "step_accuracy")],
)
def test_all_stages(kind: str, objective: str, metric: str, tiny_model: Path, tmp_path: Path) -> None:
    changes = {
        "data_preparation": {"sources": [{"name": "jsonl", "path": "data/raw/rows.jsonl", "title": "rows"}]},
        "training_setup": {"objective": {"name": objective}, "learning_rate": 1e-2, "batch_size": 4, "max_steps": 20},
        "evaluation": {"items": 40, "gate": {"primary": "intent_accuracy", "must_not_worsen": {}, "minimum_items": 12}},
    }
    checkout = make_checkout(tmp_path / "checkout", tiny_model, changes)
    write_rows(checkout / "data/raw/rows.jsonl", kind)
    done = command(checkout, sys.executable, "-m", "flows", "run")
    assert done.returncode == 0, done.stdout + done.stderr
    assert outcomes(done.stdout) == dict.fromkeys(STAGES, "Ran")
    assert "AutoModelForSequenceClassification opens it" in done.stdout + done.stderr
    scores = json.loads((checkout / artifacts.metrics("evaluation")).read_text())
    assert scores[f"base.{metric}"] == 0.5
    assert scores[f"candidate.{metric}"] > 0.7
    assert scores["candidate.reward_calibration"] < scores["base.reward_calibration"]
    verdict = json.loads((checkout / artifacts.EVALUATION_VERDICT).read_text())
    assert (verdict["primary"], verdict["verdict"]) == (metric, "promote")
    page = (checkout / artifacts.report("evaluation")).read_text(encoding="utf-8")
    assert "no model was asked for answers" in page
    from transformers import AutoModelForSequenceClassification

    model = AutoModelForSequenceClassification.from_pretrained(checkout / artifacts.RELEASE / "model")
    assert model.config.num_labels == 1
    card = (checkout / artifacts.RELEASE / "README.md").read_text(encoding="utf-8")
    assert "pipeline_tag: text-classification" in card
    assert "by training's reward `model` over it" in card
