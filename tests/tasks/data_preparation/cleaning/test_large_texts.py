"""Long texts cost time and memory in proportion to their length."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from tasks.corpus.personal_data.pii import Pii
from tasks.corpus.text.code import has_indentation, is_code, is_prose
from tasks.data_preparation.cleaning.steps.c4 import C4, split_sentences
from tasks.data_preparation.cleaning.steps.chunk import cut_text
from tasks.data_preparation.cleaning.steps.controls import remove_controls
from tasks.data_preparation.cleaning.steps.html import remove_html, strip_html
from tasks.data_preparation.cleaning.steps.quality import Quality
from tasks.data_preparation.cleaning.steps.repetition import Repetition
from tasks.data_preparation.cleaning.steps.unicode import make_repair
from tasks.data_preparation.cleaning.steps.whitespace import normalize_spaces
from tasks.language_models.probes.refusals import refuses
from tests.hostile_texts import UNITS

# Where a linear search takes a tenth of a second, one that takes the square of the length takes half a minute;
# `benchmarks/long_texts.py` measures how the time grows.
CHARACTERS, SECONDS = 100_000, 8.0

FUNCTIONS: dict[str, Callable[[str], object]] = {
    "html": remove_html,
    "html of documents": strip_html,
    "controls": remove_controls,
    "whitespace": normalize_spaces,
    "unicode": make_repair(),
    "c4": lambda text: (C4().keep_lines(text), split_sentences(text)),
    "chunk": lambda text: cut_text(text, 4000, 400),
    "repetition": Repetition().judge,
    "quality": Quality().judge,
    "refusals": refuses,
    "personal data": lambda text: Pii().scrub([text]),
    "form of a text": lambda text: (is_code(text), is_prose(text), has_indentation(text)),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_no_text_takes_the_square_of_its_length(name: str) -> None:
    for unit in UNITS:
        text = f"x{unit * (CHARACTERS // len(unit))}x"
        began = time.process_time()
        FUNCTIONS[name](text)
        assert time.process_time() - began < SECONDS, unit
