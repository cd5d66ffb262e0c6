"""Defects planted into the sample, each with a record of what was done where.

Every planted row is an extra row: the clean rows stay as they are, so that what a cleaning step removed
can be held against the truth.
"""

# Word lists are easier to read as running text.
# ruff: noqa: SIM905
from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import dataclass, replace

from tasks.sample_shop.conversations import SampleConversation, jaccard, shingles

# Share of the clean rows that each kind adds.
SHARES: dict[str, float] = {
    "exact_duplicate": 0.02,
    "near_duplicate": 0.02,
    "leak": 0.02,
    "pii": 0.025,
    "html": 0.02,
    "mojibake": 0.015,
    "lost_characters": 0.01,
    "empty_answer": 0.01,
    "wrong_label": 0.015,
}
COPIES = ("exact_duplicate", "near_duplicate", "leak")
NEAR_BAND = (0.75, 1.0)
LEAK_BAND = (0.7, 0.96)
FIRST_NAMES = "anna ben clara david eva frank greta hugo ines jonas karin leo mona nils olga paul rosa".split()
LAST_NAMES = "abel bruns costa dahl ekman fuchs graf holm iversen jung keller lindt moser novak orsini".split()
MAIL_HOSTS = ("example.com", "example.org", "example.net")
SYNONYMS = {
    "parcel": "package", "package": "parcel", "please": "kindly", "need": "require", "buy": "purchase",
    "but": "yet", "could": "can", "can": "could", "send": "ship", "help": "assist", "hello": "hi", "hi": "hello",
    "thanks": "cheers", "possible": "feasible", "bought": "purchased",
}  # fmt: skip


@dataclass(frozen=True)
class Planted:
    """One planted row.

    Attributes:
        conversation: The row as it stands in the table.
        kind: One of `SHARES`.
        source: Index of the clean row it copies, for copies.
        clean: The row as it was before the defect, for the other kinds.
        detail: What was planted: the PII text, the tag, the damaged word; "" where there is nothing more to say.
    """

    conversation: SampleConversation
    kind: str
    source: int | None = None
    clean: SampleConversation | None = None
    detail: str = ""


def with_turn(conversation: SampleConversation, index: int, content: str) -> SampleConversation:
    turns = list(conversation.messages)
    turns[index] = (turns[index][0], content)
    return replace(conversation, messages=tuple(turns))


def last_user(conversation: SampleConversation) -> int:
    return max(i for i, (role, _) in enumerate(conversation.messages) if role == "user")


def first_user(conversation: SampleConversation) -> int:
    return min(i for i, (role, _) in enumerate(conversation.messages) if role == "user")


def luhn_digit(digits: str) -> str:
    """The digit that makes ``digits`` plus it pass the Luhn check (ISO/IEC 7812-1)."""
    total = 0
    for position, digit in enumerate(reversed(digits)):
        value = int(digit) * (2 if position % 2 == 0 else 1)
        total += value - 9 if value > 9 else value
    return str(-total % 10)


def card_number(rng: random.Random) -> str:
    digits = rng.choice(("4", "51", "53", "55"))
    digits += "".join(rng.choice("0123456789") for _ in range(15 - len(digits)))
    digits += luhn_digit(digits)
    return " ".join(re.findall("....", digits)) if rng.random() < 0.6 else digits


def iban(rng: random.Random) -> str:
    """A made-up German or Austrian IBAN with valid check digits (ISO 13616, modulo 97)."""
    country, length = rng.choice((("DE", 18), ("AT", 16)))
    account = "".join(rng.choice("0123456789") for _ in range(length))
    as_number = account + "".join(str(ord(letter) - 55) for letter in country) + "00"
    text = f"{country}{98 - int(as_number) % 97:02d}{account}"
    return " ".join(re.findall(".{1,4}", text)) if rng.random() < 0.5 else text


def e_mail(rng: random.Random) -> str:
    join = rng.choice((".", "_", ""))
    return f"{rng.choice(FIRST_NAMES)}{join}{rng.choice(LAST_NAMES)}{rng.randint(1, 99)}@{rng.choice(MAIL_HOSTS)}"


def phone(rng: random.Random) -> str:
    """A number from the ranges that regulators keep free for fiction."""
    tail = f"{rng.randint(0, 999):03d}"
    forms = ("+44 7700 900{0}", "07700 900{0}", "+1 202-555-01{0:.2}", "(202) 555-01{0:.2}")
    return rng.choice(forms).format(tail)


PII: dict[str, tuple[Callable[[random.Random], str], tuple[str, ...]]] = {
    "email": (e_mail, ("You can write to {}.", "My e-mail is {}.", "Please answer to {}.")),
    "phone": (phone, ("You can call me on {}.", "My number is {}.", "Phone: {}.")),
    "iban": (iban, ("My IBAN is {}.", "Please pay to {}.", "Bank account: {}.")),
    "card": (card_number, ("I paid with card {}.", "My card number is {}.", "Card: {}.")),
}


def plant_pii(row: SampleConversation, rng: random.Random, number: int) -> tuple[SampleConversation, str]:
    kind = tuple(PII)[number % len(PII)]
    make, wordings = PII[kind]
    value = make(rng)
    index = first_user(row)
    text = f"{row.messages[index][1]} {rng.choice(wordings).replace('{}', value)}"
    return with_turn(row, index, text), f"{kind}:{value}"


def plant_html(row: SampleConversation, rng: random.Random, number: int) -> tuple[SampleConversation, str]:
    index = last_user(row) if rng.random() < 0.5 else len(row.messages) - 1
    text = row.messages[index][1]
    spaces = [m.start() for m in re.finditer(" ", text)]
    at = rng.choice(spaces) if spaces else len(text)
    head, tail = text[:at], text[at + 1 :]
    tag, broken = (
        ("<p>", f"<p>{text}</p>"),
        ("<br>", f"{head}<br>{tail}"),
        ("&nbsp;", f"{head}&nbsp;{tail}"),
        ("<div", f'<div class="message"><span>{text}</span></div>'),
        ("<b>", f"<b>{head}</b> {tail}"),
        ("&amp;", f"{text} &amp; thanks"),
        ("<a", f'{text} <a href="https://example.com/help">help</a>'),
        ("<script>", f"{text}<script>track();</script>"),
    )[number % 8]
    return with_turn(row, index, broken), tag


def accented(row: SampleConversation, rng: random.Random) -> tuple[SampleConversation, int]:
    """The row with at least one character beyond ASCII in a user turn, and the index of that turn."""
    index = first_user(row)
    text = row.messages[index][1]
    if text.isascii():
        text = rng.choice(("{} – it is a bit urgent…", "{} It’s for my café.", "{} I don’t mind a délai.")).format(text)
    return with_turn(row, index, text), index


def plant_mojibake(row: SampleConversation, rng: random.Random, number: int) -> tuple[SampleConversation, str]:
    """UTF-8 read as Windows-1252, which cleaning can reverse."""
    clean, index = accented(row, rng)
    broken = clean.messages[index][1].encode("utf-8").decode("cp1252")
    return with_turn(clean, index, broken), clean.messages[index][1]


def plant_lost_characters(row: SampleConversation, rng: random.Random, number: int) -> tuple[SampleConversation, str]:
    """Characters replaced by U+FFFD, which cannot be restored."""
    clean, index = accented(row, rng)
    broken = "".join(sign if sign.isascii() else "\ufffd" for sign in clean.messages[index][1])
    return with_turn(clean, index, broken), clean.messages[index][1]


def plant_empty_answer(row: SampleConversation, rng: random.Random, number: int) -> tuple[SampleConversation, str]:
    return with_turn(row, len(row.messages) - 1, ("", " ", "\n")[number % 3]), row.messages[-1][1]


def edit_lightly(row: SampleConversation, rng: random.Random) -> SampleConversation:
    """A near duplicate: one word more, one word less, or a change of case and punctuation."""
    index = first_user(row)
    text = row.messages[index][1]
    way = rng.randrange(4)
    if way == 0:
        text = f"{text} {rng.choice(('Please.', 'Bye.', 'Ok?', 'Urgent.'))}"
    elif way == 1:
        text = f"{rng.choice(('Well', 'Also', 'Again', 'Now'))}, {text}"
    elif way == 2:
        text = f"{text.upper()}!" if rng.random() < 0.3 else f" {text} !!"
    else:
        text = text + rng.choice((" Thanks, bye.", " Thank you both."))
    return with_turn(row, index, text)


def reword_lightly(row: SampleConversation, rng: random.Random) -> SampleConversation:
    """A leak: the same question in slightly other words, with the same answer."""
    index = first_user(row)
    words = row.messages[index][1].split(" ")
    known = [i for i, word in enumerate(words) if word.lower() in SYNONYMS]
    for at in rng.sample(known, min(rng.randint(1, 2), len(known))):
        fresh = SYNONYMS[words[at].lower()]
        words[at] = fresh.capitalize() if words[at][0].isupper() else fresh
    ending = rng.choice((" I am waiting.", " That is all.", " See you.", " It matters to me."))
    text = " ".join(words) + (ending if not known or rng.random() < 0.4 else "")
    return with_turn(row, index, text)


EDITS = {"near_duplicate": (edit_lightly, NEAR_BAND), "leak": (reword_lightly, LEAK_BAND)}
DAMAGES = {
    "pii": plant_pii,
    "html": plant_html,
    "mojibake": plant_mojibake,
    "lost_characters": plant_lost_characters,
    "empty_answer": plant_empty_answer,
}


def plant_copies(
    kind: str, count: int, clean: list[SampleConversation], free: list[int], rng: random.Random
) -> list[Planted]:
    """Copies of clean rows, each of another row, kept when the similarity is inside the kind's range.

    Args:
        kind: One of `COPIES`.
        count: How many.
        clean: The clean rows.
        free: Shuffled indexes of clean rows not copied yet; used ones are taken out.
        rng: The seeded generator.
    """
    planted: list[Planted] = []
    while free and len(planted) < count:
        source = free.pop()
        row = clean[source]
        if kind == "exact_duplicate":
            planted.append(Planted(row, kind, source))
            continue
        edit, (low, high) = EDITS[kind]
        copy = edit(row, rng)
        if low <= jaccard(shingles(row.messages), shingles(copy.messages)) <= high and copy != row:
            planted.append(Planted(copy, kind, source))
    return planted


def plant_damage(
    kind: str, number: int, row: SampleConversation, intents: tuple[str, ...], rng: random.Random
) -> Planted:
    """One more row with a defect of this kind in it."""
    if kind == "wrong_label":
        wrong = rng.choice([name for name in intents if name != row.intent])
        return Planted(replace(row, intent=wrong), kind, clean=row, detail=row.intent)
    broken, detail = DAMAGES[kind](row, rng, number)
    return Planted(broken, kind, clean=row, detail=detail)
