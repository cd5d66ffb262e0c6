"""``method: {name: auto}``: method, quantisation, checkpointing and distribution, the first of a list that fits.

The order is that of quality, then of speed:

1. full fine-tuning, of bases below 100 million weights alone: they are small enough, and what low rank leaves out
   shows; larger ones forget less, and learn as much from usual amounts of data, with LoRA (Schulman et al. 2025, "LoRA
   Without Regret");
2. LoRA over the base in the precision of the computation;
3. LoRA over the base in 4 bits (NF4), which rounds it and is slower.

In each of them, where there are several accelerators, all of them are used: as plain copies (``ddp``), then with
shared gradients and optimizer states (``zero``, stage 2), then with shared weights (stage 3), each of which talks more.
Each is tried without gradient checkpointing, then with it, which costs a quarter of the speed. A key that params set is
never changed.

Fits means: a batch of one row (or of ``batch_size``, where that is set) takes at most 80% of the memory, and nothing
else is refused. Where nothing fits, the smallest is planned, and so refused with what it needs.

Example: 8 billion weights on a card of 16 GiB: the weights alone are 16 GB in bf16, so NF4 is taken; on 80 GiB, LoRA
over bf16 without checkpointing.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tasks.contracts.params import Section


class Auto(Section):
    """Take the first method, quantisation, distribution and checkpointing that fit the memory."""

    name: Literal["auto"] = "auto"
    rank: int = Field(default=32, ge=1, description="inner dimension of the updates, where LoRA is taken")
