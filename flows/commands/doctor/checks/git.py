"""Git: there, willing, and between two works, not within one."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from flows.commands.doctor.finding import Finding, Surroundings

OLD_S = 600
TIMEOUT_S = 20
BEGUN = {"MERGE_HEAD": "merge", "rebase-merge": "rebase", "rebase-apply": "rebase", "CHERRY_PICK_HEAD": "cherry-pick"}


def examine(here: Surroundings) -> Iterator[Finding]:
    try:
        code, out, err = run("status", "--porcelain", "--untracked-files=no")
    except FileNotFoundError:
        yield Finding("warning", "git", "is not installed; runs record no commit", "install git")
        return
    except subprocess.TimeoutExpired:
        found = f"`git status` took more than {TIMEOUT_S} s"
        yield Finding("warning", str(Path.cwd()), found, "put the checkout on a local disk, or run `git gc`")
        return
    if code:
        if "dubious ownership" in err:
            yield Finding(
                "error", str(Path.cwd()), "belongs to another user, so git refuses it and runs record no commit",
                f"`git config --global --add safe.directory {Path.cwd()}`",
            )  # fmt: skip
        elif "not a git repository" in err:
            found = "is no git repository; runs and model versions record no commit"
            yield Finding("note", str(Path.cwd()), found, "`git init`, `git add .` and `git commit` make one")
        else:
            first = (err.strip().splitlines() or [f"exit code {code}"])[0]
            yield Finding("error", str(Path.cwd()), f"`git status` fails ({first})", "mend the repository: `git fsck`")
        return
    unmerged = [line[3:] for line in out.splitlines() if "U" in line[:2] or line[:2] in ("AA", "DD")]
    if unmerged:
        shown = ", ".join(unmerged[:3]) + (f" and {len(unmerged) - 3} more" if len(unmerged) > 3 else "")
        found = f"unmerged: {shown}; what stages read may hold both sides"
        yield Finding("error", str(Path.cwd()), found, "resolve them and commit, or `git merge --abort`")
    folder = Path(run("rev-parse", "--git-dir")[1].strip())
    for name, work in BEGUN.items():
        if not unmerged and (folder / name).exists():
            found = f"a {work} was begun and not ended"
            yield Finding("warning", str(folder / name), found, f"`git {work} --continue` or `git {work} --abort`")
    lock = folder / "index.lock"
    if lock.exists() and time.time() - lock.stat().st_mtime > OLD_S:
        found = "a killed git left it, and every commit is refused"
        yield Finding("error", str(lock), found, "delete it, once no git is at work")


def run(*words: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a git command.

    Raises:
        FileNotFoundError: There is no git.
        subprocess.TimeoutExpired: It takes too long.
    """
    done = subprocess.run(
        ["git", "--no-optional-locks", *words], capture_output=True, text=True, check=False, timeout=TIMEOUT_S
    )
    return done.returncode, done.stdout, done.stderr
