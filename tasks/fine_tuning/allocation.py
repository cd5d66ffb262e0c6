"""Blocks of memory that are given back to the system when they are freed, so that the peak is what is in use.

glibc's allocator serves blocks below a threshold from its heap and raises that threshold, up to 32 MiB, to the size of
whatever large block was freed (mallopt(3), M_MMAP_THRESHOLD). Activations and logits then lie in the heap, of changing
size and between longer-lived blocks, so that much of what is freed stays: the resident peak of trainings of 2 to 10
million weights was 25 to 100% above what was in use. With the threshold fixed every larger block is mapped on its own,
and unmapped when it is freed.
"""

from __future__ import annotations

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
SMALLEST_MAPPED = 128 * 1024  # bytes; glibc's own beginning


def map_large_blocks() -> None:
    """Fix the threshold for this process and those that it forks; of another C library nothing is asked."""
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, SMALLEST_MAPPED)
        mallopt(M_TRIM_THRESHOLD, SMALLEST_MAPPED)
