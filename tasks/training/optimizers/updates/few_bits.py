"""bitsandbytes' AdamW, with embeddings in 32 bits."""

from __future__ import annotations

from typing import Any

from bitsandbytes.optim.adamw import AdamW


class FewBitAdamW(AdamW):
    """AdamW of 8 or 32 bits, paged or not.

    bitsandbytes keeps such exceptions in one table for the whole process, by the address of a tensor; here they follow
    from the group, so that two trainings in one process do not meet.

    Args:
        groups: With ``params``, ``lr``, ``weight_decay`` and ``part``.
        betas: Of the moments.
        epsilon: Beside the root of the second moment.
        bits: Of each number of the moments.
        paged: Keep them in memory that moves between GPU and host; without a meaning for weights on the CPU.
    """

    def __init__(
        self, groups: list[dict[str, Any]], betas: tuple[float, float], epsilon: float, bits: int, paged: bool
    ) -> None:
        # On a CPU bitsandbytes warns of every weight; the plan has said so once.
        pages = paged and any(one.is_cuda for group in groups for one in group["params"])
        super().__init__(  # type: ignore[no-untyped-call]
            groups, betas=betas, eps=epsilon, weight_decay=0.0, optim_bits=bits, is_paged=pages
        )

    def get_config(self, gindex: int, pindex: int, group: dict[str, Any]) -> dict[str, Any]:
        config: dict[str, Any] = super().get_config(gindex, pindex, group)  # type: ignore[no-untyped-call]
        return {**config, "optim_bits": 32} if group["part"] == "embedding" else config
