"""Recall and precision of the finders of personal data, and their speed as a ratio in one run.

Measured on 1,500 synthetic sentences with marked spans: data/synth_dataset_v2.json of
https://github.com/microsoft/presidio-research.

* recall: share of the marked values of a kind that are taken out whole, as whatever kind;
* precision: share of the finds of a kind that touch a marked value of that kind.

* phones of all countries: libphonenumber's example numbers in four spellings, behind "call" and standing alone;
* finds where there is nothing: in texts that hold no personal data (code, sums, logs), given by `--clean`.

    python benchmarks/pii.py synth_dataset_v2.json [--spacy-model en_core_web_lg] [--min-score 0.4] \
        [--clean src/*.py problems.jsonl]
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

sys.path.insert(0, str(Path(__file__).parents[1]))

from tasks.corpus.personal_data.found import Finder, Found, Kind, PlainKind
from tasks.corpus.personal_data.patterns import Patterns
from tasks.corpus.personal_data.presidio import Presidio

KINDS: dict[str, Kind] = {
    "EMAIL_ADDRESS": "email",
    "PHONE_NUMBER": "phone",
    "IBAN_CODE": "iban",
    "CREDIT_CARD": "card",
    "IP_ADDRESS": "ip",
    "US_SSN": "national_id",
    "US_DRIVER_LICENSE": "national_id",
    "PERSON": "name",
    "GPE": "place",
    "STREET_ADDRESS": "place",
}

Marked = list[list[Found]]


def read_marked(path: Path) -> tuple[list[str], Marked]:
    """The sentences, and their marked values of the kinds that are looked for."""
    rows: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    marked = [
        [
            Found(span["start_position"], span["end_position"], KINDS[span["entity_type"]])
            for span in row["spans"]
            if span["entity_type"] in KINDS
        ]
        for row in rows
    ]
    return [row["full_text"] for row in rows], marked


def is_covered(value: Found, found: Sequence[Found]) -> bool:
    """Whether every character of a value was found, by one find or by several side by side."""
    return all(any(each.start <= place < each.end for each in found) for place in range(value.start, value.end))


def touch(one: Found, others: Sequence[Found]) -> bool:
    """Whether a find overlaps another of its kind."""
    return any(one.kind == other.kind and one.start < other.end and other.start < one.end for other in others)


def compare(marked: Marked, found: Marked) -> list[tuple[Kind, int, int, float | None, float | None]]:
    """Per kind: values marked, values found, recall and precision."""
    lines: list[tuple[Kind, int, int, float | None, float | None]] = []
    for kind in get_args(Kind):
        values = [(each, row) for row, line in enumerate(marked) for each in line if each.kind == kind]
        finds = [(each, row) for row, line in enumerate(found) for each in line if each.kind == kind]
        recall = sum(is_covered(each, found[row]) for each, row in values) / len(values) if values else None
        precision = sum(touch(each, marked[row]) for each, row in finds) / len(finds) if finds else None
        lines.append((kind, len(values), len(finds), recall, precision))
    return lines


def measure(name: str, finder: Finder, texts: Sequence[str], marked: Marked) -> float:
    """Print one finder's table; rows a second, without the seconds to load it."""
    finder.find(texts[:1])
    began = time.perf_counter()
    found = finder.find(texts)
    seconds = time.perf_counter() - began
    print(f"\n{name}: {len(texts) / seconds:,.0f} rows/s")
    print(f"  {'kind':12} {'marked':>7} {'found':>7} {'recall':>7} {'precision':>10}")
    for kind, values, finds, recall, precision in compare(marked, found):
        print(f"  {kind:12} {values:7} {finds:7} {show(recall):>7} {show(precision):>10}")
    return len(texts) / seconds


def measure_phones(finder: Finder) -> None:
    """Print the share of libphonenumber's example numbers that is taken out whole."""
    import phonenumbers
    from phonenumbers import PhoneNumberFormat, PhoneNumberType

    kinds = (PhoneNumberType.FIXED_LINE, PhoneNumberType.MOBILE)
    regions = sorted(phonenumbers.SUPPORTED_REGIONS)
    examples = [phonenumbers.example_number_for_type(region, kind) for region in regions for kind in kinds]
    print(f"\nexample numbers of {len(regions)} countries and territories: share found")
    print(f"  {'spelling':14} {'numbers':>8} {'behind call':>12} {'alone':>7}")
    for spelling in ("E164", "INTERNATIONAL", "RFC3966", "NATIONAL"):
        form = getattr(PhoneNumberFormat, spelling)
        numbers = sorted({phonenumbers.format_number(each, form) for each in examples if each})
        shares = []
        for frame in ("Please call {} after six.", "Thanks, {} is what I have."):
            texts = [frame.format(number) for number in numbers]
            places = [text.index(number) for text, number in zip(texts, numbers, strict=True)]
            digits = [
                [place for place in range(start, start + len(number)) if text[place].isdigit()]
                for text, start, number in zip(texts, places, numbers, strict=True)
            ]
            found = finder.find(texts)
            whole = [
                all(any(each.start <= place < each.end for each in line) for place in row)
                for row, line in zip(digits, found, strict=True)
            ]
            shares.append(sum(whole) / len(whole))
        print(f"  {spelling:14} {len(numbers):8} {shares[0]:12.3f} {shares[1]:7.3f}")


def measure_clean(finder: Finder, paths: Sequence[Path]) -> None:
    """Print what is found in texts without personal data, per megabyte and kind, with examples."""
    texts = [path.read_text(encoding="utf-8", errors="replace") for path in paths]
    found = finder.find(texts)
    size = sum(map(len, texts)) / 1e6
    print(f"\n{len(texts):,} texts without personal data, {size:.1f} million characters")
    for kind in get_args(Kind):
        finds = [
            text[each.start : each.end]
            for text, line in zip(texts, found, strict=True)
            for each in line
            if each.kind == kind
        ]
        if finds:
            print(f"  {kind:12} {len(finds):7} found, {len(finds) / size:.2f} a million characters: {finds[:5]}")


def show(share: float | None) -> str:
    return "-" if share is None else f"{share:.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("path", type=Path, help="synth_dataset_v2.json")
    parser.add_argument("--spacy-model", default=None, help="installed package or folder, for names and places")
    parser.add_argument("--min-score", type=float, default=Presidio().min_score)
    parser.add_argument("--clean", type=Path, nargs="*", default=[], help="files without personal data")
    settings = parser.parse_args()
    texts, marked = read_marked(settings.path)
    patterns = measure("patterns", Patterns(kinds=get_args(PlainKind)), texts, marked)
    measure_phones(Patterns())
    if settings.clean:
        measure_clean(Patterns(), settings.clean)
    presidio = Presidio(spacy_model=settings.spacy_model, min_score=settings.min_score)
    slower = patterns / measure("presidio with the patterns", presidio, texts, marked)
    print(f"\nthe patterns are {slower:.0f} times as fast")


if __name__ == "__main__":
    main()
