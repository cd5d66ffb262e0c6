"""What changes at Fernhollow after the sample was drawn: electric goods, new services, younger customers."""

# One request a line.
# ruff: noqa: E501
from __future__ import annotations

import random
import re

from tasks.sample_shop.grammar import SLOT, Intent
from tasks.sample_shop.intents import INTENTS, WEIGHTS
from tasks.sample_shop.payments import PAYMENTS

KINDS = ("products", "intents", "slang", "mix")

NEW_INTENTS = (
    Intent(
        name="trade_in",
        slots=("product",),
        cores=(
            "~(trade in|hand in for credit) my (old|used) {product}",
            "what (would|do) you (pay|give me) for my (old|used) {product}?",
            "do you (buy|take) (used|second-hand) things (like a|such as a) {product}?",
            "is there (money|a premium|credit) for (an old|a worn) {product}?",
            "I want a new one, (does my old {product} lower the price|what is my old {product} worth to you)?",
            "(my neighbour got|a friend got) something off for a used {product}, (how does that work|can I do that too)?",
            "!take my used {product} in part exchange",
        ),
        answer="Bring us your old {product} and we take 15 percent off the next one.",
    ),
    Intent(
        name="rent_gear",
        slots=("product", "day"),
        lines=("soft",),
        cores=(
            "~(rent|borrow|hire) (a|the) {product} from {day}",
            "do you (rent out|lend) (a|the) {product} (for a weekend|for some days), starting {day}?",
            "I need a {product} only once, (can I hire one|is there one to borrow) on {day}?",
            "what does it cost to (hire|rent) a {product} from {day}?",
            "(from {day} on|starting {day}) we want to try a {product} without buying it.",
            "!(reserve|keep) a {product} from your rental service for {day}",
            "(renting|hiring) instead of buying: is a {product} free on {day}?",
        ),
        answer="You can rent the {product} from {day} for 9 euros a day plus a deposit.",
    ),
    Intent(
        name="course_place",
        slots=("city", "day"),
        cores=(
            "~(join|attend|book a place in) the (mending course|repair class) in {city} on {day}",
            "is there (a seat|room|a place) left in the (class|course|evening course) in {city} on {day}?",
            "!(sign me up|put me down) for the course in {city} on {day}",
            "I (read|heard) about a (course|class) in {city}, (may I come on {day}|is {day} still open)?",
            "(two friends|my sister) told me about the workshop evening in {city}, I want to come on {day}.",
            "(who teaches|what happens in) the course in {city} on {day}, and may I come?",
            "I want to learn how to mend things, (the class|the course) in {city} on {day} sounds good.",
        ),
        answer="Your place in the mending course in {city} on {day} is booked. Please bring your own gear.",
    ),
    Intent(
        name="recall_check",
        slots=("product",),
        cores=(
            "is the {product} (part of|affected by) the (recall|safety notice)?",
            "I (read|heard) about a (recall|safety warning), (does it concern|is it about) the {product}?",
            "is it (safe|dangerous) to (go on using|keep using) the {product}?",
            "the news (says|said) that some of your things can catch fire, is the {product} (one of them|among them)?",
            "!(check|confirm) that the {product} is (safe|not recalled)",
            "(must|should) I stop using the {product} because of the (warning|recall)?",
            "there was a notice about (dangerous|unsafe) goods, (I own|we have) the {product}.",
        ),
        answer="The {product} is not part of the recall. You can go on using it safely.",
    ),
    Intent(
        name="engraving",
        slots=("product",),
        lines=("hard",),
        cores=(
            "~have (a name|my initials|a date) (engraved|cut) (on|into) the {product}",
            "do you (engrave|put letters on|write names on) the {product}?",
            "!(engrave|put) (two initials|a name|a short line) on the {product}",
            "what does it cost to (personalise|engrave) the {product}?",
            "can the {product} (carry|bear) (a name|the date of our wedding)?",
            "how many letters (fit|have room) on the {product}?",
            "I want the {product} to be personal, (do you do lettering|with a name on it).",
        ),
        answer="We engrave up to twelve letters on the {product} for 8 euros; it takes four days.",
    ),
    Intent(
        name="recycling",
        slots=("product",),
        cores=(
            "(where|how) (can|do) I (dispose of|get rid of|throw away) (an old|a worn out) {product}?",
            "do you (recycle|take in for recycling) (an old|a broken) {product}?",
            "I do not want to put the old {product} in the bin, (what else can I do|is there a better way)?",
            "!recycle my (old|worn out) {product}",
            "does the {product} (belong in|go into) the (household waste|scrap)?",
            "my {product} is at the end of its life, (which bin|who recycles it)?",
            "is there a (box|place) in your shops for an old {product}, so that it does not become waste?",
        ),
        answer="You may hand in the old {product} at any of our shops, and we recycle it for free.",
    ),
)

# The sample's own requests, asked about electric goods: same answers, other worries.
ELECTRIC_CORES: dict[str, tuple[str, ...]] = {
    "add_item": (
        "throw in a {product}, (charger included|with the mains plug), before the box is closed.",
        "my trip also calls for a {product}, (pack it along|let it ride along).",
    ),
    "damaged_item": (
        "the (display|screen) of the {product} was (black|splintered|dead) when I first switched it on.",
        "(smoke|a burnt smell) came out of the {product} the moment I plugged it in.",
        "fresh from the carton the {product} (will not boot|shows error 07|does not power up).",
    ),
    "wrong_item": (
        "the serial number says {product}, I picked another model.",
        "when I paired it, the app (called it|showed) {product}, (not my model|that is another model).",
    ),
    "missing_item": (
        "the charger was there, the {product} (itself|) was not.",
        "I unpacked (cables|leads) and a manual and no {product}.",
    ),
    "return_item": (
        "the {product} (drains|loses its charge) too fast for me, (away with it|off it goes).",
        "my phone refuses to pair with the {product}, (so I part with it|so you can have it again).",
        "the {product} is too (loud|slow|heavy) uphill, I am done with it.",
    ),
    "return_window": (
        "how many test rides on the {product} before it is mine for good?",
        "(is there|do I have) a trial period with the {product}, and how long?",
    ),
    "warranty_claim": (
        "the battery of the {product} (holds no charge|swelled up|went flat) after {months}.",
        "since the last firmware the {product} (is dead|only blinks), I have had it {months}.",
        "the motor of the {product} (stutters|hums and stalls), it has run for {months}.",
    ),
    "repair_service": (
        "can one of your technicians (flash|reset|rewire) the {product}?",
        "the {product} needs (a new cell pack|soldering), (who does that|do you have an electrician)?",
    ),
    "spare_part": (
        "the {part} of the {product} is (fried|burnt out), I want to plug in another.",
        "which {part} is compatible with the {product}?",
    ),
    "price_drop": (
        "the {product} launched higher, it is {saving} below that since the update.",
        "early buyers of the {product} (feel cheated|paid too much), {saving} to be exact.",
    ),
    "stock_check": (
        "does the {product} ship with a {colour} (shell|casing|frame)?",
        "I saw the {product} with a {colour} (frame|casing) in a test video, (have you got one|can I have that one)?",
    ),
    "restock_alert": (
        "the next batch of the {product}, when does it (drop|roll in)?",
        "pre-order for the {product} is closed, (ping me for the next batch|when does it reopen)?",
    ),
    "care_instructions": (
        "(dust|grime) in the (ports|vents) of the {product}, may I spray something in?",
        "how do I keep the contacts of the {product} from (corroding|getting sticky)?",
    ),
    "waterproof": (
        "which IP rating does the {product} have?",
        "could a puddle short-circuit the {product}?",
    ),
    "assembly_help": (
        "which cable of the {product} (goes|plugs) where?",
        "the {product} came with the handlebar and the battery loose, (how does it click|what now)?",
    ),
    "bulk_order": (
        "our fleet is to get {count} units of the {product}, (name your rate|what is your rate).",
        "what is your quote for a rental station that wants {count} times {product}?",
    ),
}

ACCOUNT = frozenset({"password_reset", "delete_account", "newsletter_stop", "loyalty_points"})
SHIFTED = ACCOUNT.union(intent.name for intent in PAYMENTS)
SHIFTED_WEIGHTS: dict[str, float] = {
    intent.name: WEIGHTS[intent.name] * (6.0 if intent.name in SHIFTED else 1.0) for intent in INTENTS
}

SLANG: dict[str, str] = {
    "do you have": "u got", "have you got": "u got", "where is": "wheres", "what is": "whats", "how long": "how many sleeps",
    "how much": "what dmg", "is it possible to": "any chance 2", "I would like to": "wanna", "I want to": "wanna",
    "I would like you to": "gonna need u to", "could you": "can ya", "can you": "can ya", "would you": "wanna",
    "what do I have to do to": "whats the play to", "return label": "sticky bit", "pick-up point": "grab spot",
    "does not work": "is bust", "gift card": "prezzie plastic", "log in": "hop on", "by mistake": "cuz im daft",
    "send back": "chuck back", "send it back": "yeet it back", "shop credit": "store dosh", "in stock": "on deck",
    "sold out": "all gone", "spare": "extra", "my": "me", "you": "u", "your": "ur", "are": "r", "please": "plz",
    "order": "haul", "parcel": "bundle", "package": "bundle", "delivery": "drop", "delivered": "dropped", "deliver": "drop",
    "shipping": "droppin", "tracking": "stalkin link", "courier": "van dude", "driver": "van dude", "carrier": "van crew",
    "cancel": "bin", "stop": "kill", "change": "flip", "address": "addy", "send": "fling", "ship": "fling", "bring": "fling",
    "faster": "pronto", "express": "turbo", "urgent": "mad urgent", "arrived": "rocked up", "came": "rocked up",
    "arrive": "rock up", "come": "rock up", "here": "at mine", "home": "crib", "collect": "nab", "fetch": "nab", "pick": "nab",
    "broken": "busted", "damaged": "wrecked", "broke": "died", "cracked": "wrecked", "defective": "junk", "faulty": "junk",
    "wrong": "whack", "missing": "awol", "forgot": "blanked on", "lost": "awol", "return": "chuck back", "returned": "chucked back",
    "exchange": "switcheroo", "swap": "switcheroo", "size": "fit", "repair": "patch up", "fix": "patch up", "mend": "patch up",
    "repaired": "patched", "mended": "patched", "warranty": "cover thingy", "guarantee": "cover thingy", "refund": "moolah",
    "money": "dosh", "paid": "coughed up", "pay": "cough up", "payment": "coughin up", "charged": "stung", "billed": "stung",
    "twice": "x2", "invoice": "papers", "bill": "papers", "receipt": "papers", "voucher": "promo thingy", "discount": "money off",
    "code": "promo thingy", "price": "tag", "cheaper": "knocked down", "instalments": "chunks", "monthly": "every month",
    "company": "gaffers", "declined": "bounced", "refused": "bounced", "rejected": "bounced", "wash": "scrub", "clean": "scrub",
    "waterproof": "splash safe", "rain": "chuckin it down", "assemble": "slap together", "build": "slap together",
    "pieces": "bits", "gift": "prezzie", "present": "prezzie", "wrap": "bling up", "wrapped": "blinged up", "password": "pw",
    "account": "login thingy", "delete": "nuke", "remove": "nuke", "close": "nuke", "newsletter": "spam mails",
    "e-mails": "spam mails", "points": "pts", "loyalty": "perks", "available": "up for grabs", "left": "kickin about",
    "new": "fresh", "buy": "cop", "bought": "copped", "ordered": "copped", "received": "bagged", "got": "bagged", "get": "bag",
    "need": "kinda need", "want": "fancy", "thanks": "safe", "thank": "big up", "hello": "yo", "hi": "oi", "hey": "ayy",
    "why": "y", "because": "cuz", "and": "n", "for": "4", "to": "2", "the": "da",
    "something": "summat", "nothing": "nowt", "anything": "owt", "tomorrow": "2moz", "today": "2day", "store": "gaff",
    "help me": "sort me out", "help": "sort out", "check": "clock", "tell": "gimme", "know": "suss",
}  # fmt: skip
FILLERS = ("lol", "ngl", "tbh", "fr", "innit", "bruv", "mate", "smh", "idk", "fam", "lmk", "asap yeah")
_SLANG_WORDS = re.compile(
    r"\b(?:" + "|".join(re.escape(word) for word in sorted(SLANG, key=len, reverse=True)) + r")\b", re.IGNORECASE
)
_SLANG_LOWER = {word.lower(): slang for word, slang in SLANG.items()}


def talk_slang(text: str, rng: random.Random) -> str:
    """A user turn with slang; slots are not changed."""
    pieces = SLOT.split(text)
    for index in range(0, len(pieces), 2):
        piece = pieces[index].lower().replace("'", "").replace(",", "")
        pieces[index] = _SLANG_WORDS.sub(lambda m: _SLANG_LOWER[m[0]] if rng.random() < 0.85 else m[0], piece)
    written = "".join(pieces)
    written = re.sub(r"[.?]+(?= |$)", lambda m: rng.choice(("", "", m[0], " " + rng.choice(FILLERS))), written)
    return f"{rng.choice(('yo', 'oi', 'ayy', 'sup', 'bruv'))} {written}" if rng.random() < 0.3 else written
