"""Any template will do that writes answers after their prompts; the token that ends an answer carries loss."""

from __future__ import annotations

from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import trl

from tasks.contracts.errors import PipelineError
from tasks.contracts.records import EXAMPLES
from tasks.language_models.encoding import IGNORED, encode_examples, encode_prompt, encode_reference
from tasks.language_models.templates.rendering import find_arguments
from tasks.model_initialisation.chat_template import choose_template, fix_date, set_arguments
from tasks.model_initialisation.checks import open_tokenizer

TURNS = [
    {"role": "system", "content": "Be kind."},
    {"role": "user", "content": "A room?"},
    {"role": "assistant", "content": "Yes, of course."},
    {"role": "user", "content": "A late one?"},
    {"role": "assistant", "content": "That too."},
]
SMOLLM2 = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful AI assistant named SmolLM<|im_end|>\n' }}{% endif %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
UNMARKED = "{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }}{{ eos_token }}{% endfor %}"


def supervised_text(tokenizer: Any) -> str:
    row = {"id": "a", "messages": TURNS, "source": "s", "row": 1, "label": None, "cluster": "a"}
    encoded = encode_examples(pa.Table.from_pylist([row], schema=EXAMPLES), tokenizer, 256)
    labels = encoded["labels"][0].as_py()
    return str(tokenizer.decode([t for t in labels if t != IGNORED]))


def test_the_model_s_own_marks_are_used(model: Path) -> None:
    tokenizer = open_tokenizer(model)
    before = tokenizer.chat_template
    template = choose_template(tokenizer, "own")
    assert (template.marked_by, template.supplied, template.end, template.remarks) == ("own", None, "<|end|>", ())
    assert tokenizer.chat_template == before
    assert supervised_text(tokenizer) == "Yes, of course.<|end|>That too.<|end|>"


def test_chatml_ends_turns_with_the_tokenizer_s_own_end(model: Path) -> None:
    tokenizer = open_tokenizer(model)
    tokenizer.chat_template = None
    template = choose_template(tokenizer, "chatml")
    assert template.supplied == tokenizer.chat_template
    assert template.end == "<|end|>"
    rendered = tokenizer.apply_chat_template(TURNS[1:3], tokenize=False)
    assert rendered == "<|im_start|>user\nA room?<|end|>\n<|im_start|>assistant\nYes, of course.<|end|>\n"
    prompt = tokenizer.apply_chat_template(TURNS[1:2], tokenize=False, add_generation_prompt=True)
    assert rendered.startswith(prompt)
    assert supervised_text(tokenizer) == "Yes, of course.<|end|>That too.<|end|>"


def test_a_template_that_trl_knows_is_compared_with_trl_s_marks(model: Path) -> None:
    from trl.chat_template_utils import qwen2_5_chat_template

    tokenizer = open_tokenizer(model)
    tokenizer.chat_template = qwen2_5_chat_template
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    template = choose_template(tokenizer, "own")
    assert (template.marked_by, template.supplied, template.end) == ("TRL", None, "<|im_end|>")
    assert tokenizer.chat_template == qwen2_5_chat_template
    assert supervised_text(tokenizer) == "Yes, of course.<|im_end|>That too.<|im_end|>"


def test_a_plain_template_without_marks_is_accepted(model: Path) -> None:
    tokenizer = open_tokenizer(model)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    tokenizer.chat_template = SMOLLM2
    template = choose_template(tokenizer, "own")
    assert (template.marked_by, template.end, template.remarks) == ("nothing", "<|im_end|>", ())
    assert supervised_text(tokenizer) == "Yes, of course.<|im_end|>That too.<|im_end|>"


def test_what_only_one_of_training_and_serving_writes_is_told(model: Path, caplog: pytest.LogCaptureFixture) -> None:
    tokenizer = open_tokenizer(model)
    tokenizer.chat_template = UNMARKED
    template = choose_template(tokenizer, "own")
    assert "before an answer it writes '[assistant]'" in template.remarks[0]
    assert "only the last answer" in template.remarks[1]
    assert "before an answer it writes" in caplog.text
    assert supervised_text(tokenizer) == "That too.<|end|>"


def test_a_template_that_writes_no_answers_is_refused(model: Path) -> None:
    tokenizer = open_tokenizer(model)
    tokenizer.chat_template = "{% for m in messages if m['role'] == 'user' %}{{ m['content'] }}{% endfor %}"
    with pytest.raises(PipelineError, match=r"does not write both turns .* set model_initialisation\.chat_template"):
        choose_template(tokenizer, "own")


def test_today_s_date_is_written_into_the_template(model: Path) -> None:
    tokenizer = open_tokenizer(model)
    source = (
        "\n{%- macro day() -%}{{ strftime_now('%d %b %Y') }}{%- endmacro -%}"
        '{% if strftime_now is defined %}{{ strftime_now("It\'s %Y-%m-%d") }} {{ day() }}{% endif %}'
        "{% for m in messages %}{{ m['content'] + eos_token }}{% endfor %}"
    )
    tokenizer.chat_template = source
    template = choose_template(tokenizer, "own", date(2030, 5, 17))
    assert template.supplied == tokenizer.chat_template != source
    assert "fixed to 2030-05-17" in template.remarks[-1]
    # transformers' own renderer, which vLLM uses too, has a clock and does not use it
    text = tokenizer.apply_chat_template(TURNS[1:2], tokenize=False)
    assert text == "It's 2030-05-17 17 May 2030A room?<|end|>"
    again = open_tokenizer(model)
    again.chat_template = template.supplied
    assert choose_template(again, "own", date(2030, 5, 18)).supplied != template.supplied


WORDS = {"model_identity": 'It\'s {{ a }} %} "shop".\n', "knowledge_cutoff": "2030-01"}
VALUES: dict[str, bool | str] = {"enable_thinking": False, "reasoning_effort": "low", "low_effort": True, **WORDS}
FOLDER = Path(trl.__file__).parent / "chat_templates"
SHIPPED = {path.stem: path.read_text("utf-8") for path in FOLDER.glob("*.jinja")}
READ = {name: {key: VALUES[key] for key in find_arguments(text) & VALUES.keys()} for name, text in SHIPPED.items()}


@pytest.mark.parametrize("name", sorted(name for name, values in READ.items() if values))
def test_arguments_written_into_a_template_do_what_they_do_when_passed(model: Path, name: str) -> None:
    tokenizer = open_tokenizer(model)
    today = fix_date(SHIPPED[name], date(2030, 5, 17))
    written = set_arguments(today, READ[name])
    for turns, asking in ((TURNS[1:], False), (TURNS[1:4], True)):
        render = partial(tokenizer.apply_chat_template, turns, tokenize=False, add_generation_prompt=asking)
        assert render(chat_template=written) == render(chat_template=today, **READ[name])
        assert name != "gptoss" or WORDS["model_identity"].strip() in render(chat_template=written)


def test_what_is_trained_and_served_has_the_arguments(model: Path) -> None:
    tokenizer = open_tokenizer(model)
    tokenizer.chat_template = SHIPPED["qwen3"]
    template = choose_template(tokenizer, "own", arguments={"enable_thinking": False})
    assert template.supplied == tokenizer.chat_template != SHIPPED["qwen3"]
    assert template.remarks[-1] == "it is given enable_thinking=False"
    prompt = tokenizer.decode(encode_prompt(tokenizer, TURNS[1:2]))
    assert prompt.endswith("<|im_start|>assistant\n<think>\n\n</think>\n\n")
    assert tokenizer.decode(encode_reference(tokenizer, TURNS[1:2], "Yes.")[1]) == "Yes.<|end|>"
    plain = open_tokenizer(model)
    plain.chat_template = SHIPPED["qwen3"]
    assert choose_template(plain, "own").supplied is None


def test_a_release_s_template_is_not_changed_again(model: Path) -> None:
    tokenizer = open_tokenizer(model)
    tokenizer.chat_template = (
        "{{ strftime_now('%Y-%m-%d') }}{% if low_effort %}low{% endif %}"
        "{% for m in messages %}{{ m['content'] + eos_token }}{% endfor %}"
    )
    choose = partial(choose_template, wanted="own", arguments={"low_effort": True}, fold_roles=("system",))
    written = choose(tokenizer).supplied
    assert written == tokenizer.chat_template
    # Training goes on from the release, with the same params and another day.
    again = open_tokenizer(model)
    again.chat_template = written
    assert choose(again, today=date(2031, 1, 1)).supplied is None
    assert again.chat_template == written


def test_an_argument_that_the_template_does_not_read_is_refused(model: Path) -> None:
    tokenizer = open_tokenizer(model)
    tokenizer.chat_template = SHIPPED["gptoss"]
    with pytest.raises(PipelineError, match=r"does not read enable_thinking, messages; it reads .*reasoning_effort"):
        choose_template(tokenizer, "own", arguments={"enable_thinking": False, "messages": "x"})
    with pytest.raises(PipelineError, match="does not read a; it takes no arguments"):
        choose_template(tokenizer, "chatml", arguments={"a": 1})


def test_no_template_is_refused_with_the_param(model: Path) -> None:
    tokenizer = open_tokenizer(model)
    tokenizer.chat_template = None
    with pytest.raises(PipelineError, match=r"has no chat template.*chatml"):
        choose_template(tokenizer, "own")


def test_chatml_needs_an_end_token(model: Path) -> None:
    tokenizer = open_tokenizer(model)
    tokenizer.eos_token = None
    with pytest.raises(PipelineError, match="eos_token"):
        choose_template(tokenizer, "chatml")


def test_marks_around_the_question_are_refused(model: Path) -> None:
    tokenizer = open_tokenizer(model)
    tokenizer.chat_template = (
        "{% for m in messages %}{% generation %}{{ m['content'] }}{% endgeneration %}{{ eos_token }}{% endfor %}"
    )
    with pytest.raises(PipelineError, match="expected both answers and no question"):
        choose_template(tokenizer, "own")


def test_an_end_outside_the_marks_is_learnt_all_the_same(model: Path) -> None:
    tokenizer = open_tokenizer(model)
    tokenizer.chat_template = (
        "{% for m in messages %}{% if m['role'] == 'assistant' %}{% generation %}{{ m['content'] }}{% endgeneration %}"
        "{% else %}{{ m['content'] }}{% endif %}{{ eos_token }}{% endfor %}"
    )
    assert choose_template(tokenizer, "own").end == "<|end|>"
    assert supervised_text(tokenizer) == "Yes, of course.<|end|>That too.<|end|>"


def test_a_refused_conversation_has_no_tokens_and_its_reason(model: Path) -> None:
    tokenizer = open_tokenizer(model)
    tokenizer.chat_template = (
        "{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('roles must alternate') }}{% endif %}"
        "{{ m['content'] + eos_token }}{% endfor %}"
    )
    rows = [
        {"id": name, "messages": turns, "source": "s", "row": 1, "label": None, "cluster": name}
        for name, turns in (("a", TURNS), ("b", TURNS[1:]), ("c", TURNS))
    ]
    encoded = encode_examples(pa.Table.from_pylist(rows, schema=EXAMPLES), tokenizer, 64).to_pylist()
    reason = "turn 1 (system): roles must alternate"
    assert [row["refused"] for row in encoded] == [reason, None, reason]
    assert [bool(row["input_ids"]) for row in encoded] == [False, True, False]
    assert (
        encoded[1]["input_ids"]
        == encode_examples(pa.Table.from_pylist(rows[1:2], schema=EXAMPLES), tokenizer, 64).to_pylist()[0]["input_ids"]
    )
