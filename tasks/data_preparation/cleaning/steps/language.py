"""Drops rows in unwanted languages, detected by lingua (https://github.com/pemistahl/lingua-py).

lingua models n-grams of letters of 75 languages offline; it comes with the extra ``language``. A row is dropped when
the confidence of the wanted languages is less than ``min_confidence`` relative to the most likely other language; 0.5
is the threshold of CCNet (Wenzek et al. 2019, https://arxiv.org/abs/1911.00359). The comparison is with one other
language, not with all, since the confidence of a short text is spread over many related languages. A list of candidates
in ``among`` improves the detection in short texts further. URLs, user names, tags, words with digits and identifiers
are ignored, as they distort the detection: 3 of 500 English tweets are dropped, 46 without this, and 12 instead of 32
of 500 commit messages; all 602 paragraphs of UDHR in eleven other languages are still dropped.

Example:
    ``{name: language, languages: [en, de]}`` drops ``Où est ma commande ?`` as "language fr".
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, model_validator

from tasks.contracts.errors import PipelineError
from tasks.contracts.params import Section
from tasks.corpus.rows.roles import ROLES, Of

if TYPE_CHECKING:
    import pyarrow as pa

    from tasks.corpus.rows.rows import Listing
    from tasks.corpus.rows.texts import Cleaned

BATCH = 1000
# URLs, user names, tags, code and numbers are words of no language.
_NO_WORD = re.compile(r"`[^`]*`|https?://[!-~]+|[!-~]*[@#_/\\][!-~]*|[!-~]*\d[!-~]*|\b\w*[a-z][A-Z]\w*\b")


class Language(Section):
    """Drops rows that are in none of the wanted languages."""

    name: Literal["language"] = "language"
    languages: tuple[str, ...] = Field(default=("en",), min_length=1, description="wanted languages, ISO 639-1 codes")
    among: tuple[str, ...] = Field(
        default=(), description="candidate languages, including the wanted ones; empty: all 75"
    )
    of: Of = Field(default="conversation", description="which turns are checked")
    min_confidence: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="minimum confidence of the wanted languages relative to the most likely other",
    )
    min_characters: int = Field(default=20, ge=1, description="minimum letters; shorter texts are kept")
    characters: int = Field(default=500, ge=20, description="leading characters that are used")
    fast: bool = Field(default=False, description="80 MB instead of 1 GB of memory; less accurate on short texts")

    @model_validator(mode="after")
    def _candidates_hold_the_wanted(self) -> Language:
        if self.among and (missing := set(self.languages) - set(self.among)):
            raise ValueError(f"among must include the wanted languages {', '.join(sorted(missing))}")
        if len(self.among) == 1:
            raise ValueError("among needs at least two languages; a single one would always be detected")
        return self

    def clean(self, table: pa.Table) -> Cleaned:
        from tasks.corpus.rows.learned import learned_messages
        from tasks.corpus.rows.rows import join_turns
        from tasks.corpus.rows.texts import Cleaned

        texts = [
            _NO_WORD.sub(" ", text[: self.characters]) for text in join_turns(learned_messages(table), ROLES[self.of])
        ]
        long = [place for place, text in enumerate(texts) if sum(map(str.isalpha, text)) >= self.min_characters]
        reasons: list[str | None] = [None] * len(texts)
        found: Counter[str] = Counter()
        for start in range(0, len(long), BATCH):
            places = long[start : start + BATCH]
            for place, (language, wanted) in zip(places, self.detect([texts[p] for p in places]), strict=True):
                found[language] += 1
                if wanted < self.min_confidence:
                    reasons[place] = f"language {language}" if language not in self.languages else "language unclear"
        return Cleaned(table, reasons, listings=(self._list(found, len(texts)),))

    def join_listings(self, parts: Sequence[tuple[Listing, ...]], rows: int) -> tuple[Listing, ...]:
        """The listings of several parts as one."""
        found: Counter[str] = Counter()
        for listing in (listing for part in parts for listing in part):
            found.update({str(language): int(count) for language, count in listing.rows})
        return (self._list(found, rows),)

    def _list(self, found: Counter[str], rows: int) -> Listing:
        from tasks.corpus.rows.rows import Listing

        listed = tuple((language, count) for language, count in sorted(found.items(), key=lambda i: (-i[1], i[0])))
        short = rows - found.total()
        note = f"{short:,} rows with fewer than {self.min_characters} letters were not classified." if short else ""
        return Listing("Detected languages", ("language", "rows"), listed, note)

    def detect(self, texts: Sequence[str]) -> list[tuple[str, float]]:
        """Per text the most likely language, and the confidence of the wanted ones relative to the most likely other.

        Raises:
            PipelineError: lingua is not installed, or does not know a language.
        """
        detector = _make_detector(self.languages, self.among, self.fast)
        detected = []
        for values in detector.compute_language_confidence_values_in_parallel(list(texts)):
            confidence = {value.language.iso_code_639_1.name.lower(): value.value for value in values}
            wanted = sum(confidence[code] for code in self.languages)
            other = max((value for code, value in confidence.items() if code not in self.languages), default=0.0)
            most_likely = max(confidence, key=lambda code: confidence[code])
            detected.append((most_likely, wanted / (wanted + other) if wanted + other else 0.0))
        return detected


def _make_detector(wanted: Sequence[str], among: Sequence[str], fast: bool) -> Any:
    try:
        from lingua import IsoCode639_1, LanguageDetectorBuilder
        from lingua import Language as Known
    except ImportError as error:
        raise PipelineError("language: lingua is not installed; pip install 'heptune[language]'") from error
    known = {language.iso_code_639_1.name.lower() for language in Known.all()}
    if unknown := sorted({*wanted, *among} - known):
        raise PipelineError(f"language: lingua does not know {', '.join(unknown)}; it knows {', '.join(sorted(known))}")
    if among:
        codes = [getattr(IsoCode639_1, code.upper()) for code in among]
        builder = LanguageDetectorBuilder.from_iso_codes_639_1(*codes)
    else:
        builder = LanguageDetectorBuilder.from_all_languages()
    return (builder.with_low_accuracy_mode() if fast else builder).build()
