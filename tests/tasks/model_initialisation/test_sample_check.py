"""No turn is lost without a word, no answer without its end, and a fold by choice is in training and serving alike."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from tasks.contracts.errors import PipelineError
from tasks.contracts.records import EXAMPLES
from tasks.language_models.encoding import IGNORED, encode_examples, encode_prompt
from tasks.language_models.templates.rendering import Rendering
from tasks.model_initialisation.chat_template import choose_template, fold_turns
from tasks.model_initialisation.checks import open_tokenizer
from tasks.model_initialisation.sample_check import check_sample

SYSTEM = {"role": "system", "content": "Be kind."}
ASKED = {"role": "user", "content": "A room?"}
ANSWERED = {"role": "assistant", "content": "Yes."}
RESULT = {"role": "tool", "content": "Room 7 is free."}
# Writes users and assistants, and passes over everybody else.
DEAF = (
    "{% for m in messages %}{% if m['role'] in ('user', 'assistant') %}"
    "[{{ m['role'] }}]{{ m['content'] + eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)
# Takes users and assistants in turn, as Gemma's and the first Mistral's do, and nobody else.
STRICT = (
    "{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}"
    "[{{ m['role'] }}]{{ m['content'] + eos_token }}{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}"
)
PARTS = (
    "{% for m in messages %}[{{ m['role'] }}]{% for part in m['content'] %}{{ part['text'] }}{% endfor %}"
    "{{ eos_token }}{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}"
)


def table(*conversations: list[dict[str, str]]) -> pa.Table:
    rows = [
        {"id": str(n), "messages": turns, "source": "s", "row": n + 1, "label": None, "cluster": str(n)}
        for n, turns in enumerate(conversations)
    ]
    return pa.Table.from_pylist(rows, schema=EXAMPLES)


def test_a_sample_that_is_whole_is_counted(model: Path) -> None:
    tokenizer = open_tokenizer(model)
    found = check_sample(table([SYSTEM, ASKED, ANSWERED], [ASKED, ANSWERED], [ASKED]), tokenizer)
    assert (found.rows, found.refused, found.answered) == (3, 0, 2)


def test_a_result_written_as_json_is_not_lost(model: Path) -> None:
    tokenizer = open_tokenizer(model)
    tokenizer.chat_template = (
        "{% for m in messages %}[{{ m['role'] }}]"
        "{{ (m['content'] | tojson if m['role'] == 'tool' else m['content']) + eos_token }}{% endfor %}"
        "{% if add_generation_prompt %}[assistant]{% endif %}"
    )
    result = {"role": "tool", "content": '{"room": 7,\n "free": "ja, für 2"}'}
    assert check_sample(table([ASKED, ANSWERED, result, ANSWERED]), tokenizer).answered == 1


@pytest.mark.parametrize(
    ("role", "conversation"),
    [("system", [SYSTEM, ASKED, ANSWERED]), ("tool", [ASKED, ANSWERED, RESULT, ANSWERED])],
)
def test_a_role_is_never_dropped_without_a_word(model: Path, role: str, conversation: list[dict[str, str]]) -> None:
    tokenizer = open_tokenizer(model)
    tokenizer.chat_template = DEAF
    choose_template(tokenizer, "own")
    check_sample(table([ASKED, ANSWERED]), tokenizer)
    with pytest.raises(PipelineError, match=rf"leaves out the {role} turn of 1 of 2 .*fold_roles: \[{role}\]"):
        check_sample(table(conversation, [ASKED, ANSWERED]), tokenizer)
    folded = open_tokenizer(model)
    folded.chat_template = DEAF
    template = choose_template(folded, "own", fold_roles=(role,))  # type: ignore[arg-type]
    assert template.supplied == folded.chat_template
    assert f"turns of {role} are written into those of the user" in template.remarks[-1]
    assert check_sample(table(conversation), folded).answered == 1


def test_a_fold_is_trained_as_it_is_served(model: Path) -> None:
    tokenizer = open_tokenizer(model)
    tokenizer.chat_template = STRICT
    with pytest.raises(PipelineError, match="refuses the conversation"):
        encode_prompt(tokenizer, [SYSTEM, ASKED])
    choose_template(tokenizer, "own", fold_roles=("system", "tool"))
    conversation = [SYSTEM, ASKED, ANSWERED, RESULT, {"role": "user", "content": "And?"}, ANSWERED]
    assert check_sample(table(conversation), tokenizer).answered == 1
    expected = "[user]Be kind.\n\nA room?<|end|>[assistant]Yes.<|end|>[user]Room 7 is free.\n\nAnd?<|end|>[assistant]"
    assert tokenizer.decode(encode_prompt(tokenizer, conversation[:-1])) == expected
    # transformers' own renderer, which other servers use
    served = tokenizer.apply_chat_template(conversation[:-1], tokenize=False, add_generation_prompt=True)
    assert served == expected
    labels = encode_examples(table(conversation), tokenizer, 256)["labels"][0].as_py()
    assert tokenizer.decode([t for t in labels if t != IGNORED]) == "Yes.<|end|>Yes.<|end|>"


@pytest.mark.parametrize(
    ("turns", "expected"),
    [
        ([ASKED, SYSTEM, ANSWERED], "[user]A room?\n\nBe kind.$[assistant]Yes.$"),
        ([SYSTEM, ANSWERED], "[user]Be kind.$[assistant]Yes.$"),
        ([ASKED, ANSWERED, RESULT, RESULT], "[user]A room?$[assistant]Yes.$[user]Room 7 is free.\n\nRoom 7 is free.$"),
        ([ASKED, ASKED, ANSWERED], "[user]A room?$[user]A room?$[assistant]Yes.$"),
    ],
)
@pytest.mark.parametrize("template", [DEAF, PARTS])
def test_turns_are_folded_into_those_next_to_them(template: str, turns: list[dict[str, str]], expected: str) -> None:
    rendering = Rendering(fold_turns(template, ("tool", "system")), {"eos_token": "$"})
    assert rendering.render(turns, answering=False) == expected


def test_an_answer_without_an_end_is_refused(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tasks.language_models.templates.chat import Chat

    tokenizer = open_tokenizer(model)
    encode = Chat.encode

    def forget_end(self: Chat, conversations: object) -> object:
        return [
            (prompt, [(token, learned and token != self.form.end) for token, learned in answer])
            for prompt, answer in encode(self, conversations)  # type: ignore[arg-type]
        ]

    monkeypatch.setattr(Chat, "encode", forget_end)
    with pytest.raises(PipelineError, match="the end of the answer carries no loss, so the model would not learn to"):
        check_sample(table([ASKED, ANSWERED]), tokenizer)
