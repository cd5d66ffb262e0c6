"""Slot values of the sample: products, order numbers, places, amounts.

Products are built from a mood, a material and an item, so that most of them are seen once: an answer
that names one has to copy it from the question.
"""

# Word lists are easier to read as running text.
# ruff: noqa: E501, SIM905
from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass

Slots = dict[str, str]


@dataclass(frozen=True)
class ProductLine:
    """A product line.

    Attributes:
        moods: First word of a product's name.
        materials: Second part.
        items: Last part.
        parts: Spare parts that fit every item of the line.
    """

    moods: tuple[str, ...]
    materials: tuple[str, ...]
    items: tuple[str, ...]
    parts: tuple[str, ...]

    def name(self, rng: random.Random) -> str:
        return f"{rng.choice(self.moods)} {rng.choice(self.materials)} {rng.choice(self.items)}"


MOODS = tuple(
    "compact sturdy lightweight classic rugged slim roomy quilted nordic mountain coastal weekend daily "
    "vintage padded double mini travel garden winter summer striped woven premium basic".split()
)
SOFT = ProductLine(
    moods=MOODS,
    materials=tuple("canvas wool cotton fleece nylon felt linen denim hemp velvet mesh corduroy".split()),
    items=(
        "rucksack", "sleeping bag", "tarp", "poncho", "blanket", "duffel bag", "hammock", "rain jacket",
        "picnic rug", "cushion", "tent", "apron", "bathrobe", "shoulder bag", "doormat", "curtain",
        "beanie", "gym towel", "cool bag", "windbreaker",
    ),
    parts=("strap", "buckle", "zip puller", "drawstring", "clip", "lining"),
)  # fmt: skip
HARD = ProductLine(
    moods=tuple(m for m in MOODS if m not in {"quilted", "padded", "woven"}),
    materials=(
        "steel", "copper", "titanium", "enamel", "aluminium", "cast iron", "brass", "ceramic", "bamboo",
        "glass", "cork", "stone",
    ),
    items=(
        "kettle", "lantern", "mug", "frying pan", "flask", "lunch box", "coffee press", "watering can",
        "candle holder", "camp stove", "bread bin", "salad bowl", "teapot", "fire bowl", "cooking pot",
        "water bottle", "spice jar", "bird feeder", "plate set", "serving tray",
    ),
    parts=("lid", "handle", "seal ring", "base", "hook", "screw"),
)  # fmt: skip
BUILT = ProductLine(
    moods=tuple(m for m in MOODS if m not in {"quilted", "woven", "striped"}),
    materials=("oak", "pine", "beech", "walnut", "rattan", "ash", "birch", "teak", "acacia", "metal", "larch"),
    items=(
        "camp chair", "folding table", "shoe rack", "bookshelf", "bench", "stool", "sideboard", "coat stand",
        "camp bed", "plant stand", "deck chair", "wine rack", "bedside table", "tool cabinet", "wash stand",
    ),
    parts=("leg", "hinge", "bracket", "drawer knob", "rubber foot", "bolt set"),
)  # fmt: skip
# Not in the sample: the product line of drifted traffic.
ELECTRIC = ProductLine(
    moods=tuple("Voltra Jolto Zephyr Kwanto Lumio Pulsar Hexon Dynamo Sparkwave Nimbo Turboz Fluxa Spargo Wattle".split()),
    materials=tuple("X2 300 Pro Max S7 Ultra 40W Mk3 Air 5G Neo V12".split()),
    items=(
        "e-bike", "e-scooter", "power station", "solar charger", "action camera", "GPS watch", "drone", "headset",
        "walkie-talkie", "robot mower", "smart lamp", "heated vest", "cargo e-trike", "dash cam",
    ),
    parts=("battery", "charger", "display", "USB cable", "brake sensor", "motor hub"),
)  # fmt: skip
LINES: dict[str, ProductLine] = {"soft": SOFT, "hard": HARD, "built": BUILT, "electric": ELECTRIC}

COLOURS = tuple("red moss navy sand grey black white teal mustard rust violet pink".split())
SOLD_OUT_COLOURS = frozenset({"violet", "pink", "mustard", "rust"})
SIZES = ("small", "medium", "large", "extra large", "extra small")
DAYS = tuple("Monday Tuesday Wednesday Thursday Friday Saturday".split())
MONTHS = tuple("January February March April May June July August September October November December".split())
CITIES = (
    "Malmö", "Zürich", "Kraków", "Göteborg", "Tromsø", "Besançon", "Würzburg", "Orléans", "Valletta",
    "Ghent", "Basel", "Parma", "Linz", "Odense", "Tampere", "Delft", "Bristol", "Galway", "Trieste",
    "Leipzig", "Brno", "Maribor", "Cardiff", "Aarhus", "Lübeck", "Sibiu", "Kaunas", "Braga", "Dundee",
    "Limerick",
)  # fmt: skip
CARRIERS = ("Swiftway", "ParcelJet", "Nordpost", "Blue Heron", "Hermod", "Zipline Cargo")
GOOD_METHODS = ("credit card", "debit card", "bank transfer", "direct debit", "mobile wallet")
BAD_METHODS = ("cheque", "cash on delivery", "bitcoin", "postal order")
COVERED_MONTHS = (2, 3, 5, 7, 8, 10, 11, 14, 16, 18, 20, 22)
EXPIRED_MONTHS = (26, 28, 31, 33, 36, 40)
COUNTS = (12, 15, 18, 20, 24, 30, 35, 40, 60, 70, 80, 90, 120, 150)
FIRMS = ("Alder", "Brightwater", "Corvid", "Dunmore", "Eastgate", "Foxley", "Greystone", "Hollis", "Ironbark")
TRADES = ("Cafes", "Events", "Hotels", "Schools", "Studios", "Tours", "Builders", "Catering")
VOUCHERS = ("TRAIL", "HOME", "SPRING", "CAMP", "WELCOME", "FROST", "GARDEN", "LOYAL")
LETTERS = "BCDFGHJKLMNPQRSTVWXZ"


def pick(*values: str) -> Callable[[random.Random, ProductLine], str]:
    return lambda rng, line: rng.choice(values)


def cents(rng: random.Random) -> str:
    return rng.choice(("00", "20", "50", "80", "90"))


def amount(rng: random.Random, line: ProductLine) -> str:
    """Under 100 euros or over: some answers depend on it."""
    return f"{rng.randint(11, 99) if rng.random() < 0.55 else rng.randint(101, 480)}.{cents(rng)} euros"


def day(rng: random.Random, line: ProductLine) -> str:
    return rng.choice(DAYS) if rng.random() < 0.6 else f"{rng.randint(2, 28)} {rng.choice(MONTHS)}"


def method(rng: random.Random, line: ProductLine) -> str:
    return rng.choice(GOOD_METHODS if rng.random() < 0.6 else BAD_METHODS)


def months(rng: random.Random, line: ProductLine) -> str:
    return f"{rng.choice(COVERED_MONTHS if rng.random() < 0.6 else EXPIRED_MONTHS)} months"


DRAW: dict[str, Callable[[random.Random, ProductLine], str]] = {
    "product": lambda rng, line: line.name(rng),
    "part": lambda rng, line: rng.choice(line.parts),
    "order": lambda rng, line: f"{rng.choice(LETTERS)}{rng.randint(1000, 9999)}",
    "amount": amount,
    "saving": lambda rng, line: f"{rng.randint(2, 35)}.{cents(rng)} euros",
    "colour": pick(*COLOURS),
    "size": pick(*SIZES),
    "day": day,
    "city": pick(*CITIES),
    "carrier": pick(*CARRIERS),
    "method": method,
    "paid_by": pick(*GOOD_METHODS),
    "months": months,
    "count": lambda rng, line: str(rng.choice(COUNTS)),
    "company": lambda rng, line: f"{rng.choice(FIRMS)} {rng.choice(TRADES)}",
    "code": lambda rng, line: f"{rng.choice(VOUCHERS)}{rng.randint(10, 99)}",
    "card": lambda rng, line: f"G{rng.randint(1000, 9999)}",
    "points": lambda rng, line: str(rng.randrange(40, 990, 10)),
}


def draw_slots(names: Iterable[str], line: str, rng: random.Random) -> Slots:
    """A value for each of these slots.

    Args:
        names: Slots, in the order they are drawn.
        line: Key of `LINES`, which products and parts are taken from.
        rng: The seeded generator.

    Returns:
        Slot name to text, and ``line`` itself, for answers that depend on what the product is made of.
    """
    return {"line": line, **{name: DRAW[name](rng, LINES[line]) for name in names}}
