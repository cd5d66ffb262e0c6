"""Tasks of lm-evaluation-harness through this project's decoding give the harness's own numbers on the same items."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tasks.contracts.errors import PipelineError
from tasks.evaluation.asking.ask import AnswerLimits, ask_questions
from tasks.evaluation.asking.question import Reply
from tasks.evaluation.comparison import mean
from tasks.evaluation.suites.groups import MEMBERS, SafetyGroup, SuiteGroup
from tasks.evaluation.suites.lm_eval import LmEval

TASKS = Path(__file__).parents[4] / "tasks/evaluation/suites/harness/local"
# Of conversations one: the harness cuts the beginning of longer ones off, with what the template writes there.
SHOTS = {False: None, True: 1}
WORDS = ["stone", "river", "parcel", "garden", "letter", "window"]
COMPARED = (
    "local_arc_easy",
    "local_bbh_word_sorting",
    "local_lambada",
    "local_simple_arithmetic",
    "local_squad_v2",
    "local_svamp",
    "local_winogrande",
)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few items of each kind, made up."""
    root = tmp_path_factory.mktemp("benchmarks")

    def write(name: str, rows: list[dict[str, Any]]) -> None:
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text("".join(json.dumps(row) + "\n" for row in rows))

    def each(make: Any) -> list[dict[str, Any]]:
        return [make(number, word, WORDS[number - 1]) for number, word in enumerate(WORDS)]

    write(
        "icl_gauntlet/arc_easy.jsonl",
        each(lambda n, a, b: {"query": f"Where is the {a}?", "choices": [a, f"by the {b}", "no"], "gold": n % 3}),
    )
    write(
        "icl_gauntlet/lambada_openai.jsonl",
        each(lambda n, a, b: {"context": f"The {a} is beside the", "continuation": b}),
    )
    write(
        "icl_gauntlet/simple_arithmetic_nospaces.jsonl",
        each(lambda n, a, b: {"context": f"{n}+3=", "continuation": str(n + 3)}),
    )
    write(
        "icl_gauntlet/winogrande.jsonl",
        each(
            lambda n, a, b: {
                "context_options": [f"The {a} met the {b}, so the {a}", f"The {a} met the {b}, so the {b}"],
                "continuation": "left.",
                "gold": n % 2,
            }
        ),
    )
    write("icl_gauntlet/svamp.jsonl", each(lambda n, a, b: {"context": f"{n} {a}s and 2?", "answer": str(n + 2)}))
    rows = each(lambda n, a, b: {"input": f"Sort: {b} {a}", "target": " ".join(sorted((a, b)))})
    (root / "bbh").mkdir()
    (root / "bbh/word_sorting.json").write_text(json.dumps({"canary": "made up", "examples": rows}))
    questions = [
        {"id": str(n), "question": f"What is number {n}?", "answers": [{"text": word}] if n % 2 else []}
        for n, word in enumerate(WORDS)
    ]
    articles = [{"title": "Things_of_it", "paragraphs": [{"context": " ".join(WORDS), "qas": questions}]}]
    (root / "squad_dev").mkdir()
    (root / "squad_dev/squad_v2.0_dev.even_articles.json").write_text(json.dumps({"version": "x", "data": articles}))
    asked = {"key": 1, "prompt": "Say it without commas.", "instruction_id_list": ["punctuation:no_comma"]}
    capital = {"key": 2, "prompt": "Use capitals.", "instruction_id_list": ["change_case:english_capital"]}
    both = {
        "key": 3,
        "prompt": "No commas, twice.",
        "instruction_id_list": ["punctuation:no_comma", "keywords:frequency"],
    }
    frequency = {"keyword": "stone", "frequency": 2, "relation": "at least"}
    write(
        "ifeval/input_data.even.jsonl",
        [asked | {"kwargs": [{}]}, capital | {"kwargs": [{}]}, both | {"kwargs": [{}, frequency]}],
    )
    return root


@pytest.fixture(scope="module")
def opened(tiny_model: Path) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    return AutoModelForCausalLM.from_pretrained(tiny_model).eval(), AutoTokenizer.from_pretrained(tiny_model)


def run_harness(lm: Any, files: Path, chat: bool) -> Any:
    """The harness's own run, with what it gives of each item."""
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_path=[str(TASKS)], include_defaults=False, metadata={"files": str(files)})  # type: ignore[dict-item]
    return simple_evaluate(
        lm,
        tasks=list(COMPARED),
        task_manager=manager,
        num_fewshot=SHOTS[chat],
        bootstrap_iters=0,
        apply_chat_template=chat,
    )


@pytest.mark.parametrize("chat", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_items_and_measures_are_those_of_the_harness_itself(files: Path, opened: tuple[Any, Any], chat: bool) -> None:
    pytest.importorskip("lm_eval")
    from lm_eval.models.huggingface import HFLM

    from tasks.evaluation.suites.harness.model import BatchedModel

    model, tokenizer = opened
    expected = run_harness(HFLM(pretrained=model, tokenizer=tokenizer, batch_size=4), files, chat)
    adapted = run_harness(BatchedModel(model, tokenizer, 4), files, chat)
    texts = 0
    for task in COMPARED:
        suite = LmEval(task=task, files=str(files), chat_template=chat, fewshot=SHOTS[chat])
        questions = suite.read()
        replies = ask_questions(model, tokenizer, questions, AnswerLimits(64, 4), task)
        assert not [reply for reply in replies if reply.problem or reply.unfit]
        samples, others = expected["samples"][task], adapted["samples"][task]
        for sample, other in zip(samples, others, strict=True):
            assert sample["doc"] == other["doc"]
            for found in zip(sample["resps"], other["resps"], strict=True):
                compare_responses(*found)
        found = suite.score(questions, replies)
        assert not found.failed
        for name, measure in suite.measures.items():
            metric, _, which = name.partition(", ")
            theirs = expected["results"][task][f"{metric},{which or samples[0]['filter']}"]
            assert mean(measure, found.scores[name]) == pytest.approx(theirs, rel=1e-4), (task, name)  # type: ignore[arg-type]
        texts += sum(bool(reply.text) for reply in replies)
    assert texts or chat, "no answer to compare"  # as a conversation the model, which was not trained, says nothing


def compare_responses(theirs: Any, ours: Any) -> None:
    """Texts and choices equal, likelihoods up to rounding."""
    for one, other in zip(theirs, ours, strict=True):
        if isinstance(one, str):
            assert one == other
        else:
            assert one[0] == pytest.approx(other[0], abs=1e-3)
            assert one[1] == other[1]


def test_a_selection_is_by_content_and_the_harness_makes_the_same_prompts(files: Path) -> None:
    pytest.importorskip("lm_eval")
    whole = {one.key: one for one in LmEval(task="local_arc_easy", files=str(files)).read()}
    part = LmEval(task="local_arc_easy", files=str(files), items=3).read()
    assert len(part) == 3
    assert all(one.options == whole[one.key].options for one in part)
    shots = LmEval(task="local_arc_easy", files=str(files), fewshot=2).read()
    context = shots[0].options[0].context
    assert isinstance(context, str)
    assert context.count("Answer:") == 3
    chat = LmEval(task="local_arc_easy", files=str(files), fewshot=2, chat_template=True).read()[0]
    roles = [turn["role"] for turn in chat.options[0].context]  # type: ignore[union-attr, index]
    assert roles == ["user", "assistant", "user", "assistant", "user"]


def test_instructions_are_checked_by_the_harness(files: Path) -> None:
    pytest.importorskip("lm_eval")
    suite = LmEval(task="local_ifeval", files=str(files))
    questions = suite.read()
    replies = [Reply(text) for text in ("None, here.", "ALL OF IT IS IN CAPITALS HERE.", "a stone and a Stone")]
    scores = suite.score(questions, replies)
    assert not scores.failed
    assert scores.scores["prompt_level_strict_acc"].values.tolist() == [0, 1, 1]
    of_instructions = scores.scores["inst_level_strict_acc"]
    assert of_instructions.weights.tolist() == [1, 1, 2]
    assert mean(suite.measures["inst_level_strict_acc"], of_instructions) == pytest.approx(3 / 4)  # type: ignore[arg-type]


def test_a_document_that_cannot_be_scored_fails_alone(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("lm_eval")
    suite = LmEval(task="local_arc_easy", files=str(files), items=5)
    questions = suite.read()
    replies = [Reply(log_likelihoods=(-1.0, -2.0, -3.0), greedy=(False,) * 3) for _ in questions]
    replies[2] = Reply(log_likelihoods=(), greedy=())
    found = suite.score(questions, replies)
    assert list(found.failed) == [questions[2].key]
    assert found.scores["acc"].weights.tolist() == [1, 1, 0, 1, 1]
    assert np.isfinite(found.scores["acc"].values).all()


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        pytest.param(
            {"task": "local_arc_esy"},
            "has no task local_arc_esy; did you mean local_arc_easy",
            marks=pytest.mark.slow,  # the index of all the harness's tasks takes seconds
        ),
        ({"task": "local_gsm8k"}, "train.jsonl is not there"),
        ({"task": "local_arc_easy", "measure": "bleu"}, "no measure bleu; found acc, acc_norm"),
        ({"task": "of_the_hub", "include": "MADE"}, "cannot be loaded"),
        ({"task": "sampled", "include": "MADE"}, "not plain greedy ones (do_sample: True)"),
        ({"task": "judged", "include": "MADE"}, "cannot be compared with intervals (chrf by chrf)"),
    ],
)
def test_what_is_missing_is_told_in_one_line(
    files: Path, tmp_path: Path, params: dict[str, Any], expected: str
) -> None:
    pytest.importorskip("lm_eval")
    shared = "output_type: generate_until\ntest_split: test\ndoc_to_text: a\ndoc_to_target: a\n"
    code = "def load(**_):\n    from datasets import Dataset\n    return {'test': Dataset.from_list([{'a': 'x'}])}\n"
    (tmp_path / "rows.py").write_text(code)
    local = "custom_dataset: !function rows.load\n"
    (tmp_path / "hub.yaml").write_text(f"task: of_the_hub\ndataset_path: nobody/nothing\n{shared}")
    (tmp_path / "sampled.yaml").write_text(
        f"task: sampled\n{local}{shared}generation_kwargs: {{do_sample: true, temperature: 0.7, until: []}}\n"
    )
    (tmp_path / "judged.yaml").write_text(f"task: judged\n{local}{shared}metric_list: [{{metric: chrf}}]\n")
    params = {**params, **({"include": str(tmp_path)} if "include" in params else {})}
    with pytest.raises(PipelineError) as raised:
        LmEval.model_validate({"files": str(files), **params}).read()
    assert expected in str(raised.value)
    assert "\n" not in str(raised.value)


def test_without_the_package_one_line_says_how_to_get_it(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    with pytest.raises(PipelineError, match=r"lm_eval is not installed .* pip install 'heptune\[suites\]'"):
        LmEval(task="local_piqa", files=str(files), title="absent").read()


def test_groups_name_tasks_that_are_there() -> None:
    lines = [line for path in TASKS.glob("*.yaml") for line in path.read_text().splitlines()]
    names = {line.split()[1] for line in lines if line.startswith(("task: ", "group: "))}
    for group, members in MEMBERS.items():
        assert set(members) <= names
        found = SuiteGroup.model_validate({"name": group, "role": "guard", "margin": 0.1, "items": 7}).expand()
        assert {(one.role, one.margin, one.items) for one in found} == {("guard", 0.1, 7)}
        assert len({one.key for one in found}) == len(found)


def test_the_group_of_safety_has_the_usual_margins() -> None:
    found = SafetyGroup(role="guard", items=9).expand()
    assert len(found) == 8
    assert all(one.role == "guard" and one.margin for one in found)
    assert {one.items for one in found} == {9}
    assert [one.role for one in SafetyGroup().expand()] == ["shown"] * 8
