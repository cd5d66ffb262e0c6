"""The answers that changed, as the page shows them: side by side, the largest changes first, within bounds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from tasks.evaluation.report.changes import Change
from tasks.evaluation.slices.groups import Groupings
from tasks.pages.examples import ShownChange, Turn
from tasks.pages.text import show_score

# Longer texts would push the next example off the screen; predictions.parquet has them in full.
MAXIMUM_CHARACTERS = 600
MAXIMUM_TURNS = 6
# Of all examples together, so that the page opens on a phone; markup and rare characters make it some times as many
# bytes.
MAXIMUM_IN_ALL = 300_000


def choose_examples(
    better: Sequence[Change], worse: Sequence[Change], most: int, room: int = MAXIMUM_IN_ALL
) -> list[Change]:
    """At most so many of each, by turns, worse ones first, as far as they fit on the page.

    Args:
        better: Improved items.
        worse: Worsened ones.
        most: How many of each at most.
        room: Characters of all their texts together.
    """
    chosen: list[Change] = []
    for change in _by_turns(worse[:most], better[:most]):
        room -= sum(len(truncate(text)) for text in _texts(change))
        if room < 0:
            break
        chosen.append(change)
    return chosen


def _by_turns(first: Sequence[Change], second: Sequence[Change]) -> Iterator[Change]:
    for place in range(max(len(first), len(second))):
        yield from first[place : place + 1]
        yield from second[place : place + 1]


def _texts(change: Change) -> Iterable[str]:
    return (
        *(turn["content"] for turn in change.item.prompt[-MAXIMUM_TURNS:]), change.item.reference,
        *change.answers.values(),
    )  # fmt: skip


def show_change(
    change: Change, models: tuple[str, str], groupings: Groupings, places: dict[str, int], binary: bool
) -> ShownChange:
    """A change as the page shows it.

    Args:
        change: The item with its answers and scores.
        models: The older and the newer model.
        groupings: Slices that the page can be filtered by.
        places: Id of each item to its place among the items.
        binary: Scores are right or wrong.
    """
    before, after = models
    label = f" · {change.item.label}" if change.item.label else ""
    scores = {model: show_value(value, binary) for model, value in change.values.items()}
    # Of documents and vectors nobody asks for an answer.
    texts = {
        model: truncate(answer) if any(change.answers.values()) else "(nothing was answered)"
        for model, answer in change.answers.items()
    }
    answers = {model: (f"{model} · {scores[model]}", text) for model, text in texts.items()}
    others: list[Turn] = [(f"reference{label}", truncate(change.item.reference))]
    others += [answer for model, answer in answers.items() if model not in models]
    return ShownChange(
        "better" if change.gain > 0 else "worse",
        f"{scores[before]} → {scores[after]}",
        show_prompt(change),
        answers[before],
        answers[after],
        others,
        groupings.of_item(places[change.item.id]),
    )


def show_prompt(change: Change) -> list[Turn]:
    """The last turns before the answer."""
    prompt = change.item.prompt
    turns = [(turn["role"], truncate(turn["content"])) for turn in prompt[-MAXIMUM_TURNS:]]
    left = len(prompt) - MAXIMUM_TURNS
    return [("", f"{left:,} earlier turns"), *turns] if left > 0 else turns


def show_value(value: float, binary: bool) -> str:
    """A score, as a word where it is 0 or 1."""
    return ("right" if value else "wrong") if binary else show_score(value)


def truncate(text: str) -> str:
    """A text as far as it is shown."""
    text = text.strip() or "(empty)"
    return text if len(text) <= MAXIMUM_CHARACTERS else text[:MAXIMUM_CHARACTERS].rstrip() + " …"
