"""OpenAI's message format: one text for training and serving, and nothing left out unseen."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from tasks.corpus.reading.shapes.dialogues import read_turn
from tasks.gateway.api.chat import ApiError, ChatRequest, parse
from tasks.language_models.templates.message_format import MessageError, is_learned, list_unused, read_text

CALL = {"id": "c1", "type": "function", "function": {"name": "find", "arguments": '{"city": "Paris", "date": null}'}}
CALL_TEXT = '[{"name":"find","arguments":{"city":"Paris","date":null}}]'
PARTS = [{"type": "text", "text": "one"}, {"type": "text", "text": ""}, {"type": "text", "text": "two"}]

MESSAGES: list[tuple[dict[str, Any], str]] = [
    ({"role": "user", "content": "plain"}, "plain"),
    ({"role": "user", "content": ""}, ""),
    ({"role": "user", "content": PARTS}, "one\n\ntwo"),
    ({"role": "user", "content": PARTS[:1]}, "one"),
    ({"role": "user", "content": [{"type": "input_text", "text": "new name"}]}, "new name"),
    ({"role": "user", "content": "named", "name": "ada"}, "named"),
    ({"role": "developer", "content": "be kind"}, "be kind"),
    ({"role": "assistant", "content": None, "refusal": "I cannot."}, "I cannot."),
    ({"role": "assistant", "content": [{"type": "refusal", "refusal": "I cannot."}]}, "I cannot."),
    ({"role": "assistant", "content": None, "tool_calls": [CALL]}, CALL_TEXT),
    ({"role": "assistant", "content": "Looking.", "tool_calls": [CALL]}, f"Looking.\n{CALL_TEXT}"),
    ({"role": "assistant", "content": None, "function_call": CALL["function"]}, CALL_TEXT),
    ({"role": "assistant", "content": "a", "tool_calls": [], "refusal": None}, "a"),
    ({"role": "assistant", "content": "a", "reasoning_content": "hm"}, "a"),
    ({"role": "assistant", "content": [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "a"}]}, "a"),
    ({"role": "tool", "content": PARTS, "tool_call_id": "c1"}, "one\n\ntwo"),
]


@pytest.mark.parametrize(("message", "text"), MESSAGES)
def test_a_message_is_the_same_text_in_training_and_in_serving(message: dict[str, Any], text: str) -> None:
    taught = read_turn(message, "messages")
    served = parse(ChatRequest, orjson.dumps({"model": "m", "messages": [message]})).turns()
    assert taught == served
    assert served[0]["content"] == text


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ([{"type": "image_url", "image_url": {"url": "x"}}], 'a part of the content is "image_url"'),
        ([{"type": "text", "text": "a"}, {"type": "input_audio", "input_audio": {}}], '"input_audio"'),
        ([{"type": "image", "text": None}], '"image"'),
        ([{"type": "text", "text": None}], "has no text"),
        ([7], "neither an object nor a text"),
        (7, "neither a text nor a list of parts"),
    ],
)
def test_what_is_no_text_is_refused_on_both_sides(content: Any, reason: str) -> None:
    message = {"role": "user", "content": content}
    with pytest.raises(MessageError, match=reason):
        read_text(message)
    with pytest.raises(ValueError, match=reason):
        read_turn(message, "messages")
    with pytest.raises(ApiError, match=reason):
        parse(ChatRequest, orjson.dumps({"model": "m", "messages": [message]}))


def test_arguments_are_one_text_whether_given_as_json_or_as_an_object() -> None:
    as_object = {"name": "find", "arguments": {"city": "Paris", "date": None}}
    for call in (CALL, {"function": as_object}, as_object, {"id": "c2", "type": "function", **as_object}):
        assert read_text({"tool_calls": [call]}) == CALL_TEXT
    assert (
        read_text({"tool_calls": [{"name": "f", "arguments": "not JSON"}]}) == '[{"name":"f","arguments":"not JSON"}]'
    )


@pytest.mark.parametrize(
    ("message", "learned"),
    [
        ({}, True),
        ({"weight": 1}, True),
        ({"weight": 0}, False),
        ({"weight": 0.0, "name": "x"}, False),
        ({"weight": None, "loss": None}, True),
        ({"train": False}, False),
        ({"training": False, "weight": 0}, False),
        ({"loss": False}, False),
        ({"loss_scale": 1.0}, True),
        ({"masked": True}, False),
        ({"masked": False}, True),
        ({"mask": True}, False),
    ],
)
def test_marks_of_the_loss(message: dict[str, Any], learned: bool) -> None:
    assert is_learned(message) is learned


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ({"weight": 0.5}, '"weight" is neither 0'),
        ({"loss": 2.31}, '"loss" is neither 0'),
        ({"train": "no"}, '"train" is neither 0'),
        ({"weight": 1, "train": False}, "disagree"),
        ({"mask": 1}, "with or without loss"),
        ({"train_detail": [{"begin_offset": 0, "end_offset": 2, "train": False}]}, "parts of a text"),
    ],
)
def test_marks_that_cannot_be_obeyed_are_refused(message: dict[str, Any], reason: str) -> None:
    with pytest.raises(MessageError, match=reason):
        is_learned(message)


def test_unused_keys_are_listed() -> None:
    turn = {
        "role": "assistant",
        "content": [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "a", "cache_control": {"x": 1}}],
        "reasoning_content": "hm",
        "name": "ada",
        "refusal": "no",
        "tool_calls": [CALL],
        "weight": 1,
        "audio": None,
        "annotations": [],
    }
    found = list(list_unused(turn, "role", "content", answer=True))
    assert found == ["content.thinking", "content.cache_control", "reasoning_content", "name", "refusal"]
    assert list(list_unused({"role": "user", "content": "q", "train": True}, "role", "content", False)) == [
        "train of a prompt"
    ]
    assert list(list_unused({"role": "user", "content": "q", "train": False}, "role", "content", False)) == []
