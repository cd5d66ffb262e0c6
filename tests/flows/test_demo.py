"""What the demo tells while it runs: what it does and how long it will still take."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from flows.commands.demo import STAGE_WORK, USUAL_S, Story
from flows.commands.time_left import TimeLeft
from flows.pipeline import STAGES


def test_before_anything_ended_the_usual_times_count() -> None:
    assert TimeLeft({"data": 10, "train": 100}).seconds == 110


def test_what_is_left_is_stretched_as_this_machine_stretched_what_it_did() -> None:
    left = TimeLeft({"data": 10, "setup": 5, "train": 100})
    left.finish("data", 20)
    assert left.seconds == pytest.approx(210)
    left.finish("setup", 2.5)
    assert left.seconds == pytest.approx(100 * 22.5 / 15)


def test_a_step_that_had_nothing_to_do_says_nothing_about_the_machine() -> None:
    left = TimeLeft({"data": 10, "train": 100})
    left.finish("data", 0.1, worked=False)
    assert left.seconds == 100


def test_a_step_of_no_list_and_one_that_ends_twice_count_for_nothing() -> None:
    left = TimeLeft({"data": 10, "train": 100})
    left.finish("unknown", 1000)
    left.finish("data", 10)
    left.finish("data", 1000)
    assert left.seconds == 100


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(3, "about 10 s left"), (44, "about 40 s left"), (100, "about 2 min left"), (400, "about 7 min left")],
)
def test_the_estimate_in_words(seconds: float, words: str) -> None:
    assert str(TimeLeft({"train": seconds})) == words


def test_the_demo_knows_every_stage() -> None:
    assert tuple(STAGE_WORK) == STAGES
    assert tuple(USUAL_S)[: len(STAGES)] == STAGES
    assert {name.removesuffix(" again") for name in USUAL_S if name.endswith(" again")} < set(STAGES)


def test_each_stage_is_announced_before_it_runs_and_the_time_left_follows_the_pace() -> None:
    written = io.StringIO()
    story = Story(Console(file=written, width=200))
    report = story.report_stages(STAGES)
    assert "data preparation: generate the sample" in written.getvalue()
    before = story.left.seconds
    report("data_preparation", "Ran", 2 * USUAL_S["data_preparation"])
    assert written.getvalue().splitlines()[-1].startswith(" 0:00  model initialisation: pin the embedded base model")
    assert story.left.seconds == pytest.approx(2 * (before - USUAL_S["data_preparation"]))
    told = len(written.getvalue())
    report("monitoring", "Unchanged", 0.1)
    assert written.getvalue()[told:] == ""


def test_a_step_is_announced_and_its_time_noted() -> None:
    written = io.StringIO()
    story = Story(Console(file=written, width=200))
    with story.step("gateway", "start a server for the champion"):
        announced = written.getvalue()
    assert (
        announced.strip()
        == f"0:00  start a server for the champion (about {round(sum(USUAL_S.values()) / 60)} min left)"
    )
    assert story.left.seconds < sum(USUAL_S.values())
