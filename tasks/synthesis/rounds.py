"""The steps in rounds, until there are enough rows.

A round asks for prompts about the next few topics and passes their drafts through the steps. Its calls depend on the
rounds before it and not on the number of rows, so that a run with more rows continues where an earlier one ended.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from tasks.synthesis.answers import answer_drafts
from tasks.synthesis.calls import Calls
from tasks.synthesis.critique import judge_drafts
from tasks.synthesis.drafts import NOT_NEEDED, Draft, Group, Known, Seed, SynthesisResult
from tasks.synthesis.instructions import propose_instructions
from tasks.synthesis.params import Synthesis
from tasks.synthesis.rewrite import rewrite_drafts
from tasks.synthesis.topics import ask_for_topics
from tasks.synthesis.verify import list_fields, verify
from tasks.synthesis.wording import Wording

# Topics of a round, one call for prompts each.
TOPICS_PER_ROUND = 4
# Consecutive rounds without an accepted row after which the run ends.
PATIENCE = 3


def read_wording(settings: Synthesis, root: Path, labels: Sequence[str] = ()) -> Wording:
    """The templates, with the placeholders that these params need.

    Raises:
        PipelineError: A template is missing or wrong.
    """
    needed = {"instructions": [*(["labels"] if labels else []), *(["fields"] if list_fields(settings.checks) else [])]}
    return Wording(root / settings.prompts if settings.prompts else None, needed)


def write_rows(settings: Synthesis, seeds: Sequence[Seed], known: Known, folder: Path, root: Path) -> SynthesisResult:
    """Write rows in rounds.

    Args:
        settings: Settings of the run.
        seeds: Examples.
        known: Existing prompts and labels.
        folder: Cache of the answers.
        root: Folder that relative paths are relative to.

    Raises:
        PipelineError: A model does not answer, or the templates are wrong. Received answers are cached.
    """
    wording = read_wording(settings, root, known.labels)
    known = replace(known, taken=Group(known.taken.name, []))
    console = Console(stderr=True)
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        bar = progress.add_task("rows", total=settings.rows)

        def show_calls() -> None:
            progress.update(bar, description=f"rows ({calls.fresh:,} new calls, cost so far {calls.cost:.4g})")

        calls = Calls(settings, folder, show_calls)
        topics, refused = ask_for_topics(settings, seeds, calls, wording)
        accepted: list[Draft] = []
        written: dict[str, list[str]] = {}
        by_id = {seed.id: seed for seed in seeds}
        number = idle = 0
        while len(accepted) < settings.rows and not calls.ended and idle < PATIENCE:
            first = number * TOPICS_PER_ROUND
            chosen = [topics[(first + offset) % len(topics)] for offset in range(min(TOPICS_PER_ROUND, len(topics)))]
            drafts = propose_instructions(settings, chosen, number, seeds, known, written, calls, wording)
            drafts = verify(drafts, settings.checks, "instructions", known)
            refused += [draft for draft in drafts if draft.reason is not None]
            waiting = [draft for draft in drafts if draft.reason is None]
            known.taken.texts += [draft.instruction for draft in waiting]
            for draft in waiting:
                written.setdefault(draft.topic, []).append(draft.instruction)
            before = len(accepted)
            while waiting and not calls.ended and (missing := settings.rows - len(accepted)):
                batch, waiting = waiting[:missing], waiting[missing:]
                done = finish_drafts(settings, batch, by_id, known, calls, wording)
                accepted += [draft for draft in done if draft.reason is None]
                refused += [draft for draft in done if draft.reason is not None]
                progress.update(bar, completed=len(accepted))
            refused += [draft.refuse("answers", calls.ended or NOT_NEEDED) for draft in waiting]
            idle = 0 if len(accepted) > before else idle + 1
            number += 1
    ended = calls.ended or ("enough rows" if len(accepted) >= settings.rows else f"no new row in {PATIENCE} rounds")
    return SynthesisResult(tuple(accepted), tuple(refused), topics, ended, dict(calls.steps), wording.hash)


def finish_drafts(
    settings: Synthesis,
    drafts: Sequence[Draft],
    seeds: dict[str, Seed],
    known: Known,
    calls: Calls,
    wording: Wording,
) -> list[Draft]:
    """Answer, check, judge, and rewrite answers with low scores; in the order of the drafts."""
    done = verify(answer_drafts(settings, drafts, seeds, calls, wording), settings.checks, "answers", known)
    minimum_score = settings.least_score
    if minimum_score is None:
        return done
    done = apply_to_remaining(done, lambda part: judge_drafts(settings, part, calls, wording))
    for _ in range(settings.rewrites):
        low = [index for index, draft in enumerate(done) if draft.reason is None and (draft.score or 0) < minimum_score]
        if not low:
            break
        rewritten = rewrite_drafts(settings, [done[index] for index in low], calls, wording)
        rewritten = verify(rewritten, settings.checks, "answers", known, "rewrite")
        rewritten = apply_to_remaining(rewritten, lambda part: judge_drafts(settings, part, calls, wording))
        for index, draft in zip(low, rewritten, strict=True):
            done[index] = draft
    return [
        draft.refuse("critique", f"score below {minimum_score}")
        if draft.reason is None and (draft.score or 0) < minimum_score
        else draft
        for draft in done
    ]


def apply_to_remaining(drafts: Sequence[Draft], step: Callable[[Sequence[Draft]], list[Draft]]) -> list[Draft]:
    """Apply a step to the drafts that are not refused."""
    remaining = [index for index, draft in enumerate(drafts) if draft.reason is None]
    done = list(drafts)
    for index, draft in zip(remaining, step([drafts[index] for index in remaining]), strict=True):
        done[index] = draft
    return done
