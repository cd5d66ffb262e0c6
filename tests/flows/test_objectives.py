"""Objectives that are not about answers go through the seven stages: documents, vectors, a teacher that changes."""

from __future__ import annotations

import json
import random
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from flows.pipeline import STAGES
from flows.wiring import artifacts
from tests.flows.small import SYLLABLES, outcomes
from tests.flows.whole import command, make_checkout

pytestmark = pytest.mark.slow

HEPTUNE = (sys.executable, "-m", "flows")
EMPTY = re.compile(r"<tbody>\s*</tbody>|<ul>\s*</ul>|<figure>\s*</figure>|<td>nan</td>|>None<")


def write_documents(path: Path) -> None:
    """Documents about made-up places, of which no two say the same."""
    draw = random.Random(0)

    def word() -> str:
        return "".join(draw.choices(SYLLABLES, k=2))

    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as stream:
        for _ in range(300):
            sentences = [
                f"The {word()} of {word()} {draw.choice(('opens', 'closes'))} at {draw.randint(1, 12)} and has "
                f"{draw.randint(2, 99)} {word()} for {word()}."
                for _ in range(draw.randint(3, 9))
            ]
            stream.write(json.dumps({"text": " ".join(sentences)}) + "\n")


def run_all(checkout: Path) -> dict[str, dict[str, Any]]:
    """The figures of all stages, once `heptune run` has run them and no page is found to have an empty part."""
    done = command(checkout, *HEPTUNE, "run")
    assert done.returncode == 0, done.stdout + done.stderr
    assert outcomes(done.stdout) == dict.fromkeys(STAGES, "Ran")
    for name in STAGES:
        page = (checkout / artifacts.report(name)).read_text(encoding="utf-8")
        assert not EMPTY.search(page), f"{name}: {EMPTY.findall(page)}"
    return {name: json.loads((checkout / artifacts.metrics(name)).read_text()) for name in STAGES}


def test_documents(tiny_model: Path, tmp_path: Path) -> None:
    gate = {"primary": "bits_per_byte", "must_not_worsen": {"loss": 0.05}, "minimum_items": 24}
    changes = {
        "data_preparation": {"sources": [{"name": "jsonl", "path": "data/raw/documents.jsonl", "title": "documents"}]},
        "training_setup": {"objective": {"name": "pretraining"}, "learning_rate": 1e-2, "packing": "bfd"},
        "evaluation": {"items": 24, "metrics": ["loss", "perplexity", "bits_per_byte"], "gate": gate},
    }
    checkout = make_checkout(tmp_path / "checkout", tiny_model, changes)
    write_documents(checkout / "data/raw/documents.jsonl")
    found = run_all(checkout)
    scores = found["evaluation"]
    assert 1 < scores["candidate.perplexity"] < scores["base.perplexity"]
    assert 0 < scores["candidate.bits_per_byte"] < scores["base.bits_per_byte"]
    assert json.loads((checkout / artifacts.EVALUATION_VERDICT).read_text())["primary"] == "bits_per_byte"
    assert "(empty)" not in (checkout / artifacts.report("evaluation")).read_text(encoding="utf-8")
    assert "nothing was answered" in (checkout / artifacts.report("evaluation")).read_text(encoding="utf-8")
    card = (checkout / artifacts.RELEASE / "README.md").read_text(encoding="utf-8")
    assert "chat template" in card


def test_vectors(tiny_model: Path, tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer

    objective = {
        "name": "contrastive",
        "pairs": "labels",
        "pooling": "last",
        "negatives": {"source": "mined", "count": 1},
    }
    gate = {"primary": "reciprocal_rank", "must_not_worsen": {}, "minimum_items": 24}
    changes = {
        "training_setup": {
            "method": {"name": "full"},
            "objective": objective,
            "packing": "none",
            "learning_rate": 1e-3,
            "batch_size": 16,
            "max_steps": 60,
        },
        "evaluation": {"items": 30, "metrics": ["reciprocal_rank", {"name": "recall_at", "k": 3}], "gate": gate},
    }
    checkout = make_checkout(tmp_path / "checkout", tiny_model, changes)
    found = run_all(checkout)
    scores = found["evaluation"]
    for metric in ("reciprocal_rank", "recall_at"):
        assert all(0 < scores[f"{model}.{metric}"] <= 1 for model in ("base", "candidate"))
    page = (checkout / artifacts.report("evaluation")).read_text(encoding="utf-8")
    assert "Loss by item" not in page
    assert "read without a chat template; nothing was answered" in page
    embedder = SentenceTransformer(str(checkout / artifacts.RELEASE / "model"), device="cpu")
    (pooling,) = (module for module in embedder if hasattr(module, "pooling_mode"))
    assert pooling.pooling_mode == "lasttoken"
    assert embedder.encode(["My parcel is late."]).shape == (1, 64)


def test_a_teacher_that_changes(tiny_model: Path, tmp_path: Path) -> None:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    def write_teacher(seed: int) -> None:
        torch.manual_seed(seed)
        config = AutoConfig.from_pretrained(tiny_model)
        config.num_hidden_layers, config.initializer_range = 3, 0.3
        AutoModelForCausalLM.from_config(config).save_pretrained(folder)
        AutoTokenizer.from_pretrained(tiny_model).save_pretrained(folder)

    objective = {
        "name": "gkd",
        "teacher": str(artifacts.TEACHER / "large"),
        "on_policy": 0.5,
        "answers": {"max_new_tokens": 8},
    }
    changes = {"training_setup": {"objective": objective, "packing": "none", "learning_rate": 5e-3}}
    checkout = make_checkout(tmp_path / "checkout", tiny_model, changes)
    folder = checkout / artifacts.TEACHER / "large"
    write_teacher(1)
    found = run_all(checkout)
    figures = found["fine_tuning"]
    assert figures["validation_divergence"] < figures["validation_divergence_before"]
    assert found["evaluation"]["candidate.loss"] > 0
    assert "Answers while it was trained" in (checkout / artifacts.report("fine_tuning")).read_text(encoding="utf-8")
    assert command(checkout, "dvc", "status").stdout.strip() == "Data and pipelines are up to date."
    first = json.loads((checkout / artifacts.TUNED / "manifest.json").read_text())["files"]
    # Another teacher: DVC says so, `heptune run` foresees it, and what is trained is another model.
    write_teacher(2)
    status = command(checkout, "dvc", "status", "fine_tuning").stdout
    assert re.search(r"modified:\s+models/teacher", status), status
    foreseen = json.loads(command(checkout, *HEPTUNE, "run", "--dry-run", "--json").stdout)
    states = {stage["stage"]: stage for stage in foreseen["stages"]}
    assert states["fine_tuning"]["run"] == "yes"
    assert any("models/teacher" in reason for reason in states["fine_tuning"]["reasons"])
    done = command(checkout, "dvc", "repro", "fine_tuning")
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads((checkout / artifacts.TUNED / "manifest.json").read_text())["files"] != first
