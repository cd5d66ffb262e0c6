"""Conversations of one to three customer turns, with every answer determined by the turns before it."""

# Word lists are easier to read as running text.
# ruff: noqa: SIM905
from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import ceil
from typing import TypeVar

from tasks.sample_shop.grammar import (
    SHOP,
    SLOT,
    Intent,
    compose,
    expand,
    phrase,
    pick_register,
    punctuate,
    scribble,
)
from tasks.sample_shop.intents import BY_NAME, FOLLOW_UPS_BY_INTENT
from tasks.sample_shop.slots import Slots, draw_slots

T = TypeVar("T")
Turn = dict[str, str]
Shingles = frozenset[tuple[str, ...]]
Reword = Callable[[str, random.Random], str]

MULTI_TURN_SHARE = 0.165
SYSTEM_SHARE = 0.10
MAXIMUM_SIMILARITY = 0.65
SYSTEMS = (
    f"You are the help desk of {SHOP}, a shop for outdoor and home gear.",
    f"You answer customers of {SHOP}. Be brief and friendly.",
    f"{SHOP} customer care. Answer in two short sentences.",
    f"You work for the online shop {SHOP}.",
    "You help customers of a shop for outdoor and home gear.",
    f"Support chat of {SHOP}. Stay polite.",
)
ASK_ORDER = "I will gladly look into that. Please send me your order number first."
GIVE_ORDER = (
    "it is {order}.", "{order}", "order {order}.", "sure, {order}.", "the number is {order}.", "here it is: {order}",
    "that would be {order}.", "my order number is {order}.", "{order}, I hope that is right.", "I found it: {order}.",
)  # fmt: skip
SECOND_ORDERS = (
    "and order {order}?", "the same for order {order}, please.", "I have a second one: {order}.",
    "could you do the same for {order}?", "what about order {order}?", "and now for {order}.",
)  # fmt: skip
# Follow-ups with a second value for one slot of the same request: slot, intents, wordings.
SECOND_VALUES: tuple[tuple[str, frozenset[str], tuple[str, ...]], ...] = (
    ("order", frozenset("track_order not_received cancel_order express_upgrade return_label return_received "
                        "invoice_copy gift_wrap".split()), SECOND_ORDERS),
    ("product", frozenset("return_window repair_service restock_alert care_instructions waterproof "
                          "assembly_help stock_check bulk_order".split()),
     ("and the {product}?", "what about the {product}?", "the same for the {product}, please.",
      "I have the same question about the {product}.", "does that hold for the {product} too?")),
    ("city", frozenset({"change_address", "pickup_point"}),
     ("sorry, I meant {city}.", "no, {city} would be better.", "wait, make that {city}.")),
    ("city", frozenset({"delivery_time"}), ("and to {city}?", "what about {city}?", "how is it for {city}?")),
    ("day", frozenset({"reschedule_delivery"}),
     ("sorry, {day} is better after all.", "no, make it {day}.", "my mistake, I meant {day}.")),
    ("colour", frozenset({"stock_check"}), ("and in {colour}?", "what about {colour}?", "or in {colour}?")),
    ("size", frozenset({"exchange_size"}), ("sorry, I meant {size}.", "no, {size} is safer.", "or rather {size}.")),
    ("method", frozenset({"payment_method"}), ("and {method}?", "or {method}?", "what about {method}?")),
    ("card", frozenset({"gift_card_balance"}), ("and card {card}?", "I have another one, {card}.")),
    ("amount", frozenset({"instalments"}), ("and for {amount}?", "what if it is {amount}?")),
    ("code", frozenset({"voucher_rejected"}), ("and {code}?", "the code {code} fails as well.")),
    ("carrier", frozenset({"choose_carrier"}), ("or rather {carrier}.", "sorry, {carrier} is better.")),
    ("company", frozenset({"company_invoice"}), ("sorry, it must say {company}.", "no, {company} is the right name.")),
)  # fmt: skip
LEADS = ("", "", "", "ok, ", "thanks, ", "I see, ", "alright, ", "hm, ", "good, ", "oh, ")


@dataclass(frozen=True)
class SampleConversation:
    """Messages of one row, as (role, content) pairs, and the intent of its last answer."""

    messages: tuple[tuple[str, str], ...]
    intent: str

    def turns(self) -> list[Turn]:
        return [{"role": role, "content": content} for role, content in self.messages]


@dataclass(frozen=True)
class Scene:
    """Settings of generation; drifted traffic replaces parts of them.

    Attributes:
        lines: Product lines to choose from; None: those of the intent.
        cores: Intent to wordings that replace its own.
        reword: Rewrites a user turn before its slots are filled.
    """

    lines: tuple[str, ...] | None = None
    cores: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    reword: Reword | None = None


PLAIN = Scene()


class ConversationBuilder:
    """Builds the conversation of one customer, who writes in one register."""

    def __init__(self, scene: Scene, line: str, rng: random.Random) -> None:
        self.turns: list[tuple[str, str]] = []
        self._scene, self._line, self._rng = scene, line, rng
        self._slots: Slots = {"line": line}
        self._register = pick_register(rng)
        if rng.random() < SYSTEM_SHARE:
            self.turns.append(("system", rng.choice(SYSTEMS)))

    def _add_user_turn(self, text: str) -> None:
        reworded = self._scene.reword(text, self._rng) if self._scene.reword else text
        self.turns.append(("user", scribble(reworded, self._register, self._rng).format_map(self._slots)))

    def _add_answer(self, text: str) -> None:
        self.turns.append(("assistant", text))

    def add_request(self, intent: Intent, complete: bool = True) -> None:
        """Add the first request and its answer; an incomplete one gives the order number only when asked for it."""
        self._slots = draw_slots(intent.slots, self._line, self._rng)
        cores = self._scene.cores.get(intent.name, intent.cores)
        core = self._rng.choice(cores)
        without = tuple(slot for slot in intent.slots if slot != "order")
        for _ in range(0 if complete else 8):
            request = phrase(core, self._rng)
            if "{order}" not in request:
                self._add_user_turn(compose(request, intent.name, without, self._register, self._rng))
                self._add_answer(ASK_ORDER)
                self._add_user_turn(punctuate(self._rng.choice(GIVE_ORDER)))
                break
            core = self._rng.choice(cores)
        else:
            self._add_user_turn(compose(core, intent.name, intent.slots, self._register, self._rng))
        self._add_answer(intent.reply(self._slots))

    def add_follow_up(self, core: str, intent: Intent) -> None:
        """Add a follow-up and its answer; slots it does not name keep their values."""
        named = [name[1:-1] for name in SLOT.findall(core)]
        self._slots = {**self._slots, **draw_slots(named, self._line, self._rng)}
        self._add_user_turn(punctuate(self._rng.choice(LEADS) + expand(core, self._rng)))
        self._add_answer(intent.reply(self._slots))


def generate_conversation(intent: Intent, rng: random.Random, scene: Scene = PLAIN) -> SampleConversation:
    """One conversation whose last answer belongs to ``intent``."""
    follows = FOLLOW_UPS_BY_INTENT.get(intent.name, ())
    second_values = [(slot, wordings) for slot, names, wordings in SECOND_VALUES if intent.name in names]
    kinds = (
        ["incomplete"] * ("order" in intent.slots)
        + ["follow"] * (2 * bool(follows))
        + ["second value"] * bool(second_values)
    )
    kind = rng.choice(kinds) if kinds and rng.random() < MULTI_TURN_SHARE else "single"
    if kind == "follow":
        link = rng.choice(follows)
        first = BY_NAME[rng.choice(link.earlier)]
        lines = scene.lines or tuple(line for line in first.lines if line in intent.lines)
        builder = ConversationBuilder(scene, rng.choice(lines), rng)
        builder.add_request(first, complete="order" not in first.slots or rng.random() < 0.8)
        builder.add_follow_up(rng.choice(link.cores), intent)
    else:
        builder = ConversationBuilder(scene, rng.choice(scene.lines or intent.lines), rng)
        builder.add_request(intent, complete=kind != "incomplete")
        if kind == "second value":
            builder.add_follow_up(rng.choice(rng.choice(second_values)[1]), intent)
    return SampleConversation(tuple(builder.turns), intent.name)


def shingles(messages: tuple[tuple[str, str], ...], width: int = 3) -> Shingles:
    """Word n-grams of the whole conversation, lower case, without punctuation."""
    words = re.findall(r"\w+", " ".join(content for role, content in messages if role != "system").lower())
    return frozenset(zip(*(words[i:] for i in range(width)), strict=False))


def jaccard(a: frozenset[T], b: frozenset[T]) -> float:
    """Jaccard similarity: size of the intersection over size of the union."""
    shared = len(a & b)
    union = len(a) + len(b) - shared
    return shared / union if union else 1.0


class DuplicateFilter:
    """Rejects near-duplicates of earlier conversations.

    Exact, but compares few pairs: sets with a similarity of at least t share one of the first
    ``size - ceil(t * size) + 1`` members under any fixed order, here the newest first, since those are rare
    (prefix filter of Chaudhuri, Ganti and Kaushik, 2006).
    """

    def __init__(self) -> None:
        self._numbers: dict[tuple[str, ...], int] = {}
        self._accepted: list[frozenset[int]] = []
        self._index: dict[int, list[int]] = {}

    def accept(self, conversation: SampleConversation) -> bool:
        numbers = self._numbers
        own = frozenset([numbers.setdefault(s, len(numbers)) for s in sorted(shingles(conversation.messages))])
        prefix = sorted(own, reverse=True)[: len(own) - ceil(MAXIMUM_SIMILARITY * len(own)) + 1]
        near = {row for number in prefix for row in self._index.get(number, ())}
        if any(jaccard(own, self._accepted[row]) >= MAXIMUM_SIMILARITY for row in near):
            return False
        for number in prefix:
            self._index.setdefault(number, []).append(len(self._accepted))
        self._accepted.append(own)
        return True


def generate_unique_conversation(
    intent: Intent, rng: random.Random, duplicates: DuplicateFilter, scene: Scene = PLAIN
) -> SampleConversation:
    """A conversation that is no near-duplicate of earlier ones; after 50 attempts, the last one in any case."""
    conversation = generate_conversation(intent, rng, scene)
    for _ in range(50):
        if duplicates.accept(conversation):
            break
        conversation = generate_conversation(intent, rng, scene)
    return conversation
