"""Choices that params offer and the plan repeats."""

from __future__ import annotations

from typing import Literal

Schedule = Literal["linear", "cosine", "constant"]

Packing = Literal["none", "bfd"]
