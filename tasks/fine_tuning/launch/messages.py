"""What the first rank tells the stage's process while it trains: steps, metrics and log lines, through a file."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

Message = dict[str, Any]


class MessageSender(logging.Handler):
    """Appends messages to a file, and log records as messages.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(logging.INFO)
        self.stream = path.open("a", encoding="utf-8", buffering=1)

    def send(self, kind: str, **values: Any) -> None:
        self.stream.write(json.dumps({"kind": kind, **values}) + "\n")

    def emit(self, record: logging.LogRecord) -> None:
        self.send("log", level=record.levelno, name=record.name, text=record.getMessage())

    def metrics(self, step: int, figures: Mapping[str, float]) -> None:
        self.send("metrics", step=step, figures=dict(figures))

    def begin(self, step: int) -> None:
        self.send("begin", step=step)

    def advance(self, step: int) -> None:
        self.send("step", step=step)

    def tell(self, logs: Mapping[str, float]) -> None:
        self.send("logs", logs={key: logs[key] for key in ("loss", "eval_loss") if key in logs})

    def stop(self) -> None:
        """The process that shows the steps stops by itself."""


class Receiver:
    """Reads what `MessageSender` appends.

    Args:
        path: The file, which need not be there yet.
        on: Kind of message to what is done with it.
    """

    def __init__(self, path: Path, on: Mapping[str, Callable[[Message], None]]) -> None:
        self.path, self.on = path, on
        self.read = 0

    def receive(self) -> None:
        """Handle all whole lines that are new."""
        if not self.path.is_file():
            return
        with self.path.open("rb") as stream:
            stream.seek(self.read)
            new = stream.read()
        lines = new[: new.rfind(b"\n") + 1]
        self.read += len(lines)
        for line in lines.splitlines():
            message = json.loads(line)
            self.on[message.pop("kind")](message)


def log_message(message: Message) -> None:
    """Log a record of the first rank as this process's own."""
    logging.getLogger(message["name"]).log(message["level"], "%s", message["text"])
