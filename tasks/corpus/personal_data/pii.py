"""Personal data, out of every text and label of a row.

A finder says where it stands: `patterns` (built in, fast) or `presidio` (the extra ``pii``; national ids too, and with
a spaCy model names and places). What a finder does not cover stands in its file. ``mode`` says what happens to it:

* ``redact``: its kind stands there, ``<email>``.
* ``replace``: a made-up value of the same kind, the same for the same value within a row.
* ``hash``: its kind and a keyed hash, ``<email:kbnadjhgpmoc>``, the same in all rows. The key is the environment
  variable ``HEPTUNE_PII_KEY``; DVC does not see it, so pin it with ``key_id``.
* ``drop``: the row goes.

Whatever the mode, the quarantine and the report show redacted texts only. The step stands behind those that bring
text to light (`unicode`, `controls`, `html`, `whitespace`).

Example:
    ``{name: pii, mode: replace}`` makes ``Write to ann@example.org`` into ``Write to mika.vega281@example.com``.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from dataclasses import replace as replace_fields
from itertools import count
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, SecretStr

from tasks.contracts.errors import PipelineError
from tasks.contracts.params import Section
from tasks.corpus.personal_data.found import Finder
from tasks.corpus.personal_data.patterns import Patterns
from tasks.corpus.personal_data.presidio import Presidio

if TYPE_CHECKING:
    import pyarrow as pa

    from tasks.corpus.personal_data.treatments import Searched, Treatment
    from tasks.corpus.rows.leaves import Owners
    from tasks.corpus.rows.rows import Listing
    from tasks.corpus.rows.texts import Cleaned

KEY = "HEPTUNE_PII_KEY"
MIN_KEY_CHARACTERS = 16
PLACES = ("source", "file", "row")
Place = tuple[int, int]

AnyFinder = Annotated[Patterns | Presidio, Field(discriminator="name")]


class Pii(Section):
    """Takes personal data out."""

    name: Literal["pii"] = "pii"
    finder: AnyFinder = Patterns()
    mode: Literal["redact", "replace", "hash", "drop"] = Field(default="redact", description="what happens to it")
    key_id: str = Field(
        default="", description=f"of the {KEY} that mode hash expects, as the report shows it; any key when empty"
    )

    def clean(self, table: pa.Table, key: SecretStr | None = None) -> Cleaned:
        """Take personal data out of all texts of the rows.

        Args:
            table: The rows; columns that they only carry along stay as they are.
            key: For mode ``hash``.

        Raises:
            PipelineError: Mode ``hash`` without a key, with a short or with another one than expected.
        """
        from tasks.corpus.rows.rows import CARRIED
        from tasks.corpus.rows.texts import Cleaned, pick_examples

        treat, note = self._choose_treatment(key)
        names = [n for n in table.column_names if n not in PLACES and not n.startswith(CARRIED)]
        columns = {name: table[name].combine_chunks() for name in names}
        found = search(columns.values(), self.finder)
        if not found.by_row:
            return Cleaned(table, listings=(_list_found(found, self.finder.name, note),))
        texts = {
            place: text
            for places in found.by_row.values()
            for place, text in zip(places, treat([found.texts[place] for place in places]), strict=True)
        }
        for name, column in put_back(columns, texts).items():
            index = table.schema.get_field_index(name)
            table = table.set_column(index, table.schema.field(index), column)
        reasons: list[str | None] | None = None
        if self.mode == "drop":
            reasons = [None] * table.num_rows
            for row, places in found.by_row.items():
                kinds = sorted({each.kind for place in places for each in found.texts[place][1]})
                reasons[row] = f"personal data ({', '.join(kinds)})"
        old = [found.texts[place][0] for place in texts]
        return Cleaned(
            table,
            reasons,
            0 if reasons else len(found.by_row),
            () if reasons else pick_examples(old, list(texts.values()), show_before=False),
            {f"found_{kind}": count for kind, count in sorted(found.counts.items())},
            (_list_found(found, self.finder.name, note),),
        )

    def join_listings(self, parts: Sequence[tuple[Listing, ...]], rows: int) -> tuple[Listing, ...]:
        """Merge the listings of several parts."""
        found: Counter[str] = Counter()
        rows_with: Counter[str] = Counter()
        for listing in (listing for part in parts for listing in part):
            for kind, occurrences, row_count in listing.rows:
                found[str(kind)] += int(occurrences)
                rows_with[str(kind)] += int(row_count)
        return (
            replace_fields(parts[0][0], rows=tuple((kind, found[kind], rows_with[kind]) for kind in sorted(found))),
        )

    def scrub(self, texts: Sequence[str]) -> list[str]:
        """Texts of the quarantine and the report without personal data: its kind stands there, whatever the mode."""
        import pyarrow as pa

        from tasks.corpus.personal_data.treatments import redact

        read = pa.array(texts, pa.string())
        found = search([read], self.finder)
        clean = {place: redact([found.texts[place]])[0] for places in found.by_row.values() for place in places}
        scrubbed: list[str] = put_back({"": read}, clean)[""].to_pylist()
        return scrubbed

    def _choose_treatment(self, key: SecretStr | None) -> tuple[Treatment, str]:
        from tasks.corpus.personal_data.surrogates import replace
        from tasks.corpus.personal_data.treatments import Pseudonyms, redact, sign

        if self.mode != "hash":
            return (replace if self.mode == "replace" else redact), ""
        secret = key.get_secret_value().encode() if key else b""
        if len(secret) < MIN_KEY_CHARACTERS:
            raise PipelineError(
                f"pii: mode hash needs a key of {MIN_KEY_CHARACTERS} characters or more in the environment variable "
                f"{KEY}, found {len(secret)}; set it (openssl rand -hex 32), or choose another mode"
            )
        key_id = sign(secret, KEY)[:8]
        if self.key_id not in ("", key_id):
            raise PipelineError(
                f"pii: {KEY} holds the key {key_id}, key_id names {self.key_id}; set the right key, "
                "or change key_id if new pseudonyms are wanted"
            )
        return Pseudonyms(secret), f"Hashed with the key {key_id}."


@dataclass(frozen=True)
class Search:
    """What a finder found in columns.

    Attributes:
        texts: Place of a text (number of the array of texts, index in it) to the text and what is in it.
        by_row: Row to the places of its texts that hold something, in the order of the columns.
        counts: Kind to how often it was found.
    """

    texts: dict[Place, Searched]
    by_row: dict[int, list[Place]]
    counts: Counter[str]


def search(columns: Iterable[pa.Array], finder: Finder) -> Search:
    """Search all texts of the given columns for personal data."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    from tasks.corpus.rows.leaves import visit_texts

    arrays: list[tuple[pa.Array, Owners]] = []

    def collect(array: pa.Array, owners: Owners) -> pa.Array:
        arrays.append((array, owners))
        return array

    for column in columns:
        visit_texts(column, collect)
    numbers: list[int] = []
    spots: list[int] = []
    rows: list[int] = []
    contents: list[str] = []
    for number, (array, owners) in enumerate(arrays):
        filled = pc.fill_null(array, "")
        places = np.flatnonzero(np.asarray(finder.screen(filled)))
        numbers += [number] * len(places)
        spots += places.tolist()
        rows += owners[places].tolist()
        contents += filled.take(pa.array(places)).to_pylist()
    found = Search({}, {}, Counter())
    for index, each in enumerate(finder.find(contents)):
        if each:
            place = (numbers[index], spots[index])
            found.texts[place] = (contents[index], each)
            found.by_row.setdefault(rows[index], []).append(place)
            found.counts.update(one.kind for one in each)
    return found


def put_back(columns: Mapping[str, pa.Array], texts: Mapping[Place, str]) -> dict[str, pa.Array]:
    """The columns with the texts at the given places replaced."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    from tasks.corpus.rows.leaves import visit_texts

    numbers = count()

    def replace_texts(array: pa.Array, _: Owners) -> pa.Array:
        number = next(numbers)
        replacements = {place: text for (array_number, place), text in texts.items() if array_number == number}
        if not replacements:
            return array
        mask = np.zeros(len(array), dtype=bool)
        mask[list(replacements)] = True
        return pc.replace_with_mask(
            array, pa.array(mask), pa.array([replacements[p] for p in sorted(replacements)], array.type)
        )

    return {name: visit_texts(column, replace_texts) for name, column in columns.items()}


def _list_found(found: Search, finder: str, note: str) -> Listing:
    from tasks.corpus.rows.rows import Listing

    rows: defaultdict[str, set[int]] = defaultdict(set)
    for row, places in found.by_row.items():
        for place in places:
            for each in found.texts[place][1]:
                rows[each.kind].add(row)
    listed = tuple((kind, found.counts[kind], len(rows[kind])) for kind in sorted(rows))
    return Listing(f"Personal data found, by {finder}", ("kind", "found", "rows"), listed, note)
