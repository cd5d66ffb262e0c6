"""What a plan chooses among where a choice is no more than a name."""

from __future__ import annotations

from typing import Literal

Packing = Literal["none", "bfd"]
Precision = Literal["bf16", "fp16", "fp32"]
WeightType = Literal["auto", "bf16", "fp16", "fp32"]  # auto until it is resolved

# Tokens of a batch in validation, about.
VALIDATION_TOKENS = 2048
