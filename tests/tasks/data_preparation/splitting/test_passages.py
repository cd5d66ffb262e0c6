"""Questions on one passage are in one split; a template or a block of instructions joins few rows."""

from __future__ import annotations

import json
import random
from collections import Counter, defaultdict
from collections.abc import Callable

import pytest

from tasks.contracts.errors import PipelineError
from tasks.corpus.rows.rows import Rows
from tasks.corpus.text.folds import fold_prompt
from tasks.data_preparation.screening.duplicates import remove_duplicates
from tasks.data_preparation.screening.params import Duplicates
from tasks.data_preparation.splitting.methods import AnySplit
from tasks.data_preparation.splitting.methods.assignment import choose_splits
from tasks.data_preparation.splitting.methods.content import Content
from tasks.data_preparation.splitting.methods.grouped import Grouped
from tasks.data_preparation.splitting.methods.stratified import Stratified
from tasks.data_preparation.splitting.params import Split
from tasks.data_preparation.splitting.passages import MAX_ROWS, find_sentences, list_sentences
from tasks.data_preparation.splitting.split import PASSAGE_IN_TRAIN, WIDE_TEXT_IN_TRAIN, split_examples
from tests.conversations import Turns, make, pair

WORDS = [a + b for a in ("ka", "lo", "mi", "tu", "ve", "zy") for b in ("ra", "sol", "ten", "wick", "dun")]
KEEP = Duplicates(keep="all", near=False)
BLOCK = " ".join(f"Rule {n}: answer in {word} words and never in {word} lines of text." for n, word in enumerate(WORDS))


def text(name: str, words: int) -> str:
    return " ".join(random.Random(name).choices(WORDS, k=words))


def passage(number: int) -> str:
    return " ".join(text(f"p{number} {part}", 20).capitalize() + "." for part in range(4))


def ask(number: int, turn: int) -> str:
    return f"What is {text(f'q{number} {turn}', 5)}?"


def signs(first: int, name: str, count: int) -> str:
    """Text of a script without spaces, from 40 signs on a first one."""
    return "".join(chr(first + random.Random(f"{name} {place}").randrange(40)) for place in range(count))


def table(number: int) -> str:
    return "\n".join(f"{text(f't{number} {line}', 1)},{line},{number * line % 97}" for line in range(15))


def edit(number: int, turn: int) -> str:
    words = passage(number).split(" ")
    words[turn * 3] += "x" if turn % 2 else "\n "
    return " ".join(words).upper() if turn % 3 else " ".join(words)


# Prompts of the k-th question on the n-th passage.
FORMS: dict[str, Callable[[int, int], Turns]] = {
    "context first": lambda n, k: pair(f"{passage(n)}\n\n{ask(n, k)}", text(f"a{n} {k}", 5)),
    "context last": lambda n, k: pair(f"Tell me of {text(f'{n} {k}', 4)}.\n\n{passage(n)}", "yes"),
    "one line": lambda n, k: pair(f"{passage(n)} {ask(n, k)}", "yes"),
    "edited": lambda n, k: pair(f"{edit(n, k)}\n\n{ask(n, k)}", "yes"),
    "Chinese": lambda n, k: pair(f"{signs(0x4E00, f'p{n}', 60)}。{signs(0x4E00, f'{n} {k}', 9)}？", "是"),
    "Thai": lambda n, k: pair(f"{signs(0x0E01, f'p{n}', 60)}\n{signs(0x0E01, f'{n} {k}', 9)}", "yes"),
    "table": lambda n, k: pair(f"{table(n)}\n{ask(n, k)}", "yes"),
    "JSON": lambda n, k: pair(f"{json.dumps(table(n).split(), separators=(',', ':'))} {ask(n, k)}", "yes"),
    "block before": lambda n, k: pair(f"{BLOCK}\n\n{passage(n)}\n\n{ask(n, k)}", "yes"),
    "system turn": lambda n, k: [("system", f"Use this.\n\n{passage(n)}"), *pair(ask(n, k), "yes")],
    "later turn": lambda n, k: [*pair(text(f"{n} {k}", 5), "Well?"), *pair(f"{passage(n)}\n\n{ask(n, k)}", "yes")],
    "tool turn": lambda n, k: [("user", ask(n, k)), ("assistant", "call"), ("tool", passage(n)), ("assistant", "yes")],
}


def split(rows: list[Turns], method: AnySplit | None = None, minimum: int = 0) -> Rows:
    settings = Split(method=method or Content(), validation=0.15, test=0.2, min_per_class=minimum)
    return split_examples(remove_duplicates(make(*rows), KEEP), settings, KEEP)


def splits_of(rows: Rows) -> dict[int, str]:
    return dict(zip(rows.table["row"].to_pylist(), rows.table["split"].to_pylist(), strict=True))


def shuffled(name: str, passages: int = 40, each: int = 6) -> tuple[list[int], list[Turns]]:
    """The number of the passage of each row, and the rows."""
    numbers = [n for n in range(passages) for _ in range(each)]
    turns = [k for _ in range(passages) for k in range(each)]
    order = random.Random(1).sample(range(len(numbers)), len(numbers))
    return [numbers[place] for place in order], [FORMS[name](numbers[place], turns[place]) for place in order]


@pytest.mark.parametrize("name", FORMS)
def test_no_passage_is_in_two_splits(name: str) -> None:
    numbers, rows = shuffled(name)
    out = split(rows)
    found = defaultdict(set)
    for row, place in splits_of(out).items():
        found[numbers[row - 1]].add(place)
    assert [number for number, splits in found.items() if len(splits) > 1] == []
    assert out.table.num_rows == 240
    assert out.steps[-1].notes[PASSAGE_IN_TRAIN] == 0
    assert 0.05 < Counter(splits_of(out).values())["test"] / 240 < 0.4


def test_a_class_keeps_its_minimum_with_whole_passages() -> None:
    numbers, rows = shuffled("context first", 10)
    with pytest.raises(PipelineError, match="none of 60 rows, which share 10 prompts or passages, was assigned to"):
        split_examples(remove_duplicates(make(*rows), KEEP), Split(validation=0.01, test=0.01), KEEP)
    out = split(rows, Stratified(), minimum=1)
    assert set(splits_of(out).values()) == {"train", "validation", "test"}
    assert len({(numbers[row - 1], place) for row, place in splits_of(out).items()}) == 10


@pytest.mark.parametrize("passages", [10, 20])
def test_few_passages_fill_every_split(passages: int) -> None:
    for seed in range(4):
        numbers, rows = shuffled("context first", passages)
        out = split_examples(remove_duplicates(make(*rows), KEEP), Split(seed=seed), KEEP)
        places = {(numbers[row - 1], place) for row, place in splits_of(out).items()}
        assert {place for _, place in places} == {"train", "validation", "test"}
        assert len(places) == passages


def test_few_rows_under_a_block_of_instructions_are_one_group() -> None:
    rows = [pair(f"{BLOCK}\n\nTell me of {text(f'plain {n}', 6)}", "yes") for n in range(300)]
    splits = list(splits_of(out := split(rows)).values())
    assert len(set(splits[:MAX_ROWS])) == 1
    assert 0.12 < Counter(splits)["test"] / 300 < 0.28
    # Not passages, but told: the rows held out share the block with train.
    held_out = 300 - Counter(splits)["train"]
    assert [out.steps[-1].notes[name] for name in (PASSAGE_IN_TRAIN, WIDE_TEXT_IN_TRAIN)] == [0, held_out]


def test_what_stays_in_two_splits_is_counted() -> None:
    numbers, rows = shuffled("context first")
    out = split(rows, Grouped(column="label"))
    assert out.steps[-1].notes[PASSAGE_IN_TRAIN] == 0
    apart = make(*rows, labels=[f"{row % 12}" for row in range(240)])
    out = split_examples(
        remove_duplicates(apart, KEEP), Split(method=Grouped(column="label"), validation=0.15, test=0.2), KEEP
    )
    splits = splits_of(out)
    trained = {numbers[row - 1] for row, place in splits.items() if place == "train"}
    held_out = [numbers[row - 1] for row, place in splits.items() if place != "train"]
    assert 0 < sum(number in trained for number in held_out) == out.steps[-1].notes[PASSAGE_IN_TRAIN]
    assert sum(out.table["shares_passage"].to_pylist()) == out.steps[-1].notes[PASSAGE_IN_TRAIN]


@pytest.mark.parametrize("name", ["context first", "block before", "system turn"])
def test_rows_added_at_the_end_move_no_row_of_a_passage(name: str) -> None:
    _, rows = shuffled(name, 30, 12)
    plain = [pair(f"{BLOCK}\n\n{text(f'plain {n}', 6)}", "yes") for n in range(60)]
    rows = [row for both in zip(rows, plain * 6, strict=True) for row in both]
    whole = splits_of(split(rows))
    for count in (90, 200, 333, 700):
        assert splits_of(split(rows[:count])).items() <= whole.items()


def test_a_passage_follows_its_first_row() -> None:
    numbers, rows = shuffled("context first")
    first = [numbers.index(number) for number in range(40)]
    whole = splits_of(split(rows))
    kept = sorted({*first, *random.Random(2).sample(range(240), 60)})
    fewer = splits_of(split([rows[place] for place in kept]))
    assert [whole[place + 1] for place in kept] == list(fewer.values())
    alone = splits_of(split([rows[place] for place in sorted(first)]))
    assert [whole[place + 1] for place in sorted(first)] == list(alone.values())
    prompts = [fold_prompt(rows[place][0][1]) for place in sorted(first)]
    assert choose_splits(prompts, Split(validation=0.15, test=0.2)) == list(alone.values())


def test_what_is_seen_of_a_prompt() -> None:
    assert list_sentences("Where is my parcel?") == []
    assert list_sentences(text("too few", 29)) == []
    assert list_sentences(text("a line without an end", 50)) == [
        " ".join(text("a line without an end", 50).split()[:30])
    ]
    lines = "\n".join(f"{word} | 7 | 9 | 12" for word in WORDS[:12])
    assert list_sentences(lines) == [" ".join(lines.split()[:30])]
    long, question = text("long", 30), text("question", 40) + "?"
    assert list_sentences(f"{text('short', 14)}. {long.upper()}. {question}\nAnswer:")[0] == long
    assert len(list_sentences("\n\n".join(map(passage, range(40))))) == 16


def test_an_empty_table_has_no_sentences() -> None:
    assert len(find_sentences(make(pair("a", "b")).table.slice(0, 0)).rows) == 0
