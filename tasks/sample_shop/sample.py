"""The sample: conversations of the shop with planted defects, and the truth about every row."""

from __future__ import annotations

import random
from dataclasses import dataclass

import pyarrow as pa

from tasks.contracts.records import MESSAGES
from tasks.sample_shop.conversations import DuplicateFilter, SampleConversation, generate_unique_conversation
from tasks.sample_shop.dirt import COPIES, SHARES, Planted, plant_copies, plant_damage
from tasks.sample_shop.grammar import Intent
from tasks.sample_shop.intents import WEIGHTS, choose_intents

SCHEMA = pa.schema([pa.field("messages", MESSAGES), pa.field("intent", pa.string())])


@dataclass(frozen=True)
class SampleTruth:
    """What is known about the rows of a sample. Rows are counted from 1.

    Attributes:
        intents: All labels, sorted.
        dirt: Kind of defect to the rows that have it.
        copies: Row of a planted duplicate, near duplicate or leak to the clean row it copies.
        clean: Row of any other defect to its messages without the defect.
        detail: Row to what was planted: ``email:...``, a tag, the true label, the undamaged text.
    """

    intents: tuple[str, ...]
    dirt: dict[str, tuple[int, ...]]
    copies: dict[int, int]
    clean: dict[int, list[dict[str, str]]]
    detail: dict[int, str]


@dataclass(frozen=True)
class SampleData:
    """Raw rows and the truth about them."""

    table: pa.Table
    truth: SampleTruth


def generate_sample(rows: int, seed: int, dirt: bool = True, intents: int | None = None) -> SampleData:
    """Make the sample.

    Args:
        rows: Clean rows.
        seed: Seed of every choice; the same seed gives the same table.
        dirt: Plant defects as further rows between the clean ones.
        intents: Number of intents, the most frequent ones; None: all.

    Returns:
        The table in its raw shape (``messages``, ``intent``) and the truth.
    """
    rng = random.Random(f"sample {seed}")
    duplicates = DuplicateFilter()
    known = choose_intents(intents)
    clean = draw_conversations(rows, known, rng, duplicates)
    planted = plant_dirt(clean, known, duplicates, seed) if dirt else []
    everything: list[SampleConversation | Planted] = [*clean, *planted]
    order = list(range(len(everything)))
    if planted:
        random.Random(f"sample order {seed}").shuffle(order)
    row_of = {index: row for row, index in enumerate(order, 1)}
    found: dict[str, list[int]] = {kind: [] for kind in SHARES} if dirt else {}
    truth = SampleTruth(tuple(sorted(intent.name for intent in known)), {}, {}, {}, {})
    for index, item in enumerate(planted, rows):
        row = row_of[index]
        found[item.kind].append(row)
        if item.source is not None:
            truth.copies[row] = row_of[item.source]
        if item.clean is not None:
            truth.clean[row] = item.clean.turns()
        if item.detail:
            truth.detail[row] = item.detail
    truth.dirt.update({kind: tuple(sorted(numbers)) for kind, numbers in found.items()})
    written = [item.conversation if isinstance(item, Planted) else item for item in (everything[i] for i in order)]
    return SampleData(to_table(written), truth)


def draw_conversations(
    count: int, intents: tuple[Intent, ...], rng: random.Random, duplicates: DuplicateFilter
) -> list[SampleConversation]:
    drawn = rng.choices(intents, [WEIGHTS[intent.name] for intent in intents], k=count)
    return [generate_unique_conversation(intent, rng, duplicates) for intent in drawn]


def plant_dirt(
    clean: list[SampleConversation], intents: tuple[Intent, ...], duplicates: DuplicateFilter, seed: int
) -> list[Planted]:
    """The planted rows, in the order of `SHARES`."""
    rng = random.Random(f"sample dirt {seed}")
    free = list(range(len(clean)))
    rng.shuffle(free)
    names = tuple(intent.name for intent in intents)
    planted: list[Planted] = []
    for kind, share in SHARES.items():
        count = max(1, round(share * len(clean)))
        if kind in COPIES:
            planted += plant_copies(kind, count, clean, free, rng)
        else:
            extra = draw_conversations(count, intents, rng, duplicates)
            planted += [plant_damage(kind, number, row, names, rng) for number, row in enumerate(extra)]
    return planted


def to_table(conversations: list[SampleConversation]) -> pa.Table:
    messages = pa.array([conversation.turns() for conversation in conversations], type=MESSAGES)
    intents = pa.array([conversation.intent for conversation in conversations], type=pa.string())
    return pa.Table.from_arrays([messages, intents], schema=SCHEMA)
