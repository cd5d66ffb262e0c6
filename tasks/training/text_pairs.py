"""Pairs of texts that belong together, from prepared rows: a prompt and its answer, or two prompts of one label."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    import pyarrow as pa

PairKind = Literal["answers", "labels"]
NO_MATE = "no other row has its label"
NO_PAIR = "no prompt, no answer or no label to pair"


class TextPair(NamedTuple):
    """Two texts that belong together.

    Attributes:
        id: That of the row of the first.
        first: A prompt: what its user says.
        second: The answer, or another prompt of the label.
        label: Of the row, if any.
    """

    id: str
    first: str
    second: str
    label: str | None


def list_pairs(examples: pa.Table, kind: PairKind) -> tuple[list[TextPair], dict[str, int]]:
    """The pairs of a split, in the order of its rows, and why rows give none.

    With ``labels`` the rows of a label stand in a circle, in the order of a hash of their ids, and each is paired with
    the next: no order of the rows, and no number that is drawn, has a part in it.

    Args:
        examples: Schema `EXAMPLES`.
        kind: ``answers`` or ``labels``.
    """
    rows = examples.select(["id", "messages", "label"]).to_pylist()
    prompts = {row["id"]: read_prompt(row["messages"]) for row in rows}
    mates = _find_mates(rows, prompts) if kind == "labels" else {}
    pairs, dropped = [], {NO_PAIR: 0, NO_MATE: 0}
    for row in rows:
        first, label = prompts[row["id"]], row["label"]
        second = mates.get(row["id"], "") if kind == "labels" else row["messages"][-1]["content"].strip()
        if not first or (kind == "labels" and label is None) or (kind == "answers" and not second):
            dropped[NO_PAIR] += 1
        elif not second:
            dropped[NO_MATE] += 1
        else:
            pairs.append(TextPair(row["id"], first, second, label))
    return pairs, {reason: count for reason, count in dropped.items() if count}


def read_prompt(turns: list[dict[str, str]]) -> str:
    """What the user says before the last answer, turns joined by newlines; empty where there is no user."""
    return "\n".join(turn["content"] for turn in turns[:-1] if turn["role"] == "user").strip()


def _find_mates(rows: list[dict[str, str]], prompts: Mapping[str, str]) -> dict[str, str]:
    """Id to the prompt of the next row in the circle of its label; none where that is the same text."""
    circles: dict[str, list[str]] = {}
    for row in rows:
        if row["label"] is not None and prompts[row["id"]]:
            circles.setdefault(row["label"], []).append(row["id"])
    mates = {}
    for circle in circles.values():
        ordered = sorted(circle, key=lambda name: hashlib.sha256(f"mate {name}".encode()).digest())
        for one, other in zip(ordered, [*ordered[1:], ordered[0]], strict=True):
            if prompts[one] != prompts[other]:
                mates[one] = prompts[other]
    return mates
