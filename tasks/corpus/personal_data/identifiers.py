"""E-mail addresses, phone numbers, IBANs, payment cards and IP addresses of a text, by pattern and checksum."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator, Sequence
from functools import cache

from stdnum import iban, luhn, numdb

from tasks.corpus.personal_data.found import USUAL, Found, Kind, PlainKind, put, read_plainly

_WORTH_A_LOOK = re.compile(r"[@\d]")
_EMAIL = re.compile(r"(?<![\w.+-])\w(?:[\w.+'-]{0,62}[\w+-])?@(?:[^\W_](?:[\w-]{0,61}[^\W_])?\.)+[^\W\d_]{2,24}\b")
_IBAN = re.compile(r"(?<![A-Za-z0-9])[A-Za-z]{2}\d{2}(?:[ -]?[A-Za-z0-9]){11,30}(?![A-Za-z0-9])")
_CARD = re.compile(r"(?<![\d.,+-])\d(?:[ -]?\d){11,18}(?![\d]|[.,]\d)")
# Characters before a number in which this word stands.
_CARD_SAID, _NEAR = re.compile(r"(?i)\b(?:card|cc)\b"), 30
_ISSUERS = re.compile(
    r"(?:4\d{12}(?:\d{3}){0,2}"  # Visa
    r"|5[1-5]\d{14}|2(?:22[1-9]|2[3-9]\d|[3-6]\d\d|7[01]\d|720)\d{12}"  # Mastercard
    r"|3[47]\d{13}"  # American Express
    r"|6(?:011|5\d\d|4[4-9]\d)\d{12}"  # Discover
    r"|35(?:2[89]|[3-8]\d)\d{12}|(?:2131|1800)\d{11}"  # JCB
    r"|3(?:0[0-5]|[68]\d)\d{11}"  # Diners Club
    r"|62\d{14,17}"  # UnionPay
    r"|(?:50(?:18|20|38)|5893|6304|6759|676[1-3])\d{8,15})"  # Maestro
)
# Digits between these belong to a hash.
_HEX = re.compile(r"[a-f]")
_PHONE = re.compile(
    r"(?<![\w./+-])(?<!\d,)(?:"
    r"(?:\+[1-9]\d{0,2}[ .-]?|00[1-9]\d{0,2}[ .-])"  # country code, then
    r"(?:\(0?\d{1,4}\)[ .-]?)?\d{1,4}(?:[ .-]?\d{2,4}){1,4}"
    r"|(?:1[ .-])?(?:\(\d{3}\) ?|\d{3}[.-])\d{3}[ .-]\d{4}"  # North America
    r"|(?:\d{2} )?\d{3} \d{3} \d{4}"
    r"|\(?0\d{2,4}\)?[ -]\d{3,4}[ -]?\d{3,5}(?:[ -]\d{2,4})?"  # national, with trunk zero
    r"|0\d{1,4}([ .-])\d{2,4}(?:\1\d{2,4}){2,3}|0\d{2,4}([ .-])\d{3}\2\d{3,4}"
    r")(?: ?(?:x|ext\.?) ?\d{1,6})?(?![\w]|[.,/-]\d)"
)
_CALLED = re.compile(
    r"(?i)\b(?:phone|telephone|fax|tel|mobile|cell|desk|whatsapp|sms|call(?: me| us)?|text me|ring|answering|messages"
    r"|(?:my|our|his|her|their) number|(?:reach|contact)(?: me| us)?)(?:\s+(?:number|no\.?))?(?:\s+(?:is|at|on|to))?"
    # A date is none.
    r"\s*[:.]?\s*(?!\d{4}-\d\d-\d\d(?!\d)|\d\d?[.-]\d\d?[.-]\d{4}(?!\d))(\(?\d(?:[ .()-]{0,2}\d){6,13})(?![\w])"
)
_IP = re.compile(
    r"(?<![\w.:-])(?:\d{1,3}(?:\.\d{1,3}){3}(?!\w|[.-]\d)|(?:[0-9A-Fa-f]{0,4}:){2,7}(?:\d{1,3}(?:\.\d{1,3}){3}|[0-9A-Fa-f]{0,4})(?![\w:]))"
)
# Fewest digits of an IBAN written in small letters, which prose may look like.
_FEWEST_DIGITS = 8


def find_plain(text: str, kinds: Sequence[Kind] = USUAL) -> list[Found]:
    """E-mail addresses, phone numbers, IBANs, payment cards and IP addresses of a text, in order."""

    def find(plain: str) -> list[Found]:
        found: list[Found] = []
        if not _WORTH_A_LOOK.search(plain):
            return found
        for kind, places in _PLACES:
            if kind not in kinds:
                continue
            new = [Found(start, end, kind) for start, end in places(plain)]
            for start, end, _ in new:
                # What is found once cannot be part of something else.
                plain = f"{plain[:start]}{'<' * (end - start)}{plain[end:]}"
            found += new
        return sorted(found)

    return read_plainly(text, find)


def _emails(text: str) -> Iterator[tuple[int, int]]:
    return (match.span() for match in _EMAIL.finditer(text)) if "@" in text else iter(())


def _ibans(text: str) -> Iterator[tuple[int, int]]:
    for match in _IBAN.finditer(text):
        # The pattern may have run on into the next word; the country says where the number ends.
        found = match.group()
        length = _iban_length(found[:2].upper())
        places = [place for place, character in enumerate(found, start=1) if character.isalnum()]
        if not length or len(places) < length:
            continue
        end = places[length - 1]
        digits = sum(map(str.isdigit, found[:end]))
        sure = found[:end].upper() == found[:end] or digits >= _FEWEST_DIGITS
        if sure and is_iban(found[:end]) and not found[end : end + 1].isalnum():
            yield match.start(), match.start() + end


def _cards(text: str) -> Iterator[tuple[int, int]]:
    for match in _CARD.finditer(text):
        start, end = match.span()
        in_hash = bool(_HEX.match(text, start - 1, start) and _HEX.match(text, end, end + 1)) if start else False
        digits = re.sub(r"[ -]", "", match.group())
        # Beside the word any issuer will do.
        said = _CARD_SAID.search(text, max(start - _NEAR, 0), start)
        if not in_hash and (is_card(digits) or (said and passes_luhn(digits))):
            yield start, end


def _phones(text: str) -> Iterator[tuple[int, int]]:
    return (match.span() for match in _PHONE.finditer(text) if _has_phone_length(match.group()))


def _called(text: str) -> Iterator[tuple[int, int]]:
    return (match.span(1) for match in _CALLED.finditer(text))


def _addresses(text: str) -> Iterator[tuple[int, int]]:
    return (match.span() for match in _IP.finditer(text) if is_address(match.group()))


_PLACES: tuple[tuple[PlainKind, Callable[[str], Iterator[tuple[int, int]]]], ...] = (
    ("email", _emails),
    ("iban", _ibans),
    ("card", _cards),
    ("ip", _addresses),
    ("phone", _phones),
    ("phone", _called),
)


def _has_phone_length(text: str) -> bool:
    # E.164: at most 15 digits.
    return 7 <= sum(character.isdigit() for character in text) <= 15


def is_iban(text: str) -> bool:
    """Whether a text has the structure of its country's IBANs and passes the check of ISO 13616."""
    return iban.is_valid(text, check_country=False)


@cache
def _iban_length(country: str) -> int:
    """Characters of the IBANs of a country; 0 where there are none."""
    # Country and check digits, then groups such as 4!n for four digits.
    structure = numdb.get("iban").info(country)[0][1].get("bban", "")
    return 4 + sum(map(int, re.findall(r"(\d+)!", structure))) if structure else 0


def is_card(text: str) -> bool:
    """Whether a text has an issuer's prefix and length and passes the Luhn check."""
    digits = re.sub(r"[ -]", "", text)
    return _ISSUERS.fullmatch(digits) is not None and passes_luhn(digits)


def passes_luhn(digits: str) -> bool:
    """Whether the last digit is the Luhn check digit of the others."""
    return luhn.is_valid(digits)


def is_address(text: str) -> bool:
    """Whether a text is the IP address of a machine that can be anybody's.

    Of version 6 only with three groups or more, since ``a::b`` is also code.
    """
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    if address.is_loopback or address.is_unspecified:
        return False
    return "." in text or sum(bool(group) for group in text.split(":")) >= 3


def replace_personal(text: str) -> str:
    """The text with e-mail addresses, phone numbers, IBANs and payment cards replaced by their kinds."""
    return put(text, find_plain(text), lambda _, kind: f"<{kind}>")
