"""Step 5: a new answer in place of one with a low score, following the critique.

Source: Self-Refine (Madaan et al. 2023, https://arxiv.org/abs/2303.17651).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tasks.language_models.writers.reading import Unusable
from tasks.synthesis.answers import add_system
from tasks.synthesis.calls import Calls
from tasks.synthesis.drafts import Draft
from tasks.synthesis.params import Synthesis
from tasks.synthesis.verify import list_hints
from tasks.synthesis.wording import Wording


def rewrite_drafts(settings: Synthesis, drafts: Sequence[Draft], calls: Calls, wording: Wording) -> list[Draft]:
    """The drafts with new answers, without a score; refused where there was no usable answer."""
    prompts = [add_system(settings, write_prompt(settings, draft, wording)) for draft in drafts]
    return [
        draft.refuse("rewrite", str(answer))
        if isinstance(answer, Unusable)
        else replace(draft, step="rewrite", answer=answer, score=None, critique="", rewrites=draft.rewrites + 1)
        for draft, answer in zip(drafts, calls.ask("rewrite", prompts, str.strip), strict=True)
    ]


def write_prompt(settings: Synthesis, draft: Draft, wording: Wording) -> str:
    """The prompt with which the teacher is asked for a rewrite."""
    return wording.write(
        "rewrite",
        task=settings.task,
        instruction=draft.instruction,
        answer=draft.answer,
        critique=draft.critique,
        label=draft.label,
        hints=list_hints(settings.checks),
    )
