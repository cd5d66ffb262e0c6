"""OpenAI's format of chat messages, read in one place for training and for serving.

A chat template gets one text per turn. That text is the same whether a message comes from a data set or from a client:

* ``content`` is a text, null, or a list of text parts. Parts are joined by a line break, as vLLM and llama.cpp join
  them for templates that take a text. A part that is no text (image, audio, file) is refused.
* Without content, ``refusal`` is what the assistant said.
* ``tool_calls`` and ``function_call`` are the JSON of a list of ``{"name": ..., "arguments": {...}}``, on a line of
  their own below the content. Arguments given as a JSON text are read first, so that both notations are one text.

Everything else in a message is listed by `list_unused`, such as ``name``, ``tool_call_id`` and the reasoning beside an
answer (``reasoning_content``, ``thinking``). Whether an answer of a data set is to be learned stands under one of the
keys in `LEARNED` and `MASKED`.

Example:
    >>> read_text({"content": [{"type": "text", "text": "Hello"}, {"type": "text", "text": "again"}]})
    'Hello\\nagain'
    >>> read_text({"content": None, "tool_calls": [{"id": "1", "function": {"name": "time", "arguments": "{}"}}]})
    '[{"name":"time","arguments":{}}]'

Source: https://platform.openai.com/docs/api-reference/chat/create
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import orjson

Message = Mapping[str, Any]

# Types of a part of the content that are text: Chat Completions and Responses.
TEXT_TYPES = (None, "text", "input_text", "output_text")
# Types of a part whose text stands under the same name as the type.
REFUSAL, REASONING_TYPES = "refusal", ("thinking", "reasoning", "redacted_thinking")
CALLS = ("tool_calls", "function_call")
# Keys of a tool call that only identify it.
CALL_IDENTITY = ("id", "type", "index")
# Whether an answer is learned: OpenAI's fine-tuning (weight), ms-swift (loss, loss_scale), axolotl (train, training).
LEARNED = ("weight", "loss", "loss_weight", "loss_scale", "train", "training", "trainable")
# The opposite: torchtune (masked).
MASKED = ("masked", "mask")
# Loss on parts of a text (axolotl).
SPANS = ("train_detail", "training_detail")
# Keys beside role and content that decide about the text or the loss of a turn.
TURN_KEYS = frozenset({REFUSAL, *CALLS, *LEARNED, *MASKED, *SPANS})


class MessageError(ValueError):
    """A message that is not read; the text is the reason, without the content of the message."""


def read_text(message: Message, key: str = "content") -> str:
    """The text of a message, as the chat template gets it.

    Args:
        message: The message.
        key: Where its content is.

    Raises:
        MessageError: The content or a tool call is not of this format.
    """
    texts = _read_content(message.get(key))
    if not any(texts) and isinstance(refusal := message.get(REFUSAL), str) and refusal:
        texts = [refusal]
    calls = read_calls(message)
    if calls is not None:
        texts = [*texts, calls] if any(texts) else [calls]
    return "\n".join(texts)


def _read_content(content: Any) -> list[str]:
    """The texts of a content."""
    if content is None:
        return []
    if isinstance(content, str):
        return [content]
    if not isinstance(content, list):
        raise MessageError("the content is neither a text nor a list of parts")
    return [text for part in content for text in _read_part(part)]


def _read_part(part: Any) -> list[str]:
    """The text of a part; none of reasoning."""
    if isinstance(part, str):
        return [part]
    if not isinstance(part, Mapping):
        raise MessageError("a part of the content is neither an object nor a text")
    kind = part.get("type")
    if kind in REASONING_TYPES:
        return []
    text = part.get(REFUSAL if kind == REFUSAL else "text")
    if kind not in (*TEXT_TYPES, REFUSAL):
        raise MessageError(f'a part of the content is "{str(kind)[:40]}", and only text is read')
    if not isinstance(text, str):
        raise MessageError("a part of the content has no text")
    return [text]


def read_calls(message: Message) -> str | None:
    """The tool calls of a message as JSON; None where it has none.

    Raises:
        MessageError: They are no list, or cannot be written as JSON.
    """
    calls = message.get("tool_calls") or ([message["function_call"]] if message.get("function_call") else None)
    if not calls:
        return None
    if not isinstance(calls, list):
        raise MessageError("the tool calls are no list")
    return dump_json([_read_call(call) for call in calls])


def _read_call(call: Any) -> Any:
    """A call without its identity: its name, its arguments as an object, and what else it has."""
    call = call.get("function", call) if isinstance(call, Mapping) else call
    if not isinstance(call, Mapping):
        return call
    named = {key: call[key] for key in ("name", "arguments") if key in call}
    if isinstance(named.get("arguments"), str):
        named["arguments"] = _load_object(named["arguments"])
    return named | {key: value for key, value in call.items() if key not in (*named, *CALL_IDENTITY)}


def _load_object(text: str) -> Any:
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return text
    return value if isinstance(value, dict) else text


def dump_json(value: Any) -> str:
    """A value as JSON in one line.

    Raises:
        MessageError: It cannot be written as JSON.
    """
    try:
        return orjson.dumps(value, default=str).decode()
    except TypeError as error:
        raise MessageError("tools or their calls cannot be written as JSON") from error


def is_learned(message: Message) -> bool:
    """Whether an answer of a data set is to be learned; it is when the message says nothing about it.

    Raises:
        MessageError: A mark is neither true (1) nor false (0), marks disagree, or parts of the text are marked.
    """
    spans = [key for key in SPANS if message.get(key)]
    if spans:
        raise MessageError(f'"{spans[0]}" marks parts of a text; only whole turns can be left out of the loss')
    marks = set()
    for key in (*LEARNED, *MASKED):
        value = message.get(key)
        if value is None:
            continue
        if key == "mask" and not isinstance(value, bool):
            raise MessageError('"mask" may mean with or without loss; write train: true or false')
        if not isinstance(value, bool | int | float) or value not in (0, 1):
            raise MessageError(f'"{key}" is neither 0 (false) nor 1 (true)')
        marks.add(bool(value) is (key in LEARNED))
    if len(marks) == 2:
        raise MessageError("marks of the loss disagree")
    return marks != {False}


def list_unused(message: Message, role_key: str, text_key: str, answer: bool) -> Iterator[str]:
    """The keys of a message that hold something and do not become part of its text.

    Args:
        message: The message.
        role_key: Key of its role.
        text_key: Key of its content.
        answer: Whether it is the assistant's, so that marks of the loss have an effect.

    Yields:
        Names of keys; inside the content with the type or key of the part after a dot.
    """
    content = message.get(text_key)
    for part in content if isinstance(content, list) else ():
        yield from (f"{text_key}.{name}" for name in _list_unused_of_part(part))
    used = {role_key, text_key, *CALLS, *(() if content else (REFUSAL,))}
    for key, value in message.items():
        if key in used or value is None or value in ("", [], {}):
            continue
        if key not in (*LEARNED, *MASKED):
            yield key
        elif not answer and bool(value) is (key in LEARNED):
            # A prompt carries no loss, so only a mark that asks for it is not obeyed.
            yield f"{key} of a prompt"


def _list_unused_of_part(part: Any) -> Iterator[str]:
    if not isinstance(part, Mapping):
        return
    kind = part.get("type")
    if kind in REASONING_TYPES:
        yield kind
    else:
        yield from (key for key, value in part.items() if value and key not in ("type", "text", kind))
