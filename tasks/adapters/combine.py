"""Combine adapters of the store into one, measured on the tasks of all."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from tasks.adapters.combining import WITH_DENSITY, Combination, Mixer, refuse_combination
from tasks.adapters.interference import Interference, measure_interference, measure_losses, read_tasks
from tasks.adapters.page import AdapterMixture
from tasks.adapters.search import search_weights
from tasks.adapters.store import check_name, seal_adapter
from tasks.contracts.errors import PipelineError, raise_all
from tasks.language_models.folder.model_folder import load_tokenizer, resolve_model
from tasks.language_models.folder.weights_hash import hash_weights
from tasks.training.stored_adapter import TEST, VALIDATION, StoredAdapter, read_adapter, refuse_other_base


def combine_adapters(
    store: Path,
    name: str,
    of: Sequence[str],
    initial: Path,
    how: Combination = "cat",
    weights: Sequence[float] | None = None,
    density: float | None = None,
    trials: int | None = None,
    others: Sequence[Combination] = (),
    rows: int = 200,
    seed: int = 0,
) -> tuple[list[StoredAdapter], list[AdapterMixture], Interference]:
    """Keep a mixture of adapters as an adapter of its own, and measure what it does to every task.

    Args:
        store: The store's folder.
        name: Name of the mixture.
        of: Names of the adapters.
        initial: Folder written by model initialisation, with the base of all of them.
        how: How they are combined.
        weights: One for each; 1 by default, or where the search begins.
        density: Share of values that stay, for ways that prune.
        trials: Search the weights on the validation rows, scoring so many mixtures at most; None: no search.
        others: Other ways to combine them with the same weights, which are measured only.
        rows: Rows of each task that are scored, at most.
        seed: Of what is drawn by chance.

    Raises:
        PipelineError: The adapters do not go together, are of another base, or have no rows.
    """
    check_name(store, name)
    adapters = [read_adapter(store, one) for one in of]
    base = resolve_model(initial)
    digest = hash_weights(base)
    for adapter in adapters:
        refuse_other_base(adapter, digest)
    problems = [
        f"adapter {one.name}: is a mixture, without rows of its own; combine the adapters it was made of"
        for one in adapters
        if not one.has_task
    ]
    raise_all(problems, "the adapters cannot be combined")
    start = tuple(weights) if weights is not None else (1.0,) * len(adapters)
    for way in (how, *others):
        refuse_combination(way, adapters, start, density if way == how else _density(way, density))
    mixer, tokenizer = Mixer(base, adapters), load_tokenizer(initial)
    found = None
    if trials is not None:
        watched = read_tasks(adapters, VALIDATION, rows, tokenizer, mixer.config)

        def mean_loss(values: Sequence[float]) -> float:
            losses = measure_losses(mixer.mix(how, values, density, seed), tokenizer, watched)
            return sum(losses.values()) / len(losses)

        found = search_weights(mean_loss, trials, start)
    kept = AdapterMixture(how, found.weights if found else start, density, found)
    mixtures = [kept, *(AdapterMixture(way, kept.weights, _density(way, density)) for way in others if way != how)]
    tasks = read_tasks(adapters, TEST, rows, tokenizer, mixer.config)
    # The kept one comes last, so that it is what is saved.
    interference = measure_interference(
        mixer,
        adapters,
        tasks,
        tokenizer,
        {m.name: lambda m=m: mixer.mix(m.how, m.weights, m.density, seed) for m in reversed(mixtures)},  # type: ignore[misc]
    )
    folder = store / name
    try:
        mixer.save(folder)
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        reason = error.strerror or error
        raise PipelineError(f"{folder}: cannot write ({reason}); free some space and run again") from error
    seal_adapter(folder, digest, f"{kept.name} of {', '.join(of)}")
    return adapters, mixtures, interference


def _density(how: Combination, density: float | None) -> float | None:
    """For ways that are only measured: the same density where they take one."""
    return (density or 0.5) if how in WITH_DENSITY else None
