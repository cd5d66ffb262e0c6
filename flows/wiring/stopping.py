"""How a command and a stage end on SIGINT (Ctrl-C), SIGTERM and SIGHUP (the terminal was closed).

The first signal raises `Stopped` in the main thread, so that states and files are brought to an end. Where the main
thread does not get there in time, because it computes or waits, a thread beside it ends the process and what it
started; a second Ctrl-C does so at once.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType

from flows.wiring.processes import ProcessMark, has_process, list_below

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# A stage has less than its command, which waits for it; enough for a step of training and its checkpoint.
STAGE_GRACE_S, COMMAND_GRACE_S = 6.0, 8.0
# Of two signals within this time one is that of the terminal, and the other is that of the command above.
SAME_S = 1.0
OWNER_POLL_S = 1.0

_is_stopping = False
# Seconds that this process may take to end; None while it does not listen.
_grace_s: float | None = None
# What is still to be said on the terminal when this process is stopped.
_last_words = ""


class Stopped(KeyboardInterrupt):
    """A signal asked this process, or the stage that it runs, to end."""

    def __init__(self, number: int) -> None:
        self.signal = signal.Signals(number)
        super().__init__(f"stopped by {self.signal.name}")

    @property
    def exit_code(self) -> int:
        """As shells have it: 130 after SIGINT, 143 after SIGTERM, 129 after SIGHUP."""
        return 128 + self.signal


def signal_of(code: int) -> int | None:
    """The signal by which a process was asked to end, from its exit code; None where it ended for another reason."""
    number = -code if code < 0 else code - 128
    return number if number in SIGNALS else None


def listen(grace_s: float, tell: Callable[[int], object] = lambda _: None, last_words: str = "") -> None:
    """Raise `Stopped` on the signals; call once, in the main thread. What is ignored (``nohup``) stays so.

    Args:
        grace_s: After this time the process is ended, seconds.
        tell: Called with the first signal, from the thread beside.
        last_words: What `say_last_words` says, behind the name of the signal.
    """
    global _grace_s, _last_words
    _grace_s, _last_words = grace_s, last_words
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _raise)
    threading.Thread(target=_watch, args=(reader, writer, tell), name="signals", daemon=True).start()


def _raise(number: int, _frame: FrameType | None) -> None:
    global _is_stopping
    if _is_stopping:  # a second one would interrupt the end itself; the thread beside counts it
        return
    _is_stopping = True
    # Prefect's own handler, in a flow, would raise once more.
    for other in SIGNALS:
        if signal.getsignal(other) is not signal.SIG_IGN:
            signal.signal(other, _raise)
    raise Stopped(number)


def _watch(reader: socket.socket, _writer: socket.socket, tell: Callable[[int], object]) -> None:
    first, began = 0, 0.0
    while True:
        for number in reader.recv(64):
            if number not in SIGNALS:
                continue
            if first and number == signal.SIGINT and time.monotonic() - began > SAME_S:
                end_now(first)
            if not first:
                first, began = number, time.monotonic()
                end_in_time(number)
                tell(number)


def end_in_time(number: int) -> None:
    """Bound the end that `Stopped` begins: after the grace of `listen` the process is ended."""
    if _grace_s is not None:
        ending = threading.Timer(_grace_s, end_now, [number])
        ending.daemon = True
        ending.start()


def say_last_words(number: int) -> None:
    """Say once on the terminal which signal ended this process."""
    global _last_words
    words, _last_words = _last_words, ""
    if words:
        with contextlib.suppress(OSError):  # the terminal may be gone
            sys.stderr.write(f"heptune: stopped by {signal.Signals(number).name}; {words}\n")
            sys.stderr.flush()


def end_now(number: int) -> None:
    """End this process and what it started."""
    import psutil

    say_last_words(number)
    for process in list_below(os.getpid()):
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    os._exit(128 + number)


def end_with(owner: ProcessMark) -> None:
    """Take the end of another process for SIGTERM."""

    def watch() -> None:
        while has_process(owner):
            time.sleep(OWNER_POLL_S)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="owner", daemon=True).start()
