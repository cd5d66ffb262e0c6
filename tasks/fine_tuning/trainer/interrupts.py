"""A training that is asked to end (SIGTERM, SIGINT, SIGHUP) finishes its step, seals a checkpoint and leaves.

A preempted machine, Prefect's cancel and Ctrl-C send such a signal some seconds before they kill. Raised in the middle
of a step, it would leave weights and optimizer half updated and lose all steps since the last checkpoint; so it is
noted, and handed on to what handled it before once the step is saved. A step, validation and save that together take
longer than the sender waits are lost with the kill, and the run resumes from the checkpoint before.
"""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

if TYPE_CHECKING:
    from tasks.fine_tuning.trainer.fine_tuner import FineTuner

logger = logging.getLogger(__name__)

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Asking(Protocol):
    """How a training learns that it is asked to end."""

    @property
    def number(self) -> int | None:
        """The signal; None as long as there was none."""
        ...

    def deferred(self) -> AbstractContextManager[None]:
        """The block in which it is only noted."""
        ...

    def leave(self) -> None:
        """The step is saved; raises in order to end the training."""
        ...


class Interrupt:
    """The first signal that asked this process to end, kept back until the work can be left.

    Attributes:
        number: The signal; None as long as there was none.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self._handlers: dict[int, Any] = {}

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Note signals in this block; one that is not handed on by `leave` is handed on at its end.

        Python handles signals in the main thread only; in any other one nothing changes.
        """
        if threading.current_thread() is threading.main_thread():
            handlers = {number: signal.getsignal(number) for number in SIGNALS}
            # What is ignored (``nohup``) stays so; None is a handler that Python cannot put back.
            self._handlers = {n: handler for n, handler in handlers.items() if handler not in (signal.SIG_IGN, None)}
            for number in self._handlers:
                signal.signal(number, self._note)
        try:
            yield
        finally:
            self.leave()

    def _note(self, number: int, _frame: object) -> None:
        if self.number is None:
            self.number = number

    def leave(self) -> None:
        """Put the handlers back and hand the signal on, if there was one; with the usual handlers this raises."""
        handlers, self._handlers = self._handlers, {}
        for number, handler in handlers.items():
            signal.signal(number, handler)
        noted, self.number = self.number, None
        if noted is not None:
            signal.raise_signal(noted)


class SealAndLeave(TrainerCallback):
    """Saves the step during which a signal came, then hands the signal on.

    The step is saved as it is, neither logged nor validated out of turn, so that the curve of the run that goes on is
    the one of a run that was not interrupted: the training loss since the last logged step is part of the checkpoint.

    Args:
        trainer: The trainer of the run.
        interrupt: Where signals are noted.
    """

    def __init__(self, trainer: FineTuner, interrupt: Asking) -> None:
        self.trainer, self.interrupt = trainer, interrupt

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.trainer.restore_loss()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if self.interrupt.number is not None:
            control.should_save = True

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if self.interrupt.number is not None and state.global_step:
            control.should_save = True

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if self.interrupt.number is not None:
            name = signal.Signals(self.interrupt.number).name
            logger.info("%s: step %s is saved, the next run goes on from there", name, f"{state.global_step:,}")
            self.interrupt.leave()
