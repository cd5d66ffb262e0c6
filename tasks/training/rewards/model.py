"""The score of a sequence classifier, above all of a reward model that was trained on preferences.

A folder with ``config.json`` and safetensors that transformers opens as a sequence classifier. One with a single
output gives that number, which has no bounds; one with several gives the log-probability of ``label``. The conversation
is written with the folder's own chat template, or, where it has none, as one text.

A model of processes, which ``objective: process_reward_model`` trains, gives a number at the end of every step, the
log-odds that it is right. ``steps`` makes one number of these probabilities: their product, which is the probability
that all steps are right, or the smallest (Lightman et al. 2023, arXiv:2305.20050, compare both; Wang et al. 2023,
arXiv:2312.08935, take the smallest); their mean, which does not fall with the number of steps; or the last. Steps are
parted by empty lines, as in training; an answer without one is a single step.

Example: ``{name: model, path: models/reward}``; ``{name: model, path: models/toxicity, label: toxic, weight: -1}``;
``{name: model, path: models/reward/steps, steps: product}``: with log-odds of 2.2, -0.4 and 1.4, the probabilities are
0.9, 0.4 and 0.8, the product 0.29, the smallest 0.4, the mean 0.7 and the last 0.8.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any, Literal

from pydantic import Field

from tasks.contracts.errors import PipelineError
from tasks.contracts.params import Reads, Section
from tasks.language_models.writers.local import list_model_files
from tasks.training.rewards.reward import BINARY, AnswerAttempt, Bounds, Reference, Scorer, weight_field

logger = logging.getLogger(__name__)

StepReduction = Literal["product", "min", "mean", "last"]
# Of the probabilities that each step of an answer is right, at least one.
REDUCTIONS: Mapping[StepReduction, Callable[[Sequence[float]], float]] = {
    "product": math.prod,
    "min": min,
    "mean": fmean,
    "last": lambda probabilities: probabilities[-1],
}
IN_WORDS: Mapping[StepReduction, str] = {"product": "product", "min": "smallest", "mean": "mean", "last": "last"}


class RewardModel(Section):
    """Reward by a classifier."""

    name: Literal["model"] = "model"
    weight: float = weight_field()
    path: Annotated[str, Reads("folder", holds="config.json")] = Field(
        default="models/reward", description="folder of the classifier, with its tokenizer"
    )
    label: str | None = Field(default=None, description="class whose log-probability counts; null: the only output")
    steps: StepReduction | None = Field(
        default=None,
        description="a model of processes: what becomes of the probabilities that each step is right, 0 to 1; null: "
        "the score of the whole answer",
    )
    max_tokens: int = Field(default=1024, ge=1, description="tokens that it reads; longer texts lose their beginning")
    batch_size: int = Field(default=16, ge=1, description="texts scored at once")

    @property
    def needs(self) -> tuple[Reference, ...]:
        return ()

    @property
    def bounds(self) -> Bounds:
        if self.steps is not None:
            return BINARY
        return (-math.inf, math.inf) if self.label is None else (-math.inf, 0.0)

    def problems(self) -> list[str]:
        problems = []
        if not (Path(self.path) / "config.json").is_file():
            problems.append(
                f"rewards: model: {self.path} holds no config.json; set path to the folder of a sequence classifier"
            )
        if self.steps is not None and self.label is not None:
            problems.append(
                f'rewards: model: steps: {self.steps} is of a model with one output, and label "{self.label}" of one '
                "with several; leave one of them out"
            )
        return problems

    def files(self) -> list[Path]:
        return list_model_files(Path(self.path))

    def describe(self) -> str:
        if self.steps is not None:
            return f"the {IN_WORDS[self.steps]} of the probabilities that {self.path} gives the steps"
        return f"{'the score' if self.label is None else f'the log-probability of {self.label}'} of {self.path}"

    def open(self, cache: Path | None) -> Scorer:
        """Load the classifier.

        Raises:
            PipelineError: The folder holds none, not this label, or none that can score steps.
        """
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        options = {"local_files_only": True, "trust_remote_code": False}
        try:
            tokenizer: Any = AutoTokenizer.from_pretrained(self.path, **options)
            auto: Any = AutoModelForSequenceClassification
            model = auto.from_pretrained(self.path, use_safetensors=True, **options).eval()
        except (OSError, ValueError) as error:
            why = str(error).splitlines()[0]
            raise PipelineError(
                f"reward model: {self.path} cannot be loaded as a sequence classifier ({why}); give such a folder"
            ) from error
        column = self._find_column(model.config)
        if self.steps is not None and (tokenizer.chat_template is None or not hasattr(model, "score")):
            raise PipelineError(
                f"reward model: {self.path} is no model of processes: expected a chat template and a decoder's "
                f"classifier, as objective: process_reward_model releases them; leave steps: {self.steps} out"
            )
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.eos_token
        model.config.pad_token_id = tokenizer.pad_token_id
        tokenizer.padding_side = "right"

        def score(attempts: Sequence[AnswerAttempt]) -> list[float]:
            if self.steps is not None:
                return self._score_steps(model, tokenizer, self.steps, attempts)
            return self._score(model, tokenizer, column, attempts)

        return score

    def _find_column(self, config: Any) -> int | None:
        names = {str(name): int(number) for number, name in config.id2label.items()}
        if self.label is None:
            if config.num_labels == 1:
                return None
            raise PipelineError(
                f"reward model: {self.path} has {config.num_labels} classes; set label to one of {', '.join(names)}"
            )
        if self.label not in names:
            raise PipelineError(
                f'reward model: {self.path} has no class "{self.label}"; set label to one of {", ".join(names)}'
            )
        return names[self.label]

    def _score(self, model: Any, tokenizer: Any, column: int | None, attempts: Sequence[AnswerAttempt]) -> list[float]:
        import torch

        rows = [[*prompt, *answer][-self.max_tokens :] for prompt, answer in self.encode(tokenizer, attempts)]
        values: list[float] = [0.0] * len(rows)
        order = sorted(range(len(rows)), key=lambda place: -len(rows[place]))
        for start in range(0, len(order), self.batch_size):
            part = order[start : start + self.batch_size]
            inputs = tokenizer.pad({"input_ids": [rows[place] for place in part]}, return_tensors="pt")
            with torch.inference_mode():
                logits = model(
                    input_ids=inputs["input_ids"].to(model.device),
                    attention_mask=inputs["attention_mask"].to(model.device),
                ).logits.float()
            found = logits[:, 0] if column is None else torch.log_softmax(logits, dim=-1)[:, column]
            for place, value in zip(part, found.tolist(), strict=True):
                values[place] = value
        return values

    def _score_steps(
        self, model: Any, tokenizer: Any, steps: StepReduction, attempts: Sequence[AnswerAttempt]
    ) -> list[float]:
        """The probabilities of each answer's steps as one number; steps that the limit of tokens cuts do not count."""
        import numpy as np

        from tasks.training.answer_steps import find_step_ends, split_steps
        from tasks.training.reward_models import last_place, padding_of, score_places

        rows, places, unreadable = [], [], 0
        for attempt, (prompt, answer) in zip(attempts, self.encode(tokenizer, attempts), strict=True):
            texts = split_steps(attempt.answer)
            ends = find_step_ends(tokenizer, answer, texts, whole=True) if texts else []
            unreadable += bool(texts) and not ends
            tokens = [*prompt, *answer]
            cut = max(0, len(tokens) - self.max_tokens)
            ends = [len(prompt) + end for end in ends] or [last_place(tokens, padding_of(tokenizer))]
            rows.append(tokens[cut:])
            places.append([end - cut for end in ends if end >= cut])
        if unreadable:
            logger.warning(
                "reward model: %s of %s answers do not give their steps back from their tokens, so each counts as one",
                unreadable,
                len(attempts),
            )
        found = score_places(model, rows, places, self.batch_size)
        return [REDUCTIONS[steps]((1 / (1 + np.exp(-rewards.astype(float)))).tolist()) for rewards in found]

    def encode(self, tokenizer: Any, attempts: Sequence[AnswerAttempt]) -> list[tuple[list[int], list[int]]]:
        """Tokens of each prompt and answer, as a model is trained on them; without a chat template, as one text."""
        turns = [[*attempt.prompt, {"role": "assistant", "content": attempt.answer}] for attempt in attempts]
        if tokenizer.chat_template is None:
            texts = ["\n".join(str(turn.get("content") or "") for turn in one) for one in turns]
            return [([], list(tokenizer(text).input_ids)) for text in texts]
        from tasks.language_models.templates.chat import chat_of

        chat = chat_of(tokenizer)
        encoded = chat.encode([chat.write(one) for one in turns])
        return [([token for token, _ in prompt], [token for token, _ in answer]) for prompt, answer in encoded]
