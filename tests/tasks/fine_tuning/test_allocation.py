"""Blocks that were freed between blocks in use stay in the heap, unless they are mapped on their own."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

import pytest

from flows.wiring.settings import MEMORY
from tasks.fine_tuning.train import fine_tune
from tests.checkout import ROOT
from tests.tasks.fine_tuning.small import make_plan, make_splits

# A block that is freed raises the threshold above the size of those that follow; every second of them is freed.
WORK = """
import gc, sys
from pathlib import Path
from tasks.fine_tuning.allocation import settle_allocation

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4

how, size = sys.argv[1], int(sys.argv[2])
if how != "plain":
    settle_allocation(give_back=how == "given back")
block = bytearray(b"x") * 2 * size
del block
before = resident()
blocks = [bytearray(b"x") * size for _ in range(40)]
kept = blocks[::2]
del blocks
gc.collect()
print((resident() - before) * 1024 - len(kept) * size)
"""
# Products in 16 bits of as many shapes as batches of changing length have.
PRODUCTS = """
import torch
from pathlib import Path

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

torch.set_num_threads(1)
weight = torch.ones(64, 64, dtype=torch.bfloat16)
for rows in range(2, 600):
    torch.ones(rows, 64, dtype=torch.bfloat16) @ weight
    if rows == 200:
        before = resident()
print(resident() - before)
"""
MIB = 2**20


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the allocator is glibc's")
@pytest.mark.parametrize(
    ("how", "size", "stays"),
    [
        ("plain", MIB, True),
        ("plain", 3 * MIB, True),
        ("settled", MIB, True),
        ("settled", 3 * MIB, False),
        ("given back", MIB, False),
    ],
)
def test_what_is_freed_goes_back(how: str, size: int, stays: bool) -> None:
    left = int(subprocess.check_output([sys.executable, "-c", WORK, how, str(size)], cwd=ROOT, text=True))
    assert left > 15 * size if stays else left < 2 * size, "bytes that stay of the 20 blocks that were freed"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="resident size is read from /proc")
def test_products_that_were_compiled_do_not_pile_up(tmp_path: Path) -> None:
    def grow(settings: dict[str, str]) -> int:
        unset = {name: value for name, value in os.environ.items() if name not in MEMORY}
        words = [sys.executable, "-c", PRODUCTS]
        return int(subprocess.check_output(words, cwd=tmp_path, text=True, env={**unset, **settings}))

    piled = grow({})
    if piled < 20 * MIB:
        pytest.skip("this processor compiles no products in 16 bits")
    assert grow(MEMORY) < piled / 10


@pytest.mark.parametrize("give_back", [True, False])
def test_it_is_settled_before_the_first_phase(
    initial: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, give_back: bool
) -> None:
    class SettledError(Exception):
        pass

    def settle(asked: bool) -> NoReturn:
        assert asked is give_back
        raise SettledError

    monkeypatch.setattr("tasks.fine_tuning.train.settle_allocation", settle)
    plan = make_plan(release_freed_memory=give_back, before=make_plan())
    with pytest.raises(SettledError):
        fine_tune(
            plan, make_splits(initial), initial, tmp_path / "checkpoints", tmp_path / "tuned",
            tokenize=lambda _: pytest.fail("a phase began before"),
        )  # fmt: skip
