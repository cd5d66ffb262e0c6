"""Data is never structure: control tokens inside a content are text, those that the template writes are tokens.

Before the template writes a conversation, each control token in a content is put between two marks, private characters
that transformers uses for the same purpose; what comes between marks is encoded as the text it is. A content without
control tokens stays as it is, so a template that trims or splits contents sees what it expects.

Special tokens are marked in every turn. Tokens that are not special but have a place in the template, such as
``<tool_call>`` and ``<think>``, are marked in all turns but the assistant's: there they are what the model writes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cached_property
from typing import Any

from tasks.contracts.errors import PipelineError

START, END = "\U000f0000", "\U000f0001"


class ControlTokens:
    """The control tokens of a tokenizer under a chat template.

    Args:
        tokenizer: A fast tokenizer.
        template: The chat template's text.
    """

    def __init__(self, tokenizer: Any, template: str) -> None:
        numbered = {n: token for n, token in tokenizer.added_tokens_decoder.items() if token.content.strip()}
        added = list(numbered.values())
        special = [token.content for token in added if token.special]
        named = [token.content for token in added if not token.special and token.content in template]
        self._tokenizer = tokenizer
        self._special = _any_of(special)
        self._every = _any_of([*special, *named])
        self._marked = re.compile(f"{START}({_any_of([*special, *named]).pattern}){END}|[{START}{END}]")
        self.ids = frozenset(
            number for number, token in tokenizer.added_tokens_decoder.items() if token.content.strip()
        )
        self.special_ids = frozenset(n for n, token in numbered.items() if token.special)
        self._written = _any_of([token.content for token in added], marks=False)
        self._last = re.compile(f"(?:{self._written.pattern})$")
        self._normalizes = any(token.normalized for token in added)
        self._texts: dict[str, list[int]] = {}

    def mark(self, turn: Mapping[str, Any]) -> dict[str, Any]:
        """A turn whose texts have their control tokens marked."""
        pattern = self._special if turn.get("role") == "assistant" else self._every
        return {key: value if key == "role" else self._mark(value, pattern) for key, value in turn.items()}

    def _mark(self, value: Any, pattern: re.Pattern[str]) -> Any:
        if isinstance(value, str):
            value = self._normalized(value, pattern)
            return pattern.sub(f"{START}\\g<0>{END}", value)
        if isinstance(value, Mapping):
            return {key: self._mark(item, pattern) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self._mark(item, pattern) for item in value]
        return value

    def _normalized(self, text: str, pattern: re.Pattern[str]) -> str:
        """The text, normalized where only that shows a control token, such as one in full-width characters."""
        if not self._normalizes or self._normalizer is None:
            return text
        normalized = str(self._normalizer.normalize_str(text))
        return normalized if len(pattern.findall(normalized)) > len(pattern.findall(text)) else text

    @cached_property
    def _normalizer(self) -> Any:
        return self._tokenizer.backend_tokenizer.normalizer

    def split(self, text: str) -> list[tuple[str, bool]]:
        """Parts of a written conversation, each with whether it is a control token to encode as text.

        A template's own splitting may separate marks from their token; such marks are dropped but end a part, so that
        what is left and right of one is never read as a control token together.
        """
        if START not in text and END not in text:
            return [(text, False)]
        parts = self._marked.split(text)
        return [(part, number % 2 == 1) for number, part in enumerate(parts) if part]

    def starts(self, text: str) -> list[int]:
        """Where the control tokens of a text begin."""
        return [found.start() for found in self._written.finditer(text)]

    def through_first(self, text: str) -> str:
        """A text up to the end of its first control token; empty where there is none."""
        found = self._written.search(text)
        return text[: found.end()] if found else ""

    def at_end(self, text: str) -> str:
        """The control token that a text ends with; empty where it ends with another text."""
        found = self._last.search(text)
        return found.group() if found else ""

    def as_text(self, token: str) -> list[int]:
        """Ids of a control token's text, none of them a control token.

        Raises:
            PipelineError: The tokenizer has no other spelling of it.
        """
        if token not in self._texts:
            self._texts[token] = self._spell(token)
        return self._texts[token]

    def _spell(self, token: str) -> list[int]:
        encode = self._tokenizer.encode
        spellings = (
            lambda: encode(token, add_special_tokens=False, split_special_tokens=True),
            lambda: [i for character in token for i in encode(character, add_special_tokens=False)],
        )
        for spell in spellings:
            ids: list[int] = spell()
            if not self.ids & set(ids):
                return ids
        raise PipelineError(
            f"a text holds {token!r}, which the tokenizer can only read as its control token; expected texts without "
            "it; remove it from the data or the request"
        )


def _any_of(tokens: list[str], marks: bool = True) -> re.Pattern[str]:
    """A pattern of any of the tokens, the longest first, and of the marks themselves."""
    longest_first = sorted({*tokens, *([START, END] if marks else [])}, key=lambda token: (-len(token), token))
    return re.compile("|".join(map(re.escape, longest_first)) or "(?!)")
