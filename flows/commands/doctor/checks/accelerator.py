"""GPUs: the driver, a PyTorch built for it, what is visible, and bf16."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from flows.commands.doctor.finding import Finding, Surroundings

# The oldest driver that CUDA's minor versions run on (docs.nvidia.com/deploy/cuda-compatibility).
OLDEST_DRIVER = {11: 450, 12: 525, 13: 580}
BF16_FLAGS = ("avx512_bf16", "amx_bf16", "bf16")  # the last is Arm's


def examine(here: Surroundings) -> Iterator[Finding]:
    yield from _find_unused_cards(here)
    yield from _find_slow_precision(here)


def _find_unused_cards(here: Surroundings) -> Iterator[Finding]:
    driver = read_driver(here.system)
    if driver is None or here.machine.device == "cuda":
        return
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    if hidden is not None and hidden.strip() in ("", "-1", "NoDevFiles"):
        found = f"is {hidden!r}, which hides every card from training"
        yield Finding("warning", "CUDA_VISIBLE_DEVICES", found, "unset it to train on the cards")
        return
    torch, cuda = read_torch()
    if torch.endswith("+cpu"):
        yield Finding(
            "error", "torch", f"version {torch} is built without CUDA, and this machine has NVIDIA's driver {driver}",
            "install the build for it: `pip install --force-reinstall torch --index-url "
            "https://download.pytorch.org/whl/cu130`",
        )  # fmt: skip
    elif cuda and _major(driver) < OLDEST_DRIVER.get(cuda, 0):
        yield Finding(
            "error", "driver", f"NVIDIA's driver {driver} is too old for CUDA {cuda} of torch {torch}; expected "
            f"{OLDEST_DRIVER[cuda]} or newer", "update the driver, or install a torch for an older CUDA",
        )  # fmt: skip
    else:
        yield Finding(
            "error", "accelerator", f"NVIDIA's driver {driver} is there, but PyTorch ({torch or 'not installed'}) sees "
            "no card", "look at `nvidia-smi`; in a container, start it with --gpus all",
        )  # fmt: skip


def _find_slow_precision(here: Surroundings) -> Iterator[Finding]:
    settings = here.params.training_setup if here.params else None
    asked = settings.precision if settings else "auto"
    if here.machine.device == "cuda":
        if asked == "bf16" and not here.machine.bf16:
            yield Finding(
                "error", "training_setup.precision", f"bf16, which {here.machine.accelerator} lacks; the plan is "
                "refused", "set precision: auto",
            )  # fmt: skip
        return
    flags = _read_cpu_flags(here.system)
    if flags and asked != "fp32" and not flags & set(BF16_FLAGS):
        yield Finding(
            "warning" if asked == "bf16" else "note", "training_setup.precision",
            f"{asked}: this CPU computes bf16 in software", "compare the speed with precision: fp32",
        )  # fmt: skip


def read_driver(system: Path) -> str | None:
    """The version of NVIDIA's kernel driver; None without one and its card."""
    path = system / "proc/driver/nvidia/version"
    if not path.is_file() or not any((system / "dev").glob("nvidia[0-9]*")):
        return None
    found = re.search(r"\b(\d+\.\d+(?:\.\d+)*)\b", path.read_text(encoding="utf-8", errors="replace"))
    return found.group(1) if found else "of unknown version"


def read_torch() -> tuple[str, int]:
    """PyTorch's version, and the major version of the CUDA that it is built with; 0 where it does not say."""
    try:
        torch = version("torch")
    except PackageNotFoundError:
        return "", 0
    if found := re.search(r"\+cu(\d\d)", torch):
        return torch, int(found.group(1))
    for package, cuda in (("nvidia-cuda-runtime", 13), ("nvidia-cuda-runtime-cu12", 12)):
        try:
            version(package)
        except PackageNotFoundError:
            continue
        return torch, cuda
    return torch, 0


def _major(driver: str) -> int:
    found = re.match(r"\d+", driver)
    return int(found.group()) if found else 0


def _read_cpu_flags(system: Path) -> set[str]:
    path = system / "proc/cpuinfo"
    if not path.is_file():
        return set()
    found = re.search(r"^(?:flags|Features)\s*:\s*(.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return set(found.group(1).split()) if found else set()
