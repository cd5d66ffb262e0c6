"""The monitoring baseline: held-out requests and the candidate's answers to them.

Documents are no requests, so a release that was trained on them alone has a baseline without rows, and monitoring says
that it is too small to compare with.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tasks.contracts.errors import PipelineError
from tasks.contracts.manifest import hash_folder
from tasks.contracts.records import PREDICTIONS, REQUESTS
from tasks.contracts.tables import read_table, write_table
from tasks.language_models.encoding import encode_prompt
from tasks.training.released import find_base

CANDIDATE = "candidate"
STATUS_OK = 200


def write_baseline(predictions: Path, exported: Path, model: str, baseline: Path) -> dict[str, int]:
    """Turn the candidate's predictions into rows of the request log.

    The rows' ``release`` is the hash of the exported model's folder, since the release hash covers this file and
    cannot be in it. Times are 0; ids are derived from the items.

    Args:
        predictions: Evaluation's answers per item.
        exported: The exported model's folder, for its tokenizer.
        model: Name of the model in requests.
        baseline: File to write.

    Returns:
        Number of rows.

    Raises:
        PipelineError: The predictions have no answer of the candidate.
    """
    from transformers import AutoTokenizer

    table = read_table(predictions, PREDICTIONS)
    answered = table.filter(pc.equal(table["model"], CANDIDATE)).sort_by("item").to_pylist()
    if not answered:
        raise PipelineError(f'{predictions}: no answers of "{CANDIDATE}"; expected at least one; run evaluation again')
    tokenizer = AutoTokenizer.from_pretrained(find_base(exported), trust_remote_code=False)
    release = hash_folder(exported)
    rows = [_request(row, tokenizer, model, release) for row in answered if row["prompt"]]
    write_table(pa.Table.from_pylist(rows, schema=REQUESTS), baseline, REQUESTS)
    return {"rows": len(rows)}


def _request(row: dict[str, Any], tokenizer: Any, model: str, release: str) -> dict[str, Any]:
    answer = tokenizer(row["answer"], add_special_tokens=False)["input_ids"]
    return {
        "id": f"held-out-{row['item']}",
        "received_at": 0.0,
        "model": model,
        "release": release,
        "key": None,
        "messages": row["prompt"],
        "answer": row["answer"],
        "prompt_tokens": len(encode_prompt(tokenizer, row["prompt"])),
        # The end of the turn is a generated token too.
        "completion_tokens": len(answer) + 1,
        "latency_ms": 0.0,
        "status": STATUS_OK,
        "correction": None,
        "label": row["label"],
    }
