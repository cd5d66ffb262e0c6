"""Any server that speaks OpenAI's chat completions: a hosted model, vLLM, llama.cpp, or Heptune's own gateway.

Example: ``{name: openai, url: "http://127.0.0.1:8000/v1", model: heptune}``
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import Field

from tasks.contracts.errors import PipelineError
from tasks.contracts.params import Section

if TYPE_CHECKING:
    from tasks.language_models.writers.answers import AnswerCache, Turns, WriterAnswer


# Codes of a refusal by content policy, of OpenAI and Azure.
POLICY_CODES = ("content_filter", "content_policy_violation")


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
        client = self._connect()

        def answer(prompt: Turns) -> WriterAnswer:
            writer_answer = self._request(client, prompt)
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
        from openai import APIConnectionError, APIError, APIResponseValidationError, APIStatusError

        from tasks.language_models.writers.answers import CUT_OFF, EMPTY, REFUSED, WriterAnswer

        try:
            completion = client.chat.completions.create(
                model=self.model,
                messages=prompt,
                temperature=self.temperature,
                seed=self.seed,
                max_tokens=self.max_tokens,
            )
        except APIStatusError as error:
            # The only statuses that are kept as an answer: this prompt will be refused again.
            if error.status_code in (400, 403, 422) and error.code in POLICY_CODES:
                return WriterAnswer(None, REFUSED)
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
        choices = getattr(completion, "choices", None)
        usage = getattr(completion, "usage", None)
        tokens = (getattr(usage, "prompt_tokens", None), getattr(usage, "completion_tokens", None))
        text = (choices[0].message.content or "").strip() if choices else ""
        if choices and choices[0].finish_reason == "content_filter":
            return WriterAnswer(None, REFUSED, *tokens)
        if choices and choices[0].finish_reason == "length":
            return WriterAnswer(None, CUT_OFF, *tokens)
        return WriterAnswer(text, "", *tokens) if text else WriterAnswer(None, EMPTY, *tokens)
