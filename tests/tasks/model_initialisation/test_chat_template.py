"""Every template in use marks all answers and nothing else, and the token that ends an answer carries loss."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tasks.contracts.errors import PipelineError
from tasks.contracts.records import EXAMPLES
from tasks.language_models.encoding import IGNORED, encode_examples
from tasks.model_initialisation.chat_template import choose_template
from tasks.model_initialisation.checks import open_tokenizer

TURNS = [
    {"role": "system", "content": "Be kind."},
    {"role": "user", "content": "A room?"},
    {"role": "assistant", "content": "Yes, of course."},
    {"role": "user", "content": "A late one?"},
    {"role": "assistant", "content": "That too."},
]
UNMARKED = "{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }}{{ eos_token }}{% endfor %}"


def supervised_text(tokenizer: Any, training: str | None) -> str:
    row = {"id": "a", "messages": TURNS, "source": "s", "row": 1, "label": None, "cluster": "a"}
    encoded = encode_examples(pa.Table.from_pylist([row], schema=EXAMPLES), tokenizer, training, 256)
    labels = encoded["labels"][0].as_py()
    return str(tokenizer.decode([t for t in labels if t != IGNORED]))


def test_the_model_s_own_marks_are_used(model: Path) -> None:
    tokenizer = open_tokenizer(model)
    before = tokenizer.chat_template
    template = choose_template(tokenizer, "own")
    assert (template.marked_by, template.supplied, template.training) == ("own", None, None)
    assert template.trains_stop
    assert tokenizer.chat_template == before
    assert supervised_text(tokenizer, None) == "Yes, of course.<|end|>That too.<|end|>"


def test_chatml_ends_turns_with_the_tokenizer_s_own_end(model: Path) -> None:
    tokenizer = open_tokenizer(model)
    tokenizer.chat_template = None
    template = choose_template(tokenizer, "chatml")
    assert template.supplied == tokenizer.chat_template
    assert template.trains_stop
    rendered = tokenizer.apply_chat_template(TURNS[1:3], tokenize=False)
    assert rendered == "<|im_start|>user\nA room?<|end|>\n<|im_start|>assistant\nYes, of course.<|end|>\n"
    prompt = tokenizer.apply_chat_template(TURNS[1:2], tokenize=False, add_generation_prompt=True)
    assert rendered.startswith(prompt)
    assert supervised_text(tokenizer, None) == "Yes, of course.<|end|>That too.<|end|>"


def test_a_template_that_trl_knows_is_marked_for_training_only(model: Path) -> None:
    from trl.chat_template_utils import qwen2_5_chat_template

    tokenizer = open_tokenizer(model)
    tokenizer.chat_template = qwen2_5_chat_template
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    template = choose_template(tokenizer, "own")
    assert template.marked_by == "TRL"
    assert tokenizer.chat_template == qwen2_5_chat_template
    assert template.training is not None
    assert "generation" in template.training
    assert template.trains_stop
    plain = tokenizer.apply_chat_template(TURNS, tokenize=False)
    assert tokenizer.apply_chat_template(TURNS, tokenize=False, chat_template=template.training) == plain
    text = supervised_text(tokenizer, template.training)
    assert "Yes, of course.<|im_end|>" in text
    assert "That too.<|im_end|>" in text
    assert "room" not in text


def test_an_unknown_template_without_marks_is_refused(model: Path) -> None:
    tokenizer = open_tokenizer(model)
    tokenizer.chat_template = UNMARKED
    with pytest.raises(PipelineError, match=r"set model_initialisation\.chat_template: chatml"):
        choose_template(tokenizer, "own")


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


def test_an_end_outside_the_marks_is_told(model: Path, caplog: pytest.LogCaptureFixture) -> None:
    tokenizer = open_tokenizer(model)
    tokenizer.chat_template = (
        "{% for m in messages %}{% if m['role'] == 'assistant' %}{% generation %}{{ m['content'] }}{% endgeneration %}"
        "{% else %}{{ m['content'] }}{% endif %}{{ eos_token }}{% endfor %}"
    )
    assert not choose_template(tokenizer, "own").trains_stop
    assert "may not learn to stop" in caplog.text


def test_a_refused_conversation_is_named(model: Path) -> None:
    tokenizer = open_tokenizer(model)
    tokenizer.chat_template = "{{ raise_exception('roles must alternate') }}"
    rows = [{"id": name, "messages": TURNS, "source": "s", "row": 1, "label": None, "cluster": name} for name in "ab"]
    with pytest.raises(PipelineError, match=r"example a \(system, user, .*roles must alternate"):
        encode_examples(pa.Table.from_pylist(rows, schema=EXAMPLES), tokenizer, None, 64)
