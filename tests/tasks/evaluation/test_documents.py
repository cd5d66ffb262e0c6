"""Held-out documents are scored whole and asked nothing; metrics of answers do not count them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tasks.contracts.records import EXAMPLES, PREDICTIONS, REQUESTS
from tasks.contracts.tables import read_table, write_table
from tasks.deployment.baseline import write_baseline
from tasks.deployment.parity import begin_document, choose_prompts
from tasks.evaluation.items import select_items
from tasks.evaluation.metrics.likelihoods.bits_per_byte import BitsPerByte
from tasks.evaluation.metrics.likelihoods.loss import Loss
from tasks.evaluation.metrics.likelihoods.perplexity import Perplexity
from tasks.evaluation.metrics.metric import Evidence
from tasks.evaluation.metrics.words.exact_match import ExactMatch
from tasks.evaluation.outcomes import AnswerSettings, answer_with_base
from tasks.evaluation.publish import write_predictions
from tasks.evaluation.report.background import Background
from tasks.evaluation.report.changes import find_changes
from tasks.evaluation.report.page import write_report
from tasks.evaluation.scoring import Scoreboard, score_outcomes
from tasks.evaluation.slices.groups import group_items
from tasks.evaluation.slices.scores import score_slices
from tasks.evaluation.verdict import check_metrics, decide
from tasks.language_models.folder.model_folder import load_tokenizer
from tests.tasks.fine_tuning.small import make_initial
from tests.tiny import example_rows, make_tiny_model

METRICS = (Loss(), Perplexity(), BitsPerByte(), ExactMatch())


@pytest.fixture(scope="module")
def initial(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_initial(make_tiny_model(tmp_path_factory.mktemp("documents") / "initial"))


def write_test(path: Path, conversations: int = 0) -> Path:
    rows: list[dict[str, Any]] = [
        {"id": f"{n:016d}", "messages": [{"role": "assistant", "content": f"A stone in river {n}. " * (n % 4 + 1)}]}
        | {"source": "docs", "row": n + 1, "label": None, "cluster": f"{n:016d}"}
        for n in range(12)
    ]
    write_table(pa.Table.from_pylist(rows + example_rows(conversations), schema=EXAMPLES), path, EXAMPLES)
    return path


def score(test: Path, initial: Path) -> Scoreboard:
    selected = select_items(test, 100, initial, None, documents=True)
    evidence = Evidence(selected.items, None)
    check_metrics(evidence, METRICS, True)
    base = answer_with_base(selected.items, initial, AnswerSettings(8, 16, device="cpu"))
    candidate = type(base)(**{**vars(base), "model": "candidate", "losses": base.losses - 1.0})
    return score_outcomes(evidence, [base, None, candidate], METRICS, 1000, 0.95, 0.8, 0)


def test_documents_alone_are_judged_by_what_reads_no_answers(initial: Path, tmp_path: Path) -> None:
    test = write_test(tmp_path / "test.parquet")
    board = score(test, initial)
    assert board.not_applicable == {"exact_match": "the held-out items are documents, which have no answers"}
    outcome = board.outcomes["base"]
    assert outcome.answers == [""] * 12
    bytes_ = sum(len(item.reference.encode()) for item in board.items)
    nats = float(np.sum(outcome.losses * outcome.tokens))
    assert board.estimates["base", "bits_per_byte"].value == pytest.approx(nats / math.log(2) / bytes_)
    assert board.estimates["base", "perplexity"].value == pytest.approx(math.exp(nats / outcome.tokens.sum()))
    verdict = decide(board, "intent_accuracy", 10, {"exact_match": 0.1, "bits_per_byte": 0.0}, None)
    assert verdict.verdict == "promote"
    assert verdict.primary == "loss"
    assert any("exact_match" in reason and "documents" in reason for reason in verdict.reasons)
    find_changes(board, "loss")
    page = tmp_path / "index.html"
    selected = select_items(test, 100, initial, None, documents=True)
    groupings = group_items(board.items, ("source", "label", "length"))
    assert groupings.missing == {"label": "no item has a label"}
    slices = score_slices(board, "loss", groupings.found, 1000, 0)
    settings = {"gate": {"minimum_items": 10, "must_not_worsen": {"bits_per_byte": 0.0}}, "examples": 3}
    write_report(selected, board, verdict, groupings, slices, Background(), settings, [], page)
    assert "which have no answers" in page.read_text(encoding="utf-8")
    predictions = tmp_path / "predictions.parquet"
    write_predictions(board, predictions)
    assert read_table(predictions, PREDICTIONS).num_rows == 24
    # Nothing was asked, so there is nothing to compare requests with.
    assert write_baseline(predictions, initial, "heptune", tmp_path / "baseline.parquet") == {"rows": 0}
    assert read_table(tmp_path / "baseline.parquet", REQUESTS).num_rows == 0


def test_beside_conversations_documents_count_where_no_answer_is_read(initial: Path, tmp_path: Path) -> None:
    board = score(write_test(tmp_path / "test.parquet", conversations=6), initial)
    weights = board.scores["base", "exact_match"].weights
    assert weights.tolist() == [float(bool(item.prompt)) for item in board.items]
    assert weights.sum() == 6
    assert (board.scores["base", "loss"].weights > 0).all()


def test_without_the_objective_documents_are_no_items(initial: Path, tmp_path: Path) -> None:
    selected = select_items(write_test(tmp_path / "test.parquet", conversations=6), 100, initial, None)
    assert (len(selected.items), selected.unanswerable) == (6, 12)


def test_a_release_of_documents_is_compared_on_their_beginnings(initial: Path, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(initial)
    chosen = choose_prompts(write_test(tmp_path / "documents.parquet"), tokenizer, 256, 5, 8)
    assert len(chosen.names) == 5
    assert all(turns[0]["role"] == "assistant" for turns in chosen.conversations)
    mixed = choose_prompts(write_test(tmp_path / "mixed.parquet", conversations=6), tokenizer, 256, 50, 8)
    assert all(turns[-1]["role"] == "user" for turns in mixed.conversations)
    assert begin_document("A stone in the river, and more.") == "A stone in the"
    assert len(begin_document("x" * 5000)) == 400
