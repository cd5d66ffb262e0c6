"""Limits that the shell gives to its processes (``ulimit``)."""

from __future__ import annotations

from collections.abc import Iterator

from flows.commands.doctor.finding import Finding, Surroundings

LEAST_FILES = 1024


def examine(here: Surroundings) -> Iterator[Finding]:
    try:
        import resource
    except ImportError:  # not on Windows
        return
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files not in (-1, resource.RLIM_INFINITY) and files < LEAST_FILES:
        found = f"a process may have {files} open files; servers and shards want {LEAST_FILES:,} and more"
        yield Finding("warning", "ulimit -n", found, f"`ulimit -n {4 * LEAST_FILES}` before you start anything")
    for name, kind in (("-f", resource.RLIMIT_FSIZE), ("-v", resource.RLIMIT_AS)):
        limit, _ = resource.getrlimit(kind)
        if limit in (-1, resource.RLIM_INFINITY):
            continue
        what = "a file may have" if name == "-f" else "a process may reserve"
        yield Finding(
            "warning", f"ulimit {name}", f"{what} at most {limit / 2**30:.1f} GiB; checkpoints and PyTorch want more",
            f"`ulimit {name} unlimited`",
        )  # fmt: skip
