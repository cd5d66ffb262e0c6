"""Rows that a strict chat template refuses: dropped with its reason, merged or folded; all others stay as they are."""

from __future__ import annotations

import hashlib
import json
import logging
from itertools import pairwise, product
from pathlib import Path
from typing import Any, get_args

import pyarrow as pa
import pytest
import trl
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tasks.contracts.errors import PipelineError
from tasks.contracts.records import EXAMPLES, MESSAGES, Role
from tasks.corpus.reading.answers import TYPE
from tasks.corpus.rows.rows import Rows
from tasks.data_preparation.cleaning.clean import NoRowLeft, check_cleaners, clean_rows
from tasks.data_preparation.cleaning.steps.missing import Missing
from tasks.data_preparation.cleaning.steps.template import Repairs, Template, fold_system, merge_adjacent
from tasks.data_preparation.params import DataPreparation
from tasks.language_models.encoding import encode_examples
from tasks.language_models.templates.rendering import refusal_of
from tests.conversations import Turns, make, pair

SHIPPED = Path(trl.__file__).parent / "chat_templates"
GEMMA = SHIPPED / "gemma.jinja"
ALTERNATE = "Conversation roles must alternate user/assistant/user/assistant/..."
# As Mistral's: a system turn first is taken, then user and assistant alternate.
MISTRAL = (
    "{% set turns = messages[1:] if messages[0]['role'] == 'system' else messages %}{{ bos_token }}"
    "{% for message in turns %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}"
    "{{ message['content'] }}{% endfor %}"
)
# As some of the first: any order, but no system turn.
NO_SYSTEM = (
    "{% for message in messages %}{% if message['role'] == 'system' %}{{ raise_exception('no system turn') }}"
    "{% endif %}{{ message['content'] }}{% endfor %}"
)
S, U, V, A, B = (
    ("system", "Be brief."),
    ("user", "Hello?"),
    ("user", "Anyone?"),
    ("assistant", "Hi."),
    ("assistant", "Ho."),
)
REPAIRS: list[Repairs] = [(), ("merge",), ("fold",), ("merge", "fold"), ("fold", "merge")]


@pytest.fixture(scope="module")
def templates(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("templates")
    (folder / "mistral.jinja").write_text(MISTRAL)
    (folder / "no_system.jinja").write_text(NO_SYSTEM)
    names = ("mistral", "no_system")
    return {"gemma": str(GEMMA), **{name: str(folder / f"{name}.jinja") for name in names}}


def run(model: str, repair: Repairs, *rows: Turns) -> Rows:
    """Rows through the step, behind one that every template takes."""
    return clean_rows(make(pair("Ready?", "Yes."), *rows), [Template(model=model, repair=repair)])


def turns_of(rows: Rows) -> list[Turns]:
    return [[(turn["role"], turn["content"]) for turn in row] for row in rows.table["messages"].to_pylist()][1:]


@pytest.mark.parametrize(
    ("template", "repair", "row", "expected"),
    [
        ("gemma", (), [U, V, A], f"turn 2 (user): {ALTERNATE}"),
        ("gemma", ("fold",), [U, V, A], f"turn 2 (user): {ALTERNATE}"),
        ("gemma", ("merge",), [U, V, A], [("user", "Hello?\n\nAnyone?"), A]),
        ("gemma", (), [S, U, A], "turn 1 (system): System role not supported"),
        ("gemma", ("merge",), [S, U, A], "turn 1 (system): System role not supported"),
        ("gemma", ("fold",), [S, U, A], [("user", "Be brief.\n\nHello?"), A]),
        (
            "gemma",
            ("fold",),
            [S, U, V, A],
            f"turn 1 (system): System role not supported; after fold: turn 2 (user): {ALTERNATE}",
        ),
        (
            "gemma",
            ("merge", "fold"),
            [S, U, A, B],
            f"turn 1 (system): System role not supported; after merge and fold: turn 3 (assistant): {ALTERNATE}",
        ),
        ("gemma", ("merge", "fold"), [S, U, V, A], [("user", "Be brief.\n\nHello?\n\nAnyone?"), A]),
        ("gemma", ("fold", "merge"), [S, U, V, A], [("user", "Be brief.\n\nHello?\n\nAnyone?"), A]),
        # A system turn further on stays where it is said: before the next user turn, or behind the one before it.
        ("gemma", ("fold",), [U, A, S, V, B], [U, A, ("user", "Be brief.\n\nAnyone?"), B]),
        ("gemma", ("fold",), [U, S, A], [("user", "Hello?\n\nBe brief."), A]),
        ("gemma", ("fold",), [S, S, U, A], [("user", "Be brief.\n\nBe brief.\n\nHello?"), A]),
        # Nothing asks, so the instruction has nowhere to go.
        ("gemma", ("merge", "fold"), [S, A], "turn 1 (system): System role not supported"),
        # A correction behind the answer that it corrects never becomes one text with it.
        *[("gemma", repair, [U, A, B], f"turn 3 (assistant): {ALTERNATE}") for repair in REPAIRS],
        *[("mistral", repair, [U, A, B], "turn 3 (assistant): roles must alternate") for repair in REPAIRS],
        ("gemma", ("merge", "fold"), [U, ("tool", "4"), A], f"turn 3 (assistant): {ALTERNATE}"),
        ("gemma", ("merge", "fold"), [("tool", "4"), U, A], f"turn 1 (tool): {ALTERNATE}"),
        ("gemma", ("merge", "fold"), [], "no turns"),
        ("gemma", ("merge", "fold"), [A], f"turn 1 (assistant): {ALTERNATE}"),
        ("gemma", ("merge",), [U, ("user", " "), A], [U, A]),
        # What this template takes stays, though another repair is allowed: the system turn is not folded.
        ("mistral", ("merge", "fold"), [S, U, V, A], [S, ("user", "Hello?\n\nAnyone?"), A]),
        ("mistral", ("fold", "merge"), [S, U, A], [S, U, A]),
        ("mistral", ("merge",), [S, S, U, A], [("system", "Be brief.\n\nBe brief."), U, A]),
        ("no_system", ("merge", "fold"), [S, U, V, A], [("user", "Be brief.\n\nHello?"), V, A]),
        ("no_system", ("merge", "fold"), [U, V, A, B], [U, V, A, B]),
    ],
)
def test_a_refused_row_is_repaired_as_allowed_or_dropped_with_the_reason(
    templates: dict[str, str], template: str, repair: Repairs, row: Turns, expected: str | Turns
) -> None:
    done = run(templates[template], repair, row)
    if isinstance(expected, str):
        assert done.steps[-1].reasons == {expected: 1}
        assert turns_of(done) == []
        (dropped,) = done.dropped.to_pylist()
        assert (dropped["row"], dropped["step"], dropped["reason"]) == (2, "template", expected)
        assert [(turn["role"], turn["content"]) for turn in json.loads(dropped["content"])["messages"]] == row
        assert done.steps[-1].changed == 0
    else:
        assert turns_of(done) == [expected]
        assert done.steps[-1].changed == (row != expected)


def test_turns_after_the_last_answer_teach_nothing_and_are_not_judged(templates: dict[str, str]) -> None:
    row = [U, A, U, V]
    assert turns_of(run(templates["gemma"], (), row)) == [row]


def test_the_counts_are_on_the_page_and_in_the_figures(templates: dict[str, str]) -> None:
    done = run(templates["gemma"], ("merge", "fold"), [U, V, A], [U, V, A], [S, U, A], [S, U, V, A], [U, A, B], [U, A])
    step = done.steps[-1]
    assert (step.rows_in, step.rows_out, step.changed) == (7, 6, 4)
    assert done.figures == {"rows_in": 7, "rows_out": 6, "changed": 4, "merged": 3, "folded": 2}
    (listing,) = step.listings
    assert listing.rows == (("fold", 1), ("merge", 2), ("merge and fold", 1))
    assert step.examples[0] == (
        "user: Hello? → user: Anyone? → assistant: Hi.",
        "user: Hello?\\n\\nAnyone? → assistant: Hi.",
    )
    assert run(templates["gemma"], (), [U, A, B]).steps[-1].listings == ()


texts = st.sampled_from(["", " ", "a", "b\n", "<|end|>", "日本"])
turn = st.fixed_dictionaries({"role": st.sampled_from(get_args(Role)), "content": texts})
conversations = st.lists(turn, max_size=6)


@given(
    st.lists(conversations, max_size=5), st.sampled_from(REPAIRS), st.sampled_from(["gemma", "mistral", "no_system"])
)
def test_accepted_rows_stay_and_repaired_rows_render(
    templates: dict[str, str], rows: list[list[dict[str, Any]]], repair: Repairs, name: str
) -> None:
    template = Path(templates[name]).read_text()

    def refused(row: list[dict[str, Any]]) -> bool:
        end = max((n for n, each in enumerate(row, 1) if each["role"] == "assistant"), default=len(row))
        return not row or refusal_of(row[:end], template) is not None

    table = make(*([(each["role"], each["content"]) for each in row] for row in rows)).table
    done = Template(model=templates[name], repair=repair).clean(table)
    assert done.table.schema == table.schema
    assert done.reasons is not None
    changed = 0
    for before, after, reason in zip(rows, done.table["messages"].to_pylist(), done.reasons, strict=True):
        changed += before != after
        if reason is not None or not refused(before):
            assert after == before
        assert (reason is not None) == refused(after)
        answers, left = ([t for t in row if t["role"] == "assistant"] for row in (before, after))
        assert left == answers
    assert done.changed == changed


@given(conversations)
def test_repairs_lose_no_text_and_change_no_answer(row: list[dict[str, Any]]) -> None:
    said = "\n\n".join(each["content"] for each in row if each["content"].strip())
    for repaired in (merge_adjacent(row), fold_system(row), merge_adjacent(fold_system(row))):
        assert "\n\n".join(each["content"] for each in repaired if each["content"].strip()) == said
        assert [t for t in repaired if t["role"] == "assistant"] == [t for t in row if t["role"] == "assistant"]
    merged = [each["role"] for each in merge_adjacent(row)]
    assert [one for one, other in pairwise(merged) if one == other != "assistant"] == []


def test_what_the_step_keeps_is_trained_on(tiny_model: Path, templates: dict[str, str]) -> None:
    """The step and the stages that encode rows draw the line at the same place."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    rows: list[Turns] = [
        [pick for pick in picks if pick] for picks in product((S, None), (U, None), (V, None), (A,), (B, None))
    ]
    for name in ("gemma", "mistral", "no_system"):
        tokenizer.chat_template = Path(templates[name]).read_text()
        done = run(templates[name], (), *rows)
        table = make(pair("Ready?", "Yes."), *rows).table
        columns = {"id": list(map(str, range(table.num_rows))), "source": table["source"], "row": table["row"]}
        examples = pa.table(
            {**columns, "messages": table["messages"], "label": table["label"], "cluster": columns["id"]}, EXAMPLES
        )
        refused = encode_examples(examples, tokenizer, 100)["refused"].to_pylist()
        assert [number for number, reason in enumerate(refused, 1) if reason] == done.dropped["row"].to_pylist()


def with_answers(prompt: Turns, preferred: Turns, *others: Turns) -> Rows:
    rows = make([*prompt, *preferred])
    described = [{"turns": [{"role": r, "content": c} for r, c in each], "score": 0.0} for each in others]
    answers = {"start": len(prompt), "score": 1.0, "preferred": True, "others": described}
    table = rows.table.append_column("answers", pa.array([answers], TYPE))
    return Rows(table, rows.dropped, rows.steps, rows.origins)


def test_answers_to_choose_from_keep_their_place_behind_a_shorter_prompt(templates: dict[str, str]) -> None:
    step = Template(model=templates["gemma"], repair=("merge", "fold"))
    done = clean_rows(with_answers([S, U, V], [A], [B], [A, B]), [step])
    (row,) = done.table.to_pylist()
    assert [turn["content"] for turn in row["messages"]] == ["Be brief.\n\nHello?\n\nAnyone?", "Hi."]
    assert row["answers"]["start"] == 1
    assert [[turn["content"] for turn in other["turns"]] for other in row["answers"]["others"]] == [["Ho."]]
    assert done.steps[-1].notes == {"merged": 1, "folded": 1, "other_answers_dropped": 1}
    assert done.table.schema.field("messages").type == MESSAGES
    untouched = with_answers([U], [A], [B])
    assert clean_rows(untouched, [step]).table.equals(untouched.table)


def test_a_template_is_read_as_transformers_would(tmp_path: Path) -> None:
    config: dict[str, Any] = {"bos_token": {"content": "<s>", "special": True}, "eos_token": "</s>", "pad_token": None}
    refuses = "{{ raise_exception('refused by ' + bos_token + eos_token) }}"
    named = [{"name": "tool_use", "template": "{{ 1 // 0 }}"}, {"name": "default", "template": refuses}]
    step = Template(model=str(tmp_path))
    for own in (refuses, named):
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(config | {"chat_template": own}))
        with pytest.raises(NoRowLeft, match=r"turn 1 \(user\): refused by <s></s>"):
            clean_rows(make([U, A]), [step])
    (tmp_path / "chat_template.jinja").write_text("{{ messages[0]['content'] }}")
    assert clean_rows(make([U, A]), [step]).table.num_rows == 1


def test_a_missing_or_changed_template_is_named_before_any_row_is_read(tmp_path: Path) -> None:
    (tmp_path / "tokenizer_config.json").write_text('{"eos_token": "x"}')
    wrong = tmp_path / "wrong.jinja"
    wrong.write_text("{% for message in messages %}")
    for model, problem in (
        (tmp_path / "none", "none: nothing there, so no chat template; expected a folder with chat_template.jinja"),
        (tmp_path, "a folder without chat template; expected"),
        (wrong, r"wrong\.jinja: the chat template is no Jinja template"),
    ):
        with pytest.raises(PipelineError, match=f"^cleaning step template: .*{problem}") as found:
            check_cleaners([Missing(), Template(model=str(model))])
        assert "\n" not in str(found.value)
    with pytest.raises(PipelineError, match="pinned is 0000"):
        check_cleaners([Template(model=str(GEMMA), sha256="0" * 64)])
    with pytest.raises(ValidationError, match="twice"):
        Template(repair=("merge", "merge"))


def test_a_template_that_nothing_watches_is_pinned_or_warned_about(caplog: pytest.LogCaptureFixture) -> None:
    found = hashlib.sha256(GEMMA.read_bytes()).hexdigest()
    with caplog.at_level(logging.WARNING):
        check_cleaners([Template(model=str(GEMMA), sha256=found)])
        assert caplog.text == ""
        check_cleaners([Template(model=str(GEMMA))])
    assert (
        f"outside data/raw, so DVC does not watch it and a change goes unnoticed; move it there or pin it with "
        f"sha256: {found}" in caplog.text
    )


def test_the_step_is_off_by_default_and_named_in_params() -> None:
    assert not [step for step in DataPreparation().cleaning if isinstance(step, Template)]
    steps = [{"name": "missing"}, {"name": "template", "repair": ["merge"]}]
    named = DataPreparation.model_validate({"cleaning": steps}).cleaning[1]
    assert named == Template(model="models/base", repair=("merge",))
