"""The machine is looked at without PyTorch unless a GPU driver is there, and says what PyTorch would say."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from tasks.contracts import machine
from tasks.contracts.machine import Machine, find_machine

GIB = 2**30


def test_it_is_what_pytorch_says() -> None:
    found = find_machine()
    assert found.device == ("cuda" if torch.cuda.is_available() else "cpu")
    assert found.accelerators == torch.cuda.device_count()
    if found.device == "cpu":
        # Autocast computes in bf16 on every CPU.
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16
        assert found.bf16


def test_two_accelerators_are_described(monkeypatch: pytest.MonkeyPatch) -> None:
    cards = [SimpleNamespace(name="H200", total_memory=n * GIB) for n in (141, 139)]
    # None always loads: it is the process itself.
    monkeypatch.setattr(machine, "_NVIDIA_DRIVER", None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(cards))
    monkeypatch.setattr(torch.cuda, "get_device_properties", cards.__getitem__)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: not including_emulation)
    found = find_machine()
    assert found == Machine(
        device="cuda",
        accelerator="H200",
        accelerators=2,
        accelerator_memory_bytes=139 * GIB,
        cores=found.cores,
        memory_bytes=found.memory_bytes,
        bf16=True,
    )


@pytest.mark.parametrize("driver", ["NVIDIA", "AMD"])
def test_pytorch_decides_where_a_driver_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, driver: str) -> None:
    asked = []
    monkeypatch.setattr(machine, "_NVIDIA_DRIVER", None if driver == "NVIDIA" else "libabacus.so.1")
    monkeypatch.setattr(machine, "_AMD_DRIVER", tmp_path / ("nothing" if driver == "NVIDIA" else ""))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: asked.append(driver))
    assert find_machine().device == "cpu"
    assert asked == [driver]


def test_nobody_is_asked_without_a_driver(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(machine, "_NVIDIA_DRIVER", "libabacus.so.1")
    monkeypatch.setattr(machine, "_AMD_DRIVER", tmp_path / "nothing")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: pytest.fail("PyTorch was asked"))
    assert find_machine().device == "cpu"
