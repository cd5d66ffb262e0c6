"""The steps in rounds, until there are enough rows.

A round asks for prompts about a few topics, the next ones in their order, and takes their drafts through the steps.
What it asks depends on the rounds before it and not on how many rows are wanted, so that more rows wanted later go on
where an earlier run ended.
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
from tasks.synthesis.drafts import NOT_NEEDED, Draft, Group, Known, Seed, Written
from tasks.synthesis.instructions import propose_instructions
from tasks.synthesis.params import Synthesis
from tasks.synthesis.rewrite import rewrite_drafts
from tasks.synthesis.topics import ask_for_topics
from tasks.synthesis.verify import list_fields, verify
from tasks.synthesis.wording import Wording

# Topics of a round, each a call for prompts.
TOPICS = 4
# Rounds in a row without a new row after which the teacher has nothing more to say.
PATIENCE = 3


def read_wording(settings: Synthesis, root: Path, labels: Sequence[str] = ()) -> Wording:
    """The templates, with the placeholders that these params need.

    Raises:
        PipelineError: A template is missing or wrong.
    """
    needed = {"instructions": [*(["labels"] if labels else []), *(["fields"] if list_fields(settings.checks) else [])]}
    return Wording(root / settings.prompts if settings.prompts else None, needed)


def write_rows(settings: Synthesis, seeds: Sequence[Seed], known: Known, folder: Path, root: Path) -> Written:
    """Have the rows written.

    Args:
        settings: What, how many, by whom, at which cost.
        seeds: Examples.
        known: What there is already.
        folder: Where answers are kept.
        root: What relative paths are relative to.

    Raises:
        PipelineError: A model does not answer, or the templates are wrong. Answers that came are kept.
    """
    wording = read_wording(settings, root, known.labels)
    known = replace(known, taken=Group(known.taken.name, []))
    console = Console(stderr=True)
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        bar = progress.add_task("rows", total=settings.rows)

        def tell() -> None:
            progress.update(bar, description=f"rows ({calls.fresh:,} new calls, cost so far {calls.cost:.4g})")

        calls = Calls(settings, folder, tell)
        topics, refused = ask_for_topics(settings, seeds, calls, wording)
        accepted: list[Draft] = []
        written: dict[str, list[str]] = {}
        by_id = {seed.id: seed for seed in seeds}
        number = idle = 0
        while len(accepted) < settings.rows and not calls.ended and idle < PATIENCE:
            first = number * TOPICS
            chosen = [topics[(first + place) % len(topics)] for place in range(min(TOPICS, len(topics)))]
            drafts = propose_instructions(settings, chosen, number, seeds, known, written, calls, wording)
            drafts = verify(drafts, settings.checks, "instructions", known)
            refused += [draft for draft in drafts if draft.reason is not None]
            waiting = [draft for draft in drafts if draft.reason is None]
            known.taken.texts += [draft.instruction for draft in waiting]
            for draft in waiting:
                written.setdefault(draft.topic, []).append(draft.instruction)
            before = len(accepted)
            while waiting and not calls.ended and (missing := settings.rows - len(accepted)):
                wave, waiting = waiting[:missing], waiting[missing:]
                done = finish_drafts(settings, wave, by_id, known, calls, wording)
                accepted += [draft for draft in done if draft.reason is None]
                refused += [draft for draft in done if draft.reason is not None]
                progress.update(bar, completed=len(accepted))
            refused += [draft.refuse("answers", calls.ended or NOT_NEEDED) for draft in waiting]
            idle = 0 if len(accepted) > before else idle + 1
            number += 1
    ended = calls.ended or ("enough rows" if len(accepted) >= settings.rows else f"no new row in {PATIENCE} rounds")
    return Written(tuple(accepted), tuple(refused), topics, ended, dict(calls.steps), wording.hash)


def finish_drafts(
    settings: Synthesis,
    drafts: Sequence[Draft],
    seeds: dict[str, Seed],
    known: Known,
    calls: Calls,
    wording: Wording,
) -> list[Draft]:
    """Answer, check, judge, and rewrite what is worth it; in the order of the drafts."""
    done = verify(answer_drafts(settings, drafts, seeds, calls, wording), settings.checks, "answers", known)
    least = settings.least_score
    if least is None:
        return done
    done = on_open(done, lambda part: judge_drafts(settings, part, calls, wording))
    for _ in range(settings.rewrites):
        low = [place for place, draft in enumerate(done) if draft.reason is None and (draft.score or 0) < least]
        if not low:
            break
        new = rewrite_drafts(settings, [done[place] for place in low], calls, wording)
        new = verify(new, settings.checks, "answers", known, "rewrite")
        new = on_open(new, lambda part: judge_drafts(settings, part, calls, wording))
        for place, draft in zip(low, new, strict=True):
            done[place] = draft
    return [
        draft.refuse("critique", f"score below {least}")
        if draft.reason is None and (draft.score or 0) < least
        else draft
        for draft in done
    ]


def on_open(drafts: Sequence[Draft], step: Callable[[Sequence[Draft]], list[Draft]]) -> list[Draft]:
    """Pass the drafts that are not refused through a step."""
    places = [place for place, draft in enumerate(drafts) if draft.reason is None]
    done = list(drafts)
    for place, draft in zip(places, step([drafts[place] for place in places]), strict=True):
        done[place] = draft
    return done
