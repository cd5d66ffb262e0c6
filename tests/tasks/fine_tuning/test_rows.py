"""Which tokens carry loss, against a conversation tokenized by hand, and what is left out, with counts."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from transformers import AutoTokenizer

from tasks.contracts.balance import Balance
from tasks.contracts.errors import PipelineError
from tasks.contracts.records import ENCODED, EXAMPLES
from tasks.fine_tuning.rows import tokenize_splits
from tasks.training.rows import ANSWER_CUT, NO_ANSWER, keep_supervised
from tests.tiny import example_rows

CONVERSATION = [
    ("system", "Be brief."),
    ("user", "Lost a coat, 42."),
    ("assistant", "Where?"),
    ("user", "In the hall."),
    ("assistant", "We look for it."),
]


def examples(*conversations: list[tuple[str, str]]) -> pa.Table:
    rows = []
    for number, turns in enumerate(conversations, 1):
        messages = [{"role": role, "content": content} for role, content in turns]
        rows.append({"id": f"{number:016x}", "messages": messages, "source": "s", "row": number, "cluster": "c"})
    return pa.Table.from_pylist(rows, schema=EXAMPLES)


def test_a_row_that_the_template_refuses_is_counted_with_its_reason(initial: Path) -> None:
    judged = [("judge", "Fair."), *CONVERSATION]
    splits = tokenize_splits(examples(judged, CONVERSATION, judged), examples(judged, CONVERSATION), initial, 128, 8)
    reason = "the chat template refuses it (turn 1 (judge): unknown role: judge)"
    assert (len(splits.train), splits.train.dropped) == (1, {reason: 2})
    assert (len(splits.validation), splits.validation.dropped) == (1, {reason: 1})
    with pytest.raises(PipelineError, match="2 x the chat template refuses it"):
        tokenize_splits(examples(judged, judged), examples(CONVERSATION), initial, 128, 8)


def test_loss_is_on_all_answers_with_their_ends_and_on_nothing_else(initial: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(initial)
    start, end = tokenizer.bos_token_id, tokenizer.eos_token_id
    tokens, labels = [start], [-100]
    for role, content in CONVERSATION:
        inner = tokenizer.encode(content, add_special_tokens=False)
        assert len(inner) > 1
        tokens += [tokenizer.convert_tokens_to_ids(f"<|{role}|>"), *inner, end]
        labels += [-100, *([*inner, end] if role == "assistant" else [-100] * (len(inner) + 1))]
    splits = tokenize_splits(examples(CONVERSATION), examples(CONVERSATION), initial, 128, 8)
    for rows in (splits.train, splits.validation):
        found_tokens, found_labels = rows.row(0)
        assert found_tokens.tolist() == tokens
        assert found_labels.tolist() == labels


def test_weights_and_classes_follow_the_rows_that_are_kept(initial: Path) -> None:
    silent = [(role, "") if role == "assistant" else (role, content) for role, content in CONVERSATION]
    table = examples(CONVERSATION, silent, CONVERSATION, CONVERSATION)
    table = table.set_column(
        table.schema.get_field_index("label"), EXAMPLES.field("label"), pa.array(["b", "a", None, "a"])
    )
    counts = {"a": 2, "b": 1}
    balance = Balance(
        classes=["a", "b"], before=counts, after=counts, weighting="inverse", weights={"a": 0.5, "b": 2.0},
        costs=None, batches="stratified", vectors=None,
    )  # fmt: skip
    kept = tokenize_splits(table, table, initial, 128, 8, balance).train
    assert kept.weights is not None
    assert kept.classes is not None
    pairs = list(zip(kept.weights.tolist(), kept.classes.tolist(), strict=True))
    assert pairs[0] == (2.0, 1)
    assert pairs[-2:] == [(1.0, -1), (0.5, 0)]
    assert len(pairs) == len(kept)
    plain = balance.model_copy(update={"weights": None, "batches": "any"})
    rows = tokenize_splits(table, table, initial, 128, 8, plain).train
    assert (rows.weights, rows.classes) == (None, None)


def test_rows_without_loss_are_left_out_with_their_reason_and_long_ones_are_cut() -> None:
    rows = [
        # whole; the label of the first token can never be predicted and is taken away
        {"input_ids": [5, 6, 7], "labels": [5, -100, 7], "full_length": 3},
        # no answer at all
        {"input_ids": [5, 6], "labels": [-100, -100], "full_length": 2},
        # only the first token is marked: nothing to learn
        {"input_ids": [5, 6], "labels": [5, -100], "full_length": 2},
        # an empty row
        {"input_ids": [], "labels": [], "full_length": 0},
        # cut before the answer began
        {"input_ids": [5, 6, 7, 8], "labels": [-100] * 4, "full_length": 9},
        # cut inside the answer
        {"input_ids": [5, 6, 7, 8], "labels": [-100, -100, 7, 8], "full_length": 6},
    ]
    table = pa.Table.from_pylist([{"id": str(i), "place": i, **row} for i, row in enumerate(rows)], schema=ENCODED)
    kept = keep_supervised(table, 4)
    assert len(kept) == 2
    assert [kept.row(i)[0].tolist() for i in range(2)] == [[5, 6, 7], [5, 6, 7, 8]]
    assert [kept.row(i)[1].tolist() for i in range(2)] == [[-100, -100, 7], [-100, -100, 7, 8]]
    assert kept.dropped == {ANSWER_CUT: 1, NO_ANSWER: 3}
    assert kept.cut == 1
    assert kept.supervised == 3
    assert kept.lengths.tolist() == [3, 4]


def test_sliced_tables_keep_their_own_rows() -> None:
    rows = [
        {"id": str(n), "place": n, "input_ids": [n, n + 1], "labels": [-100, n + 1], "full_length": 2} for n in range(6)
    ]
    kept = keep_supervised(pa.Table.from_pylist(rows, schema=ENCODED).slice(2, 3), 8)
    assert [kept.row(i)[0].tolist() for i in range(len(kept))] == [[2, 3], [3, 4], [4, 5]]


def test_nothing_to_learn_from_is_refused_with_the_reason(initial: Path) -> None:
    long = [("user", "word " * 60), ("assistant", "Yes.")]
    with pytest.raises(PipelineError, match=r"none of 2 .* \(2 x the answer is beyond max_tokens.*max_tokens"):
        tokenize_splits(examples(long, long), examples(), initial, 32, 8)


def test_validation_takes_only_the_first_rows(initial: Path) -> None:
    table = pa.Table.from_pylist(example_rows(20), schema=EXAMPLES)
    splits = tokenize_splits(table, table, initial, 128, 7)
    assert len(splits.validation) == 7
    assert splits.figures["rows"] == len(splits.train) == 20
    assert splits.figures["tokens"] == int(splits.train.lengths.sum())
