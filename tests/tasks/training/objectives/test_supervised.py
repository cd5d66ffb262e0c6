"""Which tokens carry loss: every answer, the last one of each conversation, or all tokens."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from tasks.contracts.records import ANSWER_SETS, EXAMPLES, UNTRAINED
from tasks.language_models.folder.model_folder import load_tokenizer
from tasks.training.objectives.data import Tokenization, count_kinds, split_tables
from tasks.training.objectives.supervised import Supervised
from tasks.training.rows import TokenizedRows
from tasks.training_setup.params import TrainingSetup

TURNS = [("user", "One?"), ("assistant", "First."), ("user", "Two?"), ("assistant", "Second.")]


def examples(untrained: list[int] | None = None) -> pa.Table:
    messages = [{"role": role, "content": content} for role, content in TURNS]
    row = {"id": "a", "messages": messages, "source": "s", "row": 1, "label": None, "cluster": "a"}
    if untrained is None:
        return pa.Table.from_pylist([row], schema=EXAMPLES)
    return pa.Table.from_pylist([{**row, "untrained": untrained}], schema=EXAMPLES.append(UNTRAINED))


def tokenize(objective: Supervised, table: pa.Table, initial: Path) -> TokenizedRows:
    return objective.tokenize(split_tables(table, None, "train"), Tokenization(load_tokenizer(initial), 128))


def supervised_text(rows: TokenizedRows, initial: Path) -> str:
    tokens, labels = rows.row(0)
    return str(load_tokenizer(initial).decode(tokens[labels != -100].tolist(), skip_special_tokens=True))


def test_which_tokens_carry_loss(initial: Path) -> None:
    def text(tokens: str, untrained: list[int] | None = None) -> str:
        rows = tokenize(Supervised.model_validate({"tokens": tokens}), examples(untrained), initial)
        return supervised_text(rows, initial)

    assert ("First." in text("answers"), "Second." in text("answers")) == (True, True)
    assert "Two?" not in text("answers")
    assert "First." not in text("answers", untrained=[1])  # a turn with `train: false`
    assert "Second." in text("last_answer")
    assert "First." not in text("last_answer")
    assert "First." not in text("last_answer", untrained=[1])
    everything = text("all")
    assert all(content in everything for _, content in TURNS)
    # The first token has nothing before it that could predict it.
    rows = tokenize(Supervised(tokens="all"), examples(), initial)
    assert rows.supervised == len(rows.tokens) - 1


def test_what_the_tables_offer_is_counted_by_kind() -> None:
    def answer_set(split: str, *scores: float) -> dict[str, object]:
        answers = [{"turns": [{"role": "assistant", "content": str(s)}], "score": s} for s in scores]
        return {"id": "a", "split": split, "prompt": [], "answers": answers, "source": "s", "row": 1, "cluster": "a"}

    sets = [answer_set("train", 1, 0), answer_set("train", 3, 2, 1), answer_set("train", 1, 1), answer_set("train", 0)]
    table = pa.Table.from_pylist([answer_set("test", 1, 0), *sets], schema=ANSWER_SETS)
    found = count_kinds(split_tables(examples(), table, "train"))
    assert (found["conversations"], found["pairs"], found["judged"]) == (1, 2, 3)
    assert count_kinds(split_tables(examples(), None, "train"))["pairs"] == 0


def test_an_objective_is_a_section() -> None:
    with pytest.raises(ValueError, match=r'found "supervised"; expected keys with values: write \{name: supervised\}'):
        TrainingSetup.model_validate({"objective": "supervised"})
