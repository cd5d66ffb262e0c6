"""Rules, the baseline that needs no model: an answer refuses by its wording, a text is unsafe that holds a listed word.

Refusals are found by `tasks.language_models.probes.refusals`, as string matching does for the quick scores of HarmBench
and XSTest (Zou et al. 2023, arXiv:2307.15043; Röttger et al. 2023, arXiv:2308.01263). A listed word is found as a whole
word in any case, also where it is spelt in full-width letters. Rules do not understand: a harmful answer without a
listed word passes, a quotation of one does not. English wordings only.

Example: ``{name: rules, words: [idiot, moron]}``
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from tasks.contracts.errors import PipelineError
from tasks.contracts.params import Reads, Section
from tasks.language_models.guards.guard import AskGuard, GuardedExchange, GuardFacts, GuardVerdict
from tasks.language_models.probes.refusals import refuses


class RuleGuard(Section):
    """Wordings of refusals, and a list of words."""

    name: Literal["rules"] = "rules"
    words: tuple[str, ...] = Field(default=(), description="words and phrases that make a text unsafe")
    file: Annotated[str | None, Reads("file")] = Field(
        default=None, description="file with more of them, one a line; lines that begin with # are comments"
    )
    can: ClassVar[GuardFacts] = GuardFacts(
        "rules", "tasks/language_models/probes/refusals.py", True, True, (), "patterns"
    )

    @property
    def facts(self) -> GuardFacts:
        return replace(self.can, harm=bool(self.words or self.file))

    def problems(self) -> list[str]:
        if self.file is None or Path(self.file).is_file():
            return []
        return [f"guard {self.name}: {self.file}: no such file; put words there, one a line, or take file out"]

    def open(self) -> AskGuard:
        """Ask by the rules.

        Raises:
            PipelineError: The file of words cannot be read.
        """
        words = self._read_words()
        pattern = re.compile("|".join(rf"(?<!\w){re.escape(word)}(?!\w)" for word in words))

        def judge(exchanges: Sequence[GuardedExchange]) -> list[GuardVerdict]:
            return [_judge(exchange, pattern if words else None) for exchange in exchanges]

        return judge

    def _read_words(self) -> list[str]:
        try:
            lines = Path(self.file).read_text(encoding="utf-8-sig").splitlines() if self.file else []
        except (OSError, UnicodeDecodeError) as error:
            raise PipelineError(
                f"guard {self.name}: {self.file} cannot be read ({error}); expected text in UTF-8, a word a line; "
                "correct file"
            ) from error
        listed = [*self.words, *(line for line in lines if not line.startswith("#"))]
        return sorted({_fold(word) for word in listed if word.strip()})


def _judge(exchange: GuardedExchange, pattern: re.Pattern[str] | None) -> GuardVerdict:
    answer = exchange.answer
    text = str(exchange.prompt[-1].get("content") or "") if answer is None else answer
    refusal = None if answer is None else refuses(answer)
    if pattern is None:
        return GuardVerdict(None, refusal=refusal)
    found = tuple(dict.fromkeys(pattern.findall(_fold(text))))
    return GuardVerdict(bool(found), float(bool(found)), found, refusal)


def _fold(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())
