"""What becomes of a conversation that is longer than a row.

A conversation is the turns before the first question (system, developer), which stay, and exchanges: each a question
with all that follows up to the next one. Policies that leave out whole exchanges write what is left anew with the chat
template, so that the model sees a shorter conversation and no torn one. Only an exchange that is too long by itself is
cut inside, between tokens:

* ``truncate_right``: the first tokens stay, the end is lost. An answer that begins beyond them is not learned.
* ``truncate_left``: the oldest exchanges go until the rest fits. The last exchange by itself loses tokens after the
  beginning of its question, so that the system turn (at most half the row), the end of the question and the last answer
  stay; of a longer answer its end.
* ``truncate_middle``: the exchanges after the first go, oldest first. The first and the last by themselves lose the
  tokens between the beginning of the one and the last answer, which may take three quarters of the row.
* ``drop``: it is left out, and counted.
* ``split``: it becomes several rows, each the system turn and as many whole exchanges as fit, so that every answer is
  learned once. An exchange that is too long by itself becomes rows of consecutive tokens, each after the system turn
  and with the token before it as context, so that every token of an answer is learned once.

Whatever is cut inside, a token that follows a gap carries no loss: what it would be predicted from is not what it
followed. A conversation of which nothing is left to learn is counted with its reason, as ever.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Literal

from tasks.language_models.templates.rendering import TemplateRefusal, Turns

if TYPE_CHECKING:
    from tasks.language_models.templates.chat import Chat

LongRows = Literal["truncate_right", "truncate_left", "truncate_middle", "drop", "split"]
# What became of a conversation that trains, in words.
OUTCOMES: dict[LongRows, str] = {
    "truncate_right": "cut at the end",
    "truncate_left": "cut at the beginning",
    "truncate_middle": "cut in the middle",
    "drop": "left out",
    "split": "split into several rows",
}
Row = list[tuple[int, bool]]  # a token, and whether it carries loss

_PROBES = ("\ue000a\ue001", "\ue000b\ue001")
_BEFORE = ("system", "developer")


def shorten(
    turns: Turns, untrained: Collection[int], row: Row, chat: Chat, max_tokens: int, policy: LongRows
) -> list[Row]:
    """The rows of a conversation that is longer than ``max_tokens``; none of them is longer.

    Args:
        turns: The conversation.
        untrained: Places of answers that carry no loss.
        row: All its tokens.
        chat: The chat template.
        max_tokens: Length of a row.
        policy: What becomes of it.

    Returns:
        One row, of ``split`` one or more; an empty one of ``drop``.
    """
    if policy == "drop":
        return [[]]
    if policy == "truncate_right" or not any(learned for _, learned in row):
        return [row[:max_tokens]]
    conversation = _Conversation(turns, untrained, chat)
    try:
        if policy == "split":
            return conversation.split(max_tokens) or [row[:max_tokens]]
        if policy == "truncate_left":
            return [conversation.without_oldest(max_tokens)]
        return [conversation.without_middle(max_tokens)]
    except TemplateRefusal:  # the template takes the conversation as a whole only, so it is cut between its tokens
        if policy == "split":
            return _with_loss(_windows(row, max_tokens, 1)) or [row[:max_tokens]]
        return [_cut_before(row, max_tokens, 1) if policy == "truncate_left" else _cut_between(row, max_tokens)]


class _Conversation:
    """A conversation as exchanges, up to the last answer that is learned."""

    def __init__(self, turns: Turns, untrained: Collection[int], chat: Chat) -> None:
        answers = [n for n, turn in enumerate(turns) if turn["role"] == "assistant" and n not in untrained]
        self.turns, self.untrained, self.chat = turns[: answers[-1] + 1], untrained, chat
        self.lead = next((n for n, turn in enumerate(self.turns) if turn["role"] not in _BEFORE), 0)
        roles = [turn["role"] for turn in self.turns]
        starts = [n for n in range(self.lead + 1, len(roles)) if roles[n] == "user" != roles[n - 1]]
        self.starts = [self.lead, *starts]
        self.exchanges = len(self.starts)

    def without_oldest(self, size: int) -> Row:
        first = _first_that_fits(lambda n: self._write([(n, self.exchanges)]), 1, self.exchanges, size)
        if first is not None:
            return first
        row = self._write([(self.exchanges - 1, self.exchanges)])
        return _cut_before(row, size, self._head(row, self.exchanges - 1))

    def without_middle(self, size: int) -> Row:
        last = self.exchanges
        fitting = _first_that_fits(lambda n: self._write([(0, 1), (n, last)]), min(2, last - 1), last, size)
        if fitting is not None:
            return fitting
        return _cut_between(self._write([(0, 1), (last - 1, last)] if last > 1 else [(0, 1)]), size)

    def split(self, size: int) -> list[Row]:
        rows, start = [], 0
        while start < self.exchanges:
            row = self._write([(start, start + 1)])
            if len(row) > size:
                rows += _windows(row, size, min(self._head(row, start), size // 2))
                start += 1
                continue
            end, step = start + 1, 1
            while step:
                beyond = min(end + step, self.exchanges)
                longer = self._write([(start, beyond)])
                if beyond > end and len(longer) <= size:
                    row, end, step = longer, beyond, 2 * step
                else:
                    step //= 2
            rows.append(row)
            start = end
        return _with_loss(rows)

    def _write(self, spans: Sequence[tuple[int, int]]) -> Row:
        """The lead and some spans of exchanges, by the chat template."""
        ends = [*self.starts, len(self.turns)]
        places = [*range(self.lead), *(n for start, end in spans for n in range(ends[start], ends[end]))]
        untrained = {new for new, old in enumerate(places) if old in self.untrained}
        turns = [self.turns[n] for n in places]
        ((prompt, answer),) = self.chat.encode([self.chat.write(turns, untrained)])
        return [*prompt, *answer]

    def _head(self, row: Row, exchange: int) -> int:
        """Tokens before the content of the first turn of an exchange: the lead, and the beginning of that turn."""
        turn = self.turns[self.starts[exchange]]
        tokens = [token for token, _ in row]
        if turn["role"] == "assistant":
            return min((n for n, (_, learned) in enumerate(row) if learned), default=0)
        for probe in _PROBES:
            asked = self.chat.prompt_ids([*self.turns[: self.lead], {**turn, "content": probe}])
            shared = next((n for n, (a, b) in enumerate(zip(tokens, asked, strict=False)) if a != b), len(tokens))
            tokens = tokens[:shared]
        return len(tokens)


def _first_that_fits(write: Callable[[int], Row], low: int, high: int, size: int) -> Row | None:
    """The row of the lowest number from ``low`` to below ``high`` that fits; rows get shorter with the number."""
    found = None
    while low < high:
        middle = (low + high) // 2
        row = write(middle)
        if len(row) <= size:
            found, high = row, middle
        else:
            low = middle + 1
    return found


def _cut_before(row: Row, size: int, head: int) -> Row:
    """The head, at most half of it, and the end."""
    head = min(head, size // 2)
    return _join(row[:head], row[-(size - head) :])


def _cut_between(row: Row, size: int) -> Row:
    """The beginning and the end, of which the last answer may take three quarters."""
    end = min(max(size // 2, _last_answer(row)), size - size // 4)
    return _join(row[: size - end], row[-end:])


def _join(head: Row, tail: Row) -> Row:
    return [*head, (tail[0][0], False), *tail[1:]]


def _with_loss(rows: list[Row]) -> list[Row]:
    return [row for row in rows if any(learned for _, learned in row[1:])]


def _last_answer(row: Row) -> int:
    """Tokens from the beginning of the last answer to the end of the row."""
    end = max(n for n, (_, learned) in enumerate(row) if learned)
    start = next((n for n in range(end, -1, -1) if not row[n][1]), -1) + 1
    return len(row) - start


def _windows(row: Row, size: int, head: int) -> list[Row]:
    """Consecutive tokens in rows of ``size``, each but the first after the head and the token before it."""
    rows, place = [row[:size]], size
    step = size - head - 1
    while place < len(row):
        rows.append([*row[:head], (row[place - 1][0], False), *row[place : place + step]])
        place += step
    return rows
