"""Documents are trained whole, conversations beside them or not, and what is left out is counted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tasks.contracts.errors import PipelineError
from tasks.contracts.records import EXAMPLES
from tasks.language_models.encoding import IGNORED
from tasks.language_models.folder.model_folder import load_tokenizer
from tasks.training.objectives.data import Tokenization, count_kinds, split_tables
from tasks.training.objectives.pretraining import CONVERSATION, Pretraining
from tasks.training.rows import TokenizedRows
from tests.tiny import example_rows

DOCUMENTS = ["The museum opens at nine. " * 20, "A stone in the river."]


def mixed_table(conversations: int = 3) -> pa.Table:
    rows: list[dict[str, Any]] = [
        {"id": f"{n:016d}", "messages": [{"role": "assistant", "content": text}], "source": "docs", "row": n + 1}
        | {"label": None, "cluster": f"{n:016d}"}
        for n, text in enumerate(DOCUMENTS)
    ]
    chats = example_rows(conversations)
    return pa.Table.from_pylist([*chats[:1], *rows, *chats[1:]], schema=EXAMPLES)


def tokenize(initial: Path, table: pa.Table, weights: np.ndarray | None = None, **params: Any) -> TokenizedRows:
    how = Tokenization(load_tokenizer(initial), 64, weights=weights)
    return Pretraining(**params).tokenize(split_tables(table, None, "train"), how)


def supervised_text(initial: Path, rows: TokenizedRows) -> str:
    return str(load_tokenizer(initial).decode(rows.labels[rows.labels != IGNORED].tolist(), skip_special_tokens=True))


@pytest.mark.parametrize("blocks", ["document", "wrapped"])
def test_all_of_the_documents_is_supervised_and_no_template(initial: Path, blocks: Any) -> None:
    rows = tokenize(initial, mixed_table(), blocks=blocks)
    assert supervised_text(initial, rows) == "".join(DOCUMENTS)
    assert rows.dropped == {CONVERSATION: 3}
    assert rows.cut == 0
    assert rows.lengths.max() == 64
    assert not len(rows.find_unsupervised())


def test_conversations_are_trained_beside_as_they_are_served(initial: Path) -> None:
    rows = tokenize(initial, mixed_table(), conversations="supervised")
    assert not rows.dropped
    text = supervised_text(initial, rows)
    assert all(document in text for document in DOCUMENTS)
    assert text.count("We will help with") == 3
    assert "Question about" not in text
    assert rows.ids is not None
    assert len(rows.ids) == len(rows)


def test_weights_go_with_their_rows_and_not_into_wrapped_ones(initial: Path) -> None:
    weights = np.array([1.0, 2.0, 3.0, 4.0, 5.0], dtype=np.float32)
    rows = tokenize(initial, mixed_table(), weights, conversations="supervised")
    assert rows.weights is not None
    assert rows.ids is not None
    long = sum(name == f"{0:016d}" for name in rows.ids)
    assert rows.weights.tolist() == [*[2.0] * long, 3.0, 1.0, 4.0, 5.0]
    with pytest.raises(PipelineError, match="set blocks: document"):
        tokenize(initial, mixed_table(), weights, blocks="wrapped")


def test_documents_are_counted_apart_from_conversations() -> None:
    counts = count_kinds(split_tables(mixed_table(), None, "train"))
    assert (counts["texts"], counts["conversations"]) == (2, 5)
