"""Which columns of rows of unknown shape may hold texts to learn, for the error message."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import orjson

from tasks.corpus.reading.shapes.dialogues import find_keys
from tasks.corpus.reading.shapes.shape import Row

SUGGESTION_ROWS = 50
# Below this a column is no text of a language.
MIN_SCORE = 0.1
# A link, mail address, date, path, name of a file, or one word of letters and digits as keys and hashes are.
_NO_TEXT = re.compile(
    r"\s*(\w+://\S+|www\.\S+|[\w.+-]+@[\w.-]+|\d{4}-\d\d-\d\d.*|\S*[/\\]\S*|\S*\.\w{1,5}|[\w:.-]*\d[\w:.-]*)\s*",
    re.ASCII,
)
_WORDS = re.compile(r"[^\W\d_]+")
# Scripts without spaces between words.
_UNSPACED = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")


def suggest_fields(rows: Sequence[Row]) -> str:
    """A suggestion for ``fields``: the two columns that most look like texts of a language, in their order."""
    values: defaultdict[str, list[str]] = defaultdict(list)
    for row in rows[:SUGGESTION_ROWS]:
        for path, text in _list_texts(row):
            values[path].append(text)
    scores = {path: _score(texts) for path, texts in values.items()}
    best = sorted((path for path in scores if scores[path] >= MIN_SCORE), key=lambda path: -scores[path])[:2]
    paths = [_quote(path) for path in values if path in best]
    if not paths:
        return "name the columns with fields: {prompt: ..., answer: ...}"
    longest = max(best, key=lambda path: sum(map(len, values[path])))
    pair = f"fields: {{prompt: {paths[0]}, answer: {paths[1]}}} or " if len(paths) > 1 else ""
    return f"name the columns, such as {pair}fields: {{text: {_quote(longest)}}}"


def _score(texts: Sequence[str]) -> float:
    """How much a column looks like texts of a language: words, different ones from row to row, rather long."""
    language = sum(map(_weigh_language, texts)) / len(texts)
    distinct = len(set(texts)) / len(texts)
    length = sum(map(len, texts)) / len(texts)
    return language * (0.1 + 0.9 * distinct) * (1 + math.log10(1 + length)) / 2


def _weigh_language(text: str) -> float:
    """0 for keys, links, dates and numbers, 0.3 for a name or a word, 1 for a sentence."""
    if _NO_TEXT.fullmatch(text):
        return 0.0
    words = len(_WORDS.findall(text)) + len(_UNSPACED.findall(text)) / 2
    letters = sum(map(str.isalpha, text)) / len(text.strip())
    return 0.0 if letters < 0.4 else min(1.0, 0.3 * words)


def _list_texts(value: Any, path: str = "", levels: int = 6) -> Iterator[tuple[str, str]]:
    """Dotted names and texts of a row; of a list only the first element, lists of turns are skipped."""
    if isinstance(value, str) and value.strip():
        yield path, value
    children = value.items() if isinstance(value, Mapping) else enumerate(value[:1]) if isinstance(value, list) else ()
    for key, item in children if levels and find_keys(value) is None else ():
        yield from _list_texts(item, f"{path}.{key}" if path else str(key), levels - 1)


def _quote(name: str) -> str:
    """A name quoted for a YAML flow mapping."""
    return name if re.fullmatch(r"[\w.][\w. -]*", name) and not name[0].isdecimal() else orjson.dumps(name).decode()
