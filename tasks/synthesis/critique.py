"""Step 4: a judge's critique and score of every answer.

Source: MT-Bench's single-answer grading (Zheng et al. 2023, https://arxiv.org/abs/2306.05685), on a scale of 1 to 5,
with the critique before the score. A judge favours its own answers (ibid., 3.3): use another model than the teacher.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tasks.language_models.writers.reading import Unusable, read_json
from tasks.synthesis.calls import Calls
from tasks.synthesis.drafts import Draft
from tasks.synthesis.params import Synthesis
from tasks.synthesis.verify import list_hints
from tasks.synthesis.wording import Wording

LOWEST_SCORE, HIGHEST_SCORE = 1, 5


def judge_drafts(settings: Synthesis, drafts: Sequence[Draft], calls: Calls, wording: Wording) -> list[Draft]:
    """The drafts with scores; refused where the judge gave none."""
    prompts = [[{"role": "user", "content": write_prompt(settings, draft, wording)}] for draft in drafts]
    judged = []
    for draft, verdict in zip(drafts, calls.ask("critique", prompts, read_verdict), strict=True):
        if isinstance(verdict, Unusable):
            judged.append(draft.refuse("critique", f"no score: {verdict}"))
        else:
            judged.append(replace(draft, step="critique", score=verdict[0], critique=verdict[1]))
    return judged


def write_prompt(settings: Synthesis, draft: Draft, wording: Wording) -> str:
    """The prompt for the judge."""
    return wording.write(
        "critique",
        task=settings.task,
        instruction=draft.instruction,
        answer=draft.answer,
        label=draft.label,
        hints=list_hints(settings.checks),
        score=settings.least_score,
    )


def read_verdict(answer: str) -> tuple[int, str]:
    """Score and critique.

    Raises:
        Unusable: There is no score of 1 to 5.
    """
    value = read_json(answer)
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    score = value.get("score") if isinstance(value, dict) else None
    if isinstance(score, str) and score.strip().isdecimal():
        score = int(score)
    if isinstance(score, bool) or not isinstance(score, int | float) or score != int(score):
        raise Unusable("wrong schema")
    if not LOWEST_SCORE <= score <= HIGHEST_SCORE:
        raise Unusable("score out of range")
    critique = value.get("critique")
    return int(score), critique.strip() if isinstance(critique, str) else ""
