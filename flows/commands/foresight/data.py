"""How much data there is: counted by stage 3, else estimated from the prepared tables, else from the raw sources."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flows.wiring import artifacts
from flows.wiring.params import Params
from tasks.contracts.errors import PipelineError
from tasks.contracts.manifest import find_json
from tasks.training_setup.counts import Counts
from tasks.training_setup.estimate import BYTES_PER_TOKEN, estimate_counts, estimate_from_size
from tasks.training_setup.params import TrainingSetup

# Of a raw row: of the built-in generator, and of a file, with keys and quotes.
SAMPLE_BYTES, ROW_BYTES = 160, 400
PACKED = 4  # bytes of text in a byte of a compressed file
COMPRESSED = (".gz", ".xz", ".zst", ".parquet", ".zip", ".bz2")


@dataclass(frozen=True)
class FoundData:
    """Counts and where they are from.

    Attributes:
        counts: Of the training split.
        source: How they were come by, in words.
    """

    counts: Counts
    source: str


def find_data(params: Params, setup: TrainingSetup, tokens: int | None, conversations: int | None) -> FoundData:
    """The counts of the training split, the best that can be had in a second.

    Args:
        params: All params.
        setup: Of one training: those of the params, or of a phase of them.
        tokens: Of an epoch, as stated; None: found out.
        conversations: The same of conversations.

    Raises:
        PipelineError: Nothing is prepared and the size of no source is known.
    """
    max_tokens = setup.max_tokens
    split = params.data_preparation.split
    if tokens is not None:
        found = conversations or max(1, tokens // max_tokens)
        held_out = round(found * split.validation)
        return FoundData(estimate_from_size(found, tokens, held_out, max_tokens), "as stated")
    if artifacts.TRAIN.is_file() and artifacts.VALIDATION.is_file():
        return _find_prepared(max_tokens, setup.objective.name)
    sizes = list(_list_sizes(params))
    rows, size = sum(rows for rows, _ in sizes), sum(size for _, size in sizes)
    if not rows:
        raise PipelineError(
            "the tokens of the data are not known: nothing is prepared, and no source tells its size; "
            "`heptune run data_preparation` counts them, or state them with --tokens"
        )
    share = max(0.0, 1.0 - split.validation - split.test)
    counts = estimate_from_size(
        max(1, round(rows * share)), round(size / BYTES_PER_TOKEN * share), round(rows * split.validation), max_tokens
    )
    return FoundData(counts, "estimated from the size of the raw sources, before cleaning")


def _find_prepared(max_tokens: int, objective: str) -> FoundData:
    from tasks.contracts.tables import read_examples

    train, validation = read_examples(artifacts.TRAIN), read_examples(artifacts.VALIDATION)
    counted = find_json(artifacts.metrics("training_setup"))
    plan = find_json(artifacts.PLAN / "plan.json")
    # The tokens that stage 3 counted hold for the same rows, and as long as nothing more or less is cut.
    same = counted.get("examples", 0) + counted.get("rows_without_loss", 0) == train.num_rows
    same = same and plan.get("objective", {}).get("name", objective) == objective
    same = same and (plan.get("max_tokens") == max_tokens or not counted.get("cut", 1))
    described = find_json(artifacts.metrics("model_initialisation"))
    rate = float(described.get("bytes_per_token") or BYTES_PER_TOKEN)
    tokens = int(counted["tokens"]) if same else None
    counts = estimate_counts(train, validation.num_rows, max_tokens, rate, tokens)
    if same:
        return FoundData(counts, "counted by training_setup")
    how = "as the base's tokenizer has them" if "bytes_per_token" in described else "not measured for this base"
    return FoundData(counts, f"estimated from {artifacts.TRAIN} at {rate:.1f} bytes a token, {how}")


def _list_sizes(params: Params) -> Iterator[tuple[int, int]]:
    """Rows and bytes of text of each source that is on this machine."""
    for source in params.data_preparation.sources:
        limit = getattr(source, "limit", None)
        rows, size = _measure(source)
        if limit and rows > limit:
            rows, size = limit, round(size * limit / rows)
        yield rows, size


def _measure(source: Any) -> tuple[int, int]:
    if source.name == "sample":
        return source.rows, source.rows * SAMPLE_BYTES
    inner = getattr(source, "source", None)  # texts that a weak source labels
    if inner is not None:
        return _measure(inner)
    path = str(getattr(source, "path", None) or "")
    if not path or "://" in path:
        return 0, 0
    place = Path(path)
    found = [place] if place.exists() else list(Path().glob(path)) if not place.is_absolute() else []
    files = [file for one in found for file in (one.rglob("*") if one.is_dir() else [one]) if file.is_file()]
    size = sum(file.stat().st_size * (PACKED if file.name.endswith(COMPRESSED) else 1) for file in files)
    return size // ROW_BYTES, size
