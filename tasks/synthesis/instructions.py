"""Step 2: prompts about the topics, as Self-Instruct has them (Wang et al. 2023, https://arxiv.org/abs/2212.10560)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from tasks.language_models.writers.reading import Unusable, read_list
from tasks.synthesis.calls import Calls
from tasks.synthesis.checks.schema import read_instruction
from tasks.synthesis.drafts import Draft, Known, Seed
from tasks.synthesis.params import Synthesis
from tasks.synthesis.seeds import choose_examples
from tasks.synthesis.verify import list_fields
from tasks.synthesis.wording import Wording

# Newest prompts of a topic that a call is asked not to repeat.
PROMPTS_TO_AVOID = 10


def propose_instructions(
    settings: Synthesis,
    topics: Sequence[str],
    number: int,
    seeds: Sequence[Seed],
    known: Known,
    written: Mapping[str, Sequence[str]],
    calls: Calls,
    wording: Wording,
) -> list[Draft]:
    """New prompts, one call for each topic; items in the wrong format are refused.

    Args:
        settings: Number of prompts and examples.
        topics: Topics of this round.
        number: Number of this round.
        seeds: Rows to choose examples from.
        known: Labels.
        written: Topic to its existing prompts.
        calls: Calls of the teacher.
        wording: Prompt templates.
    """
    fields = list_fields(settings.checks)
    required = [*(["label"] if known.labels else []), *fields]
    shown = [choose_examples(seeds, settings.examples_per_call, settings.seed, f"{number} {topic}") for topic in topics]
    prompts = [
        [{"role": "user", "content": write_prompt(settings, topic, examples, known.labels, written, wording)}]
        for topic, examples in zip(topics, shown, strict=True)
    ]
    read = partial(read_items, count=settings.instructions_per_call, plain=not required)
    drafts: list[Draft] = []
    for topic, examples, items in zip(topics, shown, calls.ask("instructions", prompts, read, number), strict=True):
        draft = Draft(topic, tuple(seed.id for seed in examples))
        drafts += [] if isinstance(items, Unusable) else [read_instruction(item, required, draft) for item in items]
    return drafts


def write_prompt(
    settings: Synthesis,
    topic: str,
    examples: Sequence[Seed],
    labels: Sequence[str],
    written: Mapping[str, Sequence[str]],
    wording: Wording,
) -> str:
    """The prompt with which the teacher is asked for prompts."""
    return wording.write(
        "instructions",
        task=settings.task,
        topic=topic,
        examples=examples,
        avoid=list(written.get(topic, ()))[-PROMPTS_TO_AVOID:],
        count=settings.instructions_per_call,
        labels=list(labels),
        fields=list_fields(settings.checks),
    )


def read_items(answer: str, count: int, plain: bool) -> list[Any]:
    """At most ``count`` items of an answer; a single prompt may be the answer itself.

    Raises:
        Unusable: There are none.
    """
    try:
        return read_list(answer, plain)[:count]
    except Unusable:
        if plain and count == 1 and not answer.lstrip().startswith(("[", "{", "`")):
            return [answer]
        raise
