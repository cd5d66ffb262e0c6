"""Visit and replace the texts inside a column at any depth of nesting."""

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
        column: Texts, or lists and structs of them to any depth; other values, and the roles of turns, are not changed.
        visit: Called with an array of texts and the row number of each; returns as many texts.
    """
    return _descend(column, np.arange(len(column)), visit)


def _descend(array: pa.Array, owners: Owners, visit: Visit) -> pa.Array:
    arrow_type = array.type
    if pa.types.is_string(arrow_type) or pa.types.is_large_string(arrow_type):
        return visit(array, owners)
    if pa.types.is_list(arrow_type):
        lengths = np.asarray(pc.fill_null(pc.list_value_length(array), 0), dtype=np.int64)
        values = _descend(array.flatten(), np.repeat(owners, lengths), visit)
        offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int32())
        return pa.ListArray.from_arrays(offsets, values, type=arrow_type, mask=pc.is_null(array))
    if pa.types.is_struct(arrow_type):
        fields = [
            child if field.name == ROLE else _descend(child, owners, visit)
            for field, child in zip(arrow_type, array.flatten(), strict=True)
        ]
        return pa.StructArray.from_arrays(fields, fields=list(arrow_type), mask=pc.is_null(array))
    return array
