"""SampleTraffic for a released model, with a known share of drift and the right answer to every request."""

from __future__ import annotations

import random
from collections.abc import Collection
from dataclasses import dataclass

from tasks.contracts.errors import raise_all
from tasks.sample_shop.conversations import (
    PLAIN,
    DuplicateFilter,
    SampleConversation,
    Scene,
    Turn,
    generate_unique_conversation,
)
from tasks.sample_shop.drift import (
    ELECTRIC_CORES,
    KINDS,
    NEW_INTENTS,
    SHIFTED_WEIGHTS,
    talk_slang,
)
from tasks.sample_shop.grammar import Intent
from tasks.sample_shop.intents import BY_NAME, WEIGHTS, choose_intents

SLANG_BESIDE = 0.35
ELECTRIC_WORDING = 0.85


@dataclass(frozen=True)
class SampleTraffic:
    """Requests, one entry per row in every field.

    Attributes:
        prompts: Messages up to the last customer turn.
        answers: The right answers.
        intents: Their intents; drifted rows may carry ones that the sample does not have.
        kinds: Kinds of drift that apply to the row; empty where it is as in the sample.
    """

    prompts: tuple[list[Turn], ...]
    answers: tuple[str, ...]
    intents: tuple[str, ...]
    kinds: tuple[tuple[str, ...], ...]


def generate_traffic(
    count: int, seed: int, drift: float = 0.0, kinds: Collection[str] = KINDS, intents: int | None = None
) -> SampleTraffic:
    """Draw requests as the sample's customers make them, a share of them drifted.

    Args:
        count: Requests.
        seed: Seed of every choice.
        drift: Share of drifted requests, 0 to 1; exactly ``round(count * drift)`` of them.
        kinds: Which drifts take place, in equal parts: ``products`` (electric goods, asked about in their
            own words), ``intents`` (six services that the sample does not know), ``slang`` (also over a part
            of the other kinds), ``mix`` (six times as many questions about money and accounts).
        intents: Number of intents of the sample, the most frequent ones; None: all.

    Returns:
        The requests, in the order they arrive.

    Raises:
        PipelineError: ``count``, ``drift`` or ``kinds`` is out of range.
    """
    chosen = check_request(count, drift, kinds)
    known = choose_intents(intents)
    rng = random.Random(f"traffic {seed}")
    drifted = round(count * drift)
    plan = [chosen[i % len(chosen)] if i < drifted else "" for i in range(count)]
    rng.shuffle(plan)
    duplicates = DuplicateFilter()
    rows: list[SampleConversation] = []
    applied: list[tuple[str, ...]] = []
    for kind in plan:
        row, row_kinds = draw_request(kind, "slang" in chosen, known, rng, duplicates)
        rows.append(row)
        applied.append(row_kinds)
    turns = [row.turns() for row in rows]
    return SampleTraffic(
        prompts=tuple(row[:-1] for row in turns),
        answers=tuple(row[-1]["content"] for row in turns),
        intents=tuple(row.intent for row in rows),
        kinds=tuple(applied),
    )


def check_request(count: int, drift: float, kinds: Collection[str]) -> tuple[str, ...]:
    """The kinds in a fixed order, once everything asked for is possible."""
    problems: list[str] = []
    if count < 0:
        problems.append(f"traffic: count {count}; expected 0 or more")
    if not 0.0 <= drift <= 1.0:
        problems.append(f"traffic: drift {drift}; expected a share from 0 to 1")
    unknown = sorted(set(kinds) - set(KINDS))
    if unknown:
        problems.append(f"traffic: unknown kinds of drift {', '.join(unknown)}; choose from {', '.join(KINDS)}")
    if drift > 0 and not kinds:
        problems.append(f"traffic: drift {drift} without a kind; choose from {', '.join(KINDS)}, or set drift to 0")
    raise_all(problems, "traffic")
    return tuple(kind for kind in KINDS if kind in kinds)


def draw_request(
    kind: str, slang: bool, known: tuple[Intent, ...], rng: random.Random, duplicates: DuplicateFilter
) -> tuple[SampleConversation, tuple[str, ...]]:
    """One request of this kind of drift ("" for none) about known intents, and all kinds that apply to it."""
    if not kind:
        return generate_unique_conversation(draw_intent(known, WEIGHTS, rng), rng, duplicates), ()
    beside = slang and kind != "slang" and rng.random() < SLANG_BESIDE
    kinds = (kind, "slang") if beside else (kind,)
    reword = talk_slang if "slang" in kinds else None
    if kind == "products":
        names = [intent.name for intent in known]
        electric = [name for name in ELECTRIC_CORES if name in names] or [*ELECTRIC_CORES]
        intent = BY_NAME[rng.choice(electric)]
        cores = ELECTRIC_CORES if rng.random() < ELECTRIC_WORDING else PLAIN.cores
        scene = Scene(lines=("electric",), cores=cores, reword=reword)
    elif kind == "intents":
        intent, scene = rng.choice(NEW_INTENTS), Scene(reword=reword)
    else:
        weights = SHIFTED_WEIGHTS if kind == "mix" else WEIGHTS
        intent, scene = draw_intent(known, weights, rng), Scene(reword=reword)
    return generate_unique_conversation(intent, rng, duplicates, scene), kinds


def draw_intent(intents: tuple[Intent, ...], weights: dict[str, float], rng: random.Random) -> Intent:
    return rng.choices(intents, [weights[intent.name] for intent in intents])[0]
