"""E-mail addresses, phone numbers, IBANs, payment cards and IP addresses of a text, by pattern and checksum."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from itertools import pairwise

from stdnum import iban, luhn, numdb

from tasks.corpus.personal_data.found import USUAL, Found, Kind, PlainKind, put, read_plainly

# Letters of scripts that stand beside a number or an address without a space: Thai, Lao, Burmese, Khmer, Chinese,
# Japanese and, since particles are joined to the word before, Korean.
_JOINED = (
    "\u0e00-\u0eff\u1000-\u109f\u1100-\u11ff\u1780-\u17ff\u3005-\u30ff\u3130-\u318f\u31f0-\u31ff\u3400-\u4dbf"
    "\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff"
)
_W = rf"[^\W{_JOINED}]"
_WORTH_A_LOOK = re.compile(r"[@\d]")
_EMAIL = re.compile(
    rf"(?<!{_W})(?<![.+-]){_W}(?:(?:{_W}|[.+'-]){{0,62}}(?:{_W}|[+-]))?@"
    rf"(?:[^\W_{_JOINED}](?:(?:{_W}|-){{0,61}}[^\W_{_JOINED}])?\.)+[^\W\d_{_JOINED}]{{2,24}}(?!{_W})"
    # Addresses in Chinese, Japanese or Korean; words joined to the front cannot be told from the name.
    r"|\w(?:[\w.+-]{0,62}\w)?@(?:\w[\w-]{0,61}\.)+(?:中国|中國|公司|网络|網絡|香港|台湾|台灣|한국|みんな)"
)
# Behind a command or a scheme and before a path the name of an account on a machine, not a mailbox.
_LOGIN_BEFORE = re.compile(
    r"(?:\w://[^\s/@]*|\b(?:ssh|scp|sftp|rsync|mosh|ssh-copy-id)(?:\s+-{1,2}[\w-]+(?:\s+[\w./]+)?)*\s+)$"
)
_LOGIN_AFTER = re.compile(r":(?:[\w.~-]*/|\S*\.git\b)|\(")
_SERVICE_ACCOUNTS = ("git@", "hg@", "svn@")
_FILE_NAME = re.compile(
    r"\.(?:png|jpe?g|gif|svg|webp|ico|css|jsx?|tsx?|json|ya?ml|xml|html?|txt|pdf|service|socket|timer)$"
)
# Characters before a find that say what it is.
_BEFORE = 80
_IBAN = re.compile(r"(?<![A-Za-z0-9])[A-Za-z]{2}\d{2}(?:[ -]?[A-Za-z0-9]){11,30}(?![A-Za-z0-9])")
_CARD = re.compile(r"(?<![\d.,+-])\d(?:[ -]?\d){11,18}(?![\d]|[.,]\d)")
# As issuers print them; two numbers side by side are no card.
_PRINTED = re.compile(r"\d{4}(?:[ -]\d{4,6}){1,3}(?:[ -]\d{1,5})?|\d+")
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
    rf"(?<!{_W})(?<![./+-])(?<!\d,)(?P<number>"
    r"(?:\+[1-9]\d{0,2}[ .-]?|00[1-9]\d{0,2}[ .-])"  # country code, then
    r"(?:\(0?\d{1,4}\)[ .-]?)?\d{1,4}(?:[ .-]?\d{1,5}){1,5}"
    r"|(?:1[ .-])?(?:\(\d{3}\) ?|\d{3}[.-])\d{3}[ .-]\d{4}"  # North America
    r"|\((?!19\d\d|20\d\d)\d{2,4}\) \d{3,5}-\d{3,4}"
    r"|(?:\d{2} )?\d{3} \d{3} \d{4}"
    r"|\(?0\d{2,4}\)?[ -]\d{3,4}[ -]?\d{3,5}(?:[ -]\d{2,4})?"  # national, with trunk zero
    r"|0\d{1,4}([ .-])\d{2,4}(?:\2\d{2,4}){2,3}|0\d{2,4}([ .-])\d{3}\3\d{3,4}"
    rf")(?: ?(?:x|ext\.?) ?\d{{1,8}})?(?!{_W}|[.,/-]\d)"
)
# A number, or a word for another kind of number, right before; an operator on either side.
_OTHER_NUMBER_BEFORE = re.compile(
    r"(?i)(?:\d[ \t|]+|[=*/%^][ \t]*|[<>][ \t]+|\d[ \t]*[+<>][ \t]*|\w\(|[([]\d+,\s*"
    r"|\b(?:u?ids?|key|ref|reference|order|invoice|ticket|case|account|serial|part|sku|isbn|issn|ean|upc|doi|pmid|version"
    r"|port|rows?|error|codes?|hash|commit|pin|zip|tracking|parcel|booking|batch|lot|article|item|product|model|patent|vat"
    r"|tax|customer|member|policy|contract|bytes|block|offset|size|data|values?|lat|lon|x|y)"
    r"(?:[ _-](?:number|no|nr|code|id)\b)?['\"]?[ \t]?[.:#=]{0,2}[ \t]?['\"]?"
    r"|\b(?:next|sequence|series|pattern|sum|sort(?:ed)?|average|mean|median|digits)\b[^.!?\n]{0,60})$"
)
_OTHER_NUMBER_AFTER = re.compile(r"[ \t|]+\d|[ \t]*[=*^%]|[ \t]+[+<>/-][ \t]+\d")
_PHONE_WORDS = (
    r"tele(?:phone|f[oó]n|foon)\w*|téléphone|(?:smart|i)?phone|fax|tél|tel|mobiles?|mobil(?:e?nummer)?|móvil|celular|cellulare|cell"
    r"|portable|handy(?:nummer)?|desk|whatsapp|sms|hotline|call(?: me| us)?(?!\()|text me|ring"
    r"|appelez|llam[ea]|anrufen|ruf\w*|answering|messages"
    r"|(?:my|our|his|her|their) number|(?:reach|contact)(?: me| us)?|тел(?:ефон)?|звоните|هاتف|फ़ोन"
)
_JOINED_PHONE_WORDS = "电话|電話|手机|手機|携帯|热线|熱線|致电|致電|拨打|撥打|传真|傳真|전화|휴대폰|연락처|โทร"
_CALLED = re.compile(
    rf"(?i)(?:(?<!{_W})(?:{_PHONE_WORDS})(?!{_W}(?<!_))|{_JOINED_PHONE_WORDS})"
    r"(?:[\s_-]*(?:number|no\.?|nr\.?|nummer|号码|號碼|番号|번호))?(?:\s+(?:is|at|on|to|ist|est|es|al|au|unter))?"
    rf"(?:\s*[:：.=]{{0,2}}\s*['\"]?|[{_JOINED}]{{0,3}}\s?)"
    # A date is none.
    rf"(?!\d{{4}}-\d\d-\d\d(?!\d)|\d\d?[.-]\d\d?[.-]\d{{4}}(?!\d))(\+?\(?\d(?:[ .()-]{{0,2}}\d){{5,14}})(?!{_W})"
)
_IP = re.compile(
    rf"(?<!{_W})(?<![.:-])(?:\d{{1,3}}(?:\.\d{{1,3}}){{3}}(?!{_W}|[.-]\d)"
    rf"|(?:[0-9A-Fa-f]{{0,4}}:){{2,7}}(?:\d{{1,3}}(?:\.\d{{1,3}}){{3}}|[0-9A-Fa-f]{{0,4}})(?!{_W}|:))"
)
# Fewest digits of a phone number: as such, with a country code, and behind a word such as "call".
_FEWEST, _FEWEST_ABROAD, _FEWEST_CALLED = 7, 8, 6
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
    if "@" not in text:
        return
    for match in _EMAIL.finditer(text):
        start, end = match.span()
        if (
            not match.group().startswith(_SERVICE_ACCOUNTS)
            and not _FILE_NAME.search(match.group())
            and not _LOGIN_BEFORE.search(text, max(start - _BEFORE, 0), start)
            and not _LOGIN_AFTER.match(text, end)
        ):
            yield start, end


def _ibans(text: str) -> Iterator[tuple[int, int]]:
    match = _IBAN.search(text)
    while match:
        start = match.start()
        end = start + _iban_end(match.group())
        if end > start:
            yield start, end
        # What the pattern ran on into may be the next one.
        match = _IBAN.search(text, end if end > start else start + 2)


def _iban_end(found: str) -> int:
    """Where the IBAN at the beginning of a text ends; 0 when there is none.

    The pattern may have run on into the next word; the country says where the number ends.
    """
    length = _iban_length(found[:2].upper())
    places = [place for place, character in enumerate(found, start=1) if character.isalnum()]
    if not length or len(places) < length:
        return 0
    end = places[length - 1]
    digits = sum(map(str.isdigit, found[:end]))
    sure = found[:end].upper() == found[:end] or digits >= _FEWEST_DIGITS
    return end if sure and is_iban(found[:end]) and not found[end : end + 1].isalnum() else 0


def _cards(text: str) -> Iterator[tuple[int, int]]:
    for match in _CARD.finditer(text):
        start, end = match.span()
        in_hash = bool(_HEX.match(text, start - 1, start) and _HEX.match(text, end, end + 1)) if start else False
        digits = re.sub(r"[ -]", "", match.group())
        # Beside the word any issuer will do.
        said = _CARD_SAID.search(text, max(start - _NEAR, 0), start)
        printed = is_card(digits) and _PRINTED.fullmatch(match.group())
        if not in_hash and (printed or (said and passes_luhn(digits))):
            yield start, end


def _phones(text: str) -> Iterator[tuple[int, int]]:
    for match in _PHONE.finditer(text):
        start, end = match.span()
        number = match["number"]
        international = number.startswith("+")
        if not _has_phone_length(number, _FEWEST_ABROAD if number.startswith(("+", "00")) else _FEWEST):
            continue
        if international or not (
            _counts(number)
            or _OTHER_NUMBER_BEFORE.search(text, max(start - _BEFORE, 0), start)
            or _OTHER_NUMBER_AFTER.match(text, end)
        ):
            yield start, end


def _called(text: str) -> Iterator[tuple[int, int]]:
    return (match.span(1) for match in _CALLED.finditer(text) if _has_phone_length(match[1], _FEWEST_CALLED))


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


def _has_phone_length(number: str, fewest: int) -> bool:
    """Whether a number without its extension has the digits of one; E.164 allows at most 15."""
    return fewest <= sum(character.isdigit() for character in number) <= 15


def _counts(number: str) -> bool:
    """Whether the groups of a number go on by a rule as in a count: one step, one factor, or sums."""
    groups = [int(group) for group in re.findall(r"\d+", number)]
    steps = {after - before for before, after in pairwise(groups)}
    by_factor = all(b * b == a * c for a, b, c in zip(groups, groups[1:], groups[2:], strict=False))
    by_sum = all(a + b == c for a, b, c in zip(groups, groups[1:], groups[2:], strict=False))
    return len(groups) > 3 and (len(steps) == 1 or by_factor or by_sum)


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
