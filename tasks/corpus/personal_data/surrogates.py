"""Made-up values of the same kind, the same for the same value within a row.

A row keeps its sense: two people stay two, and a number asked for is the number given. The choice follows from what
the row's texts say without their personal data, so it is the same in every run, says nothing about the value, and in a
row of other words the same person is somebody else.

All surrogates are reserved for fiction or documentation: domains by RFC 2606, addresses by RFC 5737 and 3849, phone
numbers 555-0100 to 555-0199 (ATIS), card numbers of issuers' test ranges with a valid Luhn digit, IBANs with a valid
check of bank codes that are not given out, social security numbers from 987-65-4320 to 987-65-4329 (set aside for
advertisements).

Example:
    ``Ann Lee here, ann@example.org. Yes, Lee.`` becomes ``Rosa Keller here, kim.berg17@example.com. Yes, Keller.``
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from tasks.corpus.personal_data.found import Kind, put
from tasks.corpus.personal_data.treatments import Searched, plain_value

FIRST = (
    "Ada", "Alex", "Amara", "Andrea", "Bela", "Carmen", "Chris", "Dana", "Dina", "Elif", "Emil", "Eva", "Femi", "Grace",
    "Hana", "Ines", "Iris", "Jo", "Jules", "Kai", "Kim", "Lea", "Lin", "Lou", "Mara", "Maria", "Mika", "Mina", "Nadia",
    "Nico", "Noa", "Olga", "Paula", "Pia", "Rani", "Robin", "Rosa", "Sam", "Sara", "Sasha", "Sofia", "Tara", "Toni",
    "Uma", "Vera", "Yara", "Yuki", "Zoe",
)  # fmt: skip
LAST = (
    "Abbas", "Adler", "Baker", "Bauer", "Berg", "Brandt", "Castro", "Chen", "Costa", "Dahl", "Diaz", "Dubois", "Eklund",
    "Farkas", "Fischer", "Garcia", "Haas", "Horvat", "Ito", "Jansen", "Kaya", "Keller", "Khan", "Kovacs", "Larsen",
    "Lopez", "Marino", "Mensah", "Meyer", "Moreau", "Nagy", "Novak", "Okoye", "Olsen", "Patel", "Petrov", "Quinn",
    "Reyes", "Rossi", "Sato", "Silva", "Tanaka", "Vega", "Vogel", "Walker", "Weber", "Yilmaz", "Zhang",
)  # fmt: skip
PLACES = (
    "Altenbach", "Ashford", "Belmont", "Brookfield", "Cedarville", "Clayton", "Dunmore", "Eastwick", "Elmwood",
    "Fairview", "Glenwood", "Greenfield", "Harrow Hill", "Hillcrest", "Kingsbridge", "Lakeside", "Lindau Park",
    "Maplewood", "Marlow", "Milford", "Newbury", "Northgate", "Oakdale", "Pinehurst", "Riverton", "Rosewood",
    "Sandhaven", "Seaview", "Silverton", "Southport", "Stonebridge", "Summerfield", "Thornton", "Valley Park",
    "Waterford", "Westbrook", "Whitmore", "Winfield", "Woodside", "Yarrow",
)  # fmt: skip
AREAS = (201, 202, 203, 205, 206, 207, 208, 209, 210, 212, 213, 214, 215, 216, 217, 218, 219, 224, 225, 228, 229, 231)


def replace(row: Sequence[Searched]) -> list[str]:
    """Each value as a surrogate, the same for the same value within the row."""
    frame = "\x00".join(put(text, found, lambda _, kind: f"<{kind}>") for text, found in row)
    seed = int.from_bytes(hashlib.sha256(frame.encode("utf-8", "surrogatepass")).digest()[:8])
    taken = Surrogates(seed)
    names = {text[start:end] for text, found in row for start, end, kind in found if kind == "name"}
    # Whole names first, so that a first or a last name alone is known as part of one.
    for name in sorted(names, key=lambda each: (-len(each.split()), each)):
        taken.name_parts(name)
    return [put(text, found, taken.value) for text, found in row]


class Surrogates:
    """The surrogates of one row.

    Args:
        seed: Where in the lists they begin.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.given: dict[tuple[str, str], str] = {}
        self.count: dict[str, int] = {}

    def value(self, value: str, kind: Kind) -> str:
        """The surrogate of a value."""
        if kind == "name":
            return " ".join(self.name_parts(value))
        key = (kind, plain_value(value, kind))
        if key not in self.given:
            self.given[key] = make_surrogate(kind, self.seed + self._next(kind))
        return self.given[key]

    def name_parts(self, name: str) -> list[str]:
        """The surrogates of a name's words: of the last word a last name, if there are several."""
        words = plain_value(name, "name").split()
        parts = []
        for place, word in enumerate(words):
            is_last = len(words) > 1 and place == len(words) - 1
            if ("word", word) not in self.given:
                names = LAST if is_last else FIRST
                number = self._next("last" if is_last else "first")
                again = f" {number // len(names) + 1}" if number >= len(names) else ""
                self.given["word", word] = names[(self.seed + number) % len(names)] + again
            parts.append(self.given["word", word])
        return parts

    def _next(self, kind: str) -> int:
        number = self.count.get(kind, 0)
        self.count[kind] = number + 1
        return number


def make_surrogate(kind: Kind, number: int) -> str:
    """The ``number``-th value of a kind; it begins again after some hundreds or thousands."""
    from stdnum import iban, luhn

    if kind == "email":
        first, last = FIRST[number % len(FIRST)], LAST[number // 7 % len(LAST)]
        return f"{first}.{last}{number % 1000}@example.com".lower()
    if kind == "phone":
        return f"+1 {AREAS[number // 100 % len(AREAS)]}-555-{100 + number % 100:04}"
    if kind == "iban":
        account = f"99999999{number % 10**10:010}"
        return f"DE{iban.calc_check_digits(f'DE00{account}')}{account}"
    if kind == "card":
        digits = f"400000{number % 10**9:09}"
        return digits + luhn.calc_check_digit(digits)
    if kind == "ip":
        net = ("192.0.2", "198.51.100", "203.0.113")[number // 254 % 3]
        return f"{net}.{1 + number % 254}"
    if kind == "national_id":
        return f"987-65-43{20 + number % 10}"
    return PLACES[number % len(PLACES)]
