"""The first rendering of a stranger's chat template happens in a process of its own, with limits.

A template is a program. Jinja's sandbox keeps it from files, code and the network, but not from a loop without end or a
text as long as the memory. It is tried there on conversations of all roles and on training rows; what it then does in
this process, it has done before within the limits.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

from tasks.contracts.errors import PipelineError
from tasks.model_initialisation.measure import take_evenly

LIMIT_S = 5.0  # of the processor; thousands of times what a template takes
LIMIT_BYTES = 1 << 30
_WAIT_S = 120
_ROWS = 32
_PROCESS = Path(__file__).with_name("template_process.py")
_SECURITY = 3
_TURNS = [
    {"role": "system", "content": "Be kind."},
    {"role": "user", "content": "One?"},
    {"role": "assistant", "content": "First."},
    {"role": "tool", "content": "1"},
    {"role": "user", "content": "Two?"},
    {"role": "assistant", "content": "Second."},
]


def try_template(tokenizer: Any, wanted: Literal["own", "chatml"], examples: pa.Table) -> None:
    """Render the model's own template in a process with limits; a supplied one needs no trial.

    Args:
        tokenizer: The base model's tokenizer.
        wanted: ``model_initialisation.chat_template``.
        examples: Training rows, some of which are rendered.

    Raises:
        PipelineError: The template does not end, fills the memory, or reaches for what its sandbox forbids.
    """
    templates = tokenizer.chat_template if wanted == "own" else None
    rows = take_evenly(examples, _ROWS)["messages"].to_pylist()
    for template in templates.values() if isinstance(templates, dict) else [templates]:
        if template:
            run_limited(str(template), [*_plain(), *rows], tokenizer.special_tokens_map)


def run_limited(template: str, conversations: Sequence[Any], special_tokens: Mapping[str, Any]) -> list[str]:
    """Render conversations in a process with limits.

    Returns:
        Reasons of those that the template refuses, which a template may.

    Raises:
        PipelineError: As `try_template`.
    """
    task = {
        "template": template,
        "conversations": conversations,
        "special_tokens": {name: str(token) for name, token in special_tokens.items()},
        "seconds": LIMIT_S,
        "memory_bytes": LIMIT_BYTES,
    }
    command = [sys.executable, "-I", str(_PROCESS)]
    try:
        done = subprocess.run(
            command, input=json.dumps(task), capture_output=True, text=True, timeout=_WAIT_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise _refusal(f"did not end within {_WAIT_S} s") from None
    if done.returncode == _SECURITY:
        raise _refusal(f"reaches for what its sandbox forbids ({done.stderr.strip()})")
    if done.returncode < 0:
        raise _refusal(f"did not end within {LIMIT_S:g} s of processor time")
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no reason given"])[-1][:160]
        raise _refusal(f"took more than {LIMIT_BYTES / 2**30:.0f} GiB of memory, or failed otherwise ({last})")
    reasons: list[str] = json.loads(done.stdout)
    return reasons


def _plain() -> list[list[dict[str, str]]]:
    """Conversations of all roles, of the two that every template has to know, and of one turn."""
    return [_TURNS, [turn for turn in _TURNS if turn["role"] in ("user", "assistant")], _TURNS[1:2]]


def _refusal(what: str) -> PipelineError:
    return PipelineError(
        f"the chat template {what}, expected one that writes a conversation; it is hostile or damaged: take the model "
        "from its author, or set model_initialisation.chat_template: chatml"
    )
