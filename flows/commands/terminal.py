"""What commands print on."""

from __future__ import annotations

from rich.console import Console

# Lines stay whole, so that what they name can be copied; what a person typed is no markup.
console = Console(soft_wrap=True, markup=False, emoji=False, highlight=False)


def show_stage(name: str, outcome: str, seconds: float) -> None:
    style = "green" if outcome == "Ran" else "dim"
    console.print(f"{name.replace('_', ' '):<22}{outcome:<11}{seconds:7.1f} s", style=style)
