"""Equations in an answer that are wrong.

Every equation of numbers, such as ``48 / 2 = 24``, ``$3 x 4 = $12`` or ``<<48/2=24>>``, is evaluated. A decimal
result may be rounded to the decimals shown: ``10 / 3 = 3.33`` is right, ``10 / 3 = 3`` is wrong. Of the 24,213
equations in GSM8K's 7,473 training answers (Cobbe et al. 2021, https://arxiv.org/abs/2110.14168) it reports 68 as
wrong, in 59 answers: some are, others mean a fraction (``60 / 3/4``) or separate thousands by a space. It finds all
of 7,321 answers in which one result was changed by one.
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from tasks.synthesis.checks.check import RowCheck, Step

if TYPE_CHECKING:
    from tasks.synthesis.drafts import Draft, Known

# Longer numbers and longer sides of an equation are not evaluated.
MAXIMUM_DIGITS, MAXIMUM_CHARACTERS = 15, 80
_AMOUNT = r"[$€£]? ?(?:\d[\d,]*(?:\.\d+)?|\.\d+)%?"
_SIDE = frozenset("0123456789.,$€£%()+-*/×÷x− ")
_RIGHT = re.compile(rf" ?[-−]? ?{_AMOUNT}")
_GOES_ON = re.compile(r" ?[-+*/×÷x−^] ?[\d($€£.]|\w|[.,]\d")
_BEGINS = re.compile(r"[.,] +")
# An x that is a variable, not a multiplication sign between two numbers.
_UNKNOWN = re.compile(r"x(?! ?[\d($€£.])|(?<![\d)% ])x|^x")
_BULLET = re.compile(r"[-*+−] +")
_OPERATIONS: dict[type[ast.operator], Callable[[Fraction, Fraction], Fraction]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


class ArithmeticCheck(RowCheck):
    """Every equation holds."""

    name: Literal["arithmetic"] = "arithmetic"
    required: bool = Field(default=False, description="refuse an answer without a single equation")

    @property
    def steps(self) -> tuple[Step, ...]:
        return ("answers",)

    @property
    def hint(self) -> str:
        return "Write each calculation as an equation of numbers, such as 48 / 2 = 24." if self.required else ""

    def check(self, drafts: Sequence[Draft], step: Step, known: Known) -> list[str | None]:
        reasons: list[str | None] = []
        for draft in drafts:
            equations = list_equations(draft.answer)
            wrong = any(not holds for _, holds in equations)
            missing = "no equation" if self.required and not equations else None
            reasons.append("a wrong equation" if wrong else missing)
        return reasons


def list_equations(text: str) -> list[tuple[str, bool]]:
    """The equations of a text, and whether each holds; those that cannot be parsed are skipped."""
    found = []
    for equals in re.finditer("=", text):
        left, right = read_left(text, equals.start()), _RIGHT.match(text, equals.end())
        if right is None or _GOES_ON.match(text, right.end()) or not re.search(r"\d.*[-+*/×÷x−]", left):
            continue
        try:
            value, result = _compute(left), _compute(right[0])
        except (SyntaxError, ValueError, ZeroDivisionError):
            continue
        digits = re.sub(r"[^\d.]", "", right[0])
        decimals = len(digits.partition(".")[2]) + (2 if "%" in right[0] else 0)
        slack = Fraction(1, 2 * 10**decimals) if "." in digits else Fraction(0)
        # 9 / 12 * 100 = 75% is a common notation.
        percent = "%" in right[0] and abs(value - 100 * result) <= 100 * slack
        shown = text[text.rindex(left, 0, equals.start()) : right.end()]
        found.append((shown, percent or abs(value - result) <= slack))
    return found


def read_left(text: str, end: int) -> str:
    """The expression that ends here, within its line, sentence and brackets; empty where there is none."""
    start = end
    while start > 0 and end - start < MAXIMUM_CHARACTERS and text[start - 1] in _SIDE:
        start -= 1
    if start > 0 and not text[start].isspace() and (text[start - 1].isalnum() or text[start - 1] in "^_"):
        # The preceding character belongs to the expression but is not numeric.
        return ""
    side = _BEGINS.split(text[start:end])[-1].strip()
    side = _BULLET.sub("", side, count=1) if _BULLET.match(side) else side
    while side.count("(") > side.count(")"):
        side = side[side.index("(") + 1 :].strip()
    return side


def _compute(text: str) -> Fraction:
    if _UNKNOWN.search(text):
        raise ValueError
    plain = re.sub(r"[$€£,\s]", "", text).translate(str.maketrans("×÷x−", "*/*-"))
    plain = re.sub(r"(\d+(?:\.\d+)?|\.\d+)%", r"(\1/100)", plain)
    if any(len(number) > MAXIMUM_DIGITS for number in re.findall(r"\d+", plain)):
        raise ValueError
    # Python rejects leading zeros.
    return _evaluate(ast.parse(re.sub(r"(?<![\d.])0+(?=\d)", "", plain), mode="eval").body)


def _evaluate(node: ast.expr) -> Fraction:
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        return Fraction(str(node.value))
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_evaluate(node.operand)
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATIONS:
        return _OPERATIONS[type(node.op)](_evaluate(node.left), _evaluate(node.right))
    raise ValueError
