"""Tools that the model may call while it writes: functions of a Python file of the project.

A call is JSON between two marks, as Hermes, Qwen and others write it:
``<tool_call>{"name": "add", "arguments": {"a": 1, "b": 2}}</tool_call>``. It is run in a process of its own with a
limit of time, and its result follows as a turn of its own, without loss. A call that cannot be read, an unknown
function, one that raises or takes too long gives a result that says so, since the model is to learn to call rightly; a
file that does not load stops the run.

Example: ``tools: {path: tools.py, functions: [add], rounds: 2, timeout_s: 5}``
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from tasks.contracts.errors import PipelineError
from tasks.contracts.params import Reads, Section
from tasks.language_models.templates.rendering import Turns
from tasks.sandbox.functions import FunctionFacts, FunctionFailed, FunctionFile

LONGEST_RESULT = 4_000  # characters


class Tools(Section):
    """Functions that an answer may call."""

    path: Annotated[str, Reads("file")] = Field(pattern=r"\.py$", description="Python file inside the project")
    functions: tuple[str, ...] = Field(min_length=1, description="names of functions in it")
    rounds: int = Field(default=3, ge=1, description="most turns with calls in one answer")
    timeout_s: float = Field(default=10.0, gt=0, description="longest time of one call, seconds")
    opens: str = Field(default="<tool_call>", min_length=1, description="mark before a call")
    closes: str = Field(default="</tool_call>", min_length=1, description="mark after a call")
    role: Literal["tool", "user"] = Field(
        default="tool", description="whose turn a result is; user: for chat templates without tools"
    )
    explain: bool = Field(default=True, description="say in the system turn which functions there are")


@dataclass(frozen=True)
class ToolCall:
    """A call as it was written, or why it cannot be read."""

    name: str
    arguments: dict[str, Any]
    problem: str = ""


class OpenTools:
    """Tools at work.

    Args:
        tools: As in params.

    Raises:
        PipelineError: The file does not load or lacks a function.
    """

    def __init__(self, tools: Tools) -> None:
        self.tools = tools
        self._file = FunctionFile(Path(tools.path), "tools")
        self.facts = {name: self._file.describe(name) for name in tools.functions}

    def find_calls(self, text: str) -> list[ToolCall]:
        """The calls in a turn, in order; none in a turn that only opens one."""
        calls = []
        for part in text.split(self.tools.opens)[1:]:
            inside, closed, _ = part.partition(self.tools.closes)
            if closed:
                calls.append(self._read(inside))
        return calls

    def _read(self, text: str) -> ToolCall:
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            return ToolCall("", {}, "the call is not JSON")
        name = value.get("name") if isinstance(value, dict) else None
        arguments = value.get("arguments", {}) if isinstance(value, dict) else None
        if not isinstance(name, str) or not isinstance(arguments, dict):
            return ToolCall("", {}, 'the call is no object with "name" and "arguments"')
        if name not in self.facts:
            return ToolCall(name, {}, f"there is no function {name}; there is {', '.join(self.facts)}")
        return ToolCall(name, arguments)

    def run(self, call: ToolCall) -> str:
        """The result of a call as text, or what was wrong with it."""
        if call.problem:
            return f"error: {call.problem}"
        try:
            found = self._file.call(call.name, call.arguments, self.tools.timeout_s)
        except FunctionFailed as failure:
            return f"error: {call.name} {failure}"[:LONGEST_RESULT]
        return (found if isinstance(found, str) else json.dumps(found))[:LONGEST_RESULT]

    def explain(self, prompt: Turns) -> Turns:
        """The prompt with the functions in its system turn, which is made where there is none."""
        if not self.tools.explain:
            return prompt
        lines = [json.dumps(_describe(name, facts), ensure_ascii=False) for name, facts in self.facts.items()]
        shape = '{"name": <function>, "arguments": {<name>: <value>}}'
        text = "\n".join(
            ["You may call these functions:", *lines, f"Write a call as {self.tools.opens}{shape}{self.tools.closes}."]
        )
        turns = [dict(turn) for turn in prompt]
        if turns and turns[0]["role"] == "system":
            return [{**turns[0], "content": f"{turns[0]['content']}\n\n{text}"}, *turns[1:]]
        return [{"role": "system", "content": text}, *turns]


def _describe(name: str, facts: FunctionFacts) -> dict[str, Any]:
    parameters = {key: facts.types.get(key, "any") for key in facts.names}
    return {"name": name, "description": facts.doc, "parameters": parameters, "required": list(facts.needed)}


def result_ids(chat: Any, results: Sequence[str], role: str) -> list[int]:
    """Token ids of what the template writes after the end of a turn with calls: the results and the next prompt.

    Args:
        chat: `tasks.language_models.templates.chat.Chat`.
        results: One text per call.
        role: Of the results.

    Raises:
        PipelineError: The chat template does not write such turns.
    """
    ids: list[int] | None = chat.ids_after([{"role": role, "content": result} for result in results])
    if ids is None:
        raise PipelineError(
            f"tools: the chat template writes no turn of role {role} after an answer; set "
            f"objective.rollout.tools.role: {'user' if role == 'tool' else 'tool'}, or take a base that knows tools"
        )
    return ids
