"""Tokens are counted with the real tokenizer and template, and only tokens that carry loss are supervised."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tasks.contracts.records import EXAMPLES
from tasks.language_models.encoding import IGNORED, encode_examples
from tasks.language_models.folder.model_folder import load_tokenizer
from tasks.training.rows import ANSWER_CUT
from tasks.training_setup.counts import count_tokens


def rows(*conversations: list[tuple[str, str]]) -> pa.Table:
    return pa.Table.from_pylist(
        [
            {
                "id": str(number),
                "messages": [{"role": role, "content": content} for role, content in turns],
                "source": "s",
                "row": number,
                "label": None,
                "cluster": str(number),
            }
            for number, turns in enumerate(conversations)
        ],
        schema=EXAMPLES,
    )


# Digits are single tokens: <start> <user> 1 2 3 <end> <assistant> 4 5 <end> are 10 tokens, 3 of them supervised.
SHORT = [("user", "123"), ("assistant", "45")]
TWO_TURNS = [("user", "1"), ("assistant", "2"), ("user", "3"), ("assistant", "456")]
LONG_QUESTION = [("user", "1" * 50), ("assistant", "2")]


def test_by_hand(initial: Path) -> None:
    found = count_tokens(rows(SHORT, TWO_TURNS), rows(SHORT), initial, 64)
    assert list(found.lengths) == [10, 1 + 3 + 3 + 3 + 5]
    assert (found.rows, found.examples, found.cut) == (2, 2, 0)
    assert found.tokens == 25
    assert found.supervised_tokens == 3 + (2 + 4)
    assert found.validation_examples == 1


def test_a_cut_row_keeps_the_head_and_may_lose_its_answer(initial: Path) -> None:
    found = count_tokens(rows(SHORT, LONG_QUESTION, TWO_TURNS), rows(LONG_QUESTION), initial, 8)
    # SHORT keeps one supervised token of three, TWO_TURNS its first answer and the end of that turn.
    assert (found.rows, found.examples, found.cut) == (3, 2, 2)
    assert (found.longer, found.without_loss, found.dropped) == (3, 1, {ANSWER_CUT: 1})
    assert list(found.lengths) == [8, 8]
    assert found.supervised_tokens == 1 + 2
    assert found.validation_examples == 0
    assert list(found.full_lengths) == [10, 56, 15]


def test_no_rows(initial: Path) -> None:
    found = count_tokens(rows(), rows(), initial, 64)
    assert (found.rows, found.examples, found.tokens, found.supervised_tokens) == (0, 0, 0, 0)


TEXT = st.text(st.characters(codec="utf-8", exclude_characters="<|>"), min_size=1, max_size=20)


@settings(max_examples=40, deadline=None)
@given(turns=st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=4))
@example(turns=[("0", "\r"), ("0", "0")])
def test_labels_are_the_answers_and_their_ends(initial: Path, turns: list[tuple[str, str]]) -> None:
    tokenizer = load_tokenizer(initial)
    conversation = [pair for user, answer in turns for pair in (("user", user), ("assistant", answer))]
    row = encode_examples(rows(conversation), tokenizer, 10_000).to_pylist()[0]
    supervised = [label for label in row["labels"] if label != IGNORED]
    assert tokenizer.decode(supervised) == "".join(f"{answer}<|end|>" for _, answer in turns)
    assert all(label in (IGNORED, token) for token, label in zip(row["input_ids"], row["labels"], strict=True))
    assert row["full_length"] == len(row["input_ids"])
