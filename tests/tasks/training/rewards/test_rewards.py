"""Values worked out by hand, and functions and judges that misbehave: one line with the function and the row."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from tasks.contracts.errors import PipelineError
from tasks.language_models.folder.model_folder import load_tokenizer
from tasks.sandbox.functions import FunctionFailed, FunctionFile
from tasks.training import reward_models
from tasks.training.rewards import AnyReward
from tasks.training.rewards.regex import RegexReward
from tasks.training.rewards.reward import AnswerAttempt, RowFacts
from tasks.training.rewards.scoring import Rewards, list_reward_problems
from tests.endpoint import Endpoint
from tests.tasks.training.rewards.test_contract import make_classifier

PROMPT = [{"role": "user", "content": "How much?"}]


def attempt(answer: str, reference: str | None = None, **changes: Any) -> AnswerAttempt:
    values = {"tokens": len(answer.split()) + 1, "finished": True, "label": None, "row": f"row-{answer[:8]}"}
    return AnswerAttempt(PROMPT, answer, reference=reference, **{**values, **changes})


def parse(**settings: Any) -> Any:
    return TypeAdapter(AnyReward).validate_python(settings)


def value(settings: dict[str, Any], answer: str, reference: str | None = None, **changes: Any) -> float:
    return Rewards([parse(**settings)], None).score([attempt(answer, reference, **changes)]).total[0]


CASES = [
    ({"name": "exact_match"}, " Track  Parcel", "track parcel", 1),
    ({"name": "exact_match", "fold": False}, "Track parcel", "track parcel", 0),
    ({"name": "exact_match", "contains": True}, "It is track parcel.", "track parcel", 1),
    ({"name": "number"}, "That makes 18 eggs.", "9 * 2 = 18\n#### 18", 1),
    ({"name": "number"}, "12 and then $1,250.00", "1250", 1),
    ({"name": "number"}, "#### 7 of 9", "7", 1),
    ({"name": "number"}, "-3", "3", 0),
    ({"name": "number"}, "none", "3", 0),
    ({"name": "number", "tolerance": 0.01}, "101", "100", 1),
    ({"name": "number", "tolerance": 0.01}, "102", "100", 0),
    ({"name": "regex", "must": "^(yes|no)$"}, "yes", None, 1),
    ({"name": "regex", "must": "^(yes|no)$", "must_not": "no"}, "no", None, 0),
    ({"name": "json_schema"}, "[1", None, 0),
    ({"name": "json_schema", "fits": {"type": "array"}, "partial": 0.5}, "{}", None, 0.5),
    ({"name": "json_schema", "fence": True}, "```json\n{}\n```", None, 1),
    ({"name": "length", "at_least": 5, "at_most": 60, "slack": 20}, "", None, 0.8),
    ({"name": "length", "at_most": 2, "unit": "words"}, "one two three", None, 0),
    ({"name": "format", "tags": ["think", "answer"]}, "<think>2 + 2</think> 4", None, 0.5),
    ({"name": "format", "tags": ["a", "b"]}, "<b>1</b><a>2</a>", None, 0.5),
    ({"name": "format", "starts": "Dear", "ends": "!", "weight": -2}, "Dear you.", None, -1),
    ({"name": "code", "isolated": False, "seconds": 2}, "```\ndef f(): return 3\n```", "assert f() == 3", 1),
    ({"name": "code", "isolated": False, "seconds": 2}, "```\ndef f(): return 4\n```", "assert f() == 3", 0),
]  # fmt: skip


@pytest.mark.parametrize(("settings", "answer", "reference", "expected"), CASES)
def test_a_value_by_hand(settings: dict[str, Any], answer: str, reference: str | None, expected: float) -> None:
    assert value(settings, answer, reference) == pytest.approx(expected)


def test_several_are_summed_with_their_weights() -> None:
    both = Rewards([parse(name="length", at_most=3), parse(name="length", at_most=1, weight=0.5)], None)
    found = both.score([attempt("one two"), attempt("")])
    assert found.each == {"length 1": [1, 1], "length 2": [0, 1]}
    assert found.total == [1, 1.5]


MISBEHAVING = {
    "def f(answers): return [1 / len(a) for a in answers]": "raised ZeroDivisionError: division by zero, line 1, on "
    "row row-, answer ''",
    "def f(answers): return [float('nan')] * len(answers)": "found nan for row row-good, answer 'good'",
    "def f(answers): return [1.0]": "1 values for 2 answers",
    "def f(answers): return 1.0": "returned 1.0; expected a list of 2 numbers",
    "def f(answers): return ['1', True]": "found '1' for row row-good",
    "def f(answers):\n    while True: pass": "took longer than 0.5 s and was ended, on 2 answers",
    "import os\ndef f(answers): os._exit(3)": "ended its process",
    "def f(answers, budget): return answers": "has the parameters budget; expected some of answers, prompts",
    "def g(answers): return []": 'has no function "f"; it has g',
    "import nothing_of_this_name": "does not load (ModuleNotFoundError",
}


@pytest.mark.parametrize("source", MISBEHAVING)
def test_a_function_that_misbehaves_is_named_with_its_row(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("own.py").write_text(source)
    with pytest.raises(PipelineError) as error:
        Rewards([parse(name="function", path="own.py", function="f", timeout_s=0.5)], None).score(
            [attempt("good"), attempt("")]
        )
    assert MISBEHAVING[source] in str(error.value)
    assert "\n" not in str(error.value)


def test_a_function_process_prints_goes_on_after_an_error_and_stays_in_the_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    Path("own.py").write_text("import numpy\nprint('loud')\ndef f(x):\n    print(x)\n    return numpy.ones(2) / x")
    file = FunctionFile(Path("own.py"), "reward function")
    with pytest.raises(FunctionFailed, match="raised TypeError"):
        file.call("f", {"x": "text"}, 5)
    assert file.call("f", {"x": 2}, 5) == [0.5, 0.5]
    assert file.describe("f").names == ("x",)
    (tmp_path / "other.py").write_text("")
    with pytest.raises(PipelineError, match="outside the project"):
        FunctionFile(Path("../other.py"), "reward function").describe("f")


def test_a_judge_without_a_verdict_stops_the_run_and_one_with_one_is_asked_once(tmp_path: Path) -> None:
    pytest.importorskip("openai", reason="openai is in the extra writers")
    endpoint = Endpoint(lambda text: "splendid" if "bad" in text else "Points: 4")
    judge = parse(
        name="judge",
        scale=[0, 5],
        attempts=2,
        writer={"name": "openai", "url": endpoint.url, "model": "m", "retries": 0},
    )
    try:
        rewards = Rewards([judge], tmp_path)
        assert rewards.score([attempt("good"), attempt("good")]).total == [0.8, 0.8]
        assert rewards.score([attempt("good")]).total == [0.8]
        assert len(endpoint.asked) == 1
        with pytest.raises(
            PipelineError, match="row row-bad: m gave no number from 0 to 5 in 2 attempts, last 'splendid'"
        ):
            rewards.score([attempt("bad")])
        assert len(endpoint.asked) == 3
    finally:
        endpoint.close()


def test_what_cannot_work_is_told_before() -> None:
    facts = RowFacts(rows=10, having={"answer": 10, "label": 7})
    problems = list_reward_problems([parse(name="exact_match", reference="label", weight=0)], facts)
    assert [problem.split(";")[0] for problem in problems] == [
        "objective.rollout.rewards: every weight is 0, so every answer is worth the same",
        "objective.rollout.rewards: exact_match compares with the label of a row, which 3 of 10 rows lack",
    ]
    assert list_reward_problems([], None)[0].startswith("objective.rollout.rewards: empty")
    for settings, what in (
        ({"name": "regex", "must": "("}, "invalid pattern"),
        ({"name": "json_schema", "fits": {"type": "objekt"}}, "no JSON Schema"),
        ({"name": "length", "at_least": 9, "at_most": 3}, "at_least 9 is more than at_most 3"),
    ):
        with pytest.raises(ValidationError, match=what):
            parse(**settings)


def test_a_pattern_that_finds_no_end_stops_the_run_and_is_named() -> None:
    reward = RegexReward(must="(a|aa)+$")
    with pytest.raises(PipelineError, match=r"reward regex: the pattern '\(a\|aa\)\+\$' looks for longer than 1 s"):
        reward.open(None)([attempt("a" * 60 + "b")])


ODDS = {"first": 2.2, "second": -0.4, "third": 1.4}  # probabilities 0.90025, 0.40131 and 0.80218


REDUCED = {"product": 0.28981, "min": 0.40131, "mean": 0.70125, "last": 0.80218}


def test_probabilities_of_steps_become_one_number(
    initial: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_classifier(initial, tmp_path / "steps")
    tokenizer = load_tokenizer(initial)

    def scored(_: Any, rows: Any, places: Any, *__: Any) -> Any:
        """What a model says where a step ends, by the last word before it."""
        assert [len(one) for one in places] == [3, 1]
        return [
            np.array([ODDS[last_word(tokenizer.decode(row[: place + 1]))] for place in own], dtype=np.float32)
            for row, own in zip(rows, places, strict=True)
        ]

    monkeypatch.setattr(reward_models, "score_places", scored)
    attempts = [attempt("The first\n\nthe second\n\n\nthe third"), attempt("the second")]
    for steps, expected in REDUCED.items():
        reward = parse(name="model", path=str(tmp_path / "steps"), steps=steps)
        assert Rewards([reward], None).score(attempts).total == pytest.approx([expected, 0.40131], abs=1e-5)
        assert reward.bounds == (0.0, 1.0)


def last_word(text: str) -> str:
    """Before any special tokens."""
    return re.findall("[a-z]+", re.sub(r"<[^>]*>", "", text))[-1]


def test_steps_are_read_where_they_end(initial: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A step's reward is that of the answer cut there, which plain transformers computes."""
    import torch
    from transformers import AutoModelForSequenceClassification

    folder = tmp_path / "steps"
    make_classifier(initial, folder)
    classifier, tokenizer = AutoModelForSequenceClassification.from_pretrained(folder).eval(), load_tokenizer(initial)
    answers = [attempt("We look.\n\nWe find it."), attempt("One step only."), attempt("")]
    whole = parse(name="model", path=str(folder))
    expected = []
    for one, (prompt, answer) in zip(answers, whole.encode(tokenizer, answers), strict=True):
        tokens = [*prompt, *answer]
        texts = [tokenizer.decode(tokens[: size + 1]) for size in range(len(tokens))]
        ends = [next(at for at, text in enumerate(texts) if text.endswith("look."))] if "look" in one.answer else []
        with torch.no_grad():
            odds = [classifier(torch.tensor([tokens[: end + 1]])).logits.item() for end in [*ends, len(tokens) - 1]]
        expected.append([1 / (1 + math.exp(-value)) for value in odds])
    assert [len(one) for one in expected] == [2, 1, 1]
    for steps, combine in (("product", math.prod), ("min", min), ("last", lambda values: values[-1])):
        reward = parse(name="model", path=str(folder), steps=steps)
        assert reward.open(None)(answers) == pytest.approx([combine(one) for one in expected], abs=1e-5)
    # Of a text that is too long the first steps are lost with its beginning.
    short = parse(name="model", path=str(folder), steps="min", max_tokens=3)
    assert short.open(None)(answers[:1])[0] != pytest.approx(min(expected[0]), abs=1e-5)
    assert "do not give their steps back" not in caplog.text
    wrong = parse(name="model", path=str(folder), steps="min", label="LABEL_0").problems()
    assert wrong == [
        'rewards: model: steps: min is of a model with one output, and label "LABEL_0" of one with several; leave one '
        "of them out"
    ]
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(PipelineError, match="is no model of processes: expected a chat template"):
        parse(name="model", path=str(folder), steps="min").open(None)
