"""Generalised knowledge distillation: a student is taught on answers of its own.

Agarwal et al. 2024, arXiv:2306.13649. On the data's answers alone a student learns what the teacher would say in places
that it may never reach by itself. Here a share of the steps, ``on_policy`` (lambda in the paper), has the student
answer the prompts as it is by then, and the teacher says of every token of these answers what it would have written;
the other steps take the data's answers.
The teacher has the student's vocabulary and runs beside it. Which steps are on-policy follows from seed and step alone,
so that all processes and a resumed run agree. With p and q the teacher's and the student's distributions at the
temperature T, each supervised position costs

    T^2 * (beta * KL(p, m) + (1 - beta) * KL(q, m)),  m = beta * p + (1 - beta) * q

or another divergence of `tasks.training.teachers.divergences`. No gradient goes through the drawing of the answers, as
in the paper. The student's answers are kept beside the checkpoints: their ``reward`` is the teacher's mean
log-probability of a token, their ``advantage`` how far that is above the student's own.

Example: ``objective: {name: gkd, teacher: models/teacher, on_policy: 0.5}``. For p = (0.5, 0.5), q = (0.75, 0.25) and
beta 0.5 a position costs 0.0338; with on_policy 1 no answer of the data is trained on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from tasks.contracts.params import Section
from tasks.language_models.encoding import IGNORED
from tasks.language_models.folder.shape import ModelShape
from tasks.language_models.long_rows import LongRows
from tasks.language_models.templates.chat import chat_of
from tasks.language_models.templates.rendering import TemplateRefusal
from tasks.training.objectives.data import SplitTables, Tokenization
from tasks.training.objectives.objective import Batch, ObjectiveCan, ObjectiveLoss, Scorer, StepToMake
from tasks.training.objectives.rollouts.prompts import NO_PROMPT, NO_ROOM, PROMPTS_LONGER, Prompt, read_prompt
from tasks.training.objectives.teaching.taught_objective import FIGURES as TAUGHT
from tasks.training.objectives.teaching.taught_objective import TaughtObjective
from tasks.training.rows import TokenizedRows
from tasks.training.teachers.divergences import DivergenceName

if TYPE_CHECKING:
    from tasks.training.objectives.rollouts.rollout import SampledAnswer

FIGURES: Mapping[str, str] = {
    **TAUGHT,
    "cross_entropy": "cross-entropy of the tokens of the data's answers, nats per token",
    "on_policy": "share of the tokens that the student wrote itself",
    "reward": "mean log-probability that the teacher gives a token of the student's answers, nats, mean over answers",
    "advantage": "the same above what the student gives it; 0 where the student finds it as likely",
    "entropy": "of the distributions that the student's tokens were drawn from, nats per token",
    "answer_tokens": "tokens of an answer of the student",
    "unfinished": "share of the student's answers that were cut at max_new_tokens",
}


class StudentAnswers(Section):
    """How the student answers."""

    max_new_tokens: int = Field(default=64, ge=1, description="most tokens of an answer, its end included")
    temperature: float = Field(default=1.0, gt=0, description="divides the logits in drawing")
    top_p: float = Field(default=1.0, gt=0, le=1, description="share of the probability that is drawn from")
    batch_size: int = Field(default=64, ge=1, description="answers drawn at once")


class Gkd(TaughtObjective):
    """A teacher's distributions over tokens that the student wrote, and over those of the data."""

    can: ClassVar[ObjectiveCan] = ObjectiveCan(
        packing=False, token_loss=False, generates=True, shared_weights=False, keeps_state=False
    )
    long_rows: ClassVar[tuple[LongRows, ...]] = PROMPTS_LONGER
    figures: ClassVar[Mapping[str, str]] = FIGURES

    name: Literal["gkd"] = "gkd"
    on_policy: float = Field(default=0.5, gt=0, le=1, description="share of the steps whose answers the student writes")
    divergence: DivergenceName = Field(
        default="jensen_shannon",
        description="how far the student is from the teacher; the default is the paper's",
    )
    answers: StudentAnswers = StudentAnswers()

    def describe(self) -> str:
        return (
            f"generalised distillation from {self.teacher}: {', '.join(self.describe_divergence())}, "
            f"{self.on_policy:.0%} of the steps on the student's own answers"
        )

    def problems(self, shape: ModelShape) -> list[str]:
        longest = self.answers.max_new_tokens
        if shape.context and longest >= shape.context:
            return [
                f"objective.answers.max_new_tokens: {longest} leaves no room for a prompt in a context of "
                f"{shape.context}; set max_new_tokens: {shape.context // 2} or less"
            ]
        return []

    @property
    def longest_answer(self) -> int | None:
        return self.answers.max_new_tokens

    def trained_tokens(self, tokens: int, items: int) -> int:
        """The data's tokens, and the longest answers for the share of the items that the student answers."""
        return tokens + round(self.on_policy * items * self.answers.max_new_tokens)

    def tokenize(self, tables: SplitTables, how: Tokenization) -> TokenizedRows:
        """Conversations as in supervised fine-tuning, of which the student can be asked all but the last answer."""
        import numpy as np
        import pyarrow as pa

        examples = tables.examples if how.limit is None else tables.examples.slice(0, how.limit)
        chat, prompts, dropped = chat_of(how.tokenizer), dict[str, Prompt](), Counter[str]()
        columns = (examples[name].to_pylist() for name in ("id", "messages", "label"))
        fits = np.ones(examples.num_rows, dtype=bool)
        for number, (row, messages, label) in enumerate(zip(*columns, strict=True)):
            turns: list[dict[str, Any]] = [dict(turn) for turn in messages]
            reference = turns.pop()["content"] if turns and turns[-1]["role"] == "assistant" else None
            try:
                room = how.max_tokens - len(chat.prompt_ids(turns)) if turns else 0
            except TemplateRefusal:
                continue  # counted with those that cannot be written whole either
            fits[number] = bool(turns) and room >= self.answers.max_new_tokens
            if not fits[number]:
                dropped[NO_ROOM if turns else NO_PROMPT] += 1
            prompts[row] = Prompt(turns, reference, label, row)
        chosen = examples.filter(pa.array(fits.tolist(), pa.bool_()))
        weights, classes = (None if array is None else array[fits] for array in (how.weights, how.classes))
        rows = self.tokenize_answers(chosen, how, weights, classes)
        notes = [prompts[row].write() for row in rows.ids or ()]
        return replace(rows, dropped={**rows.dropped, **dropped}, notes=notes)

    def is_on_policy(self, seed: tuple[int, int]) -> bool:
        """Whether the student answers in a step, the same for all processes.

        Args:
            seed: Of the plan, and the step.
        """
        import numpy as np

        return bool(np.random.default_rng(seed).random() < self.on_policy)

    def make(self, batches: Sequence[Batch], step: StepToMake) -> list[Batch]:
        if step.split == "validation" or not self.is_on_policy(step.seed):
            return list(batches)
        from tasks.training.objectives.rollouts.experience import rank_of
        from tasks.training.objectives.rollouts.samples_file import write_samples
        from tasks.training.rewards.scoring import RewardSum

        drawn = self._draw(sorted({item for batch in batches for item in batch["items"].tolist()}), step)
        made, rewards, advantages = list[Batch](), list[float](), list[float]()
        for batch in batches:
            items = batch["items"].tolist()
            taught = self._teach([drawn[item] for item in items], items, step)
            made.append(taught)
            rewards += taught["reward"].tolist()
            advantages += taught["advantage"].tolist()
        samples = [drawn[item] for batch in batches for item in batch["items"].tolist()]
        total = RewardSum(rewards, {"teacher": rewards})
        write_samples(step.folder, step.seed[1], rank_of(), samples, total, advantages)
        return made

    def _draw(self, items: Sequence[int], step: StepToMake) -> dict[int, SampledAnswer]:
        """The student's answer to each of some prompts."""
        from tasks.training.objectives.rollouts.rollout import draw_samples

        assert step.rows.notes is not None, "prompts have notes"
        chat = chat_of(step.tokenizer)
        asked = {item: read_prompt(step.rows.notes[item]) for item in items}
        prompts = {item: (prompt, chat.prompt_ids(prompt.turns)) for item, prompt in asked.items()}
        samples = draw_samples(step.model, step.tokenizer, prompts, self.answers, step.seed, None, range(1))
        return {sample.item: sample for sample in samples}

    def _teach(self, samples: Sequence[SampledAnswer], items: Sequence[int], step: StepToMake) -> dict[str, Any]:
        """The student's answers as a batch, with what the teacher's last hidden states are at their tokens."""
        import torch

        from tasks.training.objectives.rollouts.experience import collate_samples, number_tokens

        batch = collate_samples(samples, step)
        if step.rows.weights is not None:
            weights = torch.from_numpy(step.rows.weights[list(items)]).to(batch["input_ids"].device)
            batch["weights"] = weights[:, None].expand(batch["input_ids"].shape)
        labels = batch["labels"][:, 1:]
        with torch.autocast(labels.device.type, enabled=False):  # the teacher computes in a precision of its own
            targets = self.find_live_targets(batch)
            found = targets.score(labels[labels.ne(IGNORED)])
        zeros, owners = found.new_zeros(len(samples)), number_tokens(batch)
        reward = zeros.index_add(0, owners, found) / batch["answer_tokens"]
        own = zeros.index_add(0, owners, batch["old"].to(found.dtype)) / batch["answer_tokens"]
        return {**batch, "taught": targets.hidden, "reward": reward, "advantage": reward - own}

    def loss(self, scorer: Scorer, inputs: Batch) -> ObjectiveLoss:
        import torch

        found = self.measure(scorer, inputs, 1.0)
        figures, tokens = dict(found.figures), self.units(inputs)
        is_own = "taught" in inputs
        figures["on_policy"] = (torch.tensor(float(tokens * is_own), device=found.total.device), tokens)
        if is_own:
            del figures["cross_entropy"]  # of tokens that nobody says are right
            answers = len(inputs["reward"])
            figures |= {name: (inputs[name].sum(), answers) for name in ("reward", "advantage", "unfinished")}
            figures["answer_tokens"] = (inputs["answer_tokens"].float().sum(), answers)
            figures["entropy"] = (inputs["entropy"].sum(), tokens)
        return ObjectiveLoss(found.total, figures, found.auxiliary)
