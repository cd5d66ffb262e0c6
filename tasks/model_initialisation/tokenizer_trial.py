"""A stranger's ``tokenizer.json`` is first read and used in a process of its own, with limits.

The file has regular expressions, which may take longer than anyone waits, and numbers that its reader believes until it
panics, which no caller expects. What it then does in this process, it has done before within the limits: reading,
training rows, and long runs of one kind of character, on which such expressions take their time.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pyarrow as pa

from tasks.contracts.errors import PipelineError
from tasks.model_initialisation.measure import take_evenly

LIMIT_S = 20.0  # of the processor; ten times what the largest vocabularies take
LIMIT_BYTES = 4 << 30
_WAIT_S = 240
_ROWS = 32
_RUNS = [part * (2000 // len(part)) for part in ("a", "A", "1", " ", "\n", ".", "ab ", "é", "中", "a1", " \n", "'")]
_PROCESS = Path(__file__).with_name("tokenizer_process.py")


def try_tokenizer(folder: Path, examples: pa.Table) -> None:
    """Read and use a folder's ``tokenizer.json`` in a process with limits; without one there is nothing to try.

    Args:
        folder: A checked model folder.
        examples: Training rows, some of which are tokenized.

    Raises:
        PipelineError: It does not end, fills the memory, or fails.
    """
    file = folder / "tokenizer.json"
    if not file.is_file():
        return
    rows = take_evenly(examples, _ROWS)["messages"].to_pylist()
    texts = [turn["content"] for turns in rows for turn in turns if turn["content"]]
    task = {"file": str(file), "texts": [*_RUNS, *texts], "seconds": LIMIT_S, "memory_bytes": LIMIT_BYTES}
    quiet = {**os.environ, "RUST_BACKTRACE": "0", "TOKENIZERS_PARALLELISM": "false"}
    try:
        done = subprocess.run(
            [sys.executable, "-I", str(_PROCESS)],
            input=json.dumps(task),
            capture_output=True,
            text=True,
            timeout=_WAIT_S,
            check=False,
            env=quiet,
        )
    except subprocess.TimeoutExpired:
        raise _refusal(file, f"did not end within {_WAIT_S} s") from None
    if done.returncode == -signal.SIGVTALRM:
        raise _refusal(file, f"did not end within {LIMIT_S:g} s of processor time")
    if done.returncode:
        # Of a panic: where it was, what it says, and how to see more.
        told = [
            line for line in done.stderr.splitlines() if line.strip() and not line.startswith(("thread ", "note: "))
        ]
        reason = " ".join(told)[:200] or f"exit code {done.returncode}"
        raise _refusal(file, f"does not load, or fails on a text ({reason})")


def _refusal(file: Path, what: str) -> PipelineError:
    return PipelineError(
        f"{file}: {what}, expected a tokenizer that reads any text; it is hostile or damaged: take the model from its "
        "author"
    )
