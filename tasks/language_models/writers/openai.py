"""Any server that speaks OpenAI's chat completions: a hosted model, vLLM, llama.cpp, or Heptune's own gateway.

Example: ``{name: openai, url: "http://127.0.0.1:8000/v1", model: heptune}``
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import Field

from tasks.contracts.errors import PipelineError
from tasks.contracts.params import Section

if TYPE_CHECKING:
    from tasks.language_models.writers.answers import AnswerCache, Turns, WriterAnswer


# Codes of a refusal by content policy, of OpenAI and Azure.
POLICY_CODES = ("content_filter", "content_policy_violation")
# The most of them that OpenAI's protocol gives.
LIKELIEST_TOKENS = 20
NOTHING_MORE: Mapping[str, Any] = MappingProxyType({})


class OpenAi(Section):
    """A model behind a URL."""

    name: Literal["openai"] = "openai"
    url: str = Field(pattern="^https?://", description="base URL, such as http://127.0.0.1:8000/v1")
    model: str = Field(min_length=1, description="name of the model at the server")
    key_env: str | None = Field(default=None, description="environment variable with the key; null: no key")
    temperature: float = Field(default=0.7, ge=0, le=2)
    seed: int = Field(default=0, description="sent with each request; servers that support it repeat their answers")
    max_tokens: int = Field(default=512, ge=1, description="maximum length of an answer")
    timeout_s: float = Field(default=60.0, gt=0, description="timeout of one attempt, seconds")
    retries: int = Field(default=4, ge=0, description="retries after status 408, 409, 429, 5xx or a connection error")
    concurrency: int = Field(default=4, ge=1, le=256, description="maximum number of concurrent requests")

    @property
    def identity(self) -> dict[str, str | int | float]:
        """What determines an answer besides the prompt."""
        return {
            "url": self.url,
            "model": self.model,
            "temperature": self.temperature,
            "seed": self.seed,
            "max_tokens": self.max_tokens,
        }

    @property
    def varies(self) -> bool:
        """Whether another seed may give another answer."""
        return self.temperature > 0

    def describe(self) -> str:
        """The model's name."""
        return self.model

    def reseed(self, by: int) -> Self:
        """The same model with another seed."""
        return self.model_copy(update={"seed": self.seed + by})

    def write(self, prompts: Sequence[Turns], cache: AnswerCache) -> list[WriterAnswer]:
        """Answer prompts; each answer is cached as soon as it arrives, so that an interrupted run resumes there.

        Raises:
            PipelineError: The server cannot be reached, refuses, or keeps failing.
        """
        if not prompts:
            return []
        return self._answer_all(prompts, cache, self._request)

    def weigh(self, prompts: Sequence[Turns], labels: Sequence[str], cache: AnswerCache) -> list[WriterAnswer]:
        """How likely the first token of each answer is one label or another, by the log-probabilities that are given.

        Raises:
            LabelsRefused: The server gives none.
            PipelineError: The server cannot be reached, refuses, or keeps failing.
        """
        if not prompts:
            return []
        return self._answer_all(prompts, cache, lambda client, prompt: self._request_labels(client, prompt, labels))

    def _answer_all(
        self, prompts: Sequence[Turns], cache: AnswerCache, request: Callable[[Any, Turns], WriterAnswer]
    ) -> list[WriterAnswer]:
        from tasks.language_models.writers.answers import NO_ANSWER, LabelsRefused, WriterAnswer

        client, failures = self._connect(), cache.failures

        def answer(prompt: Turns) -> WriterAnswer:
            if failures and failures.exhausted:
                return WriterAnswer(None, NO_ANSWER, 0, 0)
            try:
                writer_answer = request(client, prompt)
            except LabelsRefused:
                raise
            except PipelineError as error:
                if failures is None:
                    raise
                return failures.note(error)
            if failures:
                failures.in_a_row = 0
            cache.store(prompt, writer_answer)
            return writer_answer

        with client, ThreadPoolExecutor(self.concurrency) as pool:
            futures = [pool.submit(answer, prompt) for prompt in prompts]
            try:
                return [future.result() for future in futures]
            except PipelineError:
                pool.shutdown(cancel_futures=True)
                raise

    def _connect(self) -> Any:
        try:
            from openai import OpenAI
        except ImportError as error:
            raise PipelineError("writer openai: the library is missing; pip install 'heptune[writers]'") from error
        key = os.environ.get(self.key_env) if self.key_env else "none"
        if not key:
            raise PipelineError(f"writer openai: the environment variable {self.key_env} is not set; export it")
        return OpenAI(base_url=self.url, api_key=key, timeout=self.timeout_s, max_retries=self.retries)

    def _request(self, client: Any, prompt: Turns) -> WriterAnswer:
        from tasks.language_models.writers.answers import CUT_OFF, EMPTY, REFUSED, WriterAnswer

        completion = self._create(client, prompt, self.max_tokens)
        if completion is None:
            return WriterAnswer(None, REFUSED)
        choices, tokens = getattr(completion, "choices", None), _count_tokens(completion)
        text = (choices[0].message.content or "").strip() if choices else ""
        if choices and choices[0].finish_reason == "content_filter":
            return WriterAnswer(None, REFUSED, *tokens)
        if choices and choices[0].finish_reason == "length":
            return WriterAnswer(None, CUT_OFF, *tokens)
        return WriterAnswer(text, "", *tokens) if text else WriterAnswer(None, EMPTY, *tokens)

    def _request_labels(self, client: Any, prompt: Turns, labels: Sequence[str]) -> WriterAnswer:
        from tasks.language_models.writers.answers import REFUSED, LabelsRefused, WriterAnswer, choose_label

        completion = self._create(client, prompt, 1, {"logprobs": True, "top_logprobs": LIKELIEST_TOKENS})
        if completion is None:
            return WriterAnswer(None, REFUSED)
        choices = getattr(completion, "choices", None)
        given = getattr(choices[0], "logprobs", None) if choices else None
        content = getattr(given, "content", None)
        if not content or not content[0].top_logprobs:
            raise LabelsRefused(f"writer {self.url}: gives no log-probabilities; set verdict: text")
        masses = [
            sum(math.exp(one.logprob) for one in content[0].top_logprobs if one.token.strip() == label)
            for label in labels
        ]
        return choose_label(labels, masses, _count_tokens(completion))

    def _create(self, client: Any, prompt: Turns, max_tokens: int, more: Mapping[str, Any] = NOTHING_MORE) -> Any:
        """What the server answers; None where its content policy refuses the prompt.

        Raises:
            LabelsRefused: Log-probabilities were asked for and are refused.
            PipelineError: There is no answer.
        """
        from openai import APIConnectionError, APIError, APIResponseValidationError, APIStatusError

        from tasks.language_models.writers.answers import LabelsRefused

        try:
            return client.chat.completions.create(
                model=self.model,
                messages=prompt,
                temperature=self.temperature,
                seed=self.seed,
                max_tokens=max_tokens,
                **more,
            )
        except APIStatusError as error:
            # The only statuses that are kept as an answer: this prompt will be refused again.
            if error.status_code in (400, 403, 422) and error.code in POLICY_CODES:
                return None
            if more and error.status_code in (400, 422) and "logprobs" in str(error.message):
                raise LabelsRefused(f"writer {self.url}: {str(error.message)[:200]}; set verdict: text") from error
            raise PipelineError(
                f"writer {self.url}: status {error.status_code} ({str(error.message)[:200]}); check url, model and key "
                "and run again: received answers are cached"
            ) from error
        except APIConnectionError as error:
            raise PipelineError(
                f"writer {self.url}: no answer in {self.retries + 1} attempts of {self.timeout_s:g} s ({error}); "
                "check that the server is up, then run again: received answers are cached"
            ) from error
        except (APIResponseValidationError, APIError, ValueError) as error:
            raise PipelineError(f"writer {self.url}: its answer cannot be read ({error}); check url") from error


def _count_tokens(completion: Any) -> tuple[int | None, int | None]:
    """Tokens of prompt and answer, as far as the server reports them."""
    usage = getattr(completion, "usage", None)
    return getattr(usage, "prompt_tokens", None), getattr(usage, "completion_tokens", None)
