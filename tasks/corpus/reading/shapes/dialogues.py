"""Conversations: OpenAI/ChatML ``messages`` and ShareGPT ``conversations``, and the dialogues inside other shapes.

A turn becomes a text as `tasks.language_models.templates.message_format` says, for training and for serving alike. Tool
results become a turn of the role ``tool``, and the definitions in a ``tools`` column the end of the system turn: a
model cannot call a tool whose definition it never saw. An answer marked ``weight: 0``, ``train: false`` or ``loss:
false`` stays in its conversation and carries no loss (`tasks.corpus.reading.marks`).

Example:
    ``{"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]}`` becomes the turns
    ``user: Hi`` and ``assistant: Hello``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import orjson

from tasks.corpus.reading.shapes.shape import (
    GENERAL,
    SPECIFIC,
    USUAL,
    Columns,
    ConvertedRow,
    FastPath,
    Row,
    RowError,
    Shape,
    Turns,
    make_text,
    make_turn,
    read_text,
)
from tasks.language_models.templates import message_format
from tasks.language_models.templates.message_format import TURN_KEYS, MessageError, dump_json, is_learned

ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "prompter": "user",
    "customer": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bot": "assistant",
    "model": "assistant",
    "agent": "assistant",
    "ai": "assistant",
    "function_call": "assistant",
    "tool_call": "assistant",
    "tool": "tool",
    "function": "tool",
    "observation": "tool",
    "function_response": "tool",
    "tool_response": "tool",
    "ipython": "tool",
}
# In data sets with speakers the system gives the answers (MultiWOZ, Schema-Guided Dialogue).
SPEAKERS = ROLES | {"system": "assistant"}
CHATML = ("role", "content")
KEYS = (CHATML, ("from", "value"), ("speaker", "utterance"), ("speaker", "text"))
# Keys of a list whose objects are each a prompt with its answer (Moss, XTuner).
PAIR_KEYS = (("human", "assistant"), ("user", "assistant"), ("input", "output"), ("prompt", "response"))
OTHER_KEYS = "other turn keys"
TURN_COLUMNS = {
    "messages": SPECIFIC,
    "conversations": SPECIFIC,
    "conversation": USUAL,
    "turns": USUAL,
    "dialogue": USUAL,
    "dialog": USUAL,
    "chat": USUAL,
}
SYSTEM = {"system": SPECIFIC, "system_prompt": SPECIFIC, "system_message": USUAL}
TOOLS = {"tools": SPECIFIC, "functions": GENERAL}

_SPEAKER_MARK = re.compile(r"(?:\A\s*|\n\n)(Human|User|Assistant|System): ?")


def find_keys(value: Any) -> tuple[str, str] | None:
    """The keys of role and text in a list of turns; None when the value is no list of turns."""
    first = value[0] if isinstance(value, list) and value else value
    if not isinstance(first, dict):
        return None
    calls = "tool_calls" in first or "function_call" in first
    return next((keys for keys in KEYS if keys[0] in first and (keys[1] in first or calls)), None)


def choose_keys(turn: Mapping[str, Any]) -> tuple[str, str] | None:
    """The keys of role and text in a turn; None when it has no role."""
    keys = next((keys for keys in KEYS if keys[0] in turn and keys[1] in turn), None)
    return keys or next((keys for keys in KEYS if keys[0] in turn), None)


def read_turn(turn: Any, column: str) -> Turns:
    """One turn in any of the supported key names; an object with a prompt and its answer gives two.

    Args:
        turn: The turn.
        column: Its column, for error messages.

    Raises:
        RowError: It is no turn.
    """
    if not isinstance(turn, dict):
        raise RowError("a turn is no object")
    keys = choose_keys(turn)
    if keys is None:
        return _read_pair(turn, column)
    roles = SPEAKERS if keys[0] == "speaker" else ROLES
    role = roles.get(str(turn[keys[0]]).strip().lower())
    if role is None:
        raise RowError(f'unknown role "{str(turn[keys[0]])[:20]}"')
    try:
        learned = role != "assistant" or is_learned(turn)
        return [make_turn(role, message_format.read_text(turn, keys[1]), learned)]
    except MessageError as error:
        raise RowError(str(error)) from error


def _read_pair(pair: Mapping[str, Any], column: str) -> Turns:
    """The turns of an object with a prompt and its answer, after its system text if it has one."""
    keys = next((keys for keys in PAIR_KEYS if keys[0] in pair and keys[1] in pair), None)
    if keys is None:
        raise RowError('a turn has neither "role" nor "from"')
    system = [make_turn("system", make_text(pair["system"], column))] if pair.get("system") else []
    return system + [
        make_turn(role, make_text(pair[key], column)) for role, key in zip(("user", "assistant"), keys, strict=True)
    ]


def read_system(row: Row, columns: Columns, first: Any = None) -> tuple[Turns, bool]:
    """The system text and the tool definitions of a row as one turn; no turn when it has neither.

    Args:
        row: The row.
        columns: May bind ``system`` and ``tools``.
        first: The first turn of the dialogue; a system turn is merged into the result.

    Returns:
        The turn, and whether ``first`` was merged into it.
    """
    keys = find_keys(first)
    is_system = keys is not None and keys[0] != "speaker" and ROLES.get(str(first[keys[0]]).strip().lower()) == "system"
    texts: list[str] = []
    if is_system and keys is not None:
        texts = [turn["content"] for turn in read_turn(first, "") if turn["content"]]
    elif "system" in columns and columns["system"] in row:
        system = read_text(row, columns["system"])
        texts = [system] if system.strip() else []
    tools = _read_tools(row, columns)
    if tools is not None:
        texts.append(f"Tools: {tools}")
    return [make_turn("system", "\n\n".join(texts))] if texts or is_system else [], is_system


def _read_tools(row: Row, columns: Columns) -> str | None:
    tools = row.get(columns["tools"]) if "tools" in columns else None
    if isinstance(tools, str) and tools.strip() not in ("", "[]", "{}", "null"):
        return tools
    if isinstance(tools, list | dict) and tools:
        try:
            return dump_json(tools)
        except MessageError as error:
            raise RowError(str(error)) from error
    return None


def read_part(role: str, value: Any, column: str) -> Turns:
    """A prompt or an answer: a text, a turn or a list of turns; a prompt may also be an open transcript.

    Args:
        role: Role of a text without one, user or assistant.
        value: The prompt or answer.
        column: Its column, for error messages.

    Raises:
        RowError: It is none of these.
    """
    if isinstance(value, list):
        if not value:
            raise RowError("no turns")
        return [turn for item in value for turn in read_turn(item, column)]
    if isinstance(value, dict):
        return read_turn(value, column)
    if role == "user" and is_transcript(value) and value.rstrip().endswith("\n\nAssistant:"):
        return read_transcript(value, prompt=True)
    return [make_turn(role, make_text(value, column))]


def is_transcript(value: Any) -> bool:
    """Whether a text is a dialogue written as ``Human: ...`` and ``Assistant: ...`` paragraphs (hh-rlhf)."""
    if not isinstance(value, str):
        return False
    first = _SPEAKER_MARK.match(value)
    return first is not None and first.group(1) != "Assistant" and "\n\nAssistant:" in value


def read_transcript(value: str, prompt: bool = False) -> Turns:
    """The turns of a transcript; in a prompt the last ``Assistant:`` is where the answer goes."""
    marks = list(_SPEAKER_MARK.finditer(value))
    ends = [*(mark.start() for mark in marks[1:]), len(value)]
    turns = [
        make_turn(ROLES[mark.group(1).lower()], value[mark.end() : end]) for mark, end in zip(marks, ends, strict=True)
    ]
    return turns[:-1] if prompt else turns


def _convert(row: Row, columns: Columns) -> ConvertedRow:
    column = columns["messages"]
    if column not in row:
        raise RowError(f'no "{column}"')
    turns = read_dialogue(row, columns, column)
    if [turn["role"] for turn in turns] == ["assistant"]:
        raise RowError("no prompt before the first answer")
    return ConvertedRow(turns)


def read_dialogue(row: Row, columns: Columns, column: str) -> Turns:
    """The turns in a column, with the row's system text and tools before them.

    Raises:
        RowError: The column holds no turns.
    """
    value = row.get(column)
    if isinstance(value, str):
        value = _load_turns(value)
        if value is None:
            raise RowError(f'"{column}" is a text and no JSON list of turns')
    if not isinstance(value, list) or not value:
        raise RowError("no turns")
    if all(isinstance(text, str) for text in value):
        if len(value) == 1:
            raise RowError("one text alone is no dialogue")
        turns, _ = read_system(row, columns)
        return turns + [make_turn("assistant" if number % 2 else "user", text) for number, text in enumerate(value)]
    turns, skipped = read_system(row, columns, value[0])
    return turns + [turn for item in value[skipped:] for turn in read_turn(item, column)]


def _load_turns(text: str) -> list[Any] | None:
    """Turns given as JSON in a text, as in CSV files."""
    try:
        turns = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    return turns if isinstance(turns, list) else None


def _make_convert(chatml: bool) -> Any:
    def convert(row: Row, columns: Columns) -> ConvertedRow:
        value = row.get(columns["messages"])
        turns = _load_turns(value) if isinstance(value, str) else value
        first = turns[0] if isinstance(turns, list) and turns else None
        if isinstance(first, Mapping) and chatml != (CHATML[0] in first):
            raise RowError('a turn has neither "role" nor "from"' if find_keys(turns) is None else OTHER_KEYS)
        if isinstance(first, str) and chatml:
            raise RowError("turns without speakers")
        return _convert(row, columns)

    return convert


def _make_turns_fast_path(chatml: bool) -> Callable[[Columns], FastPath | None]:
    """Fast path for lists of turns with a known role and a text each."""
    role_key, text_key = CHATML if chatml else KEYS[1]

    def make_fast_path(columns: Columns) -> FastPath | None:
        return partial(convert, columns["messages"]) if set(columns) == {"messages"} else None

    def convert(column: str, row: Row) -> Turns | None:
        value = row.get(column)
        if type(value) is not list or len(value) < 2:
            return None
        turns: Turns = []
        for turn in value:
            if type(turn) is not dict or ("role" in turn) is not chatml:
                return None
            if len(turn) > 2 and not turn.keys().isdisjoint(TURN_KEYS):
                return None
            role, text = turn.get(role_key), turn.get(text_key)
            if type(role) is not str or type(text) is not str or role not in ROLES:
                return None
            turns.append({"role": ROLES[role], "content": text})
        return turns

    return make_fast_path


def _weigh_speakers(rows: Sequence[Row], columns: Columns) -> float:
    """Low when the turns are bare texts in a column ``turns``, which may be prompts alone (MT-Bench)."""
    bare = any(isinstance(turns := row.get(columns["messages"]), list) and _is_bare(turns) for row in rows)
    return 0.4 if bare and columns["messages"] == "turns" else 1.0


def _is_bare(turns: list[Any]) -> bool:
    return any(isinstance(turn, str) for turn in turns)


_OPTIONAL = {"system": SYSTEM, "tools": TOOLS}
MESSAGES = Shape(
    "messages",
    "messages: [{role, content}, ...]",
    {"messages": TURN_COLUMNS},
    _make_convert(True),
    _OPTIONAL,
    make_fast_path=_make_turns_fast_path(True),
)
SHAREGPT = Shape(
    "sharegpt",
    "conversations: [{from, value}, ...]",
    {"messages": TURN_COLUMNS},
    _make_convert(False),
    _OPTIONAL,
    evidence=_weigh_speakers,
    make_fast_path=_make_turns_fast_path(False),
)
# UltraChat's alternating texts; in a JSON document the rows have the same name.
ULTRACHAT = Shape(
    "sharegpt",
    "data: [prompt, answer, ...]",
    {"messages": {"data": GENERAL}},
    _make_convert(False),
    make_fast_path=_make_turns_fast_path(False),
)
