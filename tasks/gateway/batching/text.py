"""Incremental decoding of tokens to text, without sending partial characters or parts of a stop text."""

from __future__ import annotations

from collections.abc import Callable, Sequence

REPLACEMENT_CHARACTER = "\ufffd"


class AnswerText:
    """The text of one answer, growing token by token.

    The deltas of `push` and `finish` together are the decoded answer, cut before the first stop text.

    Args:
        decode: Token ids to text without special tokens.
        stops: Texts that end the answer.
    """

    def __init__(self, decode: Callable[[list[int]], str], stops: Sequence[str] = ()) -> None:
        self._decode = decode
        self._stops = tuple(stops)
        self._ids: list[int] = []
        # Ids before _read are already in the text. Decoding starts some ids earlier, at _anchor, because tokenizers
        # with a leading space decode a token differently at the start of a text.
        self._anchor = 0
        self._read = 0
        self._pending = ""
        self.stopped = False

    def push(self, token: int) -> str:
        """Add a token; returns the text that became final."""
        self._ids.append(token)
        before = self._decode(self._ids[self._anchor : self._read])
        after = self._decode(self._ids[self._anchor :])
        # A character split over tokens decodes to the replacement character until its last byte has arrived.
        if after.endswith(REPLACEMENT_CHARACTER) or len(after) <= len(before):
            return ""
        self._anchor, self._read = self._read, len(self._ids)
        return self._release(after[len(before) :])

    def finish(self) -> str:
        """The pending text, at the end of the answer."""
        if self.stopped:
            return ""
        before = self._decode(self._ids[self._anchor : self._read])
        rest = self._decode(self._ids[self._anchor :])[len(before) :]
        text = self._release(rest)
        if self.stopped:
            return text
        pending, self._pending = self._pending, ""
        return text + pending

    def _release(self, text: str) -> str:
        """The text that is final: up to a stop text, or to the possible start of one."""
        pending = self._pending + text
        found = [at for at in (pending.find(stop) for stop in self._stops) if at >= 0]
        if found:
            self.stopped = True
            self._pending = ""
            return pending[: min(found)]
        keep = max((overlap(pending, stop) for stop in self._stops), default=0)
        self._pending = pending[len(pending) - keep :]
        return pending[: len(pending) - keep]


def overlap(text: str, stop: str) -> int:
    """Length of the longest suffix of ``text`` that is a proper prefix of ``stop``."""
    return next((n for n in range(min(len(text), len(stop) - 1), 0, -1) if text.endswith(stop[:n])), 0)
