"""Blocks that were freed between blocks in use stay in the heap, unless they are mapped on their own."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from tests.checkout import ROOT

# A block that is freed raises the threshold above the size of those that follow; every second of them is freed.
WORK = """
import gc, sys
from pathlib import Path
from tasks.fine_tuning.allocation import map_large_blocks

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4

if sys.argv[1] == "mapped":
    map_large_blocks()
block = bytearray(b"x") * 2**21
del block
before = resident()
blocks = [bytearray(b"x") * 2**20 for _ in range(100)]
kept = blocks[::2]
del blocks
gc.collect()
print(resident() - before - len(kept) * 1024)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the allocator is glibc's")
def test_what_is_freed_goes_back() -> None:
    left = {
        how: int(subprocess.check_output([sys.executable, "-c", WORK, how], cwd=ROOT, text=True))
        for how in ("plain", "mapped")
    }
    assert left["plain"] > 40 * 1024, "kibibytes that stay of the 50 MiB that were freed"
    assert left["mapped"] < 5 * 1024
