from __future__ import annotations

import pytest

from tasks.contracts.machine import Machine


@pytest.fixture
def machine() -> Machine:
    """One core, 8 GiB, bf16."""
    return Machine(device="cpu", cores=1, memory_bytes=8 * 2**30, bf16=True)
