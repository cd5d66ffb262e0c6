"""Rows that the base's chat template refuses: set aside with its reason, or repaired first.

Templates differ in what they take: Mistral's and Gemma's want user and assistant to alternate, Gemma's takes no system
turn. Later stages leave such rows out; with this step the quarantine has them, and `repair` may save them:

* ``merge`` joins adjacent turns of one role with a blank line. Answers are never joined: an answer and its correction
  behind it would become one text.
* ``fold`` puts the text of a system turn before the user turn that follows it, else behind the user turn before it.

Without `repair`, the default, nothing is rewritten: a model is not asked in production as it was taught, unless clients
join and fold their turns the same way. A row that the template takes is never touched; of the repairs the first
that helps is used: each alone in the order given, then all together. Place the step after ``missing``.

Good for: data with system prompts or unanswered turns, and a strict base. Example:
    ``{name: template, model: models/base, repair: [merge, fold]}`` makes of system "Be brief.", user "Hello?" and user
    "Anyone?", for Gemma's template, one user turn of three paragraphs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, field_validator

from tasks.contracts.errors import PipelineError
from tasks.contracts.params import Reads, Section

if TYPE_CHECKING:
    import pyarrow as pa

    from tasks.corpus.rows.rows import Listing
    from tasks.corpus.rows.texts import Cleaned
    from tasks.language_models.templates.rendering import Rendering
    from tasks.language_models.templates.template_file import TemplateFile

Turn = dict[str, Any]
Repair = Literal["merge", "fold"]
Repairs = tuple[Repair, ...]
# The column of the answers to choose from (`tasks.corpus.reading.answers`).
ANSWERS = "answers"
# That of the places of answers without loss (`tasks.contracts.records`).
UNTRAINED = "untrained"
# Rows taken out of Arrow at once, which bounds the memory.
BATCH_ROWS = 10_000


class Template(Section):
    """Repairs or drops rows that a chat template refuses."""

    name: Literal["template"] = "template"
    model: Annotated[str, Reads("place")] = Field(
        default="models/base",
        min_length=1,
        description="folder of a model with a chat template, or a .jinja file; relative to the repository",
    )
    sha256: str | None = Field(
        default=None,
        pattern=r"^[0-9a-f]{64}$",
        description="SHA-256 of the template; pin it, as DVC watches only data/raw for this stage",
    )
    repair: Repairs = Field(
        default=(),
        description="what may be done to a refused row. merge: adjacent turns of one role, except answers, become one; "
        "fold: system turns become a part of user turns; empty: the row is dropped",
    )

    @field_validator("repair")
    @classmethod
    def _repairs_differ(cls, repair: Repairs) -> Repairs:
        if len(set(repair)) < len(repair):
            raise ValueError("repair names one repair twice; name each once")
        return repair

    def check(self) -> None:
        """Read the template before any row is, and warn where a change of it goes unnoticed.

        Raises:
            PipelineError: There is no template, it is no Jinja template, or it is not the pinned one.
        """
        from tasks.corpus.reading.sources.pins import warn_unwatched

        found = self._read()
        _compile(found)
        if self.sha256 is None:
            warn_unwatched("cleaning step template", self.model, found.sha256, Path())

    def clean(self, table: pa.Table) -> Cleaned:
        import pyarrow as pa

        from tasks.corpus.rows.texts import EXAMPLES, Cleaned

        rendering = _compile(self._read())
        names = [name for name in ("messages", ANSWERS, UNTRAINED) if name in table.column_names]
        columns: dict[str, list[pa.Array]] = {name: [] for name in names}
        reasons: list[str | None] = []
        examples: list[tuple[str, str]] = []
        repairs: Counter[Repairs] = Counter()
        answers_dropped = 0
        for start in range(0, table.num_rows, BATCH_ROWS):
            rows: list[dict[str, Any]] = table.select(names).slice(start, BATCH_ROWS).to_pylist()
            for row in rows:
                before = row["messages"]
                reason, used = self._settle(row, rendering)
                reasons.append(reason)
                if reason is None:
                    answers_dropped += _drop_refused_answers(row, used, rendering)
                if used:
                    repairs[used] += 1
                    if len(examples) < EXAMPLES:
                        examples.append((_show_turns(before), _show_turns(row["messages"])))
            for name, parts in columns.items():
                parts.append(pa.array([row[name] for row in rows], table.schema.field(name).type))
        for name, parts in columns.items():
            index = table.schema.get_field_index(name)
            field = table.schema.field(index)
            table = table.set_column(index, field, pa.chunked_array(parts, field.type))
        notes: dict[str, int | float] = {
            "merged": sum(count for used, count in repairs.items() if "merge" in used),
            "folded": sum(count for used, count in repairs.items() if "fold" in used),
        }
        if answers_dropped:
            notes["other_answers_dropped"] = answers_dropped
        return Cleaned(table, reasons, repairs.total(), tuple(examples), notes, self._list_repairs(repairs))

    def _read(self) -> TemplateFile:
        from tasks.language_models.templates.template_file import read_template

        try:
            found = read_template(Path(self.model))
        except PipelineError as error:
            raise PipelineError(f"cleaning step template: {error}") from error
        if self.sha256 is not None and found.sha256 != self.sha256:
            raise PipelineError(
                f"cleaning step template: the template in {found.path} has SHA-256 {found.sha256}, pinned is "
                f"{self.sha256}; restore it or change the pin"
            )
        return found

    def _settle(self, row: dict[str, Any], rendering: Rendering) -> tuple[str | None, Repairs]:
        """Repair a row in place where that helps; the answers without loss stay the same.

        Returns:
            The template's reason, None when it takes the row; and the repairs made, none when the row is as it was.
            Where the repairs leave another reason than the first, both are given.
        """
        turns: list[Turn] = row["messages"]
        reason = _find_refusal(turns, rendering)
        if reason is None:
            return None, ()
        from tasks.corpus.rows.learned import move_untrained

        answers = row.get(ANSWERS)
        start = len(turns) if answers is None else answers["start"]
        left: str | None = reason
        alone: list[Repairs] = [(each,) for each in self.repair]
        for repairs in (*alone, self.repair) if len(alone) > 1 else alone:
            # The answers to choose from stand behind one prompt, so nothing is joined across its end.
            prompt, rest = repair_turns(turns[:start], repairs), repair_turns(turns[start:], repairs)
            left = _find_refusal([*prompt, *rest], rendering)
            if left is None:
                row["messages"] = [*prompt, *rest]
                if row.get(UNTRAINED):
                    row[UNTRAINED] = move_untrained(row[UNTRAINED], turns, row["messages"])
                if answers is not None:
                    answers["start"] = len(prompt)
                return None, repairs
        return reason if left == reason else f"{reason}; after {' and '.join(self.repair)}: {left}", ()

    def _list_repairs(self, repairs: Counter[Repairs]) -> tuple[Listing, ...]:
        from tasks.corpus.rows.rows import Listing

        rows = tuple((" and ".join(used), count) for used, count in sorted(repairs.items()))
        note = f"The chat template is that of {self.model}."
        return (Listing("Repairs for the chat template", ("repair", "rows"), rows, note),) if rows else ()


def repair_turns(turns: Sequence[Turn], repairs: Repairs) -> list[Turn]:
    """Turns with some repairs; folded before they are merged, since folding may leave two user turns side by side."""
    folded = fold_system(turns) if "fold" in repairs else list(turns)
    return merge_adjacent(folded) if "merge" in repairs else folded


def merge_adjacent(turns: Sequence[Turn]) -> list[Turn]:
    """Adjacent turns of one role as one turn, except answers."""
    merged: list[Turn] = []
    for role, run in groupby(turns, key=lambda turn: turn["role"]):
        same = list(run)
        merged += same if role == "assistant" or len(same) == 1 else [_join(role, same)]
    return merged


def fold_system(turns: Sequence[Turn]) -> list[Turn]:
    """Each run of system turns as a part of the user turn behind it, else of the one before it, else as it is."""
    folded: list[Turn] = []
    waiting: list[Turn] = []
    for turn in turns:
        if turn["role"] == "system":
            waiting.append(turn)
        elif waiting and turn["role"] == "user":
            folded.append(_join("user", [*waiting, turn]))
            waiting = []
        else:
            folded = [*_fold_back(folded, waiting), turn]
            waiting = []
    return _fold_back(folded, waiting)


def _fold_back(turns: list[Turn], system: list[Turn]) -> list[Turn]:
    if system and turns and turns[-1]["role"] == "user":
        return [*turns[:-1], _join("user", [turns[-1], *system])]
    return [*turns, *system]


def _join(role: str, turns: Sequence[Turn]) -> Turn:
    return {"role": role, "content": "\n\n".join(turn["content"] for turn in turns if turn["content"].strip())}


def _find_refusal(turns: Sequence[Turn], rendering: Rendering) -> str | None:
    """Why the template refuses the turns up to the last answer, which are those that later stages read."""
    if not turns:
        return "no turns"
    end = max((number for number, turn in enumerate(turns, 1) if turn["role"] == "assistant"), default=len(turns))
    return rendering.find_refusal(turns[:end])


def _drop_refused_answers(row: dict[str, Any], repairs: Repairs, rendering: Rendering) -> int:
    """Repair the other answers of a row as its prompt was, and remove those that are still refused; their number.

    A row that is left with one answer of several compares nothing any more.
    """
    answers = row.get(ANSWERS)
    if answers is None:
        return 0
    prompt = row["messages"][: answers["start"]]
    repaired = [each | {"turns": repair_turns(each["turns"], repairs)} for each in answers["others"]]
    kept = [each for each in repaired if _find_refusal([*prompt, *each["turns"]], rendering) is None]
    row[ANSWERS] = answers | {"others": kept} if kept or not repaired else None
    return len(repaired) - len(kept)


def _show_turns(turns: Sequence[Turn]) -> str:
    """The beginning of each turn with its role, in one line."""
    from tasks.corpus.rows.texts import EXAMPLE_CHARACTERS, make_visible

    return make_visible(" → ".join(f"{turn['role']}: {turn['content'][:EXAMPLE_CHARACTERS]}" for turn in turns))


def _compile(found: TemplateFile) -> Rendering:
    from tasks.language_models.templates.rendering import Rendering

    try:
        return Rendering(found.text, found.special_tokens)
    except PipelineError as error:
        raise PipelineError(f"cleaning step template: {found.path}: {error}") from error
