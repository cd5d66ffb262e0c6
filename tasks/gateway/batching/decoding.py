"""The decoding loop of one worker thread: requests join between steps, tokens are sent as they are chosen.

Greedy answers do not depend on other requests. In float32 a batch changes logits by rounding only (measured
when the model is loaded); a token whose logit exceeds the second by more than that margin is the same in
any batch, and one with a smaller lead is decided by computing its row alone.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch

from tasks.gateway.batching.adapted_model import AdaptedModel
from tasks.gateway.batching.batch import logits_alone
from tasks.gateway.batching.running_rows import RunningRows
from tasks.gateway.batching.sampling import make_generator, sample_token
from tasks.gateway.batching.text import AnswerText
from tasks.gateway.engine import Delta, EngineLoad, Failed, Finished, FinishReason, GenerationRequest

logger = logging.getLogger(__name__)


@dataclass(eq=False)
class Row:
    """A request in the batch."""

    request: GenerationRequest
    text: AnswerText
    generator: torch.Generator | None
    tokens: list[int]


@dataclass(eq=False)
class _Call:
    """A function that is called between two steps.

    Attributes:
        function: What is called.
        unless_used: Adapter that no request may ask for when it is.
        done: Its end, or its error.
    """

    function: Callable[[], None]
    unless_used: str | None
    done: Future[None] = field(default_factory=Future)

    def make(self) -> None:
        try:
            with torch.inference_mode(False):
                self.function()
        # Whatever it raises is for whoever asked for it, and must not end the thread.
        except Exception as error:  # noqa: BLE001
            self.done.set_exception(error)
        else:
            self.done.set_result(None)


class DecodeLoop:
    """Decodes in a thread of its own until closed.

    Args:
        model: A causal language model in evaluation mode, which decides near ties.
        batch: Its running rows, none so far.
        decode: Token ids to text without special tokens.
        ends: Ids that end an answer.
        max_batch: Maximum number of rows decoded together.
        tie_margin: A greedy choice with a lead up to this is decided by computing the row alone; 0: never.
        on_step: Called with the number of rows of every step.
        adapted: The same model where its rows may have adapters.
    """

    def __init__(
        self,
        model: Any,
        batch: RunningRows,
        decode: Callable[[list[int]], str],
        ends: Collection[int],
        max_batch: int,
        tie_margin: float,
        on_step: Callable[[int], None],
        adapted: AdaptedModel | None = None,
    ) -> None:
        self._model = model
        self._adapted = adapted
        self._calls: list[_Call] = []
        self._decode = decode
        self._ends = frozenset(ends)
        self._max_batch = max_batch
        self._tie_margin = tie_margin
        self._on_step = on_step
        self._batch = batch
        self._rows: list[Row] = []
        self._waiting: deque[GenerationRequest] = deque()
        self._wake = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="decode", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        return self._thread.is_alive() and not self._closing

    def load(self) -> EngineLoad:
        return EngineLoad(waiting=len(self._waiting), running=len(self._rows))

    def submit(self, request: GenerationRequest) -> None:
        with self._wake:
            if not self.alive:
                request.emit(Failed("the engine is closed"))
                return
            self._waiting.append(request)
            self._wake.notify()

    def call(self, function: Callable[[], None], unless_used: str | None = None) -> None:
        """Have a function called between two steps, on the thread that decodes; returns when it was.

        Args:
            function: Changes the model.
            unless_used: Name of an adapter; the call waits until no submitted request asks for it.

        Raises:
            RuntimeError: The loop is closed.
        """
        call = _Call(function, unless_used)
        with self._wake:
            if not self.alive:
                raise RuntimeError("call after close")
            self._calls.append(call)
            self._wake.notify()
        call.done.result()

    def close(self) -> None:
        """Finish every submitted request, then end the thread."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        self._thread.join()

    def _run(self) -> None:
        with torch.inference_mode():
            while True:
                with self._wake:
                    while not (self._waiting or self._rows or self._calls or self._closing):
                        self._wake.wait()
                    calls = self._take_calls()
                    if not (self._waiting or self._rows or calls):
                        return
                    joining = [self._waiting.popleft() for _ in range(self._free_rows())]
                for call in calls:
                    call.make()
                try:
                    self._advance([request for request in joining if not self._is_left_out(request)])
                # Any error of the model (out of memory, a bad kernel) fails these requests but not the server.
                except Exception as error:
                    logger.exception("a decoding step failed")
                    self._fail(joining, f"{type(error).__name__} while decoding")

    def _take_calls(self) -> list[_Call]:
        """The calls that can be made now."""
        asked = {request.adapter for request in (*self._waiting, *(row.request for row in self._rows))}
        ready = [call for call in self._calls if call.unless_used is None or call.unless_used not in asked]
        self._calls = [call for call in self._calls if call not in ready]
        return ready

    def _is_left_out(self, request: GenerationRequest) -> bool:
        """Whether a request is not decoded: it is cancelled, or its adapter was taken away."""
        lacking = request.adapter is not None and (self._adapted is None or request.adapter not in self._adapted.names)
        if lacking and not request.cancelled:
            request.emit(Failed(f"the adapter {request.adapter} is not served any more"))
        return lacking or request.cancelled

    def _with_adapters(self, requests: Sequence[GenerationRequest]) -> AbstractContextManager[None]:
        """The rows of the forward passes in the block have these requests' adapters."""
        return nullcontext() if self._adapted is None else self._adapted.rows([r.adapter for r in requests])

    def _free_rows(self) -> int:
        return min(len(self._waiting), self._max_batch - len(self._rows))

    def _fail(self, joining: list[GenerationRequest], message: str) -> None:
        failed = {id(r): r for r in [*joining, *(row.request for row in self._rows)]}
        self._rows = []
        self._batch.clear()
        for request in failed.values():
            request.emit(Failed(message))

    def _advance(self, joining: list[GenerationRequest]) -> None:
        """One step of the running rows, and the first token of the joining ones."""
        self._remove(lambda row: row.request.cancelled)
        done: set[int] = set()
        if self._rows:
            self._on_step(len(self._rows))
            with self._with_adapters([row.request for row in self._rows]):
                logits = self._batch.step([row.tokens[-1] for row in self._rows])
            done = self._choose(self._rows, logits)
        if joining:
            # Prompts of similar length are prefilled together, which saves padding.
            joining.sort(key=lambda request: len(request.prompt))
            joined = [self._make_row(request) for request in joining]
            with self._with_adapters(joining):
                logits = self._batch.join([list(request.prompt) for request in joining])
            self._rows = [*self._rows, *joined]
            done |= self._choose(joined, logits)
        self._remove(lambda row: id(row) in done)

    def _make_row(self, request: GenerationRequest) -> Row:
        greedy = request.sampling.temperature == 0
        generator = None if greedy else make_generator(request.sampling)
        return Row(request, AnswerText(self._decode, request.stops), generator, [])

    def _remove(self, condition: Callable[[Row], bool]) -> None:
        indices = {index for index, row in enumerate(self._rows) if condition(row)}
        if indices:
            self._rows = [self._rows[index] for index in self._batch.remove(indices)]

    def _choose(self, rows: list[Row], logits: torch.Tensor) -> set[int]:
        """Append a token to every row and send its text; returns the ids of the finished rows."""
        done = self._fail_broken(rows, logits)
        best, tokens = logits.topk(2, dim=-1)
        leads = (best[:, 0] - best[:, 1]).tolist()
        first = tokens[:, 0].tolist()
        for index, row in enumerate(rows):
            if id(row) in done:
                continue
            if row.generator is not None:
                token = sample_token(logits[index], row.request.sampling, row.generator)
            elif leads[index] <= self._tie_margin:
                with self._with_adapters([row.request]):
                    token = int(logits_alone(self._model, [*row.request.prompt, *row.tokens]).argmax())
            else:
                token = first[index]
            if self._append(row, token):
                done.add(id(row))
        return done

    def _fail_broken(self, rows: list[Row], logits: torch.Tensor) -> set[int]:
        """Fail rows without a most likely token: a logit is no number or infinite, or none is finite."""
        broken = logits.isnan().any(dim=-1) | logits.isposinf().any(dim=-1) | logits.isneginf().all(dim=-1)
        if not bool(broken.any()):
            return set()
        failed = [row for row, is_broken in zip(rows, broken.tolist(), strict=True) if is_broken]
        logger.error("the model's logits are not finite in %d of %d rows", len(failed), len(rows))
        for row in failed:
            row.request.emit(Failed("the model's logits are not finite"))
        return {id(row) for row in failed}

    def _append(self, row: Row, token: int) -> bool:
        """Returns whether the row is finished."""
        row.tokens.append(token)
        reason: FinishReason | None = None
        if token in self._ends:
            reason = "stop"
        else:
            text = row.text.push(token)
            if text:
                row.request.emit(Delta(text))
            if row.text.stopped:
                reason = "stop"
            elif len(row.tokens) >= row.request.max_new_tokens:
                reason = "length"
        if reason is None:
            return False
        rest = row.text.finish()
        if rest:
            row.request.emit(Delta(rest))
        row.request.emit(Finished("stop" if row.text.stopped else reason, tuple(row.tokens), token in self._ends))
        return True
