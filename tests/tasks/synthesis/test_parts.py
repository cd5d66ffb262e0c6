"""Reading what models write, the templates, and each check alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tasks.contracts.errors import PipelineError
from tasks.contracts.records import QUARANTINE
from tasks.corpus.rows.rows import Origin, Rows
from tasks.data_preparation.splitting.methods.assignment import Assigned
from tasks.data_preparation.splitting.split import keep_in_train
from tasks.language_models.writers.reading import Unusable, read_json, read_list
from tasks.synthesis.checks.arithmetic import ArithmeticCheck, list_equations
from tasks.synthesis.checks.check import RowCheck, Step
from tasks.synthesis.checks.duplicates import DuplicateCheck
from tasks.synthesis.checks.exact import ExactCheck, normalise_result
from tasks.synthesis.checks.json import JsonCheck
from tasks.synthesis.checks.label_set import LabelSetCheck
from tasks.synthesis.checks.python import PythonCheck
from tasks.synthesis.checks.refusal import RefusalCheck
from tasks.synthesis.checks.regex import RegexCheck
from tasks.synthesis.checks.schema import read_instruction
from tasks.synthesis.critique import read_verdict
from tasks.synthesis.drafts import Draft, Group, Known
from tasks.synthesis.instructions import read_items
from tasks.synthesis.publish import encode
from tasks.synthesis.wording import PLACEHOLDERS, Wording, copy_templates


def judge(check: RowCheck, step: Step = "answers", known: Known | None = None, **values: Any) -> str | None:
    [reason] = check.check([Draft("topic", **values)], step, known or Known())
    return reason


@pytest.mark.parametrize(
    ("answer", "items"),
    [
        ('["a", "b"]', ["a", "b"]),
        ('Of course!\n```json\n["a",\n "b",]\n```\nAnything else?', ["a", "b"]),
        ('{"prompts": ["a", "b"]}', ["a", "b"]),
        ('{"instruction": "a"}', [{"instruction": "a"}]),
        ('["line\nbreak"]', ["line\nbreak"]),
    ],
)
def test_lists_are_read_as_models_write_them(answer: str, items: list[Any]) -> None:
    assert read_list(answer) == items


@pytest.mark.parametrize("answer", ["", "No.", '["a", "b"', '[{"a": ["b"]}, ', "```json\n```"])
def test_what_is_no_list_is_said_so(answer: str) -> None:
    with pytest.raises(Unusable, match="bad JSON"):
        read_list(answer)


def test_lines_do_only_where_they_are_enough() -> None:
    assert read_list("Topics:\n1. cards\n2) parcels\n- gifts", plain=True) == ["cards", "parcels", "gifts"]
    with pytest.raises(Unusable, match="an empty list"):
        read_list("[]", plain=True)
    assert read_items("Where is it?", 1, plain=True) == ["Where is it?"]
    for count, plain in ((2, True), (1, False)):
        with pytest.raises(Unusable):
            read_items("Where is it?", count, plain)
    with pytest.raises(Unusable):
        read_items('["Where is', 1, plain=True)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists, max_leaves=8).map(lambda v: [v]))
def test_any_json_is_found_between_words(value: list[Any]) -> None:
    assert read_json(f"Here: {json.dumps(value)} Bye.") == value


@given(st.text())
def test_no_answer_breaks_the_readers(text: str) -> None:
    for read in (read_list, read_verdict, lambda t: read_items(t, 1, True)):
        try:
            read(text)
        except Unusable:
            continue
    list_equations(text)
    encode({"text": text, "half": "\ud800"})


def test_deep_nesting_is_bad_json() -> None:
    with pytest.raises(Unusable):
        read_list("[" * 100_000)


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        ('{"critique": " Good. ", "score": 5}', (5, "Good.")),
        ('```\n{"score": "4"}\n```', (4, "")),
        ('[{"score": 3.0, "critique": null}]', (3, "")),
    ],
)
def test_verdicts_are_read(answer: str, verdict: tuple[int, str]) -> None:
    assert read_verdict(answer) == verdict


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ('{"score": 6}', "score out of range"),
        ('{"score": 0}', "score out of range"),
        ('{"score": 4.5}', "wrong schema"),
        ('{"score": true}', "wrong schema"),
        ('{"note": 4}', "wrong schema"),
        ("4", "bad JSON"),
    ],
)
def test_no_verdict_is_guessed(answer: str, why: str) -> None:
    with pytest.raises(Unusable, match=why):
        read_verdict(answer)


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        ({"instruction": "Where is it?", "label": "x"}, None),
        ({"instruction": "Where is it?", "label": 3}, None),
        ("Where is it?", "wrong schema: not an object"),
        (["Where is it?"], "wrong schema: not an object"),
        ({"instruction": "Where is it?"}, 'wrong schema: no "label"'),
        ({"instruction": " ", "label": "x"}, 'wrong schema: no "instruction"'),
        ({"instruction": "Where\x00is it?", "label": "x"}, "wrong schema: not text"),
        ({"instruction": "Where \ud800 is it?", "label": "x"}, "wrong schema: not text"),
        ({"instruction": "Where\nis it?", "label": "x"}, None),
    ],
)
def test_schema(item: Any, reason: str | None) -> None:
    assert read_instruction(item, ["label"], Draft("topic")).reason == reason


def test_a_text_alone_is_an_instruction_where_nothing_else_is_wanted() -> None:
    assert read_instruction("Where is it?", [], Draft("topic")).instruction == "Where is it?"


def test_duplicates_of_everything() -> None:
    known = Known(
        groups=(
            Group("a row of test", ["Where is my parcel with the blue lamp?"], held_out=True),
            Group("a seed", ["How do I pay in two parts?"]),
        ),
        taken=Group("another written row", ["Can you cancel the order for the rug?"]),
    )
    texts = [
        "where is MY parcel, with the blue lamp",
        "How do I pay in two parts",
        "Can you cancel the order for the rug",
        "Is the red kettle back in stock?",
        "Is the red kettle back in stock??",
        "Do you ship to islands?",
    ]
    found = DuplicateCheck().check([Draft("t", instruction=text) for text in texts], "instructions", known)
    assert found == [
        "too similar to a row of test",
        "too similar to a seed",
        "too similar to another written row",
        None,
        "too similar to another written row",
        None,
    ]
    # Nearer than 0.6 to a held-out row, and not to 0.7.
    near = "Where is my parcel with the lamp?"
    assert judge(DuplicateCheck(), "instructions", known, instruction=near) == "too similar to a row of test"
    assert judge(DuplicateCheck(held_out=0.9), "instructions", known, instruction=near) is None


@given(st.lists(st.text("abcd ", min_size=1, max_size=12), min_size=1, max_size=8), st.text("abcd ", max_size=12))
def test_likeness_is_the_jaccard_similarity(texts: list[str], text: str) -> None:
    def grams(value: str) -> set[str]:
        padded = f" {' '.join(value.split())} ".ljust(4)
        return {padded[i : i + 4] for i in range(len(padded) - 3)}

    best = max(len(grams(text) & grams(other)) / len(grams(text) | grams(other)) for other in texts)
    for threshold in (0.5, 0.7):
        assert (Group("", texts).find_similar([text], threshold) == {0}) == (best >= threshold)


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("48 / 2 = 24", [True]),
        ("$3 x 4 = $12, then 12 + 1 = 14", [True, False]),
        ("<<48/2=24>>24", [True]),
        ("10 / 3 = 3.33", [True]),
        ("10 / 3 = 3.34", [False]),
        ("10/3=3", [False]),
        ("(3+4 = 7)", [True]),
        ("He has 5. 3 + 4 = 7", [True]),
        ("- 3 + 4 = 7", [True]),
        ("2+3 = 4+1 = 5", [True]),
        ("20% * 50 = 10", [True]),
        ("9 / 12 * 100 = 75%", [True]),
        ("1,000 × 2 = 2,000.", [True]),
        ("2 * (3 + 4) = 14", [True]),
        ("2x - 3 = 5, x * 3 = 12, f(3+4) = 8, a = 3", []),
        ("1/0=3 and 9**9**9 = 3 and 5 = 5", []),
    ],
)
def test_equations_are_computed_again(text: str, holds: list[bool]) -> None:
    assert [right for _, right in list_equations(text)] == holds


def test_sums_may_be_required() -> None:
    assert judge(ArithmeticCheck(), answer="Nothing.") is None
    assert judge(ArithmeticCheck(required=True), answer="Nothing.") == "no equation"
    assert judge(ArithmeticCheck(), answer="3 + 4 = 8") == "a wrong equation"
    # Linear in the length of the answer.
    assert list_equations("(" * 100_000 + "1+1 = 3 " * 1000)


@pytest.mark.parametrize(
    ("answer", "expected", "reason"),
    [
        ("So\n#### 42", "42.0", None),
        ("#### 1\nno:\n#### $1,042.50", "1042.5", None),
        ("#### Paris.", "paris", None),
        ("#### 41", "42", "result differs from the expected one"),
        ("42", "42", "no result after ####"),
        ("####", "42", "no result after ####"),
    ],
)
def test_results_agree(answer: str, expected: str, reason: str | None) -> None:
    assert judge(ExactCheck(), answer=answer, fields={"expected": expected}) == reason


def test_numbers_are_values() -> None:
    assert normalise_result("-3.50") == normalise_result("-3.5")
    assert normalise_result("12 apples") == normalise_result("12  Apples.")


@pytest.mark.parametrize(
    ("one", "other"), [("x = 1.0", "x = 10"), ("1,5", "15"), ("f(x, y)", "f(xy)"), ("x=-1", "x=1")]
)
def test_results_that_differ_in_a_sign_are_different(one: str, other: str) -> None:
    assert normalise_result(one) != normalise_result(other)


@pytest.mark.parametrize(
    ("check", "answer", "reason"),
    [
        (JsonCheck(), '{"a": 1}', None),
        (JsonCheck(), "{a: 1}", "answer is not JSON"),
        (JsonCheck(keys=("a",)), "[1]", "answer is not a JSON object"),
        (JsonCheck(keys=("a", "b")), '{"a": 1}', 'no "b" in the JSON'),
        (JsonCheck(), '```json\n{"a": 1}\n```', "answer is not JSON"),
        (JsonCheck(fence=True), '```json\n{"a": 1}\n```', None),
        (RegexCheck(must="^(yes|no)$"), "yes", None),
        (RegexCheck(must="^(yes|no)$"), "maybe", "no match for ^(yes|no)$"),
        (RegexCheck(must_not="(?i)as an ai"), "As an AI", "matches (?i)as an ai"),
        (RefusalCheck(), "I'm sorry, but I cannot help with that.", "the teacher refuses"),
        (RefusalCheck(), "I'm sorry, your parcel is late.", None),
    ],
)
def test_answers_are_held_against_a_form(check: RowCheck, answer: str, reason: str | None) -> None:
    assert judge(check, answer=answer) == reason


def test_a_pattern_must_be_one() -> None:
    for values, message in (({}, "give must, must_not or both"), ({"must": "("}, "invalid pattern")):
        with pytest.raises(ValidationError, match=message):
            RegexCheck.model_validate(values)
    assert RegexCheck(of="prompts", must="x").steps == ("instructions",)


def test_labels_are_of_the_set() -> None:
    known = Known(labels=("card",))
    assert judge(LabelSetCheck(), "instructions", known, label="card") is None
    assert judge(LabelSetCheck(), "instructions", known, label="Card") == "label not in the set"
    assert judge(LabelSetCheck(), "instructions", label=None) is None


def test_code_without_isolation_still_has_limits() -> None:
    check = PythonCheck(seconds=1, isolated=False)
    assert check.run("def f(): return 1", "assert f() == 1") is None
    assert check.run("import time; time.sleep(30)", "assert True") == "its code takes too long"
    assert check.run("x = bytearray(10**9)", "assert True") == "its code fails: MemoryError"
    assert check.run("def f(:", "assert True") == "its code fails: SyntaxError"
    assert judge(check, answer="```python\nx = 1\n```", fields={"tests": "print(x)"}) == "no assert in the tests"
    fenced = {"tests": "```python\nassert x == 1\n```"}
    assert judge(check, answer="```python\nx = 1\n```", fields=fenced) is None


def test_the_packages_templates_are_whole() -> None:
    assert len(Wording(None).hash) == 16
    values: dict[str, Any] = {"task": "T", "examples": [], "count": 3, "known": ["k"], "topic": "t", "avoid": ["a"]}
    values |= {"labels": ["x", "y"], "fields": {"expected": "the result"}, "instruction": "I", "label": "x"}
    values |= {"answer": "A", "critique": "C", "score": 4, "hints": ["H"]}
    for name, placeholders in PLACEHOLDERS.items():
        text = Wording(None).write(name, **{key: values[key] for key in placeholders})
        assert text
        assert "{" not in text
    text = Wording(None).write("instructions", **{key: values[key] for key in PLACEHOLDERS["instructions"]})
    assert 'key "label" with one of these: x, y, the key "expected" with the result.' in text


def test_wrong_templates_are_reported_together(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match=r"has none of topics\.txt, .*heptune synthesize --prompts FOLDER"):
        Wording(tmp_path)
    assert len(copy_templates(tmp_path)) == 5
    assert copy_templates(tmp_path) == []
    assert Wording(tmp_path).hash == Wording(None).hash
    (tmp_path / "answers.txt").write_text("Do {{ instructoin }}")
    (tmp_path / "topics.txt").write_text("{% if %}")
    (tmp_path / "rewrite.txt").write_bytes(b"\xff")
    with pytest.raises(PipelineError) as caught:
        Wording(tmp_path)
    lines = str(caught.value).splitlines()
    assert len(lines) == 5
    assert "answers.txt: unknown placeholder {{ instructoin }}; it may have task, instruction, label" in lines[2]
    assert "answers.txt: the placeholder {{ instruction }} is missing; add it" in lines[3]
    copy_templates(tmp_path / "own")
    own = tmp_path / "own"
    for name in ("topics", "answers", "critique", "rewrite"):
        (own / f"{name}.txt").unlink()
    (own / "instructions.txt").write_text("{{ count }} about {{ topic }}")
    assert Wording(own).write("instructions", count=2, topic="x") == "2 about x"
    with pytest.raises(PipelineError, match=r"instructions\.txt: the placeholder \{\{ labels \}\} is missing"):
        Wording(own, {"instructions": ["labels"]})
    (own / "instructions.txt").write_text("{{ count }} {{ topic.name.more }}")
    with pytest.raises(PipelineError, match="cannot be rendered"):
        Wording(own).write("instructions", count=2, topic="x")
    (own / "instructions.txt").write_text("{{ count }} {{ topic.__class__.__mro__ }}")
    with pytest.raises(PipelineError, match="cannot be rendered"):
        Wording(own).write("instructions", count=2, topic="x")


def test_sources_for_training_only_need_no_place_in_a_split() -> None:
    origins = tuple(Origin(title, "jsonl", "x", "messages", {}, 2, 1.0) for title in ("support", "synthetic"))
    table = pa.table({"source": ["support", "synthetic", "synthetic", "support"]})
    rows = Rows(table, QUARANTINE.empty_table(), (), origins)
    assigned = Assigned([None, "test", None, "test"], ["no day", None, "no day", None])
    kept = keep_in_train(assigned, rows, ("synthetic",))
    assert kept == Assigned([None, "train", "train", "test"], ["no day", None, None, None])
    assert keep_in_train(assigned, rows, ()) == assigned
