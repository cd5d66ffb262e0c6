"""Each shape is recognised by itself and becomes the right conversation; doubt is an error."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from tasks.contracts.errors import PipelineError
from tasks.corpus.reading.ingest import read_sources
from tasks.corpus.reading.shapes.recognise import recognise_shape
from tasks.corpus.reading.sources.jsonl import Jsonl
from tasks.corpus.reading.sources.source import Fields
from tasks.corpus.rows.rows import Rows


def read(tmp_path: Path, items: list[dict[str, Any]], **params: Any) -> Rows:
    (tmp_path / "x.jsonl").write_text("\n".join(json.dumps(item) for item in items))
    return read_sources([Jsonl(path="x.jsonl", **params)], "quarantine", tmp_path)


CASES: list[tuple[str, dict[str, Any], list[tuple[str, str]], str | None]] = [
    (
        "messages",
        {
            "messages": [
                {"role": "system", "content": "Be kind."},
                {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
                {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "f"}}]},
                {"role": "tool", "content": "7"},
                {"role": "assistant", "content": "Seven"},
            ],
            "tools": [{"name": "f"}],
            "intent": "count",
        },
        [
            ("system", 'Be kind.\n\nTools: [{"name":"f"}]'),
            ("user", "Hi"),
            ("assistant", '[{"name":"f"}]'),
            ("tool", "7"),
            ("assistant", "Seven"),
        ],
        "count",
    ),
    (
        "sharegpt",
        {
            "conversations": [
                {"from": "human", "value": "a"},
                {"from": "function_call", "value": "{}"},
                {"from": "observation", "value": "b"},
                {"from": "gpt", "value": "c"},
            ],
            "system": "S",
            "tools": "[]",
            "chat_id": 3,
        },
        [("system", "S"), ("user", "a"), ("assistant", "{}"), ("tool", "b"), ("assistant", "c")],
        None,
    ),
    (
        "alpaca",
        {"instruction": "Add.", "input": "1 2", "output": 3},
        [("user", "Add.\n\n1 2"), ("assistant", "3")],
        None,
    ),
    (
        "alpaca",
        {"instruction": "cancel it", "response": "Done.", "intent": "cancel_order", "category": "ORDER", "tags": "B"},
        [("user", "cancel it"), ("assistant", "Done.")],
        "cancel_order",
    ),
    (
        "alpaca",
        {"instruction": "And 3?", "output": "6", "history": [["1 and 2?", "3"]], "system": "Add."},
        [("system", "Add."), ("user", "1 and 2?"), ("assistant", "3"), ("user", "And 3?"), ("assistant", "6")],
        None,
    ),
    ("prompt_completion", {"prompt": "p", "completion": "c"}, [("user", "p"), ("assistant", "c")], None),
    (
        "prompt_completion",
        {"prompt": "\n\nHuman: a\n\nAssistant: b\n\nHuman: c\n\nAssistant:", "completion": "d"},
        [("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d")],
        None,
    ),
    ("question_answer", {"question": "q", "answer": "a"}, [("user", "q"), ("assistant", "a")], None),
    (
        "question_answer",
        {"question": "q", "answer": "a", "context": "c"},
        [("user", "c\n\nq"), ("assistant", "a")],
        None,
    ),
    ("text_label", {"text": "t", "category": "card"}, [("user", "t"), ("assistant", "card")], "card"),
    ("text_label", {"text": "t", "label": 3}, [("user", "t"), ("assistant", "3")], "3"),
    ("text_label", {"sentence": "t", "sentiment": "good"}, [("user", "t"), ("assistant", "good")], "good"),
    ("plain_text", {"text": "Once.", "title": "T", "url": "u"}, [("assistant", "Once.")], None),
    (
        "preference",
        {"prompt": "p", "chosen": "good", "rejected": "bad"},
        [("user", "p"), ("assistant", "good")],
        None,
    ),
    (
        "preference",
        {
            "conversations": [{"from": "system", "value": "s"}, {"from": "human", "value": "p"}],
            "chosen": {"from": "gpt", "value": "good"},
            "rejected": {"from": "gpt", "value": "bad"},
        },
        [("system", "s"), ("user", "p"), ("assistant", "good")],
        None,
    ),
    (
        "preference_implicit",
        {
            "chosen": "\n\nHuman: a\n\nAssistant: b\n\nHuman: c\n\nAssistant: good",
            "rejected": "\n\nHuman: a\n\nAssistant: b\n\nHuman: c\n\nAssistant: bad",
        },
        [("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "good")],
        None,
    ),
    (
        "stepwise",
        {"prompt": "p", "completions": ["\n  if x:\n\n    y\n", "z "], "labels": [True, 1]},
        [("user", "p"), ("assistant", "  if x:\n    y\n\nz ")],
        None,
    ),
    ("kto", {"prompt": "p", "completion": "c", "label": True}, [("user", "p"), ("assistant", "c")], None),
    (
        "ranked",
        {"prompt": "p", "answers": ["x", "y", "z"], "ranks": [2, 3, 1]},
        [("user", "p"), ("assistant", "z")],
        None,
    ),
    (
        "ranked",
        {"input": "p", "output_1": "x", "output_2": "y", "label": 2},
        [("user", "p"), ("assistant", "y")],
        None,
    ),
    (
        "squad",
        {"context": "c", "question": "q", "answers": {"text": ["a", "b", "a"], "answer_start": [0, 1, 0]}},
        [("user", "c\n\nq"), ("assistant", "a")],
        None,
    ),
    (
        "squad",
        {"context": "c", "question": "q", "answers": [], "is_impossible": True},
        [("user", "c\n\nq"), ("assistant", "unanswerable")],
        None,
    ),
    (
        "multiple_choice",
        {"question": "2 + 2?", "choices": ["3", "four", "5"], "answer": "B", "label": "sums"},
        [("user", "2 + 2?\n\nA. 3\nB. four\nC. 5"), ("assistant", "B. four")],
        "sums",
    ),
    (
        "multiple_choice",
        {"query": "Which? A: x B: y", "choices": ["A", "B"], "gold": 0},
        [("user", "Which? A: x B: y"), ("assistant", "A")],
        None,
    ),
]


@pytest.mark.parametrize(("shape", "row", "turns", "label"), CASES, ids=[f"{c[0]}-{i}" for i, c in enumerate(CASES)])
def test_shape_is_recognised(
    tmp_path: Path, shape: str, row: dict[str, Any], turns: list[tuple[str, str]], label: str | None
) -> None:
    rows = read(tmp_path, [row])
    assert rows.origins[0].shape == shape
    assert rows.origins[0].candidates[shape] == rows.origins[0].confidence >= 0.7
    assert [(t["role"], t["content"]) for t in rows.table["messages"][0].as_py()] == turns
    assert rows.table["label"][0].as_py() == label


CALL = {"name": "f", "arguments": "{}"}
# Layouts of public sets: shape, row, the last question and the answer that is learned.
LAYOUTS: dict[str, tuple[str, dict[str, Any], str, str]] = {
    "legacy function calls": (
        "messages",
        {"messages": [{"role": "human", "content": "q"}, {"role": "ai", "content": None, "function_call": CALL}]},
        "q",
        '[{"name":"f","arguments":{}}]',
    ),
    "tool roles": (
        "messages",
        {"messages": [{"role": r, "content": r} for r in ("user", "tool_call", "tool_response", "assistant")]},
        "tool_response",
        "assistant",
    ),
    "prompts as a list of texts": (
        "prompt_completion",
        {"prompt": ["p", "q"], "completion": "a"},
        "q",
        "a",
    ),
    "messages as JSON text": (
        "messages",
        {"messages": '[{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]'},
        "q",
        "a",
    ),
    "Moss": (
        "sharegpt",
        {"conversation": [{"human": "q", "assistant": "a"}, {"human": "r", "assistant": "b"}]},
        "r",
        "b",
    ),
    "XTuner": ("sharegpt", {"conversation": [{"system": "s", "input": "q", "output": "a"}]}, "q", "a"),
    "LIMA": ("sharegpt", {"conversations": ["q", "a"], "source": "x"}, "q", "a"),
    "UltraChat": ("sharegpt", {"id": "0", "data": ["q", "a", "r", "b"]}, "r", "b"),
    "capitals": ("question_answer", {"qtype": "x", "Question ": "q", " Answer": "a"}, "q", "a"),
    "BoolQ": ("question_answer", {"question": "q", "title": "t", "answer": True, "passage": "c"}, "c\n\nq", "yes"),
    "NQ-open": ("question_answer", {"question": "q", "answer": ["a", "b"]}, "q", "a"),
    "CNN/DailyMail": ("prompt_completion", {"article": "c", "highlights": "h", "id": "1"}, "c", "h"),
    "XSum": ("prompt_completion", {"document": "c", "summary": "h"}, "c", "h"),
    "SAMSum": ("prompt_completion", {"dialogue": "A: hi", "summary": "h"}, "A: hi", "h"),
    "MATH": ("prompt_completion", {"problem": "q", "level": "5", "type": "x", "solution": "a"}, "q", "a"),
    "FLAN": ("prompt_completion", {"inputs": "q", "targets": "a", "task": "t"}, "q", "a"),
    "SNLI": ("text_label", {"sentence1": "p", "sentence2": "h", "gold_label": "neutral"}, "p\n\nh", "neutral"),
    "MNLI": ("text_label", {"premise": "p", "hypothesis": "h", "label": 1}, "p\n\nh", "1"),
    "QNLI": ("text_label", {"question": "q", "sentence": "s", "label": 0}, "s\n\nq", "0"),
    "QQP": ("text_label", {"question1": "q", "question2": "r", "is_duplicate": 1}, "q\n\nr", "1"),
    "SetFit": ("text_label", {"text": "t", "label": 1, "label_text": "joy"}, "t", "joy"),
    "MMLU": ("multiple_choice", {"question": "q", "choices": ["3", "4"], "answer": 1}, "q\n\nA. 3\nB. 4", "B. 4"),
    "true or false": ("multiple_choice", {"query": "T or F? q", "choices": ["T", "F"], "gold": 1}, "T or F? q", "F"),
    "MMLU in columns": (
        "multiple_choice",
        {"Question": "q", "A": "w", "B": "x", "C": "y", "D": "zz", "Answer": "C"},
        "q\n\nA. w\nB. x\nC. y\nD. zz",
        "C. y",
    ),
    "MedQA": (
        "multiple_choice",
        {"question": "q", "options": {"A": "xx", "B": "yy", "C": None}, "answer": "yy", "answer_idx": "B"},
        "q\n\nA. xx\nB. yy",
        "B. yy",
    ),
    "AI2": (
        "multiple_choice",
        {"question": {"stem": "q", "choices": [{"text": t, "label": t[0]} for t in ("1x", "2y")]}, "answerKey": "2"},
        "q\n\nA. 1x\nB. 2y",
        "B. 2y",
    ),
    "PIQA": ("multiple_choice", {"goal": "q", "sol1": "xx", "sol2": "yy", "label": 1}, "q\n\nA. xx\nB. yy", "B. yy"),
    "COPA": (
        "multiple_choice",
        {"premise": "p", "question": "cause", "choice1": "xx", "choice2": "yy", "label": 0},
        "p\n\ncause\n\nA. xx\nB. yy",
        "A. xx",
    ),
    "Winogrande": (
        "multiple_choice",
        {"sentence": "s _", "option1": "xx", "option2": "yy", "answer": "1"},
        "s _\n\nA. xx\nB. yy",
        "A. xx",
    ),
    "UltraFeedback, binarised": (
        "preference",
        {
            "prompt": "q",
            "messages": (whole := [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]),
            "chosen": whole,
            "rejected": [whole[0], {"role": "assistant", "content": "b"}],
        },
        "q",
        "a",
    ),
    "HelpSteer3": (
        "ranked",
        {"context": [{"role": "user", "content": "q"}], "response1": "b", "response2": "a", "overall_preference": 1},
        "q",
        "a",
    ),
    "constant scores": ("ranked", {"prompt": "q", "responses": ["b", "a"], "rewards": [0.1, 0.9]}, "q", "a"),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_layouts_of_public_sets(tmp_path: Path, name: str) -> None:
    shape, row, asked, answer = LAYOUTS[name]
    rows = read(tmp_path, [row] * 2)
    assert (rows.origins[0].shape, rows.dropped.num_rows) == (shape, 0)
    assert rows.origins[0].confidence >= 0.7
    turns = rows.table["messages"][0].as_py()
    assert [turn["content"] for turn in turns[-2:]] == [asked, answer]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"text": "t", "code": "c"}, "{prompt: text, answer: code}"),
        ({"text": "a long one", "summary": "h"}, "{prompt: text, answer: summary}"),
        (
            {"text": "t", "role": "prompter", "parent_id": "x"},
            "no plain_text, since another column holds the other half",
        ),
        ({"text": "t", "labels": [1, 2]}, 'no text_label, since "labels" is no text'),
        ({"question": "q", "story": "s", "passage": "p", "label": 1, "x": 2}, None),
        ({"dialog": [{"speaker": "A", "text": "x"}]}, 'no sharegpt, since unknown role "A"'),
        ({"turns": ["q", "r"]}, "nearest is sharegpt"),
        ({"translation": {"de": "q", "en": "a"}}, "fields: {prompt: translation.de, answer: translation.en}"),
        ({"a, b": "q", "c": "answer"}, 'fields: {prompt: "a, b", answer: c}'),
        ({"messages": [{"role": "assistant", "content": "a"}]}, "no prompt before the first answer"),
    ],
)
def test_doubt_says_why_and_what_to_write(tmp_path: Path, row: dict[str, Any], said: str | None) -> None:
    if said is None:
        assert read(tmp_path, [row]).table["messages"][0].as_py()[0]["content"] == "p\n\nq"
        return
    with pytest.raises(PipelineError) as caught:
        read(tmp_path, [row])
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_places_of_choices_that_count_from_one_are_doubt(tmp_path: Path) -> None:
    rows = [{"question": "q", "choices": ["x", "yy", "z"], "answer": n} for n in (1, 2, 3)]
    with pytest.raises(PipelineError, match="do not count from 0"):
        read(tmp_path, rows)
    assert read(tmp_path, [row | {"answer": row["answer"] - 1} for row in rows]).table.num_rows == 3
    columns = [{"question": "q", "option1": "x", "option2": "yy", "answer": n} for n in (0, 1)]
    with pytest.raises(PipelineError, match="no multiple_choice, since"):
        read(tmp_path, columns)


def test_a_label_may_lie_deep_inside(tmp_path: Path) -> None:
    row = {"data": {"text": "t"}, "annotations": [{"result": [{"value": {"choices": ["good"]}}]}]}
    label = "annotations.0.result.0.value.choices.0"
    rows = read(tmp_path, [row] * 2, fields={"text": "data.text"}, label=label)
    assert rows.table["label"].to_pylist() == ["good"] * 2
    assert rows.table["messages"][0].as_py()[1]["content"] == "good"


def test_columns_that_take_no_part_are_reported(tmp_path: Path) -> None:
    rows = read(tmp_path, [CASES[3][1]])
    assert rows.origins[0].unused == ("category", "tags")


def test_unknown_shape_says_what_was_found_and_what_is_known(tmp_path: Path) -> None:
    with pytest.raises(PipelineError) as caught:
        read(tmp_path, [{"remark": "x", "n": 1}])
    text = str(caught.value)
    assert "\n" not in text
    assert "columns ['remark', 'n']" in text
    assert "alpaca (instruction" in text
    assert "fields" in text


def test_two_shapes_alike_are_an_error_that_shows_rows(tmp_path: Path) -> None:
    row = {"prompt": "p", "completion": "c", "question": "q", "answer": "a"}
    with pytest.raises(
        PipelineError, match=r"fit prompt_completion \(confidence 1.00\) and question_answer \(.*1.00\)"
    ) as e:
        read(tmp_path, [row, row | {"prompt": "r"}, row, row])
    assert str(e.value).count('{"prompt":') == 3
    assert '"prompt":"r"' in str(e.value)
    assert "set shape or fields" in str(e.value)
    assert read(tmp_path, [row], shape="question_answer").table["messages"][0].as_py()[0]["content"] == "q"


def test_half_of_one_shape_and_half_of_another_is_doubt(tmp_path: Path) -> None:
    rows = [{"question": "q", "answer": "a"}, {"messages": [{"role": "user", "content": "a"}] * 2}]
    with pytest.raises(PipelineError, match=r"messages \(confidence 0.50\) and question_answer \(confidence 0.50\)"):
        read(tmp_path, rows)


def test_confidence_is_the_share_of_fitting_rows_times_how_telling_the_names_are(tmp_path: Path) -> None:
    items = [{"prompt": f"q{i}", "response": "" if i < 3 else "a"} for i in range(10)]
    found = read(tmp_path, items).origins[0]
    assert (found.shape, found.confidence) == ("prompt_completion", round(0.7 * 0.9, 4))


def test_labels_that_never_repeat_are_hardly_labels(tmp_path: Path) -> None:
    many = [{"text": f"t{i}", "topic": f"topic {i}"} for i in range(60)]
    few = [{"text": f"t{i}", "topic": f"topic {i % 6}"} for i in range(60)]
    assert read(tmp_path, few).origins[0].shape == "text_label"
    with pytest.raises(PipelineError, match=r"unknown shape.*nearest is text_label \(confidence 0.45\)"):
        read(tmp_path, [{"tweet": row["text"], "topic": row["topic"]} for row in many])
    assert read(tmp_path, many).origins[0].shape == "plain_text"


def test_a_column_that_always_says_the_same_is_no_input(tmp_path: Path) -> None:
    same = [{"context": "support", "instruction": f"q{i}", "response": "a"} for i in range(3)]
    assert [t["content"] for t in read(tmp_path, same).table["messages"][1].as_py()] == ["q1", "a"]
    other = [row | {"context": f"c{i}"} for i, row in enumerate(same)]
    assert [t["content"] for t in read(tmp_path, other).table["messages"][1].as_py()] == ["q1\n\nc1", "a"]


def test_rows_of_another_shape_are_set_aside(tmp_path: Path) -> None:
    good = {"question": "q", "answer": "a"}
    rows = read(tmp_path, [good, good, {"prompt": "p", "completion": "c"}, {"question": "q"}])
    assert rows.table.num_rows == 2
    assert [(r["row"], r["reason"]) for r in rows.dropped.to_pylist()] == [
        (3, 'no "question"'),
        (4, 'no "answer"'),
    ]
    assert json.loads(rows.dropped["content"][0].as_py()) == {"prompt": "p", "completion": "c"}


@pytest.mark.parametrize(
    ("turn", "reason"),
    [
        ({"role": "wizard", "content": "x"}, 'unknown role "wizard"'),
        ({"text": "x"}, 'a turn has neither "role" nor "from"'),
        ({"role": "user", "content": [{"type": "image"}]}, 'a part of the content is "image", and only text is read'),
        ("x", "a turn is no object"),
    ],
)
def test_bad_turns_have_reasons(tmp_path: Path, turn: Any, reason: str) -> None:
    good = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
    rows = read(tmp_path, [good, {"messages": [{"role": "user", "content": "a"}, turn]}])
    assert rows.dropped["reason"].to_pylist() == [reason]


def test_fields_override_and_must_exist(tmp_path: Path) -> None:
    row = {"q": "Q", "ctx": "C", "a": "A", "sys": "S", "kind": "k"}
    fields = {"prompt": "q", "input": "ctx", "answer": "a", "system": "sys"}
    rows = read(tmp_path, [row], fields=fields, label="kind")
    assert [t["content"] for t in rows.table["messages"][0].as_py()] == ["S", "Q\n\nC", "A"]
    assert rows.table["label"].to_pylist() == ["k"]
    with pytest.raises(PipelineError, match=r"fields name \['nope'\], which no row has; columns are \['q'"):
        read(tmp_path, [row], fields={"prompt": "nope", "answer": "a"})
    with pytest.raises(PipelineError, match='no column "nope" for the label'):
        read(tmp_path, [row], fields=fields, label="nope")
    talk = {"talk": [{"from": "human", "value": "x"}, {"from": "gpt", "value": "y"}]}
    assert read(tmp_path, [talk], fields={"messages": "talk"}).table["messages"][0].as_py()[1]["content"] == "y"


def test_fields_map_every_shape(tmp_path: Path) -> None:
    row = {
        "a": "A",
        "b": "B",
        "c": "C",
        "d": ["D", "E"],
        "n": [1, 2],
        "yes": "false",
        "deep": {"in": {"text": "T"}},
        "kind": "k",
    }
    cases: list[tuple[dict[str, str], str | None, str, list[str]]] = [
        ({"text": "a"}, None, "plain_text", ["A"]),
        ({"text": "deep.in.text"}, None, "plain_text", ["T"]),
        ({"text": "a"}, "kind", "text_label", ["A", "k"]),
        ({"prompt": "a", "answer": "b"}, None, "prompt_completion", ["A", "B"]),
        ({"prompt": "a", "context": "c", "answer": "b"}, None, "question_answer", ["C\n\nA", "B"]),
        ({"prompt": "a", "chosen": "b", "rejected": "c"}, None, "preference", ["A", "B"]),
        ({"prompt": "a", "answer": "b", "desirable": "yes"}, None, "kto", ["A", "B"]),
        ({"prompt": "a", "answers": "d", "scores": "n"}, None, "ranked", ["A", "E"]),
        ({"prompt": "a", "choices": "d", "gold": "n"}, None, "", []),
        ({"prompt": "a", "context": "b", "answers": "d"}, None, "squad", ["B\n\nA", "D"]),
    ]
    for fields, label, shape, texts in cases:
        if not shape:
            with pytest.raises(PipelineError, match="no row has question or query, choices"):
                read(tmp_path, [row], fields=fields)
            continue
        rows = read(tmp_path, [row], fields=fields, label=label)
        assert rows.origins[0].shape == f"{shape} (fields)"
        assert [t["content"] for t in rows.table["messages"][0].as_py()] == texts


def test_a_named_shape_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match=r'"jsonl": no row has the shape squad \(context, question, answers'):
        read(tmp_path, [{"question": "q", "answer": "a"}], shape="squad")


def test_nested_files_are_unwrapped(tmp_path: Path) -> None:
    passage = {
        "context": "c",
        "qas": [{"id": "1", "question": "q?", "answers": [{"text": "c", "answer_start": 0}]}] * 2,
    }
    texts = {
        "squad": {"version": "1", "data": [{"title": "t", "paragraphs": [passage, passage]}]},
        "alpaca": {"id": 1, "train": {"x": {"samples": [{"instruction": "a", "output": "b"}] * 3}}, "test": {"y": []}},
        "text_label": {"train": [["a", "l"], ["b", "m"]], "val": [["c", "l"]]},
        "plain_text": ["one", "two"],
    }
    pairs = [{"text": "a", "label": "l"}, {"text": "b", "label": "m"}, {"text": "c", "label": "l"}]
    columns = {name: [row[name] for row in pairs] for name in ("text", "label")}
    schema = {"fields": [{"name": "text"}], "pandas_version": "1.4.0"}
    for document in (
        columns,
        {name: dict(enumerate(values)) for name, values in columns.items()},
        {str(number): row for number, row in enumerate(pairs)},
        {"train": columns},
        {"schema": schema, "data": pairs},
        {"features": [{"name": "text"}], "rows": [{"row_idx": 0, "row": row} for row in pairs], "partial": False},
    ):
        (tmp_path / "x.json").write_text(json.dumps(document))
        rows = read_sources([Jsonl(path="x.json")], "stop", tmp_path)
        assert (rows.origins[0].shape, rows.table["label"].to_pylist()) == ("text_label", ["l", "m", "l"])
    for shape, document in texts.items():
        (tmp_path / "x.json").write_text(json.dumps(document, indent=1))
        rows = read_sources([Jsonl(path="x.json")], "quarantine", tmp_path)
        assert rows.origins[0].shape == shape
        assert rows.table.num_rows == {"squad": 4, "alpaca": 3, "text_label": 3, "plain_text": 2}[shape]
        assert rows.table["row"].to_pylist() == list(range(1, rows.table.num_rows + 1))
    (tmp_path / "x.jsonl").write_text("\n".join([json.dumps({"title": "t", "paragraphs": [passage]})] * 2))
    rows = read_sources([Jsonl(path="x.jsonl")], "quarantine", tmp_path)
    assert rows.table["row"].to_pylist() == [1, 1, 2, 2]


def test_fields_must_be_whole() -> None:
    for wrong in ({"prompt": "a"}, {"messages": "m", "prompt": "a", "answer": "b"}, {}, {"chosen": "c"}):
        with pytest.raises(ValidationError, match="either messages, or both"):
            Fields(**wrong)


def test_a_column_without_a_name_is_no_role() -> None:
    row = {"": [{"a": 1}], "messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}
    found = recognise_shape("case", [row])
    assert [turn["content"] for turn in found.convert(row).turns] == ["q", "a"]
