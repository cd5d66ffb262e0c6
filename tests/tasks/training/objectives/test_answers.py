"""Answers as tokens: what pairs are made of a set, what is dropped and why, and what a cut leaves."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tasks.contracts.records import ANSWER_SETS, EXAMPLES
from tasks.fine_tuning.rows import tokenize_splits
from tasks.language_models.encoding import IGNORED
from tasks.language_models.folder.model_folder import load_tokenizer
from tasks.training.objectives import answers as reading
from tasks.training.objectives.answers import list_pairs, tokenize_judged, tokenize_pairs
from tasks.training.objectives.data import Tokenization
from tasks.training.objectives.preferences.dpo import Dpo
from tasks.training.rows import ANSWER_CUT, TOO_LONG, TokenizedRows
from tests.tasks.training.objectives.rows import answer_set
from tests.tiny import example_rows

(ROW,) = example_rows(1)
OTHERS = example_rows(3, seed=5)


def table(*sets: dict[str, Any]) -> pa.Table:
    return pa.Table.from_pylist(list(sets), schema=ANSWER_SETS)


def one(*answers: tuple[str, float]) -> pa.Table:
    return table(answer_set(ROW, "train", *answers))


def how(initial: Path, max_tokens: int = 96, long_rows: Any = "truncate_right") -> Tokenization:
    return Tokenization(load_tokenizer(initial), max_tokens, long_rows)


def supervised(rows: TokenizedRows, initial: Path) -> list[str]:
    tokenizer = load_tokenizer(initial)
    found = []
    for sequence in range(len(rows.offsets) - 1):
        tokens, labels = rows.row(sequence)
        found.append(tokenizer.decode(tokens[labels != IGNORED].tolist(), skip_special_tokens=True).strip())
    return found


def test_a_pair_is_two_sequences_with_one_prompt_and_loss_on_the_answers_alone(initial: Path) -> None:
    rows = tokenize_pairs(one(("Yes, now.", 1.0), ("No.", 0.0)), how(initial), "best")
    assert (len(rows), rows.per_item, len(rows.offsets)) == (1, 2, 3)
    assert supervised(rows, initial) == ["Yes, now.", "No."]
    (first, marks), (second, _) = rows.row(0), rows.row(1)
    prompt = int(np.argmax(marks != IGNORED))
    assert prompt > 5
    assert np.array_equal(first[:prompt], second[:prompt])
    assert rows.lengths.tolist() == [len(first) + len(second)]
    assert rows.columns["score"].tolist() == [1.0, 0.0]


def test_of_several_answers_the_best_with_each_or_every_two() -> None:
    answers = one(("a", 3.0), ("b", 2.0), ("c", 2.0), ("d", 1.0))

    def pairs(ranking: Any) -> tuple[list[str], Counter[str]]:
        dropped: Counter[str] = Counter()
        found = ["".join(side.turns[0]["content"] for side in pair) for pair in list_pairs(answers, ranking, dropped)]
        return found, dropped

    assert pairs("best") == (["ab", "ac", "ad"], Counter())
    assert pairs("all") == (["ab", "ac", "ad", "bd", "cd"], Counter({reading.TIED: 1}))


@pytest.mark.parametrize(
    ("answers", "reason"),
    [
        ([("Same.", 1.0), ("Same.", 0.0)], reading.EQUAL),
        ([("Fine.", 1.0), (" ", 0.0)], reading.EMPTY),
        ([("Fine.", 1.0), ("Good.", 1.0)], reading.TIED),
        ([("Fine.", 1.0)], reading.ALONE),
        ([("word " * 90, 1.0), ("word " * 91, 0.0)], reading.EQUAL_AFTER_CUT),
    ],
)
def test_what_cannot_be_compared_is_dropped_with_its_reason(
    initial: Path, answers: list[tuple[str, float]], reason: str
) -> None:
    rows = tokenize_pairs(one(*answers), how(initial, 64), "best")
    assert (len(rows), rows.dropped, len(rows.full_lengths)) == (0, {reason: 1}, 1)


def test_a_prompt_that_the_template_writes_differently_is_no_shared_prompt(
    initial: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As templates do that leave reasoning out of earlier turns."""
    plain = reading.encode_sides

    def encode(*arguments: Any) -> Any:
        found = plain(*arguments)
        found[1].tokens[2] += 1
        return found

    monkeypatch.setattr(reading, "encode_sides", encode)
    rows = tokenize_pairs(one(("Yes.", 1.0), ("No.", 0.0)), how(initial), "best")
    assert rows.dropped == {reading.PROMPTS_DIFFER: 1}


def test_what_is_dropped_is_told_of_so_many_pairs_and_not_of_conversations(
    initial: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Of four prompts one has three answers, which are two pairs."""
    good, bad = ("Yes, now.", 1.0), ("No.", 0.0)
    sets = ([good, bad], [good, bad], [good, bad, ("Never.", 0.5)], [good, ("Yes, now.", 0.0)])
    answers = table(*(answer_set(row, "train", *each) for row, each in zip(example_rows(4), sets, strict=True)))
    conversations = pa.Table.from_pylist(example_rows(7), schema=EXAMPLES)
    tokenize_splits(conversations, conversations, initial, 96, 8, objective=Dpo(), answers=answers)
    assert "1 of 5 training pairs of answers are dropped: both answers are the same" in caplog.text


def test_a_long_side_loses_its_end_or_the_pair_is_left_out(initial: Path) -> None:
    answers = one(("Yes.", 1.0), ("no " * 100, 0.0))
    rows = tokenize_pairs(answers, how(initial, 64), "best")
    assert (len(rows), rows.cut, np.diff(rows.offsets).max()) == (1, 1, 64)
    assert supervised(rows, initial)[0] == "Yes."
    rows = tokenize_pairs(answers, how(initial, 64, "drop"), "best")
    assert (len(rows), rows.dropped) == (0, {TOO_LONG: 1})
    rows = tokenize_pairs(answers, how(initial, 10), "best")
    assert (len(rows), rows.dropped) == (0, {ANSWER_CUT: 1})


def test_marked_answers_come_with_an_answer_to_another_prompt(initial: Path) -> None:
    sets = [
        answer_set(ROW, "train", ("Good one.", 1.0), ("Middle.", 0.5), ("Bad one.", 0.0)),
        answer_set(OTHERS[0], "train", ("Fine alone.", 1.0)),
        answer_set(OTHERS[1], "train", ("Poor alone.", 0.0)),
        answer_set(OTHERS[2], "train", ("Who knows.", 0.5)),
        answer_set(OTHERS[2], "train", ("", 1.0)),
    ]
    rows = tokenize_judged(table(*sets), how(initial))
    assert rows.dropped == {reading.UNDECIDED: 1, reading.EMPTY: 1}
    texts = supervised(rows, initial)
    assert texts[0::2] == ["Good one.", "Bad one.", "Fine alone.", "Poor alone."]
    assert rows.columns["desirable"][0::2].tolist() == [1.0, 0.0, 1.0, 0.0]
    assert all(own != other for own, other in zip(texts[0::2], texts[1::2], strict=True))
    assert texts[1] not in ("Good one.", "Bad one.")
    alone = tokenize_judged(table(sets[1]), how(initial))
    assert supervised(alone, initial) == ["Fine alone.", "Fine alone."]
