"""Which texts are prose, and which are code, data or markup whose every character counts.

Texts tell it by their form: `is_code` asks for a line that prose does not have (a call, an assignment, a row of a
table, a log's time stamp), `is_prose` for the absence of anything that spacing may belong to: brackets, operators,
columns, indented lines. Between the two lie texts that may be either. Every expression here takes time in proportion to
the text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

_FENCE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]+`", re.DOTALL)

_CODE_LINE = re.compile(
    r"""
      \w\((?!s\))[^()\n]*\)[ \t]*+[;:{]?[ \t]*+$         # a call or a definition at the end of a line
    | \{[ \t]*$ | ^[ \t]*\}                              # a block
    | \{\{ | \{% | \$\{
    | ^[ \t]*(?:[\w.]+[ \t])?[\w.]+[ \t]?[-+*/:|&]?=[ \t]?[^=\s]  # an assignment, also with a type before it
    | ^[ \t]*(?:def|class|fn|func|function|struct|interface|enum)[ ]\w+[ \t]?[(:{<]
    | ^[ \t]*(?:from[ ][\w.]+[ ])?import[ ][\w.*{]+(?:[ ]as[ ]\w+)?;?[ \t]*$
    | ^[ \t]*(?:const|let|var|val)[ ]\w+[ \t]?[=:]
    | ^[ \t]*(?-i:if|elif|else|for|while|try|except|with|finally)\b[^\n]*(?<=[\w)\]"']):[ \t]*$
    | ^[ \t]*(?:\#!|\#include|//|/\*|<\?|<!doctype|--[ ]\S|>>>[ ]|\$[ ]|@@[ ]|\+\+\+[ ]|---[ ]|diff[ ]--git)
    | ^[ \t]*(?-i:SELECT|INSERT|UPDATE|DELETE|CREATE|ALTER|DROP|WITH|FROM|WHERE|JOIN)\b(?=[ \t(*])
    | =>|::|&&|\|\||[!=<>+*/]=|<<|>>
    | ^[ \t]*[\[{][ \t]*(?:["'{\[]|-?\d|$) | ^[ \t]*"[^"\n]*"[ \t]*:   # JSON
    | \\[a-zA-Z]+[{\[] | \\\( | \\\[ | \$\$ | \\[ \t]*$      # LaTeX, a line that goes on
    | ^[ \t]*\|[^\n]*\|[ \t]*$ | ^[ \t]*+\|?[ \t]*+:?-{3,}+:?[ \t]*+\|   # a table of Markdown
    | ^\[?\d{4}-\d\d-\d\d[T ]\d\d:\d\d | \b\d\d:\d\d:\d\d\b            # a log
    | </[a-zA-Z]                                           # markup
    """,
    re.VERBOSE | re.MULTILINE | re.IGNORECASE,
)
# Brackets, operators, mathematical and full-width signs, options of a command, and what a line of a diff begins with.
_SIGN = re.compile(
    r"[\[\]{}<>=|\\^~`*_\t²³½\u2190-\u22ff\uff10-\uff19\uff21-\uff3a\uff41-\uff5a]"
    r"|\w\((?!s\))|(?:^|\s)--?[a-zA-Z]\w*\b|^[-+] ?\S",
    re.MULTILINE,
)
_INDENTED = re.compile(r"\n(?: {2,}|\t|\u3000)[^\s]")
_HARD_BREAK = re.compile(r"(?<! )  \n")
# Not the two blanks that many people set behind a sentence.
_COLUMNS = re.compile(r"(?<=[^\s.?!:;,\"')]) {2,}(?=\S)")
_KEY = re.compile(r"[ \t]*(?:- )?[a-z_][\w.-]*:(?:[ \t]|$)")
_DELIMITERS = (re.compile(r",(?=\S)"), re.compile(r"\t"), re.compile(r";(?=\S)"))
# Text of one indented line that begins a statement.
_STATEMENT = re.compile(r"(?:return|pass|break|continue|raise|yield|print|echo|end|fi|done|assert|del|elif|else)\b")


def find_code(text: str) -> Iterator[tuple[int, int]]:
    """Start and end of each code fence and inline code."""
    return (match.span() for match in _FENCE.finditer(text))


def outside_code(text: str, repair: Callable[[str], str]) -> str:
    """Apply a function to what stands outside of code fences and inline code."""
    parts, end = [], 0
    for start, stop in find_code(text):
        parts += [repair(text[end:start]), text[start:stop]]
        end = stop
    return "".join([*parts, repair(text[end:])]) if parts else repair(text)


def without_code(text: str) -> str:
    """The text with a word in place of each code fence and inline code."""
    return _FENCE.sub("code", text) if "`" in text else text


def is_code(text: str) -> bool:
    """Whether a text holds a line of code, data, a table, a log, a formula of LaTeX or other markup."""
    if _CODE_LINE.search(text) or len(_INDENTED.findall(text)) > 1:
        return True
    lines = [line for line in text.split("\n") if line.strip()]
    return len(lines) > 1 and (all(map(_KEY.match, lines)) or any(_is_delimited(lines, each) for each in _DELIMITERS))


def _is_delimited(lines: list[str], delimiter: re.Pattern[str]) -> bool:
    counts = {len(delimiter.findall(line)) for line in lines}
    return len(counts) == 1 and counts != {0}


def is_prose(text: str) -> bool:
    """Whether nothing in a text says that its spacing has a meaning.

    Indented lines, columns set with spaces, Markdown's line breaks (two spaces at the end of lines), brackets and
    operators do.
    """
    if _SIGN.search(text) or _INDENTED.search(text) or is_code(text):
        return False
    lines = text.split("\n")
    columns = sum(_COLUMNS.search(line) is not None for line in lines)
    return columns < 2 and len(_HARD_BREAK.findall(text)) < 2


def has_indentation(text: str) -> bool:
    """Whether the blanks that a text begins with are its indentation.

    They are when more lines follow, and in one line that is no prose, begins a statement, or is set four columns deep,
    as CommonMark's code blocks are, without ending as a sentence. A single blank is none.
    """
    line = text.rstrip()
    bare = line.lstrip(" \t\u3000")
    blanks = line[: len(line) - len(bare)]
    if blanks in ("", " ") or (" " not in bare and "\n" not in bare and "(" not in bare and not _STATEMENT.match(bare)):
        return False
    if "\n" in bare or not is_prose(bare) or _STATEMENT.match(bare):
        return True
    return len(blanks.expandtabs(4)) >= 4 and bare[-1] not in ".?!。？！"
