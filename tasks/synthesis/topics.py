"""Step 1: what the rows are to be about."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tasks.contracts.errors import PipelineError
from tasks.corpus.text.words import fold_text
from tasks.synthesis.calls import Calls
from tasks.synthesis.drafts import Draft, Group, Seed
from tasks.synthesis.params import Synthesis
from tasks.synthesis.reading import Unusable, read_list
from tasks.synthesis.seeds import choose_examples
from tasks.synthesis.wording import Wording

ROUNDS = 5
# A seed gives little of its style away to a list of topics, so more of them are shown.
EXAMPLES = 3
LONGEST = 120
NEAR = 0.7


def ask_for_topics(
    settings: Synthesis, seeds: Sequence[Seed], calls: Calls, wording: Wording
) -> tuple[tuple[str, ...], list[Draft]]:
    """The topics in params, or as many of the teacher's as are wanted and differ.

    Returns:
        The topics, and those that were refused.

    Raises:
        PipelineError: The teacher gives none that can be used.
    """
    if settings.topics:
        return tuple(dict.fromkeys(settings.topics)), []
    topics: list[str] = []
    refused: list[Draft] = []
    for number in range(ROUNDS):
        missing = settings.topics_wanted - len(topics)
        if not missing or calls.ended:
            break
        text = write_prompt(settings, seeds, wording, number, topics, missing)
        prompt = [{"role": "user", "content": text}]
        [items] = calls.ask("topics", [prompt], lambda answer: read_list(answer, plain=True), number)
        for item in [] if isinstance(items, Unusable) else items[: 2 * missing]:
            topic, reason = read_topic(item, topics)
            if reason is None and len(topics) < settings.topics_wanted:
                topics.append(topic)
            elif reason is not None:
                refused.append(Draft(topic).refuse("topics", reason))
    if not topics:
        why = calls.ended or ", ".join(f"{why} {count}" for why, count in calls.steps["topics"].unusable.items())
        raise PipelineError(
            f"synthesis: the teacher gave no topic in {calls.steps['topics'].calls} calls ({why or 'none of use'}); "
            "list topics in synthesis, or ask a stronger model"
        )
    return tuple(topics), refused


def write_prompt(
    settings: Synthesis, seeds: Sequence[Seed], wording: Wording, number: int, known: Sequence[str], count: int
) -> str:
    """What the teacher is asked for topics."""
    wanted = EXAMPLES * settings.examples_per_call
    examples = choose_examples(seeds, wanted, settings.seed, f"topics {number}")
    return wording.write("topics", task=settings.task, examples=examples, count=count, known=list(known))


def read_topic(item: Any, known: Sequence[str]) -> tuple[str, str | None]:
    """A topic, and why it cannot be used."""
    if isinstance(item, dict) and len(item) == 1:
        item = next(iter(item.values()))
    if not isinstance(item, str) or not fold_text(item):
        return str(item)[:LONGEST], "wrong schema: no text"
    topic = " ".join(item.split())
    if len(topic) > LONGEST:
        return topic, f"topic longer than {LONGEST} characters"
    return topic, "too like another topic" if Group("", list(known)).find_like([topic], NEAR) else None
