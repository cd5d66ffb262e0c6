"""Conversations that are longer than a row: what each policy keeps, by hand and over lengths."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from tasks.contracts.records import EXAMPLES, UNTRAINED
from tasks.language_models.encoding import IGNORED, encode_examples
from tasks.language_models.long_rows import OUTCOMES, LongRows
from tasks.training.rows import ANSWER_CUT, TOO_LONG, keep_supervised

CUTS: tuple[LongRows, ...] = ("truncate_left", "truncate_middle", "split")


@pytest.fixture(scope="module")
def tokenizer(tiny_model: Path) -> Any:
    """Its digits are single tokens: <start> <user> 1 2 <end> <assistant> 3 <end> are eight."""
    return AutoTokenizer.from_pretrained(tiny_model)


def examples(*conversations: list[tuple[str, str]], untrained: list[int] | None = None) -> pa.Table:
    rows = [
        {
            "id": str(number),
            "messages": [{"role": role, "content": content} for role, content in turns],
            "source": "s",
            "row": number,
            "cluster": "c",
        }
        for number, turns in enumerate(conversations)
    ]
    table = pa.Table.from_pylist(rows, schema=EXAMPLES)
    return (
        table
        if untrained is None
        else table.append_column(UNTRAINED, pa.array([untrained] * len(conversations), UNTRAINED.type))
    )


def written(tokenizer: Any, turns: list[tuple[str, str]], size: int, policy: LongRows, **marks: Any) -> list[str]:
    """The rows as text, what carries loss in brackets."""
    texts = []
    for row in encode_examples(examples(turns, **marks), tokenizer, size, policy).to_pylist():
        text = ""
        for token, label in zip(row["input_ids"], row["labels"], strict=True):
            piece = tokenizer.decode([token])
            text += piece if label == IGNORED else f"[{piece}]"
        texts.append(
            text.replace("][", "").replace("<|start|>", "").replace("<|end|>", ".")
            .replace("<|user|>", "U").replace("<|assistant|>", "A").replace("<|system|>", "S")
        )  # fmt: skip
    return texts


SEVERAL = [("system", "9"), ("user", "1"), ("assistant", "2"), ("user", "3"), ("assistant", "4"), ("user", "5"),
           ("assistant", "6")]  # fmt: skip
LONG_QUESTION = [("system", "9"), ("user", "1234567812345678"), ("assistant", "56")]
LONG_ANSWER = [("system", "9"), ("user", "1"), ("assistant", "23456782345678")]


@pytest.mark.parametrize(
    ("turns", "size", "policy", "rows"),
    [
        (SEVERAL, 17, "truncate_right", ["S9.U1.A[2.]U3.A[4.]U"]),
        (SEVERAL, 17, "truncate_left", ["S9.U3.A[4.]U5.A[6.]"]),
        (SEVERAL, 15, "truncate_left", ["S9.U5.A[6.]"]),
        (SEVERAL, 17, "truncate_middle", ["S9.U1.A[2.]U5.A[6.]"]),
        (SEVERAL, 17, "drop", [""]),
        (SEVERAL, 17, "split", ["S9.U1.A[2.]U3.A[4.]", "S9.U5.A[6.]"]),
        (SEVERAL, 15, "split", ["S9.U1.A[2.]", "S9.U3.A[4.]", "S9.U5.A[6.]"]),
        (SEVERAL, 22, "split", ["S9.U1.A[2.]U3.A[4.]U5.A[6.]"]),
        # The beginning of the question goes; its mark and the system turn stay.
        (LONG_QUESTION, 16, "truncate_left", ["S9.U345678.A[56.]"]),
        # The middle goes, with half a row or the last answer at the end.
        (LONG_QUESTION, 16, "truncate_middle", ["S9.U123678.A[56.]"]),
        (LONG_ANSWER, 16, "truncate_left", ["S9.U6[782345678.]"]),
        (LONG_ANSWER, 16, "truncate_middle", ["S9.5[6782345678.]"]),
        # Every token of the answer once, each with the one before it as context.
        (LONG_ANSWER, 16, "split", ["S9.U1.A[23456782]", "S9.U2[345678.]"]),
    ],
)
def test_by_hand(tokenizer: Any, turns: Any, size: int, policy: LongRows, rows: list[str]) -> None:
    assert written(tokenizer, turns, size, policy) == rows


def test_answers_that_are_context_stay_so_and_go_with_their_exchange(tokenizer: Any) -> None:
    assert written(tokenizer, SEVERAL, 17, "split", untrained=[2]) == ["S9.U1.A2.U3.A[4.]", "S9.U5.A[6.]"]
    assert written(tokenizer, SEVERAL, 17, "truncate_left", untrained=[4]) == ["S9.U3.A4.U5.A[6.]"]
    assert written(tokenizer, SEVERAL, 12, "truncate_left", untrained=[6]) == ["S9.U3.A[4.]"]


def test_every_long_conversation_is_counted_once(tokenizer: Any) -> None:
    table = examples(SEVERAL, [("user", "1"), ("assistant", "2")], LONG_QUESTION)
    found = {policy: keep_supervised(encode_examples(table, tokenizer, 16, policy), 16) for policy in OUTCOMES}
    assert {policy: (len(kept), kept.cut, dict(kept.dropped)) for policy, kept in found.items()} == {
        "truncate_right": (2, 1, {ANSWER_CUT: 1}),
        "truncate_left": (3, 2, {}),
        "truncate_middle": (3, 2, {}),
        "drop": (1, 0, {TOO_LONG: 2}),
        "split": (4, 2, {}),
    }


TEXT = st.text("0123456789", min_size=1, max_size=30)
CONVERSATION = st.tuples(st.none() | TEXT, st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=5))


@settings(max_examples=60, deadline=None)
@given(conversation=CONVERSATION, size=st.integers(8, 80))
def test_over_lengths(tokenizer: Any, conversation: Any, size: int) -> None:
    system, pairs = conversation
    turns = [("system", system)] if system else []
    turns += [turn for question, answer in pairs for turn in (("user", question), ("assistant", answer))]
    table = examples(turns)
    (whole,) = encode_examples(table, tokenizer, 10_000).to_pylist()
    tokens, end = whole["input_ids"], tokenizer.eos_token_id
    answers = [label for label in whole["labels"] if label != IGNORED]
    head = 0 if system is None else tokens.index(end) + 1
    for policy in CUTS:
        rows = encode_examples(table, tokenizer, size, policy).to_pylist()
        if len(tokens) <= size:
            assert rows == [whole]
            continue
        for row in rows:
            assert 0 < len(row["input_ids"]) <= size
            assert any(label != IGNORED for label in row["labels"][1:]), "all masked"
            kept = min(head, size // 4)
            assert row["input_ids"][:kept] == tokens[:kept], "the system turn is lost"
            assert all(label in (IGNORED, token) for token, label in zip(row["input_ids"], row["labels"], strict=True))
        learned = [label for row in rows for label in row["labels"] if label != IGNORED]
        if policy == "split":
            assert learned == answers
        else:
            assert len(rows) == 1
            assert rows[0]["labels"][-1] == end, "the end of the last answer is lost"
