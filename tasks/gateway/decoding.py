"""The decoding loop of one worker thread: requests join between steps, tokens are sent as they are chosen.

Greedy answers do not depend on other requests. In float32 a batch changes logits by rounding only (measured
when the model is loaded); a token whose logit exceeds the second by more than that margin is the same in
any batch, and one with a smaller lead is decided by computing its row alone.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import torch

from tasks.gateway.batch import logits_alone
from tasks.gateway.engine import Delta, EngineLoad, Failed, Finished, FinishReason, GenerationRequest
from tasks.gateway.running_rows import RunningRows
from tasks.gateway.sampling import make_generator, sample_token
from tasks.gateway.text import AnswerText

logger = logging.getLogger(__name__)


@dataclass(eq=False)
class Row:
    """A request in the batch."""

    request: GenerationRequest
    text: AnswerText
    generator: torch.Generator | None
    tokens: list[int]


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
    ) -> None:
        self._model = model
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
                    while not (self._waiting or self._rows or self._closing):
                        self._wake.wait()
                    if not (self._waiting or self._rows):
                        return
                    joining = [self._waiting.popleft() for _ in range(self._free_rows())]
                try:
                    self._advance([request for request in joining if not request.cancelled])
                # Any error of the model (out of memory, a bad kernel) fails these requests but not the server.
                except Exception as error:
                    logger.exception("a decoding step failed")
                    self._fail(joining, f"{type(error).__name__} while decoding")

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
            logits = self._batch.step([row.tokens[-1] for row in self._rows])
            done = self._choose(self._rows, logits)
        if joining:
            # Prompts of similar length are prefilled together, which saves padding.
            joining.sort(key=lambda request: len(request.prompt))
            joined = [self._make_row(request) for request in joining]
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
