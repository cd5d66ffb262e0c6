"""Several answers to one prompt, from best to worst by rank or score (Ouyang et al. 2022,
https://arxiv.org/abs/2203.02155), or two of them with a column that says which is better.

Without ranks and scores nothing says which answer is better: a list of the answers of several models, or of all that
are right, looks the same. Such rows are asked about; ``shape: ranked`` takes the answers as listed best first. Answers
of equal score keep their order.

Example:
    ``{"prompt": "Hi", "answers": ["What?", "Hello!"], "scores": [1, 5]}`` becomes ``user: Hi`` and
    ``assistant: Hello!`` of the score 5 with the other answer ``assistant: What?`` of the score 1;
    ``{"input": "Hi", "output_1": "Hello!", "output_2": "What?", "label": 1}`` prefers the first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tasks.corpus.reading.shapes.dialogues import SYSTEM, find_keys, read_part
from tasks.corpus.reading.shapes.pairs import INPUT, read_prompt
from tasks.corpus.reading.shapes.preferences import PROMPTS, make_comparison
from tasks.corpus.reading.shapes.shape import (
    GENERAL,
    SPECIFIC,
    USUAL,
    Columns,
    ConvertedRow,
    Names,
    Row,
    RowError,
    Shape,
    fold_name,
)

ANSWERS: Names = {
    "answers": SPECIFIC,
    "responses": SPECIFIC,
    "completions": SPECIFIC,
    "candidates": USUAL,
    "outputs": USUAL,
    "output": GENERAL,
}
SCORES: Names = {"scores": SPECIFIC, "ratings": USUAL, "rewards": USUAL}
RANKS: Names = {"ranks": SPECIFIC, "rank": USUAL, "ranking": USUAL}
TEXT_KEYS = ("text", "answer", "response", "completion", "content", "output")
SCORE_KEYS = ("score", "overall_score", "rating", "reward", "pm_score")
WINNER: Names = {
    "label": USUAL,
    "winner": SPECIFIC,
    "preference": SPECIFIC,
    "better_response_id": SPECIFIC,
    "preferred": USUAL,
    "overall_preference": USUAL,
    "preference_strength": USUAL,
}
# Negative values prefer the first answer, positive ones the second (HelpSteer2 and 3,
# https://arxiv.org/abs/2410.01257).
SIGNED = ("overall_preference", "preference_strength")
PAIRWISE_PROMPTS: Names = {**PROMPTS, "context": GENERAL}
STEMS = ("output", "response", "answer", "completion")
ENDINGS = (("_1", "_2"), ("_a", "_b"), ("_0", "_1"), ("_A", "_B"), ("1", "2"))


def _convert_list(row: Row, columns: Columns) -> ConvertedRow:
    column = columns["answers"]
    answers = row.get(column)
    if not isinstance(answers, list) or len(answers) < 2:
        raise RowError(f'"{column}" holds fewer than two answers')
    scores = _read_scores(row, columns, answers)
    texts = [_find_text(answer) for answer in answers]
    best_first = sorted(range(len(answers)), key=lambda i: -scores[i])
    return _make_ranking(row, columns, [(texts[i], column, scores[i]) for i in best_first])


def _make_ranking(row: Row, columns: Columns, answers: Sequence[tuple[Any, str, float]]) -> ConvertedRow:
    """A prompt with its answers, best first; each comes with its column and its score."""
    prompt = read_prompt(row, columns)
    (chosen, best), *others = ((prompt + read_part("assistant", part, column), s) for part, column, s in answers)
    return make_comparison(chosen, [(turns, score) for turns, score in others], best, len(prompt))


def _find_text(answer: Any) -> Any:
    """The text of an answer that is an object other than a turn; any other answer unchanged."""
    if isinstance(answer, dict) and find_keys(answer) is None:
        key = next((key for key in TEXT_KEYS if isinstance(answer.get(key), str)), None)
        if key is None:
            raise RowError("an answer holds no text")
        return answer[key]
    return answer


def _read_scores(row: Row, columns: Columns, answers: Sequence[Any]) -> list[float]:
    """Larger is better: the scores, the negated ranks, or the negated positions."""
    for role, sign in (("scores", 1.0), ("ranks", -1.0)):
        if row.get(columns.get(role, "")) is not None:
            return _check_numbers(row[columns[role]], len(answers), sign, columns[role])
    for keys, sign in ((SCORE_KEYS, 1.0), (("rank",), -1.0)):
        for key in keys:
            if all(isinstance(answer, dict) and _is_number(answer.get(key)) for answer in answers):
                return _check_numbers([answer[key] for answer in answers], len(answers), sign, key)
    return [-float(place) for place in range(1, len(answers) + 1)]


def _check_numbers(values: Any, count: int, sign: float, column: str) -> list[float]:
    if not isinstance(values, list) or len(values) != count or not all(_is_number(value) for value in values):
        raise RowError(f'"{column}" does not give every answer a number')
    return [sign * float(value) for value in values]


def _weigh_order(rows: Sequence[Row], columns: Columns) -> float:
    """Low when only the order of the answers could say which one is better."""
    if {"scores", "ranks"} & set(columns):
        return 1.0
    firsts = [answers[0] for row in rows if isinstance(answers := row.get(columns["answers"]), list) and answers]
    has_scores = any({*SCORE_KEYS, "rank"} & set(answer) for answer in firsts if isinstance(answer, dict))
    return 1.0 if has_scores else 0.4


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value == value


def _convert_pairwise(row: Row, columns: Columns) -> ConvertedRow:
    names = (columns["first"], columns["second"])
    winner = columns["winner"]
    for name in (*names, winner):
        if name not in row:
            raise RowError(f'no "{name}"')
    best = _find_sign(row[winner]) if fold_name(winner) in SIGNED else _find_winner(row[winner], names)
    if best is None:
        raise RowError(f'"{winner}" names neither answer')
    ranking = (best, 1 - best)
    return _make_ranking(row, columns, [(row[names[i]], names[i], float(i == best)) for i in ranking])


def _find_sign(value: Any) -> int | None:
    return None if not _is_number(value) or value == 0 else int(value > 0)


def _find_winner(value: Any, names: tuple[str, str]) -> int | None:
    """0 or 1, from the name of a column or the ending of one: 1, "2", "a", "response_b"."""
    winner = str(value).strip().lower() if not isinstance(value, bool) else ""
    for number, name in enumerate(names):
        if winner in (name.lower(), name[-1].lower()):
            return number
    return None


def _make_pairwise_shape(stem: str, endings: tuple[str, str]) -> Shape:
    first, second = (stem + ending for ending in endings)
    return Shape(
        "ranked",
        f"prompt, {first}, {second}, label or winner",
        {"prompt": PAIRWISE_PROMPTS, "first": {first: SPECIFIC}, "second": {second: SPECIFIC}, "winner": WINNER},
        _convert_pairwise,
        {"system": SYSTEM},
        compares=True,
    )


RANKED = Shape(
    "ranked",
    "prompt, answers: [...], scores or ranks: [...]",
    {"prompt": PROMPTS, "answers": ANSWERS},
    _convert_list,
    {"scores": SCORES, "ranks": RANKS, "input": INPUT, "system": SYSTEM},
    evidence=_weigh_order,
    doubt="nothing says which answer is better; if they are listed best first set shape: ranked, if all are right name "
    "their column as answer in fields",
    compares=True,
)
PAIRWISE = tuple(_make_pairwise_shape(stem, endings) for stem in STEMS for endings in ENDINGS)
