"""Items that a training row gives away stop the evaluation, counted by how."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tasks.contracts.errors import PipelineError
from tasks.evaluation.held_out.seen import refuse_seen_items
from tasks.evaluation.items import make_item
from tests.tiny import example_rows, write_examples


def test_unseen_items_pass(tmp_path: Path) -> None:
    rows = example_rows(30)
    train = write_examples(tmp_path / "train.parquet", rows[10:])
    assert refuse_seen_items([make_item(row) for row in rows[:10]], train) == {"compared": 20}


def test_seen_items_are_counted_word_for_word_by_prompt_and_by_cluster(tmp_path: Path) -> None:
    rows = example_rows(30)
    train = write_examples(tmp_path / "train.parquet", rows[10:])
    items = [make_item(row) for row in rows[:10]]
    exact = make_item(rows[10])
    shouted = "QUESTION " + str(rows[11]["messages"][0]["content"])[9:]  # type: ignore[index]
    same_prompt = replace(items[1], prompt=({"role": "user", "content": f" {shouted} "},))
    near = replace(items[2], cluster=str(rows[12]["cluster"]))
    with pytest.raises(PipelineError) as caught:
        refuse_seen_items([exact, same_prompt, near, *items[3:]], train)
    said = str(caught.value)
    assert "3 of 10 held-out items were seen in training" in said
    assert "1 word for word, 1 with the same prompt, 1 as near duplicates" in said
    assert "`heptune run data_preparation`" in said


def test_documents_without_a_prompt_are_told_apart_by_their_text(tmp_path: Path) -> None:
    train = write_examples(tmp_path / "train.parquet", [_document("one"), _document("two")])
    fresh = make_item(_document("three"))
    assert refuse_seen_items([fresh], train) == {"compared": 2}
    with pytest.raises(PipelineError, match="1 of 2 held-out items were seen in training"):
        refuse_seen_items([fresh, make_item(_document("two"))], train)


def _document(text: str) -> dict[str, object]:
    turns = [{"role": "assistant", "content": text}]
    return {"id": text, "messages": turns, "source": "x", "row": 1, "label": None, "cluster": text}
