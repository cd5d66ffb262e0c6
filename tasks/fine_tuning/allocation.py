"""How glibc's allocator serves a training, so that the peak of memory is known beforehand.

It serves blocks below a threshold from its heap, and raises that threshold, up to 32 MiB, to the size of whatever large
block was freed (mallopt(3), M_MMAP_THRESHOLD). Activations and logits then lie in the heap, of changing size and
between longer-lived blocks, so that much of what is freed stays, and more with every step: the resident peak of a
training of 10 million weights was 40% above what is in use after ten steps, and 85% after a hundred. With the threshold
fixed every larger block is mapped on its own, and unmapped when it is freed. Pages of 2 MiB, which PyTorch asks the
system for where ``THP_MEM_ALLOC_ENABLE`` says so, make that about as fast as the heap; smaller blocks cost time.
"""

from __future__ import annotations

import ctypes
import sys

from tasks.training.memory import SMALLEST_MAPPED

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
SMALLEST_GIVEN_BACK = 128 * 1024  # bytes; glibc's own beginning


def settle_allocation(give_back: bool) -> None:
    """Fix the threshold for this process and those that it forks; of another C library nothing is asked.

    Args:
        give_back: Map small blocks too, so that all that is freed goes back to the system at once.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        smallest = SMALLEST_GIVEN_BACK if give_back else SMALLEST_MAPPED
        mallopt(M_MMAP_THRESHOLD, smallest)
        mallopt(M_TRIM_THRESHOLD, smallest)
