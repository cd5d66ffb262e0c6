"""What the machine offers to training: cores, memory, accelerators, number formats."""

from __future__ import annotations

import ctypes
import math
import os
import sys
from pathlib import Path
from typing import Literal

from tasks.contracts.record import Record

Device = Literal["cpu", "cuda"]
_CGROUP = Path("/sys/fs/cgroup")
_NVIDIA_DRIVER = "libcuda.so.1"
_AMD_DRIVER = Path("/dev/kfd")


class Machine(Record):
    """A machine as a plan sees it; the same on every call, so nothing that depends on load.

    Attributes:
        device: ``cuda`` where PyTorch sees an accelerator, else ``cpu``.
        accelerator: Name of the first accelerator, empty on a CPU.
        accelerators: How many PyTorch sees.
        accelerator_memory_bytes: Memory of the smallest of them.
        cores: CPU cores this process may use.
        memory_bytes: Main memory this process may use.
        bf16: bfloat16 arithmetic is available on ``device``.
    """

    device: Device
    accelerator: str = ""
    accelerators: int = 0
    accelerator_memory_bytes: int = 0
    cores: int
    memory_bytes: int
    bf16: bool

    @property
    def training_memory_bytes(self) -> int:
        """Memory that weights, gradients and activations of one process live in."""
        return self.accelerator_memory_bytes if self.device == "cuda" else self.memory_bytes


def find_machine() -> Machine:
    """Look at the machine this process runs on; PyTorch is asked, and imported, only where a GPU driver is."""
    import psutil

    cores = _allowed_cores(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count())
    memory = min(psutil.virtual_memory().total, _number(_CGROUP / "memory.max") or 1 << 62)
    without_accelerator = Machine(device="cpu", cores=cores, memory_bytes=memory, bf16=True)
    if not has_gpu_driver():
        return without_accelerator
    import torch

    if not torch.cuda.is_available():
        return without_accelerator
    cards = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
    return Machine(
        device="cuda",
        accelerator=cards[0].name,
        accelerators=len(cards),
        accelerator_memory_bytes=min(card.total_memory for card in cards),
        cores=cores,
        memory_bytes=memory,
        bf16=torch.cuda.is_bf16_supported(including_emulation=False),
    )


def has_gpu_driver() -> bool:
    """Whether this system may have a driver that PyTorch's ``cuda`` device needs: NVIDIA's, or AMD's with ROCm."""
    if not sys.platform.startswith("linux"):
        return sys.platform != "darwin"
    if _AMD_DRIVER.exists():
        return True
    try:
        ctypes.CDLL(_NVIDIA_DRIVER)
    except OSError:
        return False
    return True


def _allowed_cores(visible: int | None) -> int:
    """Visible cores, cut to the container's quota, at least one."""
    cores = visible or 1
    quota_file = _CGROUP / "cpu.max"
    if quota_file.is_file():
        quota, _, period = quota_file.read_text().strip().partition(" ")
        if quota.isdigit() and period.isdigit() and int(period) > 0:
            cores = min(cores, math.ceil(int(quota) / int(period)))
    return max(cores, 1)


def _number(path: Path) -> int | None:
    """The number in a file, or None where there is no file or it says ``max``."""
    text = path.read_text().strip() if path.is_file() else ""
    return int(text) if text.isdigit() else None
