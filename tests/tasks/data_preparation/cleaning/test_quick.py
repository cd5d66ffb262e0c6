"""What is decided on whole columns is what the plain reading of each row decides."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.contracts.records import MESSAGES, content_id, content_ids
from tasks.corpus.personal_data.found import PlainKind
from tasks.corpus.personal_data.patterns import Patterns
from tasks.corpus.personal_data.pii import Pii
from tasks.corpus.reading.ingest import read_sources
from tasks.corpus.reading.sources.sample import Sample
from tasks.corpus.rows.rows import ROWS, build_messages, column_messages, join_turns
from tasks.corpus.text.words import fold_text
from tasks.data_preparation.cleaning import clean
from tasks.data_preparation.cleaning.clean import Cleaner, clean_rows
from tasks.data_preparation.cleaning.steps.c4 import C4
from tasks.data_preparation.cleaning.steps.chunk import Chunk
from tasks.data_preparation.cleaning.steps.controls import Controls
from tasks.data_preparation.cleaning.steps.echo import Echo
from tasks.data_preparation.cleaning.steps.html import Html
from tasks.data_preparation.cleaning.steps.labels import Labels
from tasks.data_preparation.cleaning.steps.language import Language
from tasks.data_preparation.cleaning.steps.length import Length
from tasks.data_preparation.cleaning.steps.missing import Missing, find_gap
from tasks.data_preparation.cleaning.steps.quality import Quality
from tasks.data_preparation.cleaning.steps.refusals import Refusals
from tasks.data_preparation.cleaning.steps.repetition import Repetition
from tasks.data_preparation.cleaning.steps.tokens import Tokens
from tasks.data_preparation.cleaning.steps.unicode import Unicode
from tasks.data_preparation.cleaning.steps.whitespace import Whitespace
from tasks.data_preparation.params import DataPreparation
from tests.conversations import make, pair

PIECES = [*"0123456789", *" .-()+,/x:@", "ext ", "call ", "phone: ", "+49 ", "DE89 3704 0044 0532 0130 00", "\n", "  "]
PIECES += ["4111 1111 1111 1111", "+44 20 7946 0958", "(020) 7946-0958", "a@b.de", "12:34:", "1.2.3.4", "ab", "Z", "é"]
texts = st.one_of(
    st.text(max_size=12), st.sampled_from(["", " ", "...", "\x1c", "\u3000", "é", "ß", "日本", "ok", "👍"])
)
turns = st.lists(
    st.fixed_dictionaries({"role": st.sampled_from(["system", "user", "assistant", "tool"]), "content": texts}),
    max_size=5,
)


def table_of(conversations: list[list[dict[str, str]]]) -> pa.Table:
    count = len(conversations)
    return pa.table(
        {
            "source": ["s"] * count,
            "file": [""] * count,
            "row": list(range(1, count + 1)),
            "label": pa.nulls(count, pa.string()),
            "messages": build_messages(conversations),
        },
        schema=ROWS,
    )


@settings(max_examples=100, deadline=None)
@given(st.lists(turns, max_size=6), st.integers(0, 2))
def test_columns_say_what_the_rows_say(conversations: list[list[dict[str, str]]], skipped: int) -> None:
    assert build_messages(conversations).equals(pa.array(conversations, MESSAGES))
    table = table_of(conversations).slice(skipped)
    conversations = conversations[skipped:]
    messages = column_messages(table)
    assert content_ids(messages) == [content_id(each) for each in conversations]
    for roles in (["user"], ["system", "tool"], ["assistant", "user"]):
        assert join_turns(messages, roles) == [
            "\n".join(turn["content"] for turn in each if turn["role"] in roles) for each in conversations
        ]
    done = Missing().clean(table)
    for row, each in enumerate(conversations):
        end = max((i for i, turn in enumerate(each, 1) if turn["role"] == "assistant"), default=0)
        gap = find_gap(each[:end] or each)
        assert (done.reasons or [])[row] == gap
        assert done.table["messages"][row].as_py() == (each[:end] if gap is None else each)
    short = Length(min_prompt=2, min_answer=2, max_total=12).clean(table).reasons or []
    assert [reason is None for reason in short] == [fits(each) for each in conversations]


def fits(each: list[dict[str, str]]) -> bool:
    prompt, answer, other = (
        "\n".join(turn["content"] for turn in each if turn["role"] in roles)
        for roles in (["user"], ["assistant"], ["system", "tool"])
    )
    plain = [turn["role"] for turn in each] == ["assistant"]
    return (len(prompt) >= 2 or plain) and len(answer) >= 2 and len(prompt) + len(answer) + len(other) <= 12


@settings(max_examples=200, deadline=None)
@given(st.lists(st.lists(st.sampled_from(PIECES), max_size=30).map("".join), max_size=6))
def test_no_personal_data_is_missed_by_the_quick_look(some: list[str]) -> None:
    for finder in (Patterns(), Patterns(kinds=get_args(PlainKind))):
        screened = finder.screen(pa.array(some, pa.string())).to_pylist()
        missed = [text for text, likely in zip(some, screened, strict=True) if not likely]
        assert finder.find(missed) == [[]] * len(missed)


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=20))
def test_folding_is_that_of_the_patterns(text: str) -> None:
    quiet = re.sub(r"[.,!?;:'\"“”‘’…]+", "", text.casefold())
    assert fold_text(text) == re.sub(r"\s+", " ", quiet).strip()


class Parts:
    """So many rows at a time, in turn."""

    def __init__(self, rows: int) -> None:
        self.rows: int | None = rows

    def __call__(self, name: str, work: Callable[[Any], Any], parts: Iterable[Any]) -> Iterator[Any]:
        return map(work, parts)


EVERY_STEP: list[Cleaner] = [Unicode(), Controls(), Html(), Whitespace(), Pii(mode="replace"), Pii(mode="drop")]
EVERY_STEP += [Chunk(characters=100), Missing(), Length(max_total=300), Repetition(min_words=10), Quality(min_words=4)]
EVERY_STEP += [C4(min_sentences=1, min_line_words=1, span=1), C4(min_sentences=1, min_line_words=1, span=0)]
EVERY_STEP += [Tokens(max_total=60), Echo(), Refusals(), Labels()]
SHARED = "This sentence stands in the answers of many rows."
ANSWERS = [
    "Your cafÃ© order",
    "zero\u200bwidth\x00",
    "<p>Fish &amp; chips</p>",
    "so  many   blanks ",
    "ann@example.org",
]
ANSWERS += ["A long text of many words. " * 14, "", "please try again " * 20, "{ }", f"I know it. {SHARED}"]
ANSWERS += [f"{SHARED} And more.", "Where is it now", "I'm sorry, but I cannot help with that."]


@pytest.mark.parametrize("step", EVERY_STEP, ids=lambda step: step.name)
def test_a_step_gives_the_same_bytes_in_one_three_and_seven_parts(step: Cleaner) -> None:
    answers = [f"{answer}" if i % 2 else f"{answer} {i}" for i in range(4) for answer in ANSWERS]
    turns = [[("assistant", answer)] if i % 3 else pair("Where is it now?", answer) for i, answer in enumerate(answers)]
    rows = make(*turns, labels=[("Stop it", "stop-it", "go")[i % 3] for i in range(len(turns))])
    whole, *others = (clean_rows(rows, [step], None, Parts(-(-len(turns) // parts))) for parts in (1, 3, 7))
    for other in others:
        assert other.steps == whole.steps
        assert other.table.combine_chunks().equals(whole.table.combine_chunks())
        assert other.dropped.combine_chunks().equals(whole.dropped.combine_chunks())
    assert whole.steps[-1].changed or whole.steps[-1].reasons


def test_every_step_leaves_the_same_record_in_parts() -> None:
    rows = read_sources([Sample(rows=300, seed=3)], "quarantine", Path())
    steps: list[Cleaner] = [Whitespace(), Pii(mode="replace"), Missing(), Repetition(), C4(min_sentences=1)]
    steps += [Tokens(max_total=200), Quality(min_words=4), Echo(), Refusals(), Pii(mode="drop")]
    whole, cut = clean_rows(rows, steps), clean_rows(rows, steps, None, Parts(41))
    assert whole.steps == cut.steps
    assert sum(step.changed for step in whole.steps) > 10
    assert whole.table.combine_chunks().equals(cut.table.combine_chunks())
    assert whole.dropped.combine_chunks().equals(cut.dropped.combine_chunks())


def test_languages_are_counted_over_all_parts() -> None:
    pytest.importorskip("lingua", reason="lingua is not installed")
    said = ["Where is my order, it should have come days ago?", "Wo bleibt meine Bestellung, sie ist überfällig?", "ok"]
    table = table_of(
        [[{"role": "user", "content": said[i % 3]}, {"role": "assistant", "content": said[i % 3]}] for i in range(20)]
    )
    step = Language(languages=("en",), among=("en", "de"), fast=True)
    whole = step.clean(table).listings
    parts = [step.clean(table.slice(start, 6)).listings for start in range(0, 20, 6)]
    assert step.join_listings(parts, 20) == whole
    assert "not classified" in whole[0].note


def test_cleaning_in_pieces_is_cleaning(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = read_sources([Sample(rows=600, title="s")], "quarantine", Path())
    sizes = [37] * (rows.table.num_rows // 37)
    pieces = pa.concat_tables(rows.table.slice(37 * place, 37) for place in range(len(sizes) + 1))
    whole = clean_rows(rows, DataPreparation().cleaning)
    monkeypatch.setattr(clean, "MIN_BATCH_ROWS", 50)
    parts = clean_rows(replace(rows, table=pieces), DataPreparation().cleaning)
    assert parts.table.equals(whole.table)
    assert parts.dropped.equals(whole.dropped)
    assert parts.steps == whole.steps
    assert sum(bool(step.reasons) for step in whole.steps) > 1
    assert {part.num_rows for part in list(clean.cut_parts(pieces, None))[:-1]} == {74}
