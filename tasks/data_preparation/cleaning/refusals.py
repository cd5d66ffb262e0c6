"""Answers that refuse.

An answer refuses when its opening says that it cannot, will not or, as an AI, does not do what was asked, in English:
the openings that Zou et al. 2023 (https://arxiv.org/abs/2307.15043, B.2) look for, except that an apology alone is
none and that "I cannot" needs a verb of helping behind it; so "I'm sorry, your parcel is late" stays. An answer that
lectures without saying no is not found: of the 76 answers of Mistral-Instruct to XSTest (Röttger et al. 2023,
https://arxiv.org/abs/2308.01263) that people labelled as full or partial refusals, most of them lectures, it finds 6,
and of the 374 that comply it takes 2.

Good for: instruction data written by another model, whose refusals would be learned. Refusals that are wanted (safety
data) must not go through this step.

Example:
    ``I'm sorry, but as an AI language model I cannot help with that.`` drops the row as "answer refuses".
"""

from __future__ import annotations

import re
from typing import Literal

import pyarrow as pa
from pydantic import Field

from tasks.contracts.params import Section
from tasks.data_preparation.cleaning.texts import Cleaned

_CANNOT = (
    r"(?:can(?:no|'|’)?t|can not|won(?:'|’)t|will not|do not|don(?:'|’)t|(?: ?am|'m|’m) ?(?:not|un))"
    r"(?: ?(?:able|willing|going|comfortable|allowed|programmed) to)?(?: in good conscience|(?: \w+ly)| be able to)?"
)
_HELP = (
    "answer|assist|comply|condone|create|decline|encourage|endorse|engage in|fulfil|fulfill|generate|give|help|offer"
    "|participate|promote|provide|recommend|refuse|respond|share|suggest|support|write"
)
_MODEL = r"(?:ai|artificial intelligence|(?:large )?language model)"
_DENIES = r"[^.!?]*(?:\bnot\b|n['’]t\b|\bcannot\b|\bunable\b)"
_REFUSES = re.compile(
    rf"\bi ?{_CANNOT} ?(?:{_HELP})\b"
    rf"|\b(?:as|i am|i['’]m) (?:just |only )?an? (?:\w+ )?{_MODEL}\b{_DENIES}"
    r"|\bi (?:must|have to) (?:decline|refuse)\b|\bi (?:strongly )?condemn\b"
    r"|\bi (?:cannot|can['’]?t|won['’]t|will not) do (?:that|this)\b"
    r"|\bi(?:['’]m| am) sorry,? (?:dave|but) i(?: can(?:no|['’])t|['’]m (?:un|not )able)\b",
    re.IGNORECASE,
)


class Refusals(Section):
    """Drops rows with an answer that refuses."""

    name: Literal["refusals"] = "refusals"
    characters: int = Field(default=200, gt=0, description="length of an answer's opening that is looked at")

    def clean(self, table: pa.Table) -> Cleaned:
        reasons = [
            "answer refuses"
            if any(turn["role"] == "assistant" and self.refuses(turn["content"]) for turn in turns)
            else None
            for turns in table["messages"].to_pylist()
        ]
        return Cleaned(table, reasons)

    def refuses(self, answer: str) -> bool:
        """Whether an answer's opening refuses."""
        return _REFUSES.search(answer[: self.characters]) is not None
