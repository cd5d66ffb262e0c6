"""The texts inside a column, however deep they lie, and the column with other texts in their places."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

ROLE = "role"
Owners = np.ndarray[Any, np.dtype[np.int64]]
Visit = Callable[[pa.Array, Owners], pa.Array]


def visit_texts(column: pa.Array, visit: Visit) -> pa.Array:
    """Pass each array of texts inside a column through a function.

    Args:
        column: Texts, or lists and records of them to any depth; anything else, and who speaks, is left alone.
        visit: Texts, and the row of the column that each belongs to, to as many texts.
    """
    return _descend(column, np.arange(len(column)), visit)


def _descend(array: pa.Array, owners: Owners, visit: Visit) -> pa.Array:
    kind = array.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return visit(array, owners)
    if pa.types.is_list(kind):
        lengths = np.asarray(pc.fill_null(pc.list_value_length(array), 0), dtype=np.int64)
        values = _descend(array.flatten(), np.repeat(owners, lengths), visit)
        offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int32())
        return pa.ListArray.from_arrays(offsets, values, type=kind, mask=pc.is_null(array))
    if pa.types.is_struct(kind):
        parts = [
            part if field.name == ROLE else _descend(part, owners, visit)
            for field, part in zip(kind, array.flatten(), strict=True)
        ]
        return pa.StructArray.from_arrays(parts, fields=list(kind), mask=pc.is_null(array))
    return array
