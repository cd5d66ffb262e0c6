"""What differs between two models beside their scores: settings, data and code behind them, and their answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from tasks.evaluation.outcomes import ModelName
from tasks.evaluation.ranking import ModelRanking
from tasks.evaluation.report.changes import Change, is_binary, list_changes
from tasks.evaluation.report.everything import describe_change
from tasks.evaluation.report.examples import MAXIMUM_IN_ALL, choose_examples, show_change
from tasks.evaluation.slices.groups import Groupings
from tasks.evaluation.wording import inside_sentence
from tasks.pages.page import Page, show

MOST_ROWS = 60
LONGEST_VALUE = 200


class OriginChange(NamedTuple):
    """One thing behind two models that is not the same.

    Attributes:
        part: ``params``, ``data``, ``code`` or ``model``.
        what: Its name.
        before: What it is of the one model; None where it is not known or not there.
        after: What it is of the other.
    """

    part: str
    what: str
    before: Any
    after: Any


@dataclass(frozen=True)
class ModelDifference:
    """What differs between the reference of a ranking and another model.

    Attributes:
        before: The reference.
        after: The other model.
        origins: What is not the same behind them.
        note: What is to be known about that, such as what is not recorded.
        better: Items on which the other model is better.
        worse: Items on which it is worse.
        examples: Those of them that are shown.
        groupings: Slices of the items.
    """

    before: ModelName
    after: ModelName
    origins: Sequence[OriginChange]
    note: str
    better: Sequence[Change]
    worse: Sequence[Change]
    examples: Sequence[Change]
    groupings: Groupings

    @property
    def values(self) -> dict[str, Any]:
        """For programs."""
        return {
            "before": self.before,
            "after": self.after,
            "origins": [one._asdict() for one in self.origins],
            "note": self.note,
            "better": len(self.better),
            "worse": len(self.worse),
            "examples": [describe_change(one) for one in self.examples],
        }

    def add_to(self, page: Page, ranking: ModelRanking) -> None:
        """Show it."""
        metric = next(iter(ranking.metrics.values()))
        shown = [[one.part, one.what, _shorten(one.before), _shorten(one.after)] for one in self.origins[:MOST_ROWS]]
        left = len(self.origins) - len(shown)
        note = f"{self.note} {left:,} more are in metrics.json." if left > 0 else self.note
        page.table(
            f"Behind {self.after} and {self.before}", ["part", "what", self.before, self.after], shown, note.strip()
        )
        page.heading(f"Answers of {self.after} against {self.before}")
        some = "" if len(self.examples) == len(self.better) + len(self.worse) else f" {len(self.examples):,} are below."
        page.text(
            f"Better: {len(self.better):,} of {len(ranking.items):,}; worse: {len(self.worse):,}, judged by "
            f"{inside_sentence(metric.title)}.{some}"
        )
        places = {item.id: place for place, item in enumerate(ranking.items)}
        binary = is_binary(ranking.scores[model, metric.name] for model in (self.before, self.after))
        if self.examples:
            page.changes(
                [show_change(one, (self.before, self.after), self.groupings, places, binary) for one in self.examples]
            )


def find_differences(
    ranking: ModelRanking,
    origins: Mapping[ModelName, tuple[Sequence[OriginChange], str]],
    groupings: Groupings,
    most: int,
) -> list[ModelDifference]:
    """What differs between the reference and every other model, by the first metric.

    Args:
        ranking: The models.
        origins: What is not the same behind each model and the reference, and a note.
        groupings: Slices of the items.
        most: Examples of each pair, better and worse each.
    """
    if not ranking.metrics:
        return []
    metric = next(iter(ranking.metrics.values()))
    others = [model for model in ranking.models if model != ranking.reference]
    found = []
    for model in others:
        pair = (ranking.reference, model)
        better, worse = list_changes(ranking.items, ranking.outcomes, ranking.scores, metric, *pair, pair)
        examples = choose_examples(better, worse, most, MAXIMUM_IN_ALL // len(others))
        changes, note = origins[model]
        found.append(ModelDifference(*pair, changes, note, better, worse, examples, groupings))
    return found


def _shorten(value: Any) -> str:
    text = show(value)
    return text if len(text) <= LONGEST_VALUE else f"{text[: LONGEST_VALUE - 1]}…"
