"""Every token of every document is supervised once, whatever the length of a row."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.contracts.errors import PipelineError
from tasks.contracts.records import EXAMPLES
from tasks.language_models.document_rows import encode_documents
from tasks.language_models.documents import cut_row, document_ids
from tasks.language_models.encoding import IGNORED, encode_document, encode_prompt
from tasks.language_models.generation import score_references

TEXTS = ["The museum opens at nine.", "", "A story of <|end|> and more. " * 12, "stone"]


@pytest.fixture(scope="module")
def tokenizer(tiny_model: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny_model)


def table(texts: list[str]) -> pa.Table:
    rows = [
        {"id": f"{n:016d}", "messages": [{"role": "assistant", "content": text}], "source": "docs", "row": n + 1}
        | {"label": None, "cluster": f"{n:016d}"}
        for n, text in enumerate(texts)
    ]
    return pa.Table.from_pylist(rows, schema=EXAMPLES)


def test_a_document_is_its_tokens_between_a_beginning_and_the_end_of_text(tokenizer: Any) -> None:
    (ids,) = document_ids(tokenizer, ["stone <|end|> river"])
    assert ids[0] == tokenizer.bos_token_id
    assert ids[-1] == tokenizer.eos_token_id
    assert tokenizer.eos_token_id not in ids[1:-1], "a control token that is spelled out is text"
    assert tokenizer.decode(ids[1:-1]) == "stone <|end|> river"


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 9), min_size=2, max_size=40), st.integers(2, 12))
def test_rows_lose_and_repeat_no_token(tokens: list[int], size: int) -> None:
    rows = cut_row(tokens, size)
    assert [token for row in rows for token in row[1:]] == tokens[1:]
    assert all(2 <= len(row) <= size for row in rows)


@pytest.mark.parametrize("blocks", ["document", "wrapped"])
def test_every_token_carries_loss_once(tokenizer: Any, blocks: Any) -> None:
    encoded = encode_documents(table(TEXTS), tokenizer, 32, blocks)
    documents = document_ids(tokenizer, TEXTS)
    supervised = [t for row in encoded["labels"].to_pylist() for t in row if t != IGNORED]
    assert supervised == [token for ids in documents for token in ids[1:]]
    rows = encoded["input_ids"].to_pylist()
    assert max(map(len, rows)) == 32
    for row, labels in zip(rows, encoded["labels"].to_pylist(), strict=True):
        assert labels == [IGNORED, *row[1:]]
    places = encoded["place"].to_pylist()
    assert places == sorted(places)
    if blocks == "wrapped":
        assert all(len(row) == 32 for row in rows[:-1])
    else:
        assert set(places) == {0, 1, 2, 3}
        assert all(
            length == len(documents[place])
            for place, length in zip(places, encoded["full_length"].to_pylist(), strict=True)
        )


def test_no_documents_are_no_rows(tokenizer: Any) -> None:
    assert encode_documents(table([]), tokenizer, 32).num_rows == 0


def test_a_tokenizer_without_an_end_of_text_is_refused(tokenizer: Any) -> None:
    class Endless:
        eos_token_id = None

    with pytest.raises(PipelineError, match="no end-of-text token"):
        document_ids(Endless(), ["stone"])


def test_a_single_turn_of_the_assistant_is_a_text_to_be_continued(tokenizer: Any) -> None:
    prompt = encode_prompt(tokenizer, [{"role": "assistant", "content": "stone river"}])
    before, text = encode_document(tokenizer, "stone river")
    assert prompt == [*before, *text[:-1]]


def test_a_document_longer_than_the_context_is_scored_whole(tiny_model: Path, tokenizer: Any) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32).eval()
    long = "The stone in the river. " * 60
    short, whole = score_references(model, tokenizer, [[], []], ["late fee", long], documents=True)
    before, text = encode_document(tokenizer, long)
    assert len(before + text) > 256
    assert whole.tokens == len(text)
    surprise = 0.0
    for row in cut_row([*before, *text], 256):
        with torch.no_grad():
            logits = model(torch.tensor([row])).logits[0, :-1]
        surprise += float(torch.nn.functional.cross_entropy(logits, torch.tensor(row[1:]), reduction="sum"))
    assert whole.mean == pytest.approx(surprise / len(text), rel=1e-4)
    assert short.tokens == len(encode_document(tokenizer, "late fee")[1])
    assert np.isfinite(short.mean)
