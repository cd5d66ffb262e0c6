"""What is at work in a checkout: commands, and gateways with the release that each serves."""

from __future__ import annotations

from dataclasses import dataclass

from flows.wiring.processes import has_process, read_mark
from flows.wiring.releases.serving import list_gateways
from flows.wiring.servers.server import USERS

TIMEOUT_S = 1.0


@dataclass(frozen=True)
class RunningCommand:
    """A command of this checkout.

    Attributes:
        command: Its words, such as ``run`` or ``watch``.
        pid: Id of its process.
    """

    command: str
    pid: int


@dataclass(frozen=True)
class ServingGateway:
    """A gateway of this checkout.

    Attributes:
        url: Where it answers.
        pid: Id of its process.
        status: ``ok``, ``degraded`` or what else it says of itself; ``starting`` while it does not answer.
        release: Hash of the release that it serves; empty while it starts.
    """

    url: str
    pid: int
    status: str
    release: str


def list_commands() -> list[RunningCommand]:
    """Commands that use this checkout's engines, on this machine; oldest first."""
    import psutil

    found = []
    for path in sorted(USERS.glob("*"), key=lambda path: path.stat().st_mtime if path.exists() else 0.0):
        mark = read_mark(path.name)
        if mark is None or not has_process(mark):
            continue
        try:
            words = psutil.Process(mark[0]).cmdline()
        except psutil.Error:  # it has just ended
            continue
        found.append(RunningCommand(" ".join(name_command(words)), mark[0]))
    return found


def name_command(words: list[str]) -> list[str]:
    """A command line as it was typed: ``python -m flows run`` and ``heptune run`` are ``run``."""
    for index, word in enumerate(words):
        name = word.rsplit("/", 1)[-1]
        if name == "heptune" or word == "flows":
            return words[index + 1 :]
        if name == "dvc":
            return ["dvc", *words[index + 1 :]]
    return words


def list_serving() -> list[ServingGateway]:
    """The gateways of this checkout on this machine."""
    return [ServingGateway(one.url, one.mark[0], *ask_health(one.url)) for one in list_gateways()]


def ask_health(url: str) -> tuple[str, str]:
    """What a gateway says of itself: status and release."""
    import httpx

    try:
        answer = httpx.get(f"{url}/healthz", timeout=TIMEOUT_S).json()
        return str(answer.get("status", "unknown")), str(answer.get("release") or "")
    except (httpx.HTTPError, ValueError, AttributeError):
        return "starting", ""
