"""A plain script for the default preparation of a messages file: one row at a time, dictionaries, regular expressions.

What an engineer writes before there is a pipeline: parse each line, repair the texts with ftfy and regular
expressions, take personal data out, drop what is missing, too short or too long, drop exact duplicates, split by a
hash of the prompt, write JSON Lines.

    python benchmarks/data_scripts/plain.py json|orjson INPUT.jsonl FOLDER
"""

from __future__ import annotations

import hashlib
import html
import json
import re
import sys
import unicodedata
from pathlib import Path

import ftfy
import orjson
from ftfy.badness import badness

FTFY = ftfy.TextFixerConfig(
    unescape_html=False,
    remove_terminal_escapes=False,
    fix_c1_controls=False,
    fix_latin_ligatures=False,
    fix_character_width=False,
    uncurl_quotes=False,
    fix_line_breaks=False,
    remove_control_chars=False,
    normalization=None,
    explain=False,
)
CODE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]+`", re.DOTALL)
ESCAPE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\))")
LINE_END = re.compile("[\x0b\x0c\x1c-\x1e\x85]")
UNSEEN = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x9f\u00ad\u200b\u2060\u206a-\u206f\ufeff\ufff9-\ufffc\ufffe\uffff]")
BREAKS = "br|p|div|li|tr|h[1-6]|hr|ul|ol|table|blockquote|section|article|header|footer"
INLINE = "span|strong|em|font|small|sub|sup|td|th|tbody|thead|img|html|body|head|label|button|input|form|link|meta"
VALUES = r"""(?:\s+[\w:-]+\s*=\s*(?:"[^"<>]*"|'[^'<>]*'|[^\s"'<>]+))*\s*/?"""
DROPPED = re.compile(r"<!--.*?-->|<(script|style)\b[^<>]*>.*?</\1\s*>", re.DOTALL | re.IGNORECASE)
BREAK = re.compile(rf"<(?:{BREAKS}){VALUES}>|</(?:{BREAKS})\s*>", re.IGNORECASE)
TAG = re.compile(rf"<(?:{INLINE}){VALUES}>|</(?:{INLINE})\s*>", re.IGNORECASE)
PAIR = re.compile(rf"<(a|b|i|s|u|q){VALUES}>(.*?)</\1\s*>", re.DOTALL | re.IGNORECASE)
LONE = re.compile(r"</(?:a|b|i|s|u|q)\s*>", re.IGNORECASE)
ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[a-zA-Z]{2,31}[0-9]{0,2});")
ODD_SPACE = re.compile("[\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000]")
RETURNS = re.compile("\r\n?|[\u2028\u2029]")
TRAILING = re.compile(r"[ \t]+\n")
RUN = re.compile(r"[ \t]{2,}")
EMPTY_LINES = re.compile(r"\n{3,}")
EMAIL = re.compile(r"(?<![\w.+-])\w(?:[\w.+'-]{0,62}[\w+-])?@(?:[^\W_](?:[\w-]{0,61}[^\W_])?\.)+[^\W\d_]{2,24}\b")
IBAN = re.compile(r"(?<![A-Za-z0-9])[A-Z]{2}\d{2}(?:[ -]?[A-Z0-9]){11,30}(?![A-Za-z0-9])")
CARD = re.compile(r"(?<![\d.,+-])\d(?:[ -]?\d){12,18}(?![\d]|[.,]\d)")
PHONE = re.compile(
    r"(?<![\w./+-])(?<!\d,)(?:(?:\+[1-9]\d{0,2}[ .-]?|00[1-9]\d{0,2}[ .-])(?:\(0?\d{1,4}\)[ .-]?)?\d{1,4}"
    r"(?:[ .-]?\d{2,4}){1,4}|(?:1[ .-])?(?:\(\d{3}\) ?|\d{3}[.-])\d{3}[ .-]\d{4}|\d{3} \d{3} \d{4}"
    r"|\(?0\d{2,4}\)?[ -]\d{3,4}[ -]?\d{3,5}(?:[ -]\d{2,4})?"
    r"|0\d{1,4}([ .-])\d{2,4}(?:\1\d{2,4}){2,3}|0\d{2,4}([ .-])\d{3}\2\d{3,4})(?: ?(?:x|ext\.?) ?\d{1,6})?"
    r"(?![\w]|[.,/-]\d)"
)
CALLED = re.compile(
    r"(?i)(\b(?:phone|telephone|fax|tel|mobile|cell|whatsapp|call(?: me| us)?|text me|ring)(?:\s+(?:number|no\.?))?"
    r"(?:\s+(?:is|at|on))?\s*[:.]?\s*)(\(?\d(?:[ .()-]{0,2}\d){6,13})(?![\w])"
)
NOTHING = re.compile(r"[\s.,;:!?…_\-–—'\"`()\[\]*/\\|]*")
JOINTS = re.compile(r"(?<=[^\W\d_]{2})-(?=[^\W\d_]{2})|(?<=\w)[\s_]+(?=\w)")
QUIET = re.compile("['\"“”‘’«»„…¿¡。！？，、；：]+")
FOLDS = [re.compile(rule) for rule in (r"[.,!?;:]+(\s|\Z)", r"\s+(\D|\Z)", r"(\A|\D)\s+")]


def repair(text: str) -> str:
    if text.isascii():
        return text
    fixed = ftfy.fix_text(text, FTFY)
    if fixed != text and 4 * badness(fixed) > badness(text):
        fixed = text
    return unicodedata.normalize("NFC", fixed)


def outside_code(text: str, change) -> str:
    parts, end = [], 0
    for match in CODE.finditer(text):
        parts += [change(text[end : match.start()]), match.group()]
        end = match.end()
    return "".join([*parts, change(text[end:])])


def strip_html(text: str) -> str:
    plain = TAG.sub("", BREAK.sub("\n", DROPPED.sub("", text)))
    while (unpaired := PAIR.sub(r"\2", plain)) != plain:
        plain = unpaired
    plain = LONE.sub("", plain)
    if plain != text:
        plain = re.sub(r"[ \t]*\n[ \t]*(?:\n[ \t]*)+", "\n", plain).strip("\n")
    return ENTITY.sub(lambda match: html.unescape(match.group()), plain)


def tidy(text: str) -> str:
    first, *others = TRAILING.sub("\n", ODD_SPACE.sub(" ", text)).split("\n")
    lines = [RUN.sub(" ", first), *(line if line[:1] in (" ", "\t") else RUN.sub(" ", line) for line in others)]
    return EMPTY_LINES.sub("\n\n", "\n".join(lines))


def luhn(digits: str) -> bool:
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (1 + place % 2)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


def hide_iban(match: re.Match[str]) -> str:
    plain = re.sub(r"[ -]", "", match.group())
    number = int("".join(str(int(character, 36)) for character in plain[4:] + plain[:4]))
    return "<iban>" if number % 97 == 1 else match.group()


def hide_card(match: re.Match[str]) -> str:
    digits = re.sub(r"[ -]", "", match.group())
    return "<card>" if digits[0] in "23456" and luhn(digits) else match.group()


def hide_phone(match: re.Match[str]) -> str:
    return "<phone>" if 7 <= sum(map(str.isdigit, match.group())) <= 15 else match.group()


def hide(text: str) -> str:
    text = EMAIL.sub("<email>", text)
    text = IBAN.sub(hide_iban, text)
    text = CARD.sub(hide_card, text)
    text = PHONE.sub(hide_phone, text)
    return CALLED.sub(r"\1<phone>", text)


def clean(text: str) -> str:
    text = repair(text)
    text = UNSEEN.sub("", LINE_END.sub("\n", ESCAPE.sub("", text)))
    text = outside_code(text, strip_html)
    text = outside_code(RETURNS.sub("\n", text).strip(), tidy).strip()
    return hide(text)


def is_bad(turns: list[dict[str, str]]) -> bool:
    roles = [turn["role"] for turn in turns]
    if "assistant" not in roles or "user" not in roles[: roles.index("assistant")]:
        return True
    return any(NOTHING.fullmatch(turn["content"]) for turn in turns if turn["role"] in ("user", "assistant"))


def is_sized(turns: list[dict[str, str]]) -> bool:
    prompt = "\n".join(turn["content"] for turn in turns if turn["role"] == "user")
    answer = "\n".join(turn["content"] for turn in turns if turn["role"] == "assistant")
    other = "\n".join(turn["content"] for turn in turns if turn["role"] not in ("user", "assistant"))
    return len(prompt) >= 2 and len(answer) >= 1 and len(prompt) + len(answer) + len(other) <= 20_000


def split_of(turns: list[dict[str, str]]) -> str:
    prompt = "\n".join(turn["content"] for turn in turns if turn["role"] == "user")
    folded = QUIET.sub("", prompt.casefold())
    for pattern in FOLDS:
        folded = pattern.sub(r"\1", folded)
    share = int.from_bytes(hashlib.sha256(f"split\0000\0{folded or prompt}".encode()).digest()[:8]) / 2**64
    return "test" if share < 0.10 else "validation" if share < 0.15 else "train"


def main(parser: str, source: Path, folder: Path) -> None:
    loads = json.loads if parser == "json" else orjson.loads
    dumps = (lambda row: json.dumps(row).encode()) if parser == "json" else orjson.dumps
    folder.mkdir(parents=True, exist_ok=True)
    files = {name: (folder / f"{name}.jsonl").open("wb") for name in ("train", "validation", "test", "quarantine")}
    seen: set[str] = set()
    with source.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            row = loads(line)
            turns = [{"role": turn["role"], "content": clean(turn["content"])} for turn in row["messages"]]
            label = row.get("intent")
            name = hashlib.sha256(dumps([[turn["role"], turn["content"]] for turn in turns])).hexdigest()[:16]
            lost = any("\ufffd" in turn["content"] for turn in turns)
            if lost or is_bad(turns) or not is_sized(turns) or name in seen:
                files["quarantine"].write(dumps({"row": number, "messages": turns}) + b"\n")
                continue
            seen.add(name)
            if label is not None:
                label = JOINTS.sub("_", label.strip().lower())
            kept = {"id": name, "messages": turns, "source": "bench", "row": number, "label": label}
            files[split_of(turns)].write(dumps(kept) + b"\n")
    for file in files.values():
        file.close()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
