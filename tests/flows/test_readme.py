"""The guide of the README, followed as it stands: every command works, and answers as it is printed there."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from flows.wiring import artifacts
from flows.wiring.servers.server import free_port
from flows.wiring.staleness import STAGES
from tests.browser import find_browser, open_browser
from tests.checkout import ROOT
from tests.flows.pages import click_through, walk_pages
from tests.flows.small import child_environment

GUIDE = "## Your own table, to an answer over HTTP"
PORT = "8000"
MARK = "<<command {}>>"
# What differs from machine to machine and from run to run.
VARIABLE = re.compile(r"\b[0-9a-f]{8,}\b|(?:(?<!\w)[+-])?\d[\d,.:]*(e-?\d+)?")


@dataclass(frozen=True)
class GuideCommand:
    """A command of the guide.

    Attributes:
        text: What is typed, over one line or several.
        answer: Lines printed below it; ``...`` in them stands for anything.
    """

    text: str
    answer: list[str]


def read_guide(page: str) -> list[GuideCommand]:
    """Commands of the ``console`` blocks; the lines that go on with one begin with ``>``."""
    section = page.split(GUIDE)[1].split("\n## ")[0]
    commands: list[GuideCommand] = []
    for block in re.findall(r"```console\n(.*?)```", section, re.DOTALL):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            first, *rest = part.rstrip("\n").split("\n")
            typed = [line.removeprefix(">").removeprefix(" ") for line in rest if line.startswith(">")]
            answer = [line for line in rest if not line.startswith(">")]
            commands.append(GuideCommand("\n".join([first, *typed]), answer))
    return commands


def test_the_guide_can_be_read() -> None:
    commands = read_guide((ROOT / "README.md").read_text())
    said = " ".join(command.text for command in commands)
    for word in ("sample", "run", "register", "promote", "serve", "retrain", "rollback", "stop"):
        assert f"heptune {word}" in said
    assert "curl" in said
    assert "from openai import OpenAI" in said


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_the_guide_works_as_it_stands(tmp_path: Path) -> None:
    commands = read_guide((ROOT / "README.md").read_text())
    checkout = tmp_path / "heptune"
    subprocess.run(["git", "clone", "-q", str(ROOT), str(checkout)], check=True)
    (checkout / ".venv").symlink_to(Path(sys.prefix))
    shutil.copy(ROOT / "README.md", checkout)
    port = str(free_port())
    script = ["set -e"]
    for number, command in enumerate(commands):
        text = command.text.replace("heptune serve", f"heptune serve --port {port}").replace(PORT, port)
        script += [f"echo '{MARK.format(number)}'", text.replace(f"--port {port} --port {port}", f"--port {port}")]
    environment = {**child_environment(), "PYTHONPATH": os.fspath(checkout)}
    done = subprocess.run(
        ["bash"],
        cwd=checkout,
        env=environment,
        input="\n".join(script) + "\n",
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    for number, command in enumerate(commands):
        said = done.stdout.split(MARK.format(number))[1].split("<<command ")[0]
        lines = [blank(line) for line in said.splitlines()]
        missing = [line for line in command.answer if not any(fits(line, printed) for printed in lines)]
        assert not missing, f"{command.text}\nprints\n{said}\nand not\n" + "\n".join(missing)
    if find_browser():
        # Of a champion, a challenger and a retrain, as a reader of the guide finds them.
        overview = (checkout / artifacts.INDEX).as_uri()
        with open_browser() as tab:
            click_through(tab, overview, STAGES)
            walk = walk_pages(tab, overview, (checkout / artifacts.REPORTS).as_uri())
        assert walk.faults == []
        assert len(walk.pages) >= len(STAGES) + 4


def fits(line: str, printed: str) -> bool:
    """Whether a line of the guide, in which ``...`` stands for anything, is one that was printed."""
    parts = [re.escape(blank(part)) for part in line.split("...")]
    return re.fullmatch(".*".join(parts), printed) is not None


def blank(line: str) -> str:
    """A line without what differs between runs: numbers, hashes, spaces."""
    return " ".join(VARIABLE.sub("#", line).split())
