"""Mixture of agents: several models propose answers, another one makes one answer of theirs.

Wang et al., "Mixture-of-Agents Enhances Large Language Model Capabilities", 2024 (arXiv:2406.04692). The models of the
first layer answer the conversation; those of each later layer answer it with the proposals of the layer before, and so
does the aggregator, whose answer counts. The instruction is the paper's "aggregate and synthesize" (table 1), given as
the system turn. Good where answers of different models complement one another; it takes as many calls as there are
models, in as many steps as there are layers and one.

Proposers behind a URL are asked at the same time, folders one after the other. One that fails is left out, as long as
``least_proposals`` are there; tokens are those of all calls. Each model's own answers are kept, so a changed aggregator
does not pay for the proposals again.

Example:
    ``{name: mixture, layers: [[{name: openai, url: "http://127.0.0.1:8001/v1", model: a}, {name: local, path:
    models/b}]], aggregator: {name: openai, url: "http://127.0.0.1:8001/v1", model: a, temperature: 0}}``
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field

from tasks.contracts.errors import PipelineError
from tasks.contracts.params import Section
from tasks.language_models.writers.local import Local
from tasks.language_models.writers.openai import OpenAi

if TYPE_CHECKING:
    from tasks.language_models.writers.answers import AnswerCache, Turns, WriterAnswer

logger = logging.getLogger(__name__)

AnyAgent = Annotated[OpenAi | Local, Field(discriminator="name")]
Layers = tuple[Annotated[tuple[AnyAgent, ...], Field(min_length=1)], ...]

INSTRUCTION = (
    "You have been provided with a set of responses from various models to the latest user query. Your task is to "
    "synthesize these responses into a single, high-quality response. It is crucial to critically evaluate the "
    "information provided in these responses, recognizing that some of it may be biased or incorrect. Your response "
    "should not simply replicate the given answers but should offer a refined, accurate, and comprehensive reply to "
    "the instruction. Ensure your response is well-structured, coherent, and adheres to the highest standards of "
    "accuracy and reliability.\n\nResponses from models:"
)


@dataclass(frozen=True)
class Proposals:
    """What the last layer proposes for a conversation.

    Attributes:
        texts: The proposals, in the order of the models; without those that failed.
        prompt_tokens: Tokens of the prompts of all layers; None where a server does not report them.
        completion_tokens: The same for the proposals.
        failed: Models, of all layers, that gave no answer.
    """

    texts: tuple[str, ...] = ()
    prompt_tokens: int | None = 0
    completion_tokens: int | None = 0
    failed: int = 0

    def add(self, answers: Sequence[WriterAnswer]) -> Proposals:
        """The proposals of a later layer, with the tokens of this one."""
        from tasks.language_models.writers.answers import NO_ANSWER

        return Proposals(
            tuple(answer.text for answer in answers if answer.text),
            add_tokens(self.prompt_tokens, *(answer.prompt_tokens for answer in answers)),
            add_tokens(self.completion_tokens, *(answer.completion_tokens for answer in answers)),
            self.failed + sum(answer.why == NO_ANSWER for answer in answers),
        )


class MixtureOfAgents(Section):
    """Models that propose, and one that makes an answer of what they propose."""

    name: Literal["mixture"] = "mixture"
    layers: Layers = Field(min_length=1, description="models that propose, layer by layer")
    aggregator: AnyAgent = Field(description="the model whose answer counts")
    least_proposals: int = Field(default=1, ge=1, description="proposals of the last layer without which none answers")

    @property
    def identity(self) -> dict[str, str | int | float]:
        """What determines an answer besides the prompt: all models in their places."""
        import orjson

        layers = [[agent.identity for agent in layer] for layer in self.layers]
        content = orjson.dumps([layers, self.aggregator.identity, INSTRUCTION], option=orjson.OPT_SORT_KEYS)
        return {"mixture": content.decode(), "least_proposals": self.least_proposals}

    @property
    def varies(self) -> bool:
        """Whether another seed may give another answer."""
        return any(agent.varies for layer in (*self.layers, (self.aggregator,)) for agent in layer)

    @property
    def max_tokens(self) -> int:
        return self.aggregator.max_tokens

    def describe(self) -> str:
        """The models' names."""
        layers = " | ".join(" + ".join(agent.describe() for agent in layer) for layer in self.layers)
        return f"mixture({layers} | {self.aggregator.describe()})"

    def reseed(self, by: int) -> Self:
        """The same mixture with other seeds."""
        layers = tuple(tuple(agent.reseed(by) for agent in layer) for layer in self.layers)
        return self.model_copy(update={"layers": layers, "aggregator": self.aggregator.reseed(by)})

    def write(self, prompts: Sequence[Turns], cache: AnswerCache) -> list[WriterAnswer]:
        """Answer prompts.

        Raises:
            PipelineError: The aggregator fails, or a prompt has too few proposals.
        """
        from tasks.language_models.writers.answers import ask_fully

        return self._aggregate(
            prompts, cache, lambda asked: ask_fully(self.aggregator, asked, cache.folder, failures=cache.failures)
        )

    def weigh(self, prompts: Sequence[Turns], labels: Sequence[str], cache: AnswerCache) -> list[WriterAnswer]:
        """How likely the aggregator answers with one label or another, with the proposals before it.

        Raises:
            LabelsRefused: The aggregator's server gives no log-probabilities.
            PipelineError: The aggregator fails, or a prompt has too few proposals.
        """
        from tasks.language_models.writers.answers import weigh_labels

        return self._aggregate(
            prompts, cache, lambda asked: weigh_labels(self.aggregator, asked, labels, cache.folder, cache.failures)
        )

    def _aggregate(
        self, prompts: Sequence[Turns], cache: AnswerCache, ask: Callable[[list[Turns]], list[WriterAnswer]]
    ) -> list[WriterAnswer]:
        from tasks.language_models.writers.answers import NO_ANSWER, WriterAnswer

        if not prompts:
            return []
        proposals = propose(self.layers, prompts, cache.folder)
        enough = [place for place, one in enumerate(proposals) if len(one.texts) >= self.least_proposals]
        if len(enough) < len(prompts):
            error = PipelineError(
                f"mixture: {len(prompts) - len(enough)} of {len(prompts)} prompts have fewer than "
                f"{self.least_proposals} proposals; check the models of the last layer, or lower least_proposals"
            )
            if cache.failures is None:
                raise error
            cache.failures.note(error)
        found = [WriterAnswer(None, NO_ANSWER, 0, 0)] * len(prompts)
        answers = ask([add_proposals(prompts[place], proposals[place].texts) for place in enough])
        for place, answer in zip(enough, answers, strict=True):
            own = proposals[place]
            found[place] = replace(
                answer,
                prompt_tokens=add_tokens(own.prompt_tokens, answer.prompt_tokens),
                completion_tokens=add_tokens(own.completion_tokens, answer.completion_tokens),
            )
            # An answer without some of the models is given, but is none to be kept for the whole mixture's.
            if answer.why != NO_ANSWER and not own.failed:
                cache.store(prompts[place], found[place])
        return found


def propose(layers: Layers, prompts: Sequence[Turns], folder: Path | None) -> list[Proposals]:
    """The proposals of the last layer for each prompt; a model that fails proposes nothing.

    Args:
        layers: Models by layer.
        prompts: Conversations that end before the answer.
        folder: Where the models' answers are kept; None keeps none.
    """
    found = [Proposals()] * len(prompts)
    for layer in layers:
        asked = [add_proposals(prompt, one.texts) for prompt, one in zip(prompts, found, strict=True)]
        by_agent = _ask_layer(layer, asked, folder)
        found = [one.add(answers) for one, answers in zip(found, zip(*by_agent, strict=True), strict=True)]
    return found


def _ask_layer(
    layer: Sequence[OpenAi | Local], prompts: Sequence[Turns], folder: Path | None
) -> list[list[WriterAnswer]]:
    """The answers of each model of a layer."""
    from tasks.language_models.writers.answers import NO_ANSWER, FailureLimit, WriterAnswer, ask_fully

    def ask(agent: OpenAi | Local) -> list[WriterAnswer]:
        try:
            return ask_fully(agent, prompts, folder, failures=FailureLimit())
        except PipelineError as error:
            logger.warning("mixture: %s proposes nothing: %s", agent.describe(), error)
            return [WriterAnswer(None, NO_ANSWER, 0, 0)] * len(prompts)

    with ThreadPoolExecutor(len(layer)) as pool:
        behind_urls = {place: pool.submit(ask, agent) for place, agent in enumerate(layer) if isinstance(agent, OpenAi)}
        folders = {place: ask(agent) for place, agent in enumerate(layer) if place not in behind_urls}
        return [folders[place] if place in folders else behind_urls[place].result() for place in range(len(layer))]


def add_proposals(prompt: Sequence[Mapping[str, str]], texts: Sequence[str]) -> Turns:
    """The conversation with the proposals in its system turn; as it is where there are none."""
    turns = [dict(turn) for turn in prompt]
    if not texts:
        return turns
    shown = "\n".join(f"{number}. {text}" for number, text in enumerate(texts, 1))
    own = f"{INSTRUCTION}\n{shown}"
    if turns and turns[0]["role"] == "system":
        return [{"role": "system", "content": f"{turns[0]['content']}\n\n{own}"}, *turns[1:]]
    return [{"role": "system", "content": own}, *turns]


def add_tokens(*counts: int | None) -> int | None:
    """The sum of token counts; None where one is not known."""
    known = [count for count in counts if count is not None]
    return sum(known) if len(known) == len(counts) else None
