"""How processor seconds and memory of our training grow with the model, the length of a row and the number of rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from training_scripts.material import make_data, make_llama, make_long_data
from training_scripts.trainers import run

# Hidden size, blocks: about 4, 13 and 45 million weights, embeddings of 8,192 tokens included.
MODELS = {"hidden 192, 4 blocks": (192, 4), "hidden 320, 8 blocks": (320, 8), "hidden 576, 12 blocks": (576, 12)}
CONTEXTS = (128, 256, 512, 1024)
ROWS = (60, 120, 240)


def show_growth(job: dict[str, Any], folder: Path) -> None:
    """One of the three is varied at a time; the same tokens a step throughout."""
    print(f"{'varied':<28}{'steps':>6}{'tokens':>9}{'CPU s':>9}{'tokens/s':>10}{'peak GiB':>10}{'predicted':>10}")
    middle = make_llama(folder / "middle", 8192, 320, 864, layers=8, heads=5, groups=5)
    few = make_data(ROWS[0], folder / "few.jsonl")
    for name, (hidden, layers) in MODELS.items():
        model = make_llama(
            folder / name, 8192, hidden, hidden * 8 // 3, layers, heads=hidden // 64, groups=hidden // 64
        )
        tell(name, {**job, "model": str(model), "data": str(few)}, folder)
    long = make_long_data(ROWS[0] // 4, 30, folder / "long.jsonl")
    for context in CONTEXTS:
        settings = {"long_rows": "split"}
        changed = {"model": str(middle), "data": str(long), "max_tokens": context, "settings": settings}
        tell(f"context {context:,}", {**job, **changed}, folder)
    for rows in ROWS:
        data = make_data(rows, folder / f"rows-{rows}.jsonl")
        tell(f"{rows} rows", {**job, "model": str(middle), "data": str(data)}, folder)


def tell(name: str, job: dict[str, Any], folder: Path) -> None:
    found = run("heptune", {**job, "method": "full"}, folder / f"run-{name}")
    speed = found["tokens"] / found["cpu_seconds"]
    print(
        f"{name:<28}{found['steps']:6,}{found['tokens']:9,}{found['cpu_seconds']:9.1f}{speed:10,.0f}"
        f"{found['peak_gib']:10.2f}{found['predicted_gib']:10.2f}",
        flush=True,
    )
