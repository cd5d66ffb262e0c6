"""A template's refusal is one line that names the turn; nothing but the conversation decides what is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trl

from tasks.contracts.errors import PipelineError
from tasks.language_models.templates.rendering import Rendering, refusal_of

SHIPPED = Path(trl.__file__).parent / "chat_templates"
PAIR = [{"role": "user", "content": "A room?"}, {"role": "assistant", "content": "Yes."}]
SYSTEM = {"role": "system", "content": "Be kind."}


def shipped(name: str) -> str:
    return (SHIPPED / f"{name}.jinja").read_text("utf-8")


@pytest.mark.parametrize(
    ("template", "conversation", "reason"),
    [
        ("gemma", PAIR, None),
        ("gemma", [*PAIR, *PAIR], None),
        ("gemma", [SYSTEM, *PAIR], "turn 1 (system): System role not supported"),
        ("gemma3", [SYSTEM, *PAIR], None),
        (
            "cohere",
            [*PAIR, PAIR[0], *PAIR],
            "turn 4 (user): Conversation roles must alternate user/assistant/user/assistant/...",
        ),
        ("qwen2_5", [*PAIR, PAIR[0], *PAIR], None),
        ("llama3", [PAIR[1]], None),
        ("smolvlm", [SYSTEM, *PAIR], None),
    ],
)
def test_the_reason_names_the_turn(template: str, conversation: list[dict[str, str]], reason: str | None) -> None:
    assert refusal_of(conversation, shipped(template)) == reason


@pytest.mark.parametrize(
    "template",
    [
        "{{ messages[0]['content'] + 1 }}",
        "{{ messages[0].nothing.more }}",
        "{{ 1 // 0 }}",
        "{{ [].pop() }}",
        "{{ raise_exception('first\nsecond') }}",
    ],
)
def test_whatever_a_template_raises_is_one_line(template: str) -> None:
    reason = refusal_of(PAIR, template)
    assert reason
    assert "\n" not in reason


def test_a_text_that_is_no_template_is_refused_with_the_next_step() -> None:
    with pytest.raises(PipelineError, match=r"no Jinja template .* set model_initialisation\.chat_template: chatml"):
        refusal_of(PAIR, "{% for message in messages %}")


def test_a_template_that_reads_parts_gets_parts() -> None:
    text = Rendering(shipped("smolvlm"), {}).render(PAIR, answering=False)
    assert "A room?" in text
    assert "Yes." in text


def test_the_date_is_fixed(monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers.utils import chat_template_utils

    class Tomorrow:
        @staticmethod
        def now() -> Any:
            raise AssertionError("the template asked the clock")

    monkeypatch.setattr(chat_template_utils, "datetime", Tomorrow)
    assert "Current date: 2026-01-01" in Rendering(shipped("gptoss"), {}).render(PAIR, answering=False)
