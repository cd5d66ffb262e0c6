"""Every combination of all facts: refused with a way out in one line where the table says so, else not."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest

from tasks.contracts.errors import PipelineError
from tasks.contracts.machine import Machine
from tasks.language_models.folder.shape import ModelShape
from tasks.training.combinations import CHOICES, RULES, CombinationRule, find_reasons, name_of
from tasks.training_setup.counts import Counts
from tasks.training_setup.params import TrainingSetup
from tasks.training_setup.resolve import resolve_plan

LENGTHS = [60] * 200
COUNTS = Counts(
    rows=200, examples=200, cut=0, full_lengths=LENGTHS, lengths=LENGTHS, tokens=12_000, supervised_tokens=2_000,
    validation_examples=3,
)  # fmt: skip
MACHINE = Machine(
    device="cuda", accelerator="card", accelerators=2, accelerator_memory_bytes=2**36, cores=8, memory_bytes=2**36,
    bf16=True,
)  # fmt: skip


def settings_of(chosen: dict[str, Any]) -> TrainingSetup:
    """With the rest such that only the choices may be in each other's way."""
    many = chosen["distribution"].can.many
    optimizer = chosen["optimizer"].can
    return TrainingSetup.model_validate(
        {
            **{
                kind: choice
                if isinstance(choice, (str, bool))
                else {"name": choice.name, **choice.model_dump(exclude_unset=True)}
                for kind, choice in chosen.items()
            },
            "processes": 2 if many else 1,
            "max_tokens": 128,
            "clip_norm": 1.0 if optimizer.clips else 0.0,
            "accumulation_steps": "auto" if optimizer.full_batch else 1,
        }
    )


def expected_reasons(chosen: dict[str, Any]) -> set[str]:
    found = [find_reasons(rule.kinds, *(chosen[kind] for kind in rule.kinds)) for rule in RULES]
    return {reason for reasons in found for reason in reasons}


def find_broken(rule: CombinationRule, kind: str, choice: Any) -> Iterator[bool]:
    """Whether the choice breaks the rule with each choice of the other kind."""
    first, second = rule.kinds
    for other in CHOICES[second if kind == first else first]:
        yield rule.breaks(choice, other) if kind == first else rule.breaks(other, choice)


def list_combinations() -> Iterator[dict[str, Any]]:
    """Every combination of choices that rules tell apart, and every pair of all choices beside the defaults."""
    different: dict[str, dict[Any, Any]] = {}
    for kind, choices in CHOICES.items():
        for choice in choices:
            broken = tuple(tuple(find_broken(rule, kind, choice)) for rule in RULES if kind in rule.kinds)
            different.setdefault(kind, {}).setdefault(broken, choice)
    for combination in itertools.product(*(choices.values() for choices in different.values())):
        yield dict(zip(CHOICES, combination, strict=True))
    defaults = {kind: choices[0] for kind, choices in CHOICES.items()}
    for one, other in itertools.combinations(CHOICES, 2):
        for first, second in itertools.product(CHOICES[one], CHOICES[other]):
            yield {**defaults, one: first, other: second}


@pytest.mark.parametrize("each", [11, pytest.param(1, marks=pytest.mark.slow)], ids=["every eleventh", "all"])
def test_every_combination(shape: ModelShape, each: int) -> None:
    refused = taken = 0
    for chosen in itertools.islice(list_combinations(), 0, None, each):
        settings, reasons = settings_of(chosen), expected_reasons(chosen)
        shown = {kind: name_of(choice) for kind, choice in chosen.items()}
        if chosen["optimizer"].name == "muon" and not chosen["method"].trained_matrices(shape):
            continue  # refused for what is trained of this model
        if not reasons:
            plan = resolve_plan(settings, shape, COUNTS, MACHINE).plan
            assert (plan.method.name, plan.optimizer.name) == (shown["method"], shown["optimizer"])
            taken += 1
            continue
        with pytest.raises(PipelineError) as caught:
            resolve_plan(settings, shape, COUNTS, MACHINE)
        lines = str(caught.value).splitlines()
        told = [line.removeprefix("  - ") for line in (lines[1:] or lines)]
        assert len(told) == len(reasons), (shown, told)
        for reason in reasons:
            (line,) = (one for one in told if reason in one)
            assert line.partition("; ")[2].startswith(("take ", "set ")), line
        refused += 1
    assert refused
    assert taken


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: " x ".join(rule.kinds))
def test_a_rule_is_broken_by_some_and_kept_by_others_and_its_way_out_leads_out(rule: Any) -> None:
    pairs = list(itertools.product(*(CHOICES[kind] for kind in rule.kinds)))
    kept = [pair for pair in pairs if not rule.breaks(*pair)]
    assert kept
    for pair in pairs:
        if not rule.breaks(*pair):
            continue
        way_out = rule.way_out(*pair)
        named = [other for other in kept for choice in other if f" {name_of(choice)}" in way_out.replace(":", " ")]
        assert named, way_out
