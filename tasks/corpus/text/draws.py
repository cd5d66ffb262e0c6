"""Draws that depend on a key alone, so that no other row can move them."""

from __future__ import annotations

import hashlib


def draw(purpose: str, seed: int, key: str) -> float:
    """A number in [0, 1) that depends on nothing else."""
    return int.from_bytes(hash_key(purpose, seed, key)) / 2**64


def hash_key(purpose: str, seed: int, key: str) -> bytes:
    """The first eight bytes of the SHA-256 of purpose, seed and key."""
    return hashlib.sha256(f"{purpose}\0{seed}\0{key}".encode()).digest()[:8]
