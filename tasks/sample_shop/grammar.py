"""The grammar behind the sample's user turns.

A turn is [opening] [context] request [detail] [closing], each drawn on its own; a request is written with
alternatives, ``(where is|what happened to) my (parcel|order) {order}?``, which nest. A request that begins
with ``!`` is something the shop should do (``!cancel order {order}`` becomes "could you cancel ...?"), with
``~`` something the customer wants to do. Slots stay as ``{slot}`` until the very end, so that a
sloppy writer's typos never change what an answer has to repeat.
"""

# Word lists are easier to read as running text.
# ruff: noqa: SIM905
from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from tasks.sample_shop.slots import Slots

SHOP = "Fernhollow"
REGISTERS = ("formal", "plain", "casual", "sloppy")
REGISTER_WEIGHTS = (20, 38, 24, 18)
SLOT = re.compile(r"(\{\w+\})")

OPENINGS: dict[str, tuple[str, ...]] = {
    "formal": (
        f"Dear {SHOP} team,", "Good afternoon,", "Good evening,", "To whom it may concern:", "Dear all,",
        "I am writing to you with a request.", "I hope this message finds you well.", "Dear customer service,",
    ),
    "plain": (
        "Hello,", "Hello there,", "Good day,", f"Hello {SHOP},", "I have a question.", "I need some help.",
        "Could somebody help me?", "A short question:", "Hello team,", "Maybe you can help me.",
    ),
    "casual": (
        "Hi,", "Hey,", "Hi folks,", "Hiya,", "Hey there,", "Morning,", "Ok so,", "Hi again,", "Me again.",
        "Right,", "Hi team,",
    ),
    "sloppy": ("hi", "hey", "hello", "hi guys", "so", "ok", "erm", "help", "hi there"),
}  # fmt: skip
CLOSINGS: dict[str, tuple[str, ...]] = {
    "formal": (
        "Thank you in advance.", "Kind regards", "I look forward to your reply.", "With best wishes",
        "Thank you for your time.", "I would be grateful for an answer.", "Yours sincerely",
    ),
    "plain": (
        "Thank you.", "Thanks for your help.", "Please let me know.", "Thanks in advance.", "Many thanks.",
        "That would help me a lot.", "I hope you can help.",
    ),
    "casual": ("Thanks!", "Cheers!", "Thanks a lot!", "That would be great.", "Cheers.", "Ta!", "You are the best!"),
    "sloppy": ("thx", "thanks", "cheers", "ty", "thanks a lot", "pls answer soon"),
}  # fmt: skip
WISHES = (
    "I would like to {}.", "I want to {}.", "can I {}?", "could I {}?", "how do I {}?", "is it possible to {}?",
    "how can I {}?", "I need to {}.", "what do I have to do to {}?", "may I {}?", "I am trying to {}.",
    "is there a way to {}?",
)  # fmt: skip
REQUESTS = (
    "please {}.", "can you {}?", "could you {}?", "would you {} for me?", "can you please {}?", "kindly {}.",
    "I would like you to {}.", "are you able to {}?", "will you {}, please?", "I must ask you to {}.",
)  # fmt: skip
# A sentence of its own for a slot that the request lacks: said after the request, and before it.
DETAILS_AFTER: dict[str, tuple[str, ...]] = {
    "order": (
        "(my|the) order number is {order}.", "it is order {order}.", "order {order}.", "order number {order}.",
        "the number on the confirmation is {order}.", "you will find it under {order}.",
        "this is about order {order}.", "my order: {order}.",
    ),
    "amount": ("the amount is {amount}.", "it is about {amount}.", "we are talking about {amount}."),
    "months": ("I have had it for {months}.", "it is {months} old.", "I bought it {months} ago."),
}  # fmt: skip
DETAILS_BEFORE: dict[str, tuple[str, ...]] = {
    "order": (
        "my order number is {order}.", "this is about order {order}.", "I have a question about order {order}.",
        "order {order}:", "concerning order {order}:", "my last order was {order}.",
    ),
    "amount": ("this is about {amount}.", "I am writing about {amount}."),
    "months": ("I have owned it for {months}.", "I bought something from you {months} ago."),
}  # fmt: skip
# Sentences without a request, and the requests that they would contradict. Many deliberately use words of
# another request. "-" stands for requests made before anything is bought.
BEFORE_BUYING = frozenset(
    "stock_check restock_alert delivery_time payment_method bulk_order instalments payment_declined "
    "gift_card_balance password_reset newsletter_stop delete_account".split()
)
CONTEXTS: tuple[tuple[str, frozenset[str]], ...] = tuple(
    (text, frozenset(barred.split()) | (BEFORE_BUYING if "-" in barred else frozenset()))
    for text, barred in {
        "I have been a customer for (years|many years|a long time).": "",
        "I bought it as a (gift|present) for my (sister|father|neighbour).": "- gift_wrap wrong_item company_invoice",
        "(my|the) payment went through without a problem.": "- double_charge",
        "I have (already|just) looked at the tracking page.": "-",
        "the (parcel|box) itself looked fine.": "- late_delivery not_received track_order damaged_item",
        "last year a refund took weeks.": "",
        "we leave for our holiday soon.": "",
        "I could not find (this|anything about this) on your (page|website).": "",
        "I am not angry, I only want to understand.": "",
        "my last return went very smoothly.": "",
        "I do not want to cancel anything.": "cancel_order delete_account newsletter_stop",
        "the courier was very friendly.": "- late_delivery not_received track_order",
        "my neighbour (recommended|told me about) your shop.": "",
        "I paid straight away.": "-",
        "I still have the (box|receipt|invoice).": "- invoice_copy company_invoice",
        "your (chat|phone line) was busy.": "",
        "I am writing from my phone.": "",
        "this is my (first|second|third) order with you.": "- return_received",
        "I was (away|on a trip) last week.": "",
        "a voucher was used for it.": "- voucher_rejected",
        "the (colour|size) is exactly right.": "- exchange_size wrong_item late_delivery not_received",
        "my account works fine.": "password_reset delete_account loyalty_points",
        "I got your newsletter this morning.": "newsletter_stop",
        "the warranty card is in front of me.": "-",
        "I have just moved house.": "",
        "(somebody|a colleague) of yours was very helpful last time.": "",
        "we are (planning|preparing) a camping trip.": "",
        "I do not need an exchange.": "- exchange_size",
        "I like your (things|products) a lot.": "delete_account",
        "I know you are busy.": "",
        "I spoke to your shop in town.": "",
        "there is a party at our place soon.": "",
        "I am not very good with computers.": "",
        "my (wife|husband|son|daughter) placed the order.": "-",
        "the delivery itself was quick.": "- late_delivery not_received track_order",
        "I read the return policy.": "",
        "I collect your points.": "delete_account",
        "it was in the sale.": "- price_drop",
        "I have waited a while before asking.": "",
        "I would rather not send it back.": "- return_item exchange_size return_label",
    }.items()
)
QUESTION = re.compile(
    r"(?:(?:so|and|but|or|if so) )?(?:can|could|do(?! not)|does|did|is|are|was|were|would|will|may|have|has|what|how|"
    r"which|who|when(?! (?:I|we|you)\b)|where|why|am|any|must|should|for how long|until when|by when|by which)\b",
    re.IGNORECASE,
)
TYPO_RATE = {"formal": 0.0, "plain": 0.008, "casual": 0.02, "sloppy": 0.07}


@dataclass(frozen=True)
class Intent:
    """One thing customers ask for, and the one right answer to it.

    Attributes:
        name: The label.
        cores: Requests in the grammar of this module, each a different way to ask.
        answer: The answer, with slots.
        slots: Slots that every prompt of this intent shows.
        lines: Product lines it makes sense for.
        other: A second answer, taken when ``when`` holds for the slots shown.
        when: Decides between ``answer`` and ``other`` from what the prompt shows.
    """

    name: str
    cores: tuple[str, ...]
    answer: str
    slots: tuple[str, ...] = ()
    lines: tuple[str, ...] = ("soft", "hard", "built")
    other: str | None = None
    when: Callable[[Slots], bool] | None = None

    def reply(self, slots: Slots) -> str:
        """The canonical answer for these slots."""
        chosen = self.other if self.other is not None and self.when is not None and self.when(slots) else self.answer
        return chosen.format_map(slots)


@cache
def alternatives(template: str) -> tuple[str | tuple[str, ...], ...]:
    """Split at top-level brackets into plain text and tuples of choices (which may hold brackets again)."""
    parts: list[str | tuple[str, ...]] = []
    choices: list[str] = []
    text, depth = "", 0
    for sign in template:
        if sign == "(" and depth == 0:
            parts.append(text)
            text, choices = "", []
        elif sign == ")" and depth == 1:
            parts.append((*choices, text))
            text = ""
        elif sign == "|" and depth == 1:
            choices.append(text)
            text = ""
        else:
            text += sign
        depth += (sign == "(") - (sign == ")")
    return (*parts, text)


def expand(template: str, rng: random.Random) -> str:
    """Choose one alternative in every bracket; slots stay."""
    if "(" not in template:
        return template
    chosen = (p if isinstance(p, str) else expand(rng.choice(p), rng) for p in alternatives(template))
    return re.sub(r" +(?=[ ?.,])", "", "".join(chosen)).strip()


def phrase(core: str, rng: random.Random) -> str:
    """A complete request sentence from one core."""
    if core[0] not in "!~":
        return end_sentence(expand(core, rng))
    deed, _, reason = expand(core[1:], rng).partition(", ")
    sentence = rng.choice(REQUESTS if core[0] == "!" else WISHES).replace("{}", deed)
    return f"{sentence} {end_sentence(reason + '.')}" if reason else sentence


def end_sentence(text: str) -> str:
    """A question mark after a question, a full stop after anything else, whatever the alternatives gave."""
    if text[-1] not in ".?":
        return text
    last = re.split(r"[.?:] ", text[:-1])[-1]
    clauses = last.split(", ")
    asks = bool(QUESTION.match(clauses[0]) or QUESTION.match(clauses[-1]))
    return text[:-1] + ("?" if asks else ".")


def compose(core: str, intent: str, shown: tuple[str, ...], register: str, rng: random.Random) -> str:
    """One user turn, slots still open.

    Args:
        core: The request, in the grammar of this module.
        intent: Its name; sentences that would contradict it are left out.
        shown: Slots that the turn must show; those the core lacks get a sentence of their own.
        register: One of `REGISTERS`.
        rng: The seeded generator.
    """
    request = phrase(core, rng)
    missing = [slot for slot in shown if "{" + slot + "}" not in request]
    if rng.random() < 0.65:
        sentences = [request, *(expand(rng.choice(DETAILS_AFTER[slot]), rng) for slot in missing)]
    else:
        sentences = [*(rng.choice(DETAILS_BEFORE[slot]) for slot in missing), request]
    if rng.random() < 0.25:
        context, barred = rng.choice(CONTEXTS)
        if intent not in barred:
            sentences.insert(0 if rng.random() < 0.7 else len(sentences), expand(context, rng))
    if rng.random() < 0.5:
        sentences.insert(0, rng.choice(OPENINGS[register]))
    if rng.random() < 0.35:
        sentences.append(rng.choice(CLOSINGS[register]))
    return punctuate(" ".join(sentences))


def punctuate(text: str) -> str:
    """Capital letters at the start of sentences."""
    return re.sub(r"(^|[.?!] )([a-z])", lambda m: m[1] + m[2].upper(), text)


def misspell(word: str, rng: random.Random) -> str:
    """One typing error: two letters swapped, one missing, or one doubled."""
    at = rng.randrange(1, len(word) - 1)
    kind = rng.randrange(3)
    if kind == 0:
        return word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    if kind == 1:
        return word[:at] + word[at + 1 :]
    return word[:at] + word[at] + word[at:]


def scribble(text: str, register: str, rng: random.Random) -> str:
    """Rewrite a text in this register; slots are not changed."""
    rate = TYPO_RATE[register]
    pieces = SLOT.split(text)
    for index in range(0, len(pieces), 2):
        piece = pieces[index]
        if register == "sloppy":
            piece = piece.lower().replace("'", "").replace(",", "").replace("please", "pls")
            piece = piece.replace(".", "" if rng.random() < 0.6 else ".")
        if rate:
            piece = re.sub(r"[A-Za-z]{4,}", lambda m: misspell(m[0], rng) if rng.random() < rate else m[0], piece)
        pieces[index] = piece
    written = "".join(pieces).strip()
    if register == "casual" and rng.random() < 0.25:
        written = written[:1].lower() + written[1:]
    return written


def pick_register(rng: random.Random) -> str:
    return rng.choices(REGISTERS, REGISTER_WEIGHTS)[0]
