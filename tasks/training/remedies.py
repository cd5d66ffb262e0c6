"""What to change where memory is short: params, each with the bytes that it would save."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tasks.contracts.record import Record

SHOWN = 3


class Remedy(Record):
    """A change of params.

    Attributes:
        change: As ``params.yaml`` takes it, below ``training_setup``.
        saved_bytes: Of one process, predicted.
    """

    change: str
    saved_bytes: int


def choose_remedies(candidates: Iterable[Remedy]) -> tuple[Remedy, ...]:
    """Those that save most, at most three."""
    useful = sorted((one for one in candidates if one.saved_bytes > 0), key=lambda one: -one.saved_bytes)
    return tuple(useful[:SHOWN])


def describe_remedies(remedies: Sequence[Remedy]) -> str:
    """In words, as the end of a sentence."""
    if not remedies:
        return "take a smaller base or a machine with more memory"
    changes = [f"training_setup.{one.change} ({one.saved_bytes / 2**30:.2f} GiB less)" for one in remedies]
    return f"set {', or '.join(changes)}"
