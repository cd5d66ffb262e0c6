"""What the trials of a comparison say: the best rate of each choice, intervals over the seeds, the Pareto front."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tasks.search.comparison import (
    BY_PREFERENCES,
    RATE,
    SEED,
    TABLE,
    ChoiceFacts,
    compare_choices,
    describe_comparison,
    list_rows,
    plot_front,
    write_comparison,
)
from tasks.search.trials import ANSWER_LOSS, PREFERENCES, SearchTrial

METHOD = "training_setup.method"
FACTS = {"full": ChoiceFacts(1000, 2**30), "lora": ChoiceFacts(100, 2**29), "half": ChoiceFacts(600, 2**30)}


def trial(number: int, name: str, seed: int, loss: float | None, rate: float = 1e-3, **more: Any) -> SearchTrial:
    changes = {METHOD: {"name": name}, SEED: seed, RATE: rate}
    state: Any = "failed" if loss is None else "finished"
    seconds = more.pop("seconds", 10.0)
    return SearchTrial(number, None, {}, changes, state, loss, {}, 30, seconds, **more)


TRIALS = [
    trial(0, "full", 0, 2.0, seconds=20.0),
    trial(1, "full", 1, 2.2, seconds=22.0),
    trial(2, "full", 0, 3.0, rate=1e-2),
    trial(3, "full", 1, 3.1, rate=1e-2),
    trial(4, "lora", 0, 2.5),
    trial(5, "lora", 1, 2.7),
    # No better than LoRA, and dearer.
    trial(6, "half", 0, 2.8, seconds=15.0),
    trial(7, "half", 1, 2.8, seconds=15.0),
    trial(8, "gone", 0, None, reason="method.layers: 9, but the model has 6 blocks"),
]


def test_choices_are_ranked_at_their_best_rate_with_intervals_over_the_seeds() -> None:
    found = compare_choices(METHOD, TRIALS, FACTS, seeds=2, steps=30, watts=36)
    assert [choice.name for choice in found.choices] == ["full", "lora", "half", "gone"]
    full = found.choices[0]
    assert (full.rate, full.values, full.value) == (1e-3, {0: 2.0, 1: 2.2}, pytest.approx(2.1))
    # Standard deviation 0.1414 over the root of 2, times 12.706 of one degree of freedom.
    assert full.half_width == pytest.approx(0.1 * 12.7062, rel=1e-4)
    assert found.watt_hours(full) == pytest.approx(21 * 36 / 3600)
    assert found.choices[-1].reason.startswith("method.layers: 9")
    assert "full is first by validation loss after 30 steps: 2.100 ± 1.271 nats per token" in describe_comparison(found)


def test_a_choice_is_behind_by_its_differences_seed_by_seed() -> None:
    """LoRA loses 0.5 with either seed, which is clear though the seeds are 0.2 apart; half loses 0.8 and 0.6."""
    found = compare_choices(METHOD, TRIALS, FACTS, seeds=2, steps=30)
    _, lora, half, _ = found.choices
    assert found.behind(lora) == (pytest.approx(0.5), pytest.approx(0.0, abs=1e-9))
    assert found.behind(half) == (pytest.approx(0.7), pytest.approx(0.1 * 12.7062, rel=1e-4))
    assert "Not clearly behind it: half." in describe_comparison(found)


def test_objectives_are_ranked_by_the_preferences_they_hold_whatever_their_losses() -> None:
    kind = "training_setup.objective"

    def one(number: int, name: str, seed: int, loss: float, held: float) -> SearchTrial:
        figures = {PREFERENCES: held, ANSWER_LOSS: 3.0}
        return replace(trial(number, name, seed, loss), changes={kind: {"name": name}, SEED: seed}, figures=figures)

    trials = [
        one(0, "dpo", 0, 0.6, 0.7),
        one(1, "dpo", 1, 0.6, 0.8),
        one(2, "kto", 0, 0.2, 0.6),
        one(3, "kto", 1, 0.2, 0.6),
    ]
    found = compare_choices(kind, trials, FACTS, seeds=2, steps=30, ranked_by=BY_PREFERENCES)
    assert [(choice.name, choice.value) for choice in found.choices] == [("dpo", 0.75), ("kto", 0.6)]
    assert found.behind(found.choices[1])[0] == pytest.approx(0.15)
    assert [choice.name for choice in found.front("seconds")] == ["dpo"]
    columns, rows, _ = list_rows(found)
    assert columns[1:4] == ["preferences held", "behind the first", "loss of the answers"]
    assert rows[0][3] == "3.000"


def test_the_front_has_what_nothing_else_beats() -> None:
    found = compare_choices(METHOD, TRIALS, FACTS, seeds=2, steps=30)
    for cost in ("trained", "memory_mib", "seconds"):
        assert [choice.name for choice in found.front(cost)] == ["lora", "full"]
    columns, rows, _ = list_rows(found)
    assert "Wh" not in columns
    assert [row[-1] for row in rows] == ["weights, memory, time", "weights, memory, time", ""]


def test_a_rate_that_failed_for_a_seed_is_no_better_for_it() -> None:
    trials = [*TRIALS[:2], trial(2, "full", 0, 1.0, rate=1e-2), trial(3, "full", 1, None, rate=1e-2, reason="nan")]
    (full,) = compare_choices(METHOD, trials, FACTS, seeds=2, steps=30).choices
    assert (full.rate, full.reason) == (1e-3, "")


def test_the_page_and_the_table(tmp_path: Path) -> None:
    found = compare_choices(METHOD, TRIALS, FACTS, seeds=2, steps=30, watts=36)
    figures = write_comparison(found, tmp_path / "index.html", tmp_path / "metrics.json")
    assert figures == {"full_validation_loss": 2.1, "lora_validation_loss": 2.6, "half_validation_loss": 2.8}
    page = (tmp_path / "index.html").read_text().replace("<wbr>", "")
    assert all(name in page for name in ("full", "lora", "half", "gone", "Not trained", "method.layers: 9"))
    table = json.loads((tmp_path / TABLE).read_text())
    assert table["fronts"]["trained"] == ["lora", "full"]
    assert [choice["value"] for choice in table["choices"][:2]] == [pytest.approx(2.1), pytest.approx(2.6)]
    assert table["choices"][-1]["value"] is None


def test_a_choice_without_a_plan_is_on_no_front_of_what_is_not_known() -> None:
    found = compare_choices(METHOD, TRIALS[:2], {}, seeds=2, steps=30)
    assert math.isnan(found.choices[0].trained)
    assert (found.front("trained"), [one.name for one in found.front("seconds")]) == ([], ["full"])
    (one,) = compare_choices(METHOD, TRIALS[:1], FACTS, seeds=1, steps=30).choices
    assert one.half_width is None


def test_a_plot_of_few_choices_names_all_and_one_of_many_those_of_its_front_that_have_room() -> None:
    few = plot_front(compare_choices(METHOD, TRIALS, FACTS, seeds=2, steps=30), "trained", "weights")
    assert {text.get_text() for text in few.axes[0].texts} == {"full", "lora", "half"}
    # Each dearer and better than the one before; the last ones cost and reach nearly the same.
    costs = [*range(100, 2100, 100), *range(2001, 2015)]
    trials = [trial(n, f"choice {n}", 0, 5 - costs[n] / 1000) for n in range(len(costs))]
    trials += [trial(99, "dear", 0, 4.5)]
    facts = {f"choice {n}": ChoiceFacts(cost, 2**30) for n, cost in enumerate(costs)} | {
        "dear": ChoiceFacts(900, 2**30)
    }
    many = plot_front(compare_choices(METHOD, trials, facts, seeds=1, steps=30), "trained", "weights")
    texts = many.axes[0].texts
    assert 2 <= len(texts) < len(costs)
    assert "dear" not in {text.get_text() for text in texts}
    boxes = [text.get_window_extent() for text in texts]
    assert not any(one.overlaps(other) for n, one in enumerate(boxes) for other in boxes[:n])


def test_a_cost_that_is_the_same_for_all_has_no_plot_and_no_front(tmp_path: Path) -> None:
    """Optimizers train the same weights."""
    facts = {name: ChoiceFacts(1000, one.memory_bytes) for name, one in FACTS.items()}
    found = compare_choices(METHOD, TRIALS, facts, seeds=2, steps=30)
    write_comparison(found, tmp_path / "index.html", tmp_path / "metrics.json")
    page = (tmp_path / "index.html").read_text()
    assert "Validation loss against predicted memory" in page
    assert "against weights trained" not in page
    columns, rows, _ = list_rows(found)
    assert "weights" not in {row[columns.index("on the front of")] for row in rows}


def test_names_of_points_that_are_near_each_other_cover_neither_them_nor_each_other() -> None:
    """Adam and AdamW cost and reach the same, Lion and RMSprop nearly so."""
    at = {"adam": (900, 1.175), "adamw": (900, 1.175), "lion": (800, 0.88), "rmsprop": (800, 0.90), "sgd": (750, 1.5)}
    trials = [trial(n, name, 0, loss) for n, (name, (_, loss)) in enumerate(at.items())]
    facts = {name: ChoiceFacts(cost, 2**30) for name, (cost, _) in at.items()}
    axes = plot_front(compare_choices(METHOD, trials, facts, seeds=1, steps=30), "trained", "weights").axes[0]
    assert {text.get_text() for text in axes.texts} == set(at)
    boxes = [text.get_window_extent() for text in axes.texts]
    assert not any(one.overlaps(other) for n, one in enumerate(boxes) for other in boxes[:n])
    points = axes.transData.transform(list(at.values()))
    assert not any(box.contains(*point) for box in boxes for point in points)


def test_a_long_bar_leaves_the_others_their_room() -> None:
    trials = [*TRIALS, trial(10, "wild", 0, 2.2), trial(11, "wild", 1, 3.2)]
    facts = {**FACTS, "wild": ChoiceFacts(300, 2**30)}
    found = compare_choices(METHOD, trials, facts, seeds=2, steps=30)
    assert max(choice.half_width or 0 for choice in found.finished) > 6
    low, high = plot_front(found, "trained", "weights").axes[0].get_ylim()
    assert (low, high) == (pytest.approx(2.1 - 0.35), pytest.approx(2.8 + 0.35))
    one = plot_front(compare_choices(METHOD, TRIALS[:1], FACTS, seeds=1, steps=30), "trained", "weights")
    low, high = one.axes[0].get_ylim()
    assert high - low > 0.01
