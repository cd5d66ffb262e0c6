"""Answers without a server, through the same engine that serves: used by the parity proof of a release."""

from __future__ import annotations

import queue
from collections.abc import Mapping, Sequence
from pathlib import Path

from tasks.contracts.errors import PipelineError
from tasks.contracts.progress import track
from tasks.gateway.engine import Delta, Event, Finished, GenerationRequest, PromptRefused
from tasks.gateway.engines.transformers import Transformers
from tasks.gateway.params import Engine


def answer_all(
    model_folder: Path,
    conversations: Sequence[Sequence[Mapping[str, str]]],
    max_new_tokens: int,
    engine: Engine | None = None,
) -> list[tuple[list[int], list[int]]]:
    """Greedy answers to many conversations, batched as they are when served.

    Args:
        model_folder: A transformers folder.
        conversations: Messages with ``role`` and ``content``, without the answer.
        max_new_tokens: Maximum tokens of an answer; fewer where the context ends before.
        engine: The engine to use; transformers in float32 by default.

    Returns:
        Prompt ids and answer ids of each conversation, in order, without the end of turn.

    Raises:
        PipelineError: The folder cannot be loaded, or a conversation does not fit the context or the
            chat template.
    """
    loaded = (engine or Transformers()).load(model_folder, on_step=lambda rows: None)
    try:
        try:
            prompts = [loaded.encode(messages) for messages in conversations]
        except PromptRefused as error:
            raise PipelineError(f"{error}; remove such conversations") from error
        event_queues: list[queue.SimpleQueue[Event]] = []
        for number, prompt in enumerate(prompts):
            room = loaded.context - len(prompt)
            if room < 1:
                raise PipelineError(
                    f"conversation {number}: {len(prompt)} tokens; the context of {loaded.context} leaves no answer"
                )
            events: queue.SimpleQueue[Event] = queue.SimpleQueue()
            event_queues.append(events)
            loaded.submit(GenerationRequest(prompt, min(max_new_tokens, room), events.put))
        answered = track(event_queues, "answering")
        return [(prompt, wait_for_tokens(events)) for prompt, events in zip(prompts, answered, strict=True)]
    finally:
        loaded.close()


def wait_for_tokens(events: queue.SimpleQueue[Event]) -> list[int]:
    """Ids of a finished answer.

    Raises:
        PipelineError: The engine failed.
    """
    while isinstance(event := events.get(), Delta):
        pass
    if isinstance(event, Finished):
        return list(event.tokens[:-1] if event.ended else event.tokens)
    raise PipelineError(f"the engine could not answer: {event.message}")
