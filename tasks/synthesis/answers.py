"""Step 3: an answer to every prompt, one call each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from tasks.language_models.writers.answers import Turns
from tasks.language_models.writers.reading import Unusable
from tasks.synthesis.calls import Calls
from tasks.synthesis.drafts import Draft, Seed
from tasks.synthesis.params import Synthesis
from tasks.synthesis.verify import list_hints
from tasks.synthesis.wording import Wording


def answer_drafts(
    settings: Synthesis, drafts: Sequence[Draft], seeds: Mapping[str, Seed], calls: Calls, wording: Wording
) -> list[Draft]:
    """The drafts with answers; refused where there was no usable answer."""
    prompts = [write_prompt(settings, draft, seeds, wording) for draft in drafts]
    return [
        draft.refuse("answers", str(answer))
        if isinstance(answer, Unusable)
        else replace(draft, step="answers", answer=answer)
        for draft, answer in zip(drafts, calls.ask("answers", prompts, str.strip), strict=True)
    ]


def write_prompt(settings: Synthesis, draft: Draft, seeds: Mapping[str, Seed], wording: Wording) -> Turns:
    """The prompt with which the teacher is asked for an answer."""
    text = wording.write(
        "answers",
        task=settings.task,
        instruction=draft.instruction,
        label=draft.label,
        examples=[seeds[name] for name in draft.seeds],
        hints=list_hints(settings.checks),
    )
    return add_system(settings, text)


def add_system(settings: Synthesis, text: str) -> Turns:
    """A request, after the system turn of the rows, if any."""
    system = [{"role": "system", "content": settings.system}] if settings.system else []
    return [*system, {"role": "user", "content": text}]
