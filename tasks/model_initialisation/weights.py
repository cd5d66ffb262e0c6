"""Weights as described by their safetensors headers, without loading a tensor.

A file starts with 8 bytes of header length (little-endian) and a JSON header that gives each tensor's dtype,
shape and byte range (https://huggingface.co/docs/safetensors), which reveals a truncated file.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
_MAXIMUM_HEADER_BYTES = 100_000_000


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
            header = json.loads(stream.read(length))
            tensors = {
                name: (str(entry["dtype"]), tuple(int(n) for n in entry["shape"]))
                for name, entry in header.items()
                if name != "__metadata__"
            }
            ends = [int(entry["data_offsets"][1]) for name, entry in header.items() if name != "__metadata__"]
        except (ValueError, KeyError, TypeError, AttributeError, IndexError):
            return {}, f"{path.name}: its safetensors header is not readable; download it again"
    expected = 8 + length + max(ends, default=0)
    if size != expected:
        return {}, f"{path.name}: {size:,} bytes, but its header describes {expected:,}; download it again"
    return tensors, ""


def _indexed_tensors(folder: Path) -> tuple[dict[str, str], list[str]]:
    """Tensor name to shard name, as the index has them."""
    try:
        names = {str(k): str(v) for k, v in json.loads((folder / INDEX).read_text("utf-8"))["weight_map"].items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}, [f'{INDEX}: no readable "weight_map"; download the model again']
    outside = sorted({n for n in names.values() if Path(n).name != n or not n.endswith(".safetensors")})
    if outside:
        return {}, [f"{INDEX}: names {outside[0]}, which is no safetensors file of this folder"]
    return names, []


def _missing_weights(folder: Path) -> str:
    pickled = [p.name for p in folder.iterdir() if p.name.endswith(PICKLED)]
    if pickled:
        return convert_hint(pickled)
    shards = [p.name for p in folder.glob("*.safetensors")]
    if shards:
        return f"{', '.join(sorted(shards)[:3])} without {INDEX}; download the model again"
    return f"no {SINGLE} and no {INDEX}"
