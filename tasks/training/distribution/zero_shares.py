"""A checkpoint of DeepSpeed's, read by another number of ranks than wrote it.

DeepSpeed keeps the trained weights of a rank and the optimizer's states beside them as flat lists of numbers. Each rank
writes its own, with the place of each weight in them, so that any rank can look up the numbers that it holds now. The
files are mapped, not read: a rank takes from them what is its own.

DeepSpeed's way is to convert a checkpoint into a universal one first, which writes everything again and knows the
states of Adam alone (https://www.deepspeed.ai/tutorials/universal-checkpointing).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Piece:
    """Numbers of a weight in a flat list.

    Attributes:
        first: The first of them, counted in the whole weight.
        count: How many.
        start: Where they begin in the list.
    """

    first: int
    count: int
    start: int


@dataclass(frozen=True)
class FlatList:
    """A rank's trained weights in one list.

    Attributes:
        weights: In fp32, [numbers].
        states: The optimizer's, by name: as long as the list, padded or not, or one value of all its numbers.
        pieces: Where each weight's numbers are, by its name.
    """

    weights: Any
    states: Mapping[str, Any]
    pieces: Mapping[str, Piece]


@dataclass(frozen=True)
class Share:
    """What one rank wrote.

    Attributes:
        lists: Its flat lists.
        groups: Settings of the optimizer's groups of weights, and what else it counts for a whole group.
        loss_scale: Of fp16, by DeepSpeed's names.
    """

    lists: list[FlatList]
    groups: list[dict[str, Any]]
    loss_scale: dict[str, Any]


def count_ranks(folder: Path) -> int:
    """How many ranks wrote a checkpoint."""
    return len(_find_files(folder))


def restore(engine: Any, folder: Path) -> None:
    """Take weights, the optimizer's states and the count of steps from a checkpoint of any number of ranks.

    The model computes with the weights once they are spread.

    Args:
        engine: DeepSpeed's, with the optimizer made for the ranks of now.
        folder: The checkpoint.
    """
    saved = _read_shares(folder)
    zero = engine.optimizer
    base = zero.optimizer
    for flat, pieces in _own_lists(zero):
        sources = [one for share in saved for one in share.lists if one.pieces.keys() & pieces.keys()]
        flat.data.copy_(collect(pieces, [(one.weights, one.pieces) for one in sources], flat))
        if sources:
            base.state[flat] = {name: _collect_state(name, pieces, sources, flat) for name in sources[0].states}
    for group, values in zip(base.param_groups, saved[0].groups, strict=True):
        group.update(values)
    for name, value in saved[0].loss_scale.items():
        setattr(zero, name, value)
    counts = _load(next(folder.glob("global_step*/*model_states.pt")))
    for name in ("global_steps", "global_samples", "skipped_steps"):
        setattr(engine, name, counts[name])


def _collect_state(name: str, pieces: Mapping[str, Piece], sources: list[FlatList], flat: Any) -> Any:
    """An optimizer's state of a list of now."""
    import torch

    first = sources[0].states[name]
    if not (isinstance(first, torch.Tensor) and first.dim()):
        return first.clone() if isinstance(first, torch.Tensor) else first  # one value, alike in all
    return collect(pieces, [(one.states[name], one.pieces) for one in sources], flat, first.dtype)


def collect(
    pieces: Mapping[str, Piece], sources: list[tuple[Any, Mapping[str, Piece]]], flat: Any, dtype: Any = None
) -> Any:
    """The numbers of a list of now; zeros where it is padded.

    Args:
        pieces: What is where in it.
        sources: Lists as they were written, and what is where in them.
        flat: Of the size and on the device that is wanted.
        dtype: Of the numbers; that of ``flat`` by default.

    Raises:
        RuntimeError: No list has some of the numbers.
    """
    import torch

    found = torch.zeros_like(flat, dtype=dtype or flat.dtype, requires_grad=False)
    for name, wanted in pieces.items():
        taken = 0
        for numbers, held in sources:
            if (piece := held.get(name)) is None:
                continue
            first = max(wanted.first, piece.first)
            count = min(wanted.first + wanted.count, piece.first + piece.count) - first
            if count <= 0:
                continue
            at = wanted.start + first - wanted.first
            found[at : at + count] = numbers[piece.start + first - piece.first :][:count]
            taken += count
        if taken != wanted.count:
            raise RuntimeError(f"{name}: the checkpoint has {taken} of {wanted.count} numbers")
    return found


def _own_lists(zero: Any) -> Iterator[tuple[Any, dict[str, Piece]]]:
    """The flat lists of this rank as its optimizer holds them now, and what is where in them."""
    import torch

    if hasattr(zero, "fp32_partitioned_groups_flat"):
        for flat, group in zip(zero.fp32_partitioned_groups_flat, zero.fp16_groups, strict=True):
            shapes = {zero.param_names[weights]: weights.ds_shape for weights in group}
            yield flat, cut(shapes, torch.distributed.get_rank(), torch.distributed.get_world_size())
        return
    mapped = ((name, getattr(weights, "_hp_mapping", None)) for weights, name in zero.param_names.items())
    first = {name: mapping.lp_fragment_address.start for name, mapping in mapped if mapping is not None}
    for flat, places in zip(zero.single_partition_of_fp32_groups, zero._param_slice_mappings, strict=True):
        yield flat, {name: Piece(first[name], place.numel, place.start) for name, place in places.items()}


def cut(shapes: Mapping[str, Any], rank: int, ranks: int) -> dict[str, Piece]:
    """Where stage 3 has the weights of a list: of each as many numbers in every rank, the last ones padding.

    Args:
        shapes: Of the list's weights, whole, in its order.
        rank: Whose list.
        ranks: Among how many the weights are shared.
    """
    pieces, start = {}, 0
    for name, shape in shapes.items():
        size = math.prod(shape)
        share = -(-size // ranks)
        if (count := min(share, size - rank * share)) > 0:
            pieces[name] = Piece(rank * share, count, start)
        start += share
    return pieces


def _find_files(folder: Path) -> list[Path]:
    """The files of the optimizer's states, in the order of the ranks that wrote them."""
    files = folder.glob("global_step*/*zero_pp_rank_*_optim_states.pt")
    return sorted(files, key=lambda path: int(path.name.split("zero_pp_rank_")[1].split("_")[0]))


def _read_shares(folder: Path) -> list[Share]:
    """What each rank wrote, in their order."""
    states = [_load(file)["optimizer_state_dict"] for file in _find_files(folder)]
    if "fp32_flat_groups" in states[0]:
        shapes = _load(next(folder.glob("global_step*/*_model_states.pt")))["param_shapes"]
        return [_read_stage_3(state, shapes, rank, len(states)) for rank, state in enumerate(states)]
    read: Counter[str] = Counter()  # numbers of each weight, in the ranks so far
    return [_read_stage_2(state, read) for state in states]


def _read_stage_3(state: Mapping[str, Any], shapes: list[Mapping[str, Any]], rank: int, ranks: int) -> Share:
    base = state["optimizer_state_dict"]
    lists = [
        FlatList(weights, base["state"].get(number, {}), cut(shapes[number], rank, ranks))
        for number, weights in enumerate(state["fp32_flat_groups"])
    ]
    return _share(state, lists, base["param_groups"])


def _read_stage_2(state: Mapping[str, Any], read: Counter[str]) -> Share:
    """Of stage 1 too."""
    base, lists = state["base_optimizer_state"], []
    for number, weights in enumerate(state["single_partition_of_fp32_groups"]):
        places = state["param_slice_mappings"][number]
        pieces = {name: Piece(read[name], place.numel, place.start) for name, place in places.items()}
        read.update({name: place.numel for name, place in places.items()})
        lists.append(FlatList(weights, base["state"].get(number, {}), pieces))
    return _share(state, lists, base["param_groups"])


def _share(state: Mapping[str, Any], lists: list[FlatList], groups: list[dict[str, Any]]) -> Share:
    settings = [{name: value for name, value in group.items() if name != "params"} for group in groups]
    scale = {name: state[name] for name in ("loss_scaler", "dynamic_loss_scale", "overflow")}
    return Share(lists, settings, scale)


def _load(file: Path) -> dict[str, Any]:
    """A file of DeepSpeed's, mapped; of its classes those that are data alone."""
    import torch
    from deepspeed.runtime.fp16.loss_scaler import DynamicLossScaler, LossScaler
    from deepspeed.runtime.zero.config import ZeroStageEnum
    from deepspeed.utils.tensor_fragment import fragment_address

    with torch.serialization.safe_globals([DynamicLossScaler, LossScaler, ZeroStageEnum, fragment_address]):
        loaded: dict[str, Any] = torch.load(file, map_location="cpu", mmap=True, weights_only=True)
    return loaded
