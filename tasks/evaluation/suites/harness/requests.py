"""Requests of lm-evaluation-harness as questions, and replies as its responses."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from tasks.contracts.errors import PipelineError
from tasks.evaluation.asking.question import Option, Prompt, Question, Reply

# Before a conversation that goes through the harness as text; no prompt begins so.
_TURNS = "\x00heptune turns\x00"
# The harness's own default for answers that no task limits.
MAX_NEW_TOKENS = 256
_GREEDY = {"until", "max_gen_toks", "max_new_tokens", "max_tokens", "do_sample", "temperature", "top_p", "top_k"}


def write_turns(turns: Sequence[dict[str, str]], add_generation_prompt: bool = True) -> str:
    """A conversation as the text that the harness passes on; what renders it is each model's own chat template.

    Raises:
        PipelineError: The conversation ends in the beginning of an answer.
    """
    if not add_generation_prompt:
        raise PipelineError(
            "the task begins the answers itself (gen_prefix), which a chat template cannot continue; "
            "set chat_template: false"
        )
    return _TURNS + json.dumps([{"role": turn["role"], "content": turn["content"]} for turn in turns])


def read_prompt(text: str) -> Prompt:
    """A prompt of the harness: a conversation where `write_turns` wrote it, else plain text."""
    return tuple(json.loads(text.removeprefix(_TURNS))) if text.startswith(_TURNS) else text


def make_question(key: str, kind: str, arguments: Sequence[tuple[Any, ...]]) -> Question:
    """Requests of one kind as one question.

    Args:
        key: Its key.
        kind: The request type.
        arguments: Of each request; of ``generate_until`` there is one.

    Raises:
        PipelineError: The task wants answers that are not greedy, or requests of another kind.
    """
    if kind == "generate_until":
        ((prompt, how),) = arguments
        return _answer(key, prompt, dict(how))
    if kind == "loglikelihood":
        options = tuple(Option(text, read_prompt(prompt)) for prompt, text in arguments)
        return Question(key, "choices", options=options)
    if kind == "loglikelihood_rolling":
        return Question(key, "texts", options=tuple(Option(text) for (text,) in arguments))
    raise PipelineError(f"the task makes requests of the kind {kind}, which are not answered; take another task")


def _answer(key: str, prompt: str, how: dict[str, Any]) -> Question:
    sampled = bool(how.get("do_sample")) and how.get("temperature", 1.0) not in (0, 0.0, None)
    unknown = sorted(set(how) - _GREEDY)
    if sampled or unknown:
        found = ", ".join(f"{name}: {how[name]}" for name in (unknown or ["do_sample"]))
        raise PipelineError(f"the task wants answers that are not plain greedy ones ({found}); take another task")
    until = how.get("until") or ()
    stops = (until,) if isinstance(until, str) else tuple(until)
    limits = (how.get(name) for name in ("max_gen_toks", "max_new_tokens", "max_tokens"))
    most = next((int(limit) for limit in limits if limit is not None), MAX_NEW_TOKENS)
    return Question(key, "answer", read_prompt(prompt), max_new_tokens=most, stops=stops)


def list_responses(question: Question, reply: Reply) -> list[Any]:
    """What the harness takes for the requests of a question."""
    if question.kind == "answer":
        return [reply.text]
    if question.kind == "texts":
        return list(reply.log_likelihoods)
    return list(zip(reply.log_likelihoods, reply.greedy, strict=True))
