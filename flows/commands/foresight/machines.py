"""The machine that a plan is made for: this one, or one that is named or described."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import Any

from tasks.contracts.errors import PipelineError
from tasks.contracts.machine import Machine, find_machine, has_gpu_driver

GIB = 2**30
# Memory that PyTorch sees of a card, GiB, and whether it computes in bf16.
CARDS: dict[str, tuple[float, bool]] = {
    "t4": (14.6, False),
    "v100": (15.8, False),
    "a10g": (22.1, True),
    "l4": (22.0, True),
    "rtx3090": (23.6, True),
    "rtx4090": (23.6, True),
    "l40s": (44.4, True),
    "a100-40gb": (39.4, True),
    "a100": (79.2, True),
    "h100": (79.1, True),
    "h200": (139.8, True),
    "b200": (178.4, True),
}
CPUS: dict[str, tuple[int, float]] = {"laptop": (8, 16.0), "server": (32, 128.0)}  # cores, GiB
CORES_OF_A_CARD, GIB_OF_A_CARD = 8, 64.0
GIVEN_IN_GIB = ("memory_gib", "accelerator_memory_gib")


def find_stated(text: str | None) -> tuple[Machine, str]:
    """A machine and its name in words.

    Args:
        text: ``8xh100``, ``laptop``, or the facts as YAML; None: this machine.

    Raises:
        PipelineError: No such name, or facts that do not fit.
    """
    if text is None:
        return find_this(), "this machine"
    if text.lstrip().startswith("{"):
        return describe(text), "the stated machine"
    number, name = re.fullmatch(r"(?:(\d+)x)?(.+)", text.strip().lower()).groups()  # type: ignore[union-attr]
    count = int(number or 1)
    if name in CARDS and count:
        memory, bf16 = CARDS[name]
        machine = Machine(
            device="cuda", accelerator=name.upper(), accelerators=count, accelerator_memory_bytes=round(memory * GIB),
            cores=CORES_OF_A_CARD * count, memory_bytes=round(GIB_OF_A_CARD * count * GIB), bf16=bf16,
        )  # fmt: skip
        return machine, "the stated machine"
    if name in CPUS and number is None:
        cores, memory = CPUS[name]
        return Machine(device="cpu", cores=cores, memory_bytes=round(memory * GIB), bf16=True), f"a {name}"
    raise PipelineError(
        f"--machine {text}: no such machine; expected one of {', '.join([*CPUS, *CARDS])}, with the number of cards in "
        "front (8xh100), or facts: '{device: cuda, accelerators: 8, accelerator_memory_gib: 80}'"
    )


def describe(text: str) -> Machine:
    """A machine from its facts; what is not said is as on a usual one.

    Raises:
        PipelineError: The text is no YAML of keys, or a key or value is not known.
    """
    import yaml
    from pydantic import ValidationError

    from flows.wiring.yaml_file import Loader

    expected = "expected {device: cuda, accelerators: 8, accelerator_memory_gib: 80, cores: 64, memory_gib: 512}"
    try:
        given: Any = yaml.load(text, Loader)
        facts = dict(given)
        for name in GIVEN_IN_GIB:
            if name in facts:
                facts[name.replace("_gib", "_bytes")] = round(float(facts.pop(name)) * GIB)
    except (yaml.YAMLError, TypeError, ValueError) as error:
        raise PipelineError(f"--machine {text}: {' '.join(str(error).split())}; {expected}") from error
    cuda = facts.get("device") == "cuda"
    cards = facts.get("accelerators", 1) if cuda else 0
    usual: dict[str, Any] = {"device": "cpu", "bf16": True, "cores": CPUS["laptop"][0]}
    usual["memory_bytes"] = round(CPUS["laptop"][1] * GIB)
    if cuda and isinstance(cards, int):
        usual |= {"accelerators": cards, "accelerator": "accelerator", "cores": CORES_OF_A_CARD * cards}
        usual["memory_bytes"] = round(GIB_OF_A_CARD * cards * GIB)
    try:
        machine = Machine.model_validate({**usual, **facts})
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
        raise PipelineError(f"--machine {text}: {problems}; {expected}") from error
    if cuda and not machine.accelerator_memory_bytes:
        raise PipelineError(f"--machine {text}: no accelerator_memory_gib; {expected}")
    return machine


def find_this() -> Machine:
    """This machine; where a GPU's driver is, PyTorch is asked in a process of its own, which alone imports it."""
    if not has_gpu_driver():
        return find_machine()
    code = "from tasks.contracts.machine import find_machine; print(find_machine().model_dump_json())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise PipelineError(f"PyTorch cannot be asked about the GPU ({reason}); `heptune doctor` looks into it")
    return Machine.model_validate(json.loads(done.stdout.splitlines()[-1]))
