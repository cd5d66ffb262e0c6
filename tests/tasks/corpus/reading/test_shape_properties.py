"""Whatever the texts of a row are, what can be learned of it stands whole in its conversation."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.contracts.errors import PipelineError
from tasks.corpus.reading.shapes.dialogues import is_transcript
from tasks.corpus.reading.shapes.documents import list_rows
from tasks.corpus.reading.shapes.nested import unfold_row
from tasks.corpus.reading.shapes.recognise import SHAPES, recognise_shape, use_shape
from tasks.corpus.reading.shapes.shape import (
    ConvertedRow,
    RowError,
    bind_columns,
)

Rows = st.SearchStrategy[dict[str, Any]]

# Marks and separators of the shapes themselves are the texts most likely to be mistaken.
TRAPS = ("\n\n", "\n\nHuman: ", "\n\nAssistant:", "Tools: ", "A. ", "B. x\nC. y", " ", "unanswerable", "[]", "true")
SAID = st.lists(st.sampled_from(TRAPS) | st.text('ab1.:{"\\\té\u200d😀', max_size=4), max_size=3).map("".join)
# A transcript in which the person says nothing asks nothing, and its row is set aside.
SAYS_NOTHING = re.compile(r"(Human|User):\s*(Human|User|Assistant|System):")
SOMETHING = SAID.map(lambda text: text if text.strip() else f"x{text}").filter(
    lambda text: not SAYS_NOTHING.search(text)
)
MAYBE = st.none() | SAID
NUMBER = st.integers(-5, 5) | st.sampled_from([0.5, -1.5])


def some(required: dict[str, Any], optional: dict[str, Any] | None = None) -> Rows:
    """Rows with the required columns, any of the optional ones, and a column that no shape knows."""
    return st.fixed_dictionaries(required, optional=(optional or {}) | {"id": st.integers(), "url": SAID})


@st.composite
def transcripts(draw: st.DrawFn) -> dict[str, Any]:
    text = st.text("ab \n", max_size=4).map(lambda t: f"x{t}")
    prompt = (
        "".join(f"\n\nHuman: {draw(text)}\n\nAssistant: {draw(text)}" for _ in range(draw(st.integers(0, 2))))
        + f"\n\nHuman: {draw(text)}\n\nAssistant:"
    )
    return {"chosen": prompt + draw(text), "rejected": prompt + draw(text)}


@st.composite
def ranked(draw: st.DrawFn) -> dict[str, Any]:
    count = draw(st.integers(2, 4))
    answers = draw(st.lists(SOMETHING, min_size=count, max_size=count))
    row: dict[str, Any] = {"prompt": draw(SOMETHING), "responses": answers}
    kind = draw(st.sampled_from(["scores", "ranks", "inside"]))
    if kind == "scores":
        row["scores"] = draw(st.lists(NUMBER, min_size=count, max_size=count))
    elif kind == "ranks":
        row["ranks"] = draw(st.permutations(range(1, count + 1)))
    elif kind == "inside":
        row["responses"] = [{"text": text, "score": draw(NUMBER), "model": "m"} for text in answers]
    return row


@st.composite
def stepwise(draw: st.DrawFn) -> dict[str, Any]:
    """Steps of one line; empty lines part them."""
    steps = draw(st.lists(SOMETHING.map(lambda text: text.replace("\n", " ")), min_size=1, max_size=3))
    marks = draw(st.lists(st.booleans(), min_size=len(steps), max_size=len(steps)))
    return {"prompt": draw(SOMETHING), "completions": steps, "labels": marks}


@st.composite
def choices(draw: st.DrawFn) -> dict[str, Any]:
    texts = draw(st.lists(SOMETHING, min_size=2, max_size=5, unique=True))
    right = draw(st.integers(0, len(texts) - 1))
    labels = [str(number + 1) for number in range(len(texts))]
    row: dict[str, Any] = {"question": draw(SOMETHING), "choices": texts}
    kind = draw(st.sampled_from(["place", "letter", "text", "labelled", "objects", "stem", "lettered", "columns"]))
    if kind == "labelled":
        return row | {"choices": {"text": texts, "label": labels}, "answerKey": labels[right]}
    objects = [{"text": text, "label": label} for text, label in zip(texts, labels, strict=True)]
    if kind == "objects":
        return row | {"choices": objects, "answerKey": labels[right]}
    if kind == "stem":
        return {"question": {"stem": row["question"], "choices": objects}, "answerKey": labels[right]}
    lettered = dict(zip("ABCDE", texts, strict=False))
    if kind == "lettered":
        return row | {"choices": lettered, "answer_idx": "ABCDE"[right]}
    if kind == "columns":
        return {"question": row["question"], **lettered, "answer": "ABCDE"[right]}
    return row | {"answer": {"place": right, "letter": "ABCDE"[right], "text": texts[right]}[kind]}


@st.composite
def squad(draw: st.DrawFn) -> dict[str, Any]:
    texts = draw(st.lists(SOMETHING, max_size=3))
    starts = draw(st.lists(st.integers(0, 99), min_size=len(texts), max_size=len(texts)))
    listed = [{"text": text, "answer_start": start} for text, start in zip(texts, starts, strict=True)]
    row = {"id": draw(SAID), "context": draw(SOMETHING), "question": draw(SOMETHING), "is_impossible": not texts}
    return row | {"answers": draw(st.sampled_from([listed, {"text": texts, "answer_start": starts}]))}


def one_is_no_transcript(row: dict[str, Any]) -> bool:
    """Two answers that are written as dialogues are whole dialogues, which are a case of their own."""
    return not all(is_transcript(row[column]) for column in ("chosen", "rejected"))


def make_cases(said: st.SearchStrategy[str]) -> dict[str, Rows]:
    """Rows of every shape, whose turns say something if ``said`` does."""
    parts = st.lists(st.fixed_dictionaries({"type": st.just("text"), "text": said}), min_size=1, max_size=2)
    content = said | parts
    call = st.fixed_dictionaries({"id": SAID, "function": st.fixed_dictionaries({"name": SAID, "arguments": SAID})})
    calls = st.lists(call, min_size=1, max_size=2)
    turn = st.fixed_dictionaries(
        {"role": st.sampled_from(["user", "assistant", "tool", "User "]), "content": content},
        optional={"tool_calls": calls, "function_call": st.fixed_dictionaries({"name": SAID}), "name": SAID},
    ) | st.fixed_dictionaries({"role": st.just("assistant"), "content": st.none(), "tool_calls": calls})
    system = st.fixed_dictionaries({"role": st.sampled_from(["system", "developer"]), "content": content | st.none()})
    turns = st.tuples(st.lists(system, max_size=1), st.lists(turn, min_size=2, max_size=4)).map(lambda t: t[0] + t[1])
    tools = SAID | st.lists(st.fixed_dictionaries({"name": SAID}), max_size=2)
    shared = st.lists(
        st.fixed_dictionaries({"from": st.sampled_from(["human", "gpt", "observation"]), "value": said}),
        min_size=2,
        max_size=4,
    )
    spoken = st.lists(
        st.fixed_dictionaries({"speaker": st.sampled_from(["USER", "SYSTEM"]), "utterance": said}),
        min_size=2,
        max_size=4,
    )
    asked = st.lists(st.fixed_dictionaries({"role": st.just("user"), "content": said}), min_size=1, max_size=2)
    answered = st.fixed_dictionaries({"role": st.just("assistant"), "content": said})
    whole = answered.map(lambda answer: [{"role": "user", "content": "q"}, answer])
    paired = st.fixed_dictionaries({"human": said, "assistant": said}, optional={"system": MAYBE})
    extras: dict[str, Any] = {"system": MAYBE, "tools": tools}
    text = SOMETHING | st.integers() | st.just(2.5)
    # An open transcript may say nothing.
    asking = SOMETHING.filter(lambda text: not is_transcript(text))
    history = st.lists(st.lists(said, min_size=2, max_size=2), max_size=2)
    return {
        "messages": some({"messages": turns}, extras),
        "sharegpt": some({"conversations": shared}, extras)
        | some({"turns": spoken})
        | some({"conversation": st.lists(paired, min_size=1, max_size=2)}, extras)
        | some({"data": st.lists(said, min_size=2, max_size=4)}),
        "alpaca": some(
            {"instruction": SOMETHING, "output": text}, {"input": MAYBE, "system": MAYBE, "history": history}
        ),
        "prompt_completion": some(
            {"prompt": SOMETHING | asked, "completion": text | st.lists(answered, min_size=1, max_size=2)}
        ),
        "question_answer": some({"question": asking, "answer": text}, {"context": MAYBE, "system": MAYBE})
        | some({"Question": asking, "Answer": st.booleans() | st.lists(SOMETHING, min_size=1, max_size=1)}),
        "text_label": some({"text": SOMETHING, "label": st.sampled_from(["a", "b c", 3])})
        | some({"premise": SOMETHING, "hypothesis": SOMETHING, "label": st.sampled_from(["a", 0])}),
        "plain_text": some({"text": SOMETHING}),
        "preference": some(
            {"prompt": SOMETHING | asked, "chosen": said | answered, "rejected": said | answered}, {"system": MAYBE}
        ).filter(one_is_no_transcript)
        | some({"conversations": shared, "chosen": said, "rejected": said}).filter(one_is_no_transcript)
        | some({"prompt": SAID, "chosen": whole, "rejected": whole}),
        "preference_implicit": transcripts() | some({"chosen": whole, "rejected": whole}),
        "kto": some({"prompt": SOMETHING | asked, "completion": said, "label": st.booleans()})
        | some({"messages": st.tuples(asked, answered).map(lambda t: [*t[0], t[1]]), "label": st.booleans()}),
        "ranked": ranked()
        | some({"input": said, "output_1": said, "output_2": said, "label": st.sampled_from([1, 2, "1", "output_2"])})
        | some({"prompt": said, "response1": said, "response2": said, "overall_preference": st.sampled_from([-3, 1])})
        | some({"prompt": said, "response_a": said, "response_b": said, "winner": st.sampled_from(["a", "b"])}),
        "stepwise": stepwise(),
        "squad": squad(),
        "multiple_choice": choices(),
    }


CASES, TELLING_CASES = make_cases(SAID), make_cases(SOMETHING)


def test_every_shape_has_a_case() -> None:
    assert set(CASES) == {shape.name for shape in SHAPES}


def convert(name: str, row: dict[str, Any]) -> ConvertedRow:
    found = use_shape("case", name, [row])
    assert found.shape is not None
    return found.shape.convert(row, found.columns)


DIALOGUE = st.lists(st.tuples(st.sampled_from(["user", "assistant", "tool"]), SAID), min_size=2, max_size=5)


@settings(max_examples=80, deadline=None)
@given(DIALOGUE)
def test_a_dialogue_comes_through_turn_by_turn(dialogue: list[tuple[str, str]]) -> None:
    turns = [{"role": role, "content": text} for role, text in dialogue]
    shared = [{"from": role, "value": text} for role, text in dialogue]
    in_parts = [{"role": role, "content": [{"type": "text", "text": text}]} for role, text in dialogue]
    for name, row in (
        ("messages", {"messages": turns}),
        ("messages", {"messages": in_parts}),
        ("messages", {"messages": json.dumps(turns)}),
        ("sharegpt", {"conversations": shared}),
    ):
        assert convert(name, row).turns == turns


@settings(max_examples=80, deadline=None)
@given(st.lists(st.text("ab \n", max_size=4).map("x{}".format), min_size=2, max_size=6))
def test_a_transcript_comes_through_turn_by_turn(texts: list[str]) -> None:
    *asked, good, bad = ["q", *texts] if len(texts) % 2 == 0 else texts
    roles = ["user", "assistant"] * len(asked)
    marks = {"user": "\n\nHuman: ", "assistant": "\n\nAssistant: "}
    prompt = "".join(marks[role] + text for role, text in zip(roles, asked, strict=False)) + marks["assistant"]
    turns = [{"role": role, "content": text} for role, text in zip(roles, asked, strict=False)]
    for name, row in (
        ("preference_implicit", {"chosen": prompt + good, "rejected": prompt + f"{bad}!"}),
        ("preference", {"prompt": prompt, "chosen": good, "rejected": f"{bad}!"}),
        ("prompt_completion", {"prompt": prompt, "completion": good}),
    ):
        conversation = convert(name, row)
        assert conversation.turns == [*turns, {"role": "assistant", "content": good}]
        assert [o.turns for o in conversation.others] == [[{"role": "assistant", "content": f"{bad}!"}]][
            : "chosen" in row
        ]


@pytest.mark.parametrize("name", sorted({shape.name for shape in SHAPES if shape.make_fast_path is not None}))
def test_the_quick_way_gives_the_same_turns(name: str) -> None:
    quick = []

    @settings(max_examples=80, deadline=None)
    @given(CASES[name])
    def check(row: dict[str, Any]) -> None:
        found = use_shape("case", name, [row])
        assert found.shape is not None
        assert found.shape.make_fast_path is not None
        read = found.shape.make_fast_path(found.columns)
        turns = read(row) if read is not None else None
        quick.append(turns is not None)
        assert turns is None or turns == found.shape.convert(row, found.columns).turns

    check()
    assert any(quick)


# Columns whose texts have to be in the conversation.
SPOKEN_COLUMNS = {
    "messages": ("messages",),
    "sharegpt": ("conversations", "turns", "conversation", "data"),
    "alpaca": ("instruction", "input", "output", "history", "system"),
    "prompt_completion": ("prompt", "completion"),
    "question_answer": ("question", "context", "answer", "Question", "Answer"),
    "text_label": ("text", "label", "premise", "hypothesis"),
    "plain_text": ("text",),
    "preference": ("chosen", "rejected", "conversations"),
    "preference_implicit": ("chosen", "rejected"),
    "kto": ("prompt", "completion", "messages"),
    "ranked": (
        "prompt",
        "responses",
        "input",
        "output_1",
        "output_2",
        "response_a",
        "response_b",
        "response1",
        "response2",
    ),
    "stepwise": ("prompt", "completions"),
    "squad": ("context", "question", "answers"),
    "multiple_choice": ("question", "choices", "A", "B", "C"),
}
# Keys inside them that name something rather than say it.
NAMES = {
    "role",
    "from",
    "speaker",
    "type",
    "name",
    "tool_calls",
    "function_call",
    "model",
    "label",
    "score",
    "answer_start",
}


# What divides a transcript into turns.
MARK = re.compile(r"(?:\A\s*|\n\n)(?:Human|User|Assistant|System): ?")


def texts_in(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for key, item in value.items() if key not in NAMES for text in texts_in(item)]
    if isinstance(value, list):
        return [text for item in value for text in texts_in(item)]
    parts = MARK.split(value) if is_transcript(value) else [value]
    return [part for part in parts if isinstance(part, str) and part.strip()]


@pytest.mark.parametrize("name", CASES)
def test_no_text_is_left_out_of_the_conversation(name: str) -> None:
    @settings(max_examples=80, deadline=None)
    @given(CASES[name])
    def check(row: dict[str, Any]) -> None:
        before = json.dumps(row)
        conversation = convert(name, row)
        assert json.dumps(row) == before
        turns = [*conversation.turns, *(turn for other in conversation.others for turn in other.turns)]
        system = [turn for turn in row.get("messages", []) if turn["role"] in ("system", "developer")]
        for column in SPOKEN_COLUMNS[name]:
            if column in row and not (column == "system" and system):
                for text in texts_in(row[column]):
                    assert any(text in turn["content"] for turn in turns)

    check()


@pytest.mark.parametrize("name", CASES)
def test_a_row_is_recognised_by_itself(name: str) -> None:
    @settings(max_examples=40, deadline=None)
    @given(TELLING_CASES[name])
    def check(row: dict[str, Any]) -> None:
        found = recognise_shape("case", [row])
        assert (found.name, found.confidence >= 0.5) == (name, True)
        assert found.candidates[name] == found.confidence

    check()


@settings(max_examples=40, deadline=None)
@given(st.lists(squad(), min_size=1, max_size=4), SAID)
def test_nested_squad_becomes_its_questions(rows: list[dict[str, Any]], title: str) -> None:
    passages = [{"context": row["context"], "qas": [{k: v for k, v in row.items() if k != "context"}]} for row in rows]
    assert unfold_row({"title": title, "paragraphs": passages}) == [{"title": title, **row} for row in rows]


def test_an_instance_takes_over_its_instruction() -> None:
    row = {
        "id": "s",
        "instruction": "Add.",
        "instances": [{"input": "1 2", "output": "3"}, {"input": "", "output": "0"}],
    }
    assert unfold_row(row) == [
        {"instruction": "Add.", "input": "1 2", "output": "3"},
        {"instruction": "Add.", "input": "", "output": "0"},
    ]


ALIASES = sorted(
    {name for shape in SHAPES for names in (shape.required, shape.optional) for n in names.values() for name in n}
)
KEYS = (
    "role",
    "content",
    "from",
    "value",
    "speaker",
    "utterance",
    "text",
    "tool_calls",
    "score",
    "rank",
    "label",
    "qas",
)
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 30) | st.floats() | SAID | st.sampled_from(["user", "gpt", "system"]),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(st.sampled_from(KEYS), below, max_size=3),
    max_leaves=6,
)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.dictionaries(st.sampled_from(ALIASES), ANYTHING, max_size=5), min_size=1, max_size=3))
def test_whatever_the_columns_hold_nothing_crashes(rows: list[dict[str, Any]]) -> None:
    before = json.dumps(rows)
    names = {name for row in rows for name in row}
    for shape in SHAPES:
        columns = bind_columns(shape, names)
        for row in rows if columns is not None else []:
            try:
                conversation = shape.convert(row, columns)
            except RowError:
                continue
            for turns in (conversation.turns, *(other.turns for other in conversation.others)):
                assert turns
                assert all(isinstance(turn["content"], str) for turn in turns)
            assert conversation.start is None or conversation.start < len(conversation.turns)
    assert json.dumps(rows) == before
    with suppress(PipelineError):
        found = recognise_shape("x", rows)
        assert 0.5 <= found.confidence <= 1


@settings(max_examples=100, deadline=None)
@given(
    st.dictionaries(st.sampled_from(["train", "test", "data", "paragraphs", "text", "messages"]), ANYTHING)
    | st.lists(ANYTHING)
)
def test_any_document_gives_some_rows_or_itself(document: Any) -> None:
    assert len(list_rows(document)) >= bool(document)
