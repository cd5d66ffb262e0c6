"""Several answers to each item, drawn at a temperature, with how likely each was."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from tasks.language_models.encoding import encode_prompt
from tasks.language_models.generation import context_length, sample_tokens
from tasks.language_models.sampling import TokenSampler
from tasks.language_models.templates.ends import ends_of

if TYPE_CHECKING:
    from tasks.evaluation.items import Item
    from tasks.evaluation.probes.probe import Measured


@dataclass(frozen=True)
class SamplesProbe:
    """Sampled answers.

    Attributes:
        count: Answers to each item.
        temperature: They are drawn at.
        seed: Of the draws; each answer has random numbers of its own.
    """

    repeats: ClassVar[bool] = True
    count: int
    temperature: float
    seed: int

    @property
    def key(self) -> str:
        return f"samples {self.count} {self.temperature:g} {self.seed}"

    def measure(
        self, model: Any, tokenizer: Any, items: Sequence[Item], answers: Sequence[str], max_new_tokens: int, batch: int
    ) -> Measured:
        """``answers`` and ``log_probabilities`` (nats, summed over an answer's tokens), `count` of each per item."""
        encoded = {place: encode_prompt(tokenizer, item.prompt) for place, item in enumerate(items) if item.prompt}
        rows = [(place, number) for place in encoded for number in range(self.count)]
        context = context_length(model.config)
        room = [max(1, min(max_new_tokens, (context or 1 << 30) - len(encoded[place]))) for place, _ in rows]
        ends = ends_of(getattr(model, "generation_config", None), tokenizer)
        sampler = TokenSampler(self.temperature, 1.0, [(self.seed, *row) for row in rows], max(room, default=1))
        prompts = {row: encoded[place] for row, (place, _) in enumerate(rows)}
        written = sample_tokens(model, prompts, dict(enumerate(room)), ends, sampler, batch)
        texts: list[list[str]] = [[] for _ in items]
        logs: list[list[float]] = [[] for _ in items]
        for row, (place, _) in enumerate(rows):
            tokens = [token for token in written[row] if token not in ends]
            texts[place].append(tokenizer.decode(tokens, skip_special_tokens=True))
            logs[place].append(float(sum(sampler.log_probabilities[row])))
        return {"answers": texts, "log_probabilities": logs}
