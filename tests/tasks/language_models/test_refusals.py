"""Wordings that refuse, and those that only sound like it; more of them are held by the cleaning step's tests."""

from __future__ import annotations

import pytest

from tasks.language_models.probes.refusals import refuses


@pytest.mark.parametrize(
    ("text", "refusal"),
    [
        ("I'm sorry, but I can't help with that.", True),
        ("I cannot assist you with this request.", True),
        ("I\u2019m unable to provide medical advice.", True),
        ("As an AI language model, I am not able to do that.", True),
        ("I must decline.", True),
        # What the law says is an answer.
        ("It is illegal to pick the lock of a house that is not yours.", False),
        ("Sure, here is how you kill a Python process.", False),
        ("You can't return it after 30 days, but we will help you.", False),
        ("I can help with that.", False),
        ("Your order cannot be shipped today.", False),
        ("", False),
    ],
)
def test_refusals(text: str, refusal: bool) -> None:
    assert refuses(text) is refusal
