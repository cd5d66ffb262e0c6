"""Weights as described by their safetensors headers, without loading a tensor.

A file starts with 8 bytes of header length (little-endian) and a JSON header that gives each tensor's dtype,
shape and byte range (https://huggingface.co/docs/safetensors), which reveals a truncated file. A header is believed
only where its ranges follow one another without a gap, each as long as its shape and dtype say, up to the file's end.
"""

from __future__ import annotations

import json
import math
import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.model_initialisation.entries import read_object

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
# A header of 100,000 tensors is half as long.
_MAXIMUM_HEADER_BYTES = 25_000_000
_SHARD = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*\.safetensors")
_BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8,
    "U16": 16, "I16": 16, "F16": 16, "BF16": 16, "U32": 32, "I32": 32, "F32": 32, "U64": 64, "I64": 64, "F64": 64,
}  # fmt: skip


@dataclass(frozen=True)
class Weights:
    """The tensors of a model folder.

    Attributes:
        files: The safetensors files, sorted.
        shapes: Tensor name to shape.
        dtypes: Storage type (``F32``, ``BF16``, ...) to number of elements.
    """

    files: tuple[Path, ...]
    shapes: Mapping[str, tuple[int, ...]]
    dtypes: Mapping[str, int]

    @property
    def parameters(self) -> int:
        """Number of stored elements; tied weights are stored, and counted, once."""
        return sum(math.prod(shape) for shape in self.shapes.values())


def convert_hint(pickled: Sequence[str]) -> str:
    """The advice for a model that has only pickled weights."""
    return (
        f"only pickled weights ({', '.join(sorted(pickled)[:3])}), which can run code when opened; expected "
        "*.safetensors; if you trust the file, convert it: AutoModelForCausalLM.from_pretrained(FOLDER, "
        "weights_only=True).save_pretrained(NEW_FOLDER), then copy the tokenizer's files"
    )


def read_weights(folder: Path) -> tuple[Weights | None, list[str]]:
    """Read the headers of a model folder.

    Args:
        folder: A transformers folder.

    Returns:
        The weights, or None with every problem found.
    """
    if (folder / INDEX).is_file() and (folder / SINGLE).is_file():
        return None, [f"{SINGLE} and {INDEX} are both there; expected one of them; remove the other"]
    if (folder / INDEX).is_file():
        names, problems = _indexed_tensors(folder)
        files = sorted({folder / name for name in names.values()})
    elif (folder / SINGLE).is_file():
        names, problems, files = {}, [], [folder / SINGLE]
    else:
        return None, [_missing_weights(folder)]
    shapes: dict[str, tuple[int, ...]] = {}
    dtypes: dict[str, int] = {}
    for path in files:
        if not path.is_file():
            problems.append(f"{path.name}: missing, though {INDEX} lists it; download the model again")
            continue
        header, problem = read_header(path)
        if problem:
            problems.append(problem)
        for name, (dtype, shape) in header.items():
            if name in shapes:
                problems.append(f"{path.name}: holds {name}, which another shard holds too; download the model again")
            shapes[name] = shape
            dtypes[dtype] = dtypes.get(dtype, 0) + math.prod(shape)
    if not problems:
        absent = sorted(set(names) - set(shapes))
        if absent:
            problems.append(f"{INDEX}: lists {absent[0]} and {len(absent) - 1} more that are in no shard")
        if not shapes:
            problems.append(f"{files[0].name}: has no tensor; download the model again")
    return (None if problems else Weights(tuple(files), shapes, dtypes)), problems


def read_header(path: Path) -> tuple[dict[str, tuple[str, tuple[int, ...]]], str]:
    """Tensor names with dtype and shape, and what is wrong with the file (empty when nothing is)."""
    size = path.stat().st_size
    with path.open("rb") as stream:
        prefix = stream.read(8)
        length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else 0
        if not 2 <= length <= min(_MAXIMUM_HEADER_BYTES, size - 8):
            return {}, f"{path.name}: not a safetensors file, or truncated ({size:,} bytes); download it again"
        try:
            header = json.loads(
                stream.read(length), object_pairs_hook=_without_duplicates, parse_constant=_refuse_constant
            )
            entries = {name: _read_entry(entry) for name, entry in header.items() if name != "__metadata__"}
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            reason = str(error).splitlines()[0][:80] if isinstance(error, ValueError) else "not as the format has it"
            return {}, f"{path.name}: its safetensors header is not readable ({reason}); download it again"
    end = 0
    for begin, finish in sorted(place for _, _, place in entries.values()):
        if begin != end:
            return {}, f"{path.name}: its tensors overlap or leave gaps at byte {min(begin, end):,}; download it again"
        end = finish
    if size != 8 + length + end:
        return {}, f"{path.name}: {size:,} bytes, but its header describes {8 + length + end:,}; download it again"
    return {name: (dtype, shape) for name, (dtype, shape, _) in entries.items()}, ""


def _read_entry(entry: Mapping[str, Any]) -> tuple[str, tuple[int, ...], tuple[int, int]]:
    """Type, shape and place of a tensor.

    Raises:
        ValueError: They do not agree.
        KeyError: One of them is missing.
        TypeError: One of them is of another kind.
    """
    dtype, shape, (begin, end) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
    if dtype not in _BITS:
        raise ValueError(f"type {str(dtype)[:20]}")
    if not all(type(number) is int and number >= 0 for number in (*shape, begin, end)):
        raise ValueError("a size or a place that is no whole number of 0 or more")
    if (end - begin) * 8 != math.prod(shape) * _BITS[dtype]:
        raise ValueError(f"a shape of {math.prod(shape):,} numbers in {end - begin:,} bytes")
    return dtype, shape, (begin, end)


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        raise ValueError("a name that stands twice")
    return content


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} in place of a number")


def _indexed_tensors(folder: Path) -> tuple[dict[str, str], list[str]]:
    """Tensor name to shard name, as the index has them."""
    content, problem = read_object(folder / INDEX)
    names = content.get("weight_map")
    if problem or not isinstance(names, dict) or not all(isinstance(name, str) for name in names.values()):
        return {}, [problem or f'{INDEX}: no readable "weight_map"; download the model again']
    outside = sorted(name for name in set(names.values()) if not _SHARD.fullmatch(name))
    if outside:
        return {}, [f"{INDEX}: names {outside[0]!r}, which is no safetensors file of this folder"]
    return names, []


def _missing_weights(folder: Path) -> str:
    pickled = [p.name for p in folder.iterdir() if p.name.endswith(PICKLED)]
    if pickled:
        return convert_hint(pickled)
    shards = [p.name for p in folder.glob("*.safetensors")]
    if shards:
        return f"{', '.join(sorted(shards)[:3])} without {INDEX}; download the model again"
    return f"no {SINGLE} and no {INDEX}"
