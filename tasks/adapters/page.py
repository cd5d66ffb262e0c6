"""The page and the table of a combination."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.adapters.interference import WORSE, Interference
from tasks.adapters.search import FoundWeights
from tasks.contracts.manifest import write_json
from tasks.pages.page import Page
from tasks.pages.text import plural
from tasks.training.stored_adapter import StoredAdapter


@dataclass(frozen=True)
class AdapterMixture:
    """A combination that was measured.

    Attributes:
        how: How it was combined.
        weights: One for each adapter.
        density: Share of values that stayed, where ``how`` has one.
        searched: The search that found the weights, if they were searched.
    """

    how: str
    weights: tuple[float, ...]
    density: float | None = None
    searched: FoundWeights | None = None

    @property
    def name(self) -> str:
        """As the table calls it."""
        return f"{self.how} {', '.join(f'{weight:g}' for weight in self.weights)}"


def write_interference(
    name: str,
    adapters: Sequence[StoredAdapter],
    mixtures: Sequence[AdapterMixture],
    found: Interference,
    page_path: Path,
    table_path: Path,
) -> None:
    """Write the table of interference as a page and as JSON.

    Args:
        name: Name under which the first mixture is kept.
        adapters: What was combined.
        mixtures: What was measured, the kept one first.
        found: Losses of all.
        page_path: The page.
        table_path: The JSON file.
    """
    kept = mixtures[0]
    disturbed = found.disturbed(kept.name)
    write_json(table_path, as_values(name, adapters, mixtures, found))
    names = ", ".join(adapter.name for adapter in adapters)
    page = Page(
        "Adapters",
        f"{names} combined into {name} ({kept.name}), and every model measured on every task.",
        verdict=f"{len(disturbed)} disturbed" if disturbed else "no interference",
        tone="warn" if disturbed else "good",
        stage="adapters",
    )
    page.cards({"adapters": len(adapters), "combined by": kept.how, "rows measured": sum(found.rows.values())})
    page.table(
        "Interference",
        ["model", *(f"loss on {task}" for task in found.rows), *(f"kept of {task}" for task in found.rows)],
        [[model, *_losses(found, model), *_kept(found, model)] for model in found.losses],
        note="Losses in nats per token of the held-out answers. Kept: the share of an adapter's gain over the base "
        f"that a model has too. A task is disturbed where the loss is more than {WORSE:g} above its adapter's.",
    )
    if kept.searched is not None:
        page.text(
            f"The weights were searched on validation rows: {plural(kept.searched.tried, 'mixture', 'mixtures')} "
            f"scored, mean loss over the tasks {kept.searched.loss:.4f}."
        )
    page.table(
        "Adapters",
        ["adapter", "rank", "weight", "trained as", "test rows"],
        [
            [adapter.name, adapter.rank, weight, adapter.made_by, found.rows[adapter.name]]
            for adapter, weight in zip(adapters, kept.weights, strict=True)
        ],
    )
    page.write(page_path)


def as_values(
    name: str, adapters: Sequence[StoredAdapter], mixtures: Sequence[AdapterMixture], found: Interference
) -> dict[str, Any]:
    """The same for programs."""
    return {
        "adapter": name,
        "base": adapters[0].base,
        "adapters": [adapter.name for adapter in adapters],
        "mixtures": [{"how": m.how, "weights": list(m.weights), "density": m.density} for m in mixtures],
        "rows": dict(found.rows),
        "losses": {model: dict(losses) for model, losses in found.losses.items()},
        "kept": {model: {task: found.kept(model, task) for task in found.rows} for model in found.losses},
        "disturbed": found.disturbed(mixtures[0].name),
    }


def _losses(found: Interference, model: str) -> list[str]:
    return [f"{found.losses[model][task]:.4f}" for task in found.rows]


def _kept(found: Interference, model: str) -> list[str]:
    shares = (found.kept(model, task) for task in found.rows)
    return ["–" if share is None else f"{share:.0%}" for share in shares]
