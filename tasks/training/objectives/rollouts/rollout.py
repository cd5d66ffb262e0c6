"""Answers to prompts, drawn from the model as it is, continued with the results of tools, and rewarded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tasks.contracts.errors import PipelineError
from tasks.language_models.generation import context_length, sample_tokens
from tasks.language_models.sampling import TokenSampler
from tasks.language_models.templates.chat import chat_of
from tasks.language_models.templates.ends import ends_of
from tasks.training.objectives.rollouts.params import Drawing
from tasks.training.objectives.rollouts.prompts import Prompt
from tasks.training.objectives.rollouts.tools import OpenTools, result_ids
from tasks.training.rewards.reward import AnswerAttempt


@dataclass
class SampledAnswer:
    """One answer to a prompt.

    Attributes:
        item: Index of the prompt among the rows.
        number: Which of the answers to it.
        prompt: What is known of the prompt.
        prompt_ids: Its tokens.
        tokens: Everything after it: what the model wrote, and the results of tools.
        written: Of each of those, whether the model wrote it.
        log_probabilities: Of what the model wrote when it was drawn, 0 elsewhere; nats.
        entropies: Of the distributions that the written tokens were drawn from, nats.
        turns: The same as turns.
        finished: The model ended its last turn.
    """

    item: int
    number: int
    prompt: Prompt
    prompt_ids: list[int]
    tokens: list[int] = field(default_factory=list)
    written: list[bool] = field(default_factory=list)
    log_probabilities: list[float] = field(default_factory=list)
    entropies: list[float] = field(default_factory=list)
    turns: list[dict[str, Any]] = field(default_factory=list)
    finished: bool = False

    @property
    def answer(self) -> str:
        """The text of the last turn that the model wrote."""
        return str(next((turn["content"] for turn in reversed(self.turns) if turn["role"] == "assistant"), ""))

    @property
    def own_tokens(self) -> int:
        """Tokens that the model wrote."""
        return sum(self.written)

    def as_attempt(self) -> AnswerAttempt:
        """The answer as rewards see it."""
        prompt = self.prompt
        turns = [*prompt.turns, *self.turns[:-1]]
        return AnswerAttempt(
            turns, self.answer, self.own_tokens, self.finished, prompt.reference, prompt.label, prompt.row
        )


def draw_samples(
    model: Any,
    tokenizer: Any,
    prompts: Mapping[int, tuple[Prompt, Sequence[int]]],
    rollout: Drawing,
    seed: tuple[int, int],
    tools: OpenTools | None,
    numbers: Sequence[int],
) -> list[SampledAnswer]:
    """Draw answers, those to a prompt together.

    Each is drawn from (seed, item, number) alone, so that a resumed run and another number of processes draw the same.

    Args:
        model: As trained, in evaluation mode.
        tokenizer: Its tokenizer.
        prompts: Item to its prompt and the prompt's tokens.
        rollout: How to draw.
        seed: Of the run, and the step.
        tools: What answers may call, opened.
        numbers: Which answers to each prompt.

    Raises:
        PipelineError: A prompt leaves no room in the context, or the architecture does not decode in batches.
    """
    plain = unwrap(model)
    chat, ends = chat_of(tokenizer), ends_of(getattr(plain, "generation_config", None), tokenizer)
    context = context_length(plain.config)
    samples = [
        SampledAnswer(item, number, prompt, list(ids)) for item, (prompt, ids) in prompts.items() for number in numbers
    ]
    seeds = [(*seed, sample.item, sample.number) for sample in samples]
    sampler = TokenSampler(rollout.temperature, rollout.top_p, seeds, rollout.max_new_tokens)
    going, rounds = list(range(len(samples))), tools.tools.rounds if tools else 0
    for number in range(rounds + 1):
        if not going:
            break
        room = {row: _room(samples[row], rollout.max_new_tokens, context) for row in going}
        before = {row: len(sampler.log_probabilities[row]) for row in going}
        contexts = {row: [*samples[row].prompt_ids, *samples[row].tokens] for row in going}
        drawn = sample_tokens(plain, contexts, room, ends, sampler, rollout.batch_size)
        calling = []
        for row in going:
            sample, ids = samples[row], drawn[row]
            sample.finished = ids[-1] in ends
            text = tokenizer.decode(ids[:-1] if sample.finished else ids, skip_special_tokens=tools is None)
            sample.tokens += ids
            sample.written += [True] * len(ids)
            sample.log_probabilities += sampler.log_probabilities[row][before[row] :]
            sample.entropies += sampler.entropies[row][before[row] :]
            sample.turns.append({"role": "assistant", "content": text})
            if tools and sample.finished and number < rounds and _call_tools(sample, tools, chat, rollout, context):
                calling.append(row)
        going = calling
    return samples


def unwrap(model: Any) -> Any:
    """The base with what is trained in its modules, without what wraps it.

    Raises:
        PipelineError: What is trained is put before the prompt by the wrapper.
    """
    plain = getattr(model, "module", model)
    if hasattr(plain, "get_base_model"):
        if getattr(plain.active_peft_config, "is_prompt_learning", False):
            raise PipelineError(
                "a method that puts learned vectors before the prompt cannot be sampled in batches; take method: "
                "{name: lora} or {name: full}, or an objective that does not generate"
            )
        plain = plain.get_base_model()
    return plain


def _room(sample: SampledAnswer, most: int, context: int | None) -> int:
    """Tokens that may still be drawn.

    Raises:
        PipelineError: None.
    """
    used = len(sample.prompt_ids) + len(sample.tokens)
    room = min(most - len(sample.tokens), (context or used + most) - used)
    if room < 1:
        raise PipelineError(
            f"row {sample.prompt.row}: a prompt of {len(sample.prompt_ids)} tokens leaves no room in a context of "
            f"{context}; leave it out, or choose a base model with a longer context"
        )
    return room


def _call_tools(sample: SampledAnswer, tools: OpenTools, chat: Any, rollout: Drawing, context: int | None) -> bool:
    """Run the calls of the last turn and append their results; whether the answer goes on.

    Results that would leave no room are not appended, and the answer ends with its calls.
    """
    calls = tools.find_calls(str(sample.turns[-1]["content"]))
    if not calls:
        return False
    results = [tools.run(call) for call in calls]
    ids = result_ids(chat, results, tools.tools.role)
    used = len(sample.tokens) + len(ids)
    if used >= rollout.max_new_tokens or (context and len(sample.prompt_ids) + used >= context):
        return False
    sample.tokens += ids
    sample.written += [False] * len(ids)
    sample.log_probabilities += [0.0] * len(ids)
    sample.turns += [{"role": tools.tools.role, "content": result} for result in results]
    return True
