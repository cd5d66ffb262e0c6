"""Step 1: the topics of the rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tasks.contracts.errors import PipelineError
from tasks.corpus.text.words import fold_text
from tasks.language_models.writers.reading import Unusable, read_list
from tasks.synthesis.calls import Calls
from tasks.synthesis.drafts import Draft, Group, Seed
from tasks.synthesis.params import Synthesis
from tasks.synthesis.seeds import choose_examples
from tasks.synthesis.wording import Wording

MAXIMUM_ROUNDS = 5
# A call for topics shows this multiple of examples_per_call.
EXAMPLES_FACTOR = 3
MAXIMUM_CHARACTERS = 120
DUPLICATE_THRESHOLD = 0.7


def ask_for_topics(
    settings: Synthesis, seeds: Sequence[Seed], calls: Calls, wording: Wording
) -> tuple[tuple[str, ...], list[Draft]]:
    """The topics in params, or distinct ones from the teacher.

    Returns:
        The topics, and those that were refused.

    Raises:
        PipelineError: The teacher gives no usable topic.
    """
    if settings.topics:
        return tuple(dict.fromkeys(settings.topics)), []
    topics: list[str] = []
    refused: list[Draft] = []
    for number in range(MAXIMUM_ROUNDS):
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
            f"synthesis: the teacher gave no topic in {calls.steps['topics'].calls} calls ({why or 'none usable'}); "
            "list topics in synthesis, or ask a stronger model"
        )
    return tuple(topics), refused


def write_prompt(
    settings: Synthesis, seeds: Sequence[Seed], wording: Wording, number: int, known: Sequence[str], count: int
) -> str:
    """The prompt with which the teacher is asked for topics."""
    count_examples = EXAMPLES_FACTOR * settings.examples_per_call
    examples = choose_examples(seeds, count_examples, settings.seed, f"topics {number}")
    return wording.write("topics", task=settings.task, examples=examples, count=count, known=list(known))


def read_topic(item: Any, known: Sequence[str]) -> tuple[str, str | None]:
    """A topic, and why it is unusable, if it is."""
    if isinstance(item, dict) and len(item) == 1:
        item = next(iter(item.values()))
    if not isinstance(item, str) or not fold_text(item):
        return str(item)[:MAXIMUM_CHARACTERS], "wrong schema: not text"
    topic = " ".join(item.split())
    if len(topic) > MAXIMUM_CHARACTERS:
        return topic, f"topic longer than {MAXIMUM_CHARACTERS} characters"
    return topic, "too similar to another topic" if Group("", list(known)).find_similar(
        [topic], DUPLICATE_THRESHOLD
    ) else None
