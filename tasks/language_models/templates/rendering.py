"""A chat template at work: a conversation as text, or the one reason why the template refuses it.

Nothing but the conversation decides what a template writes: ``strftime_now`` gives a fixed date, since a prompt that
changes at midnight would be learnt with the date of the training and served with another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from functools import lru_cache
from typing import Any

from tasks.contracts.errors import PipelineError

Turns = Sequence[Mapping[str, Any]]

TEMPLATE_DATE = date(2026, 1, 1)
# Named as in tokenizer_config.json; a template may add them to a text, which fails where they are not defined.
_NO_SPECIAL_TOKENS = {"bos_token": "", "eos_token": "", "pad_token": "", "unk_token": ""}
# What every template is given.
GIVEN = frozenset({*_NO_SPECIAL_TOKENS, "messages", "add_generation_prompt", "tools", "documents", "strftime_now"})
# What a template's own expressions raise, besides Jinja's errors and what the template raises on purpose.
_TEMPLATE_FAULTS = (TypeError, ValueError, LookupError, AttributeError, ArithmeticError, RecursionError)
_PROBE = "\ue000probe\ue001"


class TemplateRefusal(PipelineError):
    """A chat template refuses a conversation.

    Attributes:
        reason: The template's reason, with the turn, in one line.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"the chat template refuses the conversation ({reason}); leave such rows out or set "
            "model_initialisation.chat_template: chatml"
        )
        self.reason = reason


def refusal_of(conversation: Turns, template: str) -> str | None:
    """Why a row cannot be trained on with a chat template.

    Args:
        conversation: Turns with ``role`` and ``content``.
        template: The chat template's text.

    Returns:
        The reason in one line, as ``turn 3 (user): Conversation roles must alternate``; None when the template takes
        the conversation and every prompt before an answer in it.
    """
    return compile_template(template).find_refusal(conversation)


class Rendering:
    """A compiled chat template.

    Args:
        template: The chat template's text.
        special_tokens: Names of special tokens to their texts, such as ``eos_token``.
        today: The date that the template gets when it asks for today's.

    Raises:
        PipelineError: It is no template.
    """

    def __init__(self, template: str, special_tokens: Mapping[str, str], today: date = TEMPLATE_DATE) -> None:
        from jinja2 import TemplateError
        from transformers.utils.chat_template_utils import _compile_jinja_template

        self.template = template
        self._globals = {
            **_NO_SPECIAL_TOKENS,
            **special_tokens,
            "tools": None,
            "documents": None,
            "strftime_now": today.strftime,
        }
        try:
            self._compiled: Any = _compile_jinja_template(template)
        except TemplateError as error:
            raise PipelineError(
                f"the chat template is no Jinja template ({first_line(error)}); mend chat_template.jinja in the "
                "model's folder or set model_initialisation.chat_template: chatml"
            ) from error
        self._parts = False
        self._parts = self._reads_parts_only()

    def render(self, turns: Turns, answering: bool) -> str:
        """A conversation as the template writes it.

        Args:
            turns: Turns with ``role`` and ``content``.
            answering: End where the model answers.

        Raises:
            TemplateRefusal: The template refuses it.
        """
        try:
            return self._write(turns, answering)
        except TemplateRefusal as refusal:
            raise TemplateRefusal(self._place(turns, answering, refusal.reason)) from refusal.__cause__

    def find_refusal(self, conversation: Turns) -> str | None:
        """Why the template refuses a conversation, or a prompt before an answer in it; None when it takes them all."""
        answers = [number for number, turn in enumerate(conversation) if turn["role"] == "assistant"]
        try:
            # Before an answer that opens the conversation there is no prompt to write.
            for number in filter(None, answers):
                self.render(conversation[:number], answering=True)
            self.render(conversation, answering=not conversation or conversation[-1]["role"] != "assistant")
        except TemplateRefusal as refusal:
            return refusal.reason
        return None

    def _write(self, turns: Turns, answering: bool) -> str:
        from jinja2 import TemplateError

        messages = self.as_messages(turns)
        try:
            return str(self._compiled.render(self._globals, messages=messages, add_generation_prompt=answering))
        except (TemplateError, *_TEMPLATE_FAULTS) as error:
            raise TemplateRefusal(first_line(error)) from error

    def as_messages(self, turns: Turns) -> list[dict[str, Any]]:
        """Turns as the template reads them: without nulls, as transformers does, and in parts where it reads parts."""
        messages = [{key: value for key, value in turn.items() if value is not None} for turn in turns]
        if self._parts:
            for message in messages:
                if isinstance(message.get("content"), str):
                    message["content"] = [{"type": "text", "text": message["content"]}]
        return messages

    def _place(self, turns: Turns, answering: bool, reason: str) -> str:
        """The reason with the last turn of the shortest beginning that is refused with it."""
        for end in range(1, len(turns)):
            last = turns[end - 1]
            try:
                self._write(turns[:end], answering=last["role"] != "assistant")
            except TemplateRefusal as refusal:
                if refusal.reason == reason:
                    return f"turn {end} ({last['role']}): {reason}"
        return f"turn {len(turns)} ({turns[-1]['role']}): {reason}" if turns else reason

    def _reads_parts_only(self) -> bool:
        """Whether the template writes a content that is a list of parts, but not one that is a text."""
        turns = [{"role": "user", "content": _PROBE}]

        def written() -> bool:
            try:
                return _PROBE in self._write(turns, answering=True)
            except TemplateRefusal:
                return False

        if written():
            return False
        self._parts = True
        return written()


@lru_cache(maxsize=8)
def compile_template(template: str) -> Rendering:
    """A template without a tokenizer: special tokens are empty texts."""
    return Rendering(template, {})


def find_constants(template: str) -> set[str]:
    """The texts in quotes in a template's expressions."""
    from jinja2 import nodes
    from transformers.utils.chat_template_utils import _compile_jinja_template

    compiled: Any = _compile_jinja_template(template)
    constants = compiled.environment.parse(template).find_all(nodes.Const)
    return {node.value for node in constants if isinstance(node.value, str)}


def find_arguments(template: str) -> set[str]:
    """Names that a template reads and that nothing here gives it, such as ``enable_thinking``."""
    from jinja2 import meta
    from transformers.utils.chat_template_utils import _compile_jinja_template

    compiled: Any = _compile_jinja_template(template)
    return meta.find_undeclared_variables(compiled.environment.parse(template)) - GIVEN


def first_line(error: BaseException) -> str:
    """The first line of an error's message, 160 characters at most; its class where it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
