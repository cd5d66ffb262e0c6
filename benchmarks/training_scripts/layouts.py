"""What precision, compilation and the layout of rows cost on this CPU, and what they do to the losses."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

from training_scripts.trainers import run

# What differs from the plan as it is by default: bf16 where the CPU has it, rows packed, nothing compiled.
LAYOUTS: dict[str, dict[str, Any]] = {
    "as planned": {},
    "fp32": {"settings": {"precision": "fp32"}},
    "bf16 weights, no fp32 ones": {"bf16_weights": True},
    "each block compiled": {"compile": True},
    "padded, not packed": {"padded": True},
}


def compare_layouts(job: dict[str, Any], rounds: int, folder: Path) -> None:
    """Full fine-tuning and LoRA in every layout, the same rows a step; interleaved rounds."""
    padded = {"packing": "none", "batch_size": job["rows_per_step"]}
    for method in ("full", "lora"):
        found: dict[str, list[dict[str, Any]]] = {name: [] for name in LAYOUTS}
        for number in range(rounds):
            for name, layout in LAYOUTS.items():
                settings = {**layout.get("settings", {}), **(padded if "padded" in layout else {})}
                changed = {**job, **layout, "method": method, "settings": settings}
                found[name].append(run("heptune", changed, folder / f"{method}-{name}-{number}"))
        show(method, found)


def show(method: str, found: dict[str, list[dict[str, Any]]]) -> None:
    planned = statistics.median(one["cpu_seconds"] for one in found["as planned"])
    reference = found["as planned"][0]["losses"]
    print(f"\n{method}: {found['as planned'][0]['steps']} steps")
    for name, runs in found.items():
        seconds = statistics.median(one["cpu_seconds"] for one in runs)
        losses = runs[0]["losses"]
        apart = max(abs(a / b - 1) for a, b in zip(losses, reference, strict=False))
        print(
            f"{name:<30}{seconds:8.1f} CPU s  {planned / seconds:5.2f} x as planned  {runs[0]['peak_gib']:5.2f} GiB  "
            f"last loss {losses[-1]:.4f}, curve within {apart:.2%}, {runs[0]['steps']} steps",
            flush=True,
        )
