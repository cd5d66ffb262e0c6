"""Which files the local tasks read, told without the harness."""

from __future__ import annotations

import os
import re
from functools import cache
from pathlib import Path

FILES = "HEPTUNE_BENCHMARKS"
OWN_TASKS = Path(__file__).parent / "local"
PACKED = ("", ".gz", ".xz")


def list_files(task: str, folder: str | None) -> dict[str, str]:
    """Local task to the file of its items, of one task or of a group; empty for tasks of others.

    Args:
        task: Name of a task or of a group.
        folder: Where the files are; None: in the folder that the environment names.
    """
    files, groups = _read_tasks()
    root = folder or os.environ.get(FILES, "")
    found = {}
    for name in groups.get(task, (task,)):
        if name in files and root:
            whole = str(Path(root, files[name]))
            found[name] = next((whole + end for end in PACKED if Path(whole + end).is_file()), whole)
    return found


@cache
def _read_tasks() -> tuple[dict[str, str], dict[str, tuple[str, ...]]]:
    """Task to its file, and group to its tasks, as the task files here say."""
    files, groups = {}, {}
    for path in sorted(OWN_TASKS.glob("*.yaml")):
        text = path.read_text(encoding="utf-8")
        if group := re.search(r"^group: (\S+)$", text, re.M):
            groups[group[1]] = tuple(re.findall(r"^  - (\S+)$", text, re.M))
        elif (task := re.search(r"^task: (\S+)$", text, re.M)) and (file := re.search(r"^  file: (\S+)$", text, re.M)):
            files[task[1]] = file[1]
    return files, groups
