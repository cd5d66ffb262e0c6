"""All intents of the sample, their frequencies, and their follow-up questions."""

# One request a line.
# ruff: noqa: E501, SIM905
from __future__ import annotations

from dataclasses import dataclass

from tasks.sample_shop.grammar import Intent
from tasks.sample_shop.orders import ORDERS
from tasks.sample_shop.payments import PAYMENTS
from tasks.sample_shop.products import PRODUCTS
from tasks.sample_shop.returns import RETURNS

INTENTS: tuple[Intent, ...] = (*ORDERS, *RETURNS, *PAYMENTS, *PRODUCTS)
BY_NAME: dict[str, Intent] = {intent.name: intent for intent in INTENTS}

POPULAR = frozenset(
    "track_order late_delivery cancel_order change_address return_item refund_status damaged_item stock_check "
    "invoice_copy warranty_claim".split()
)
WEIGHTS: dict[str, float] = {intent.name: 1.8 if intent.name in POPULAR else 1.0 for intent in INTENTS}


@dataclass(frozen=True)
class FollowUp:
    """A question that depends on the one before it.

    Attributes:
        earlier: Intents it may follow.
        later: The intent it then has.
        cores: Ways to ask; slots they lack are taken from the earlier turn.
    """

    earlier: tuple[str, ...]
    later: str
    cores: tuple[str, ...]


def follow(earlier: str, later: str, *cores: str) -> FollowUp:
    return FollowUp(tuple(earlier.split()), later, cores)


FOLLOW_UPS: tuple[FollowUp, ...] = (
    follow("track_order late_delivery express_upgrade add_item", "cancel_order",
           "then cancel it.", "that is too late for me, please stop it.", "in that case I do not want it any more.",
           "can I still call it off?", "(we|I) changed our minds, please do not send it."),
    follow("track_order late_delivery express_upgrade gift_wrap", "change_address",
           "(can|could) it go to {city} instead?", "please send it to my (office|parents) in {city}.",
           "I will be in {city} by then, (send it there|can you forward it)."),
    follow("track_order change_address late_delivery express_upgrade", "reschedule_delivery",
           "could it come on {day} then?", "I am out that day, {day} is better.", "please make it {day}."),
    follow("track_order gift_wrap change_address add_item", "express_upgrade",
           "can you make it faster?", "I need it sooner than that.", "and if I pay for express?"),
    follow("track_order late_delivery express_upgrade", "pickup_point",
           "could I collect it in {city}?", "I would rather pick it up in {city}.", "is there a locker in {city} for it?"),
    follow("track_order change_address express_upgrade", "choose_carrier",
           "can {carrier} bring it?", "please hand it to {carrier}.", "I hope it comes with {carrier}, can you see to that?"),
    follow("track_order late_delivery reschedule_delivery", "not_received",
           "it now says delivered, but nothing is here.", "the link shows delivered and I have no parcel.",
           "the tracking says it is at my door, it is not."),
    follow("add_item express_upgrade change_address pickup_point", "gift_wrap",
           "could you wrap it as well?", "it is a present, can it be wrapped?", "with nice paper around it, please."),
    follow("cancel_order gift_wrap add_item return_item loyalty_points", "invoice_copy",
           "and can I have the invoice for it?", "I also need the receipt.", "please mail me the bill for that one."),
    follow("invoice_copy", "company_invoice",
           "it should be made out to {company}.", "(put|write) {company} on it, please.", "can it carry the name {company}?"),
    follow("cancel_order gift_wrap return_received express_upgrade", "loyalty_points",
           "and the {points} points for it?", "I am still missing {points} points for it."),
    follow("damaged_item wrong_item missing_item", "return_item",
           "I want to send it back, please.", "I would rather return the thing.", "can I give it back instead?"),
    follow("return_item damaged_item", "return_label",
           "the label never came.", "I have no label here, please send it.", "where do I get the sticker for it?"),
    follow("return_item return_label", "return_received",
           "I posted it some days ago, is it there?", "it should be with you by now, have you got it?"),
    follow("double_charge", "refund_status",
           "it has been weeks and I see no money.", "when will it be on my account?"),
    follow("refund_status double_charge", "refund_as_credit",
           "can I have it as shop credit instead?", "a voucher for it would be fine too."),
    follow("payment_declined", "payment_method",
           "can I use {method} then?", "would {method} work?", "what about {method}?"),
    follow("care_instructions waterproof stock_check spare_part", "return_window",
           "and how long can I give it back?", "until when could I return it?"),
    follow("warranty_claim care_instructions return_window", "repair_service",
           "can you mend it then?", "what would a repair cost?", "does your workshop take it?"),
    follow("warranty_claim repair_service care_instructions", "spare_part",
           "I only need the {part}.", "do you sell the {part} for it?", "is the {part} sold on its own?"),
    follow("return_window waterproof bulk_order care_instructions", "restock_alert",
           "it is sold out now, tell me when it is back.", "I see none left, when does it return?"),
    follow("restock_alert waterproof return_window care_instructions", "stock_check",
           "do you have it in {colour}?", "is there one in {colour}?", "I want it in {colour}, any left?"),
    follow("waterproof return_window stock_check", "care_instructions",
           "and how do I clean it?", "what if it gets dirty?", "can I put it in the machine?"),
    follow("stock_check care_instructions return_window", "waterproof",
           "can it stay out in the rain?", "does water harm it?"),
    follow("stock_check waterproof care_instructions", "bulk_order",
           "and if I take {count} pieces?", "what would {count} of them cost?"),
    follow("repair_service stock_check", "assembly_help",
           "and how do I put it together?", "is it hard to build?"),
    follow("return_window stock_check", "exchange_size",
           "mine does not fit, may I have size {size}?", "I need it in size {size}, can we swap?"),
    follow("password_reset newsletter_stop", "delete_account",
           "then forget it, remove my account.", "then delete everything about me."),
    follow("delete_account password_reset", "newsletter_stop",
           "keep the account, only stop the e-mails.", "and no more newsletters, please."),
)  # fmt: skip
FOLLOW_UPS_BY_INTENT: dict[str, tuple[FollowUp, ...]] = {
    intent.name: tuple(link for link in FOLLOW_UPS if link.later == intent.name) for intent in INTENTS
}


def choose_intents(count: int | None) -> tuple[Intent, ...]:
    """The most frequent intents, those of one frequency in their order; all of them for None."""
    if count is None:
        return INTENTS
    frequent = sorted(INTENTS, key=lambda intent: -WEIGHTS[intent.name])[:count]
    return tuple(intent for intent in INTENTS if intent in frequent)
