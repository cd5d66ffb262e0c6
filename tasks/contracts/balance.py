"""How uneven the classes of the training rows are, and what training may do about it.

Data preparation writes ``balance.json``; training reads it with `read_balance`. What each field asks of training:

* ``weights``: multiply the loss of a row by the weight of its label. Their mean over the training rows is 1, so that
  the learning rate keeps its meaning.
* ``costs``: ``costs[i][j]`` is what it costs to answer class j where i is right, in the order of ``classes``. The
  weights hold the sum of each class already (Ting 2002, IEEE TKDE 14(3)); the loss `expected_cost` takes the matrix
  itself, and the weights without the sums.
* ``batches``: ``stratified`` asks for batches in which every label has its share of the training rows, as near as
  whole rows allow; the label of a row is in the column ``label`` of ``train.parquet``. ``any``: as they come.
* ``vectors``: a Parquet file beside it, with rows and rows made by SMOTE as points, for a classifier on embeddings.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
from pydantic import ValidationError

from tasks.contracts.errors import PipelineError
from tasks.contracts.manifest import read_json, read_manifest, write_json
from tasks.contracts.record import Record

FILE = "balance.json"
VECTORS_FILE = "vectors.parquet"
VECTORS = pa.schema(
    [
        pa.field("id", pa.string()),
        pa.field("nearest", pa.string(), nullable=False),
        pa.field("label", pa.string(), nullable=False),
        pa.field("synthetic", pa.bool_(), nullable=False),
        pa.field("vector", pa.list_(pa.float32()), nullable=False),
    ]
)


class Balance(Record):
    """The classes of the training rows.

    Attributes:
        classes: The labels, sorted.
        before: Training rows per label before balancing.
        after: Training rows per label as they are in ``train.parquet``.
        weighting: How the weights were computed.
        weights: Weight of each label, None without weighting.
        costs: Cost matrix, None where params give no costs.
        batches: How batches should be filled.
        vectors: Name of the file with vectors, None where there is none.
    """

    classes: list[str]
    before: dict[str, int]
    after: dict[str, int]
    weighting: Literal["none", "inverse", "effective"]
    weights: dict[str, float] | None
    costs: list[list[float]] | None
    batches: Literal["any", "stratified"]
    vectors: str | None


def write_balance(balance: Balance, folder: Path) -> Path:
    """Write ``balance.json``; its path."""
    write_json(folder / FILE, balance.model_dump(mode="json"))
    return folder / FILE


def read_balance(folder: Path) -> Balance:
    """Read what `write_balance` wrote.

    Raises:
        PipelineError: The folder is not complete, or the file is of another form.
    """
    read_manifest(folder)
    content: Any = read_json(folder / FILE)
    try:
        return Balance.model_validate(content)
    except ValidationError as error:
        where = ".".join(str(part) for part in error.errors()[0]["loc"])
        raise PipelineError(f"{folder / FILE}: {where} is not as expected; run data_preparation again") from error
