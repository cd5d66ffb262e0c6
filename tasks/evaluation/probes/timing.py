"""Seconds that a model takes to answer one prompt at a time, as one user waits for it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from tasks.language_models.generation import generate_answers

if TYPE_CHECKING:
    from tasks.evaluation.items import Item
    from tasks.evaluation.probes.probe import Measured


@dataclass(frozen=True)
class TimingProbe:
    """Times of answers, on this machine as busy as it is.

    Attributes:
        prompts: Items that are timed, the first ones; they are in the order of a hash of their content.
        tries: Times that each is answered; the shortest counts, as what else runs only adds to it.
    """

    repeats: ClassVar[bool] = False
    prompts: int
    tries: int

    @property
    def key(self) -> str:
        return f"seconds {self.prompts} {self.tries}"

    def measure(
        self, model: Any, tokenizer: Any, items: Sequence[Item], answers: Sequence[str], max_new_tokens: int, batch: int
    ) -> Measured:
        """``seconds`` of each item's greedy answer, alone in its batch; None where it was not timed."""
        asked = [place for place, item in enumerate(items) if item.prompt][: self.prompts]
        seconds: list[float | None] = [None] * len(items)
        if asked:
            # The first answer also pays for what is set up once.
            generate_answers(model, tokenizer, [items[asked[0]].prompt], max_new_tokens, 1)
        for place in asked:
            times = []
            for _ in range(self.tries):
                begun = time.perf_counter()
                generate_answers(model, tokenizer, [items[place].prompt], max_new_tokens, 1)
                times.append(time.perf_counter() - begun)
            seconds[place] = min(times)
        return {"seconds": seconds}
