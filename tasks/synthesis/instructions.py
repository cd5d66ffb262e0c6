"""Step 2: prompts about the topics, as Self-Instruct has them (Wang et al. 2023, https://arxiv.org/abs/2212.10560)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from tasks.synthesis.calls import Calls
from tasks.synthesis.checks.schema import read_instruction
from tasks.synthesis.drafts import Draft, Known, Seed
from tasks.synthesis.params import Synthesis
from tasks.synthesis.reading import Unusable, read_list
from tasks.synthesis.seeds import choose_examples
from tasks.synthesis.verify import list_fields
from tasks.synthesis.wording import Wording

# Prompts of a topic that a call is told not to repeat, the newest.
AVOIDED = 10


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
    """New prompts, a call for each topic; what is no prompt is refused.

    Args:
        settings: How many, with how many examples.
        topics: Of this round.
        number: Of this round.
        seeds: Rows to show some of.
        known: Labels.
        written: Topic to the prompts that are there.
        calls: To ask with.
        wording: Templates.
    """
    fields = list_fields(settings.checks)
    wanted = [*(["label"] if known.labels else []), *fields]
    shown = [choose_examples(seeds, settings.examples_per_call, settings.seed, f"{number} {topic}") for topic in topics]
    prompts = [
        [{"role": "user", "content": write_prompt(settings, topic, examples, known.labels, written, wording)}]
        for topic, examples in zip(topics, shown, strict=True)
    ]
    read = partial(read_items, count=settings.instructions_per_call, plain=not wanted)
    drafts: list[Draft] = []
    for topic, examples, items in zip(topics, shown, calls.ask("instructions", prompts, read, number), strict=True):
        draft = Draft(topic, tuple(seed.id for seed in examples))
        drafts += [] if isinstance(items, Unusable) else [read_instruction(item, wanted, draft) for item in items]
    return drafts


def write_prompt(
    settings: Synthesis,
    topic: str,
    examples: Sequence[Seed],
    labels: Sequence[str],
    written: Mapping[str, Sequence[str]],
    wording: Wording,
) -> str:
    """What the teacher is asked for prompts."""
    return wording.write(
        "instructions",
        task=settings.task,
        topic=topic,
        examples=examples,
        avoid=list(written.get(topic, ()))[-AVOIDED:],
        count=settings.instructions_per_call,
        labels=list(labels),
        fields=list_fields(settings.checks),
    )


def read_items(answer: str, count: int, plain: bool) -> list[Any]:
    """At most so many items of an answer; a single prompt may be the answer itself.

    Raises:
        Unusable: There are none.
    """
    try:
        return read_list(answer, plain)[:count]
    except Unusable:
        if plain and count == 1 and not answer.lstrip().startswith(("[", "{", "`")):
            return [answer]
        raise
