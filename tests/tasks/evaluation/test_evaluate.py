"""The whole stage without its engines: three real tiny models in, files, verdict and page out, byte for byte again."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tasks.contracts.errors import PipelineError
from tasks.contracts.manifest import NAME, hash_file, read_json, seal, write_json
from tasks.contracts.records import ANSWER_SETS, EXAMPLES, PREDICTIONS, Prediction
from tasks.contracts.tables import read_examples, read_table, write_table
from tasks.evaluation import outcomes
from tasks.evaluation.answer_store import KEPT, AnswerStore, make_key
from tasks.evaluation.intents import fit_intent_classifier
from tasks.evaluation.items import select_items
from tasks.evaluation.metrics.certainty.calibration import CalibrationError
from tasks.evaluation.metrics.cost.latency import Latency
from tasks.evaluation.metrics.cost.model_size import ModelSize
from tasks.evaluation.metrics.metric import Evidence
from tasks.evaluation.outcomes import (
    AnswerSettings,
    Outcome,
    answer_with_base,
    answer_with_candidate,
    answer_with_champion,
    load_folder,
)
from tasks.evaluation.params import Evaluation
from tasks.evaluation.probes.probe import list_probes
from tasks.evaluation.publish import write_figures, write_predictions, write_slices, write_verdict
from tasks.evaluation.report.background import read_background
from tasks.evaluation.report.blocks import BlockTable, ReportBlock
from tasks.evaluation.report.changes import find_changes
from tasks.evaluation.report.page import write_report
from tasks.evaluation.scoring import Scoreboard, score_outcomes
from tasks.evaluation.slices.groups import group_items
from tasks.evaluation.slices.scores import score_slices
from tasks.evaluation.suites.safety.stereotype import Stereotype
from tasks.evaluation.suites.scoring import NO_SUITES, read_suites
from tasks.evaluation.trustworthiness.axes import describe_axes
from tasks.evaluation.verdict import PromotionVerdict, decide
from tasks.language_models.encoding import encode_examples
from tasks.language_models.folder.model_folder import resolve_model
from tasks.language_models.generation import score_references
from tests.tasks.evaluation.boards import make_board, make_items, make_outcome
from tests.tasks.evaluation.suites.replies import make_facts
from tests.tiny import LABELS, example_rows, write_examples

ITEMS = 60
SETTINGS = Evaluation.model_validate(
    {
        "items": ITEMS,
        "generation": {"max_new_tokens": 24, "batch_size": 32},
        "bootstrap": {"resamples": 1_000},
        "gate": {"minimum_items": 20},
    }
)


@dataclass(frozen=True)
class House:
    """The inputs of the stage."""

    test: Path
    train: Path
    initial: Path
    champion: Path
    tuned: Path
    training: Path


BLOCKS = [
    ReportBlock(
        "Handwriting",
        "Nothing was read.",
        (BlockTable("Pages", ["page", "words"], [[f"page {n}", n] for n in range(70)]),),
        notes=["Of `no` consequence."],
        values={"pages": 70},
    )
]


def teach(source: Path, folder: Path, rows: Sequence[dict[str, Any]], steps: int) -> Path:
    """A few hundred milliseconds of plain full fine-tuning."""
    import pyarrow as pa

    model, tokenizer = AutoModelForCausalLM.from_pretrained(source), AutoTokenizer.from_pretrained(source)
    encoded = encode_examples(pa.Table.from_pylist(list(rows), schema=EXAMPLES), tokenizer, 128).to_pylist()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for step in range(steps):
        batch = [encoded[(step * 16 + place) % len(encoded)] for place in range(16)]
        longest = max(len(row["input_ids"]) for row in batch)
        ids = torch.tensor([row["input_ids"] + [1] * (longest - len(row["input_ids"])) for row in batch])
        labels = torch.tensor([row["labels"] + [-100] * (longest - len(row["labels"])) for row in batch])
        model(input_ids=ids, labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def house(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> House:
    """The champion knows two of the four labels, the candidate all of them."""
    root = tmp_path_factory.mktemp("house")
    rows = example_rows(240)
    initial = root / "initial"
    shutil.copytree(tiny_model, initial)
    seal(
        initial,
        [path for path in initial.iterdir() if path.is_file()],
        {"reference": None, "tokenizer_class": "TokenizersBackend"},
    )
    known = [row for row in rows[ITEMS:] if row["label"] in LABELS[:2]]
    champion = teach(initial, root / "champion", known, 60)
    weights = teach(initial, root / "tuned" / "weights", rows[ITEMS:], 60)
    seal(root / "tuned", list(weights.iterdir()), {"base": hash_file(initial / NAME), "method": {"name": "full"}})
    return House(
        write_examples(root / "test.parquet", rows[:ITEMS]),
        write_examples(root / "train.parquet", rows[ITEMS:]),
        initial,
        champion,
        root / "tuned",
        write_training(root / "training"),
    )


def write_training(folder: Path) -> Path:
    """What fine-tuning's report leaves for evaluation's."""
    points = [{"step": n, "loss": 4.0 / n, **({"eval_loss": 4.2 / n} if n % 5 == 0 else {})} for n in range(1, 61)]
    write_json(folder / "curve.json", points)
    text = "Validation loss fell from 0.84 to 0.07 nats per token."
    write_json(
        folder / "diagnosis.json", {"shape": "falling", "text": text, "marked_step": None, "unit": "nats per token"}
    )
    write_json(folder / "metrics.json", {"tokens_per_epoch": 1500, "epochs": 2.0, "steps": 60, "bytes": 4_000_000})
    return folder


def evaluate(
    house: House, champion: Path | None, out: Path, store: AnswerStore | None = None
) -> tuple[Scoreboard, PromotionVerdict]:
    how = AnswerSettings(**SETTINGS.generation.model_dump(), store=store)
    chosen = select_items(house.test, SETTINGS.items, house.initial, champion)
    answered: list[Outcome | None] = [
        answer_with_base(chosen.items, house.initial, how),
        answer_with_champion(chosen.items, champion, how),
        answer_with_candidate(chosen.items, house.initial, house.tuned, how),
    ]
    intents = fit_intent_classifier(house.train, chosen.items)
    board = score_outcomes(
        Evidence(chosen.items, intents), answered, SETTINGS.metrics, **SETTINGS.bootstrap.model_dump()
    )
    verdict = decide(board, **SETTINGS.gate.rule, champion="abc" if champion else None)
    groupings = group_items(chosen.items, SETTINGS.slices)
    slices = score_slices(board, verdict.primary, groupings.found, SETTINGS.bootstrap.resamples, 0)
    values = SETTINGS.model_dump(mode="json")
    background = read_background(
        house.training, house.initial, house.tuned, house.test, values, "abc" if champion else None, [Path(__file__)]
    )
    write_predictions(board, out / "predictions.parquet")
    write_slices(slices, out / "slices.json")
    write_figures(board, verdict, out / "metrics.json", out / "headline.json")
    blocks = [*BLOCKS, describe_axes(NO_SUITES, board.outcomes)]
    write_report(chosen, board, verdict, groupings, slices, background, values, blocks, out / "index.html")
    write_verdict(verdict, out / "verdict.json")
    return board, verdict


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> AnswerStore:
    return AnswerStore(tmp_path_factory.mktemp("answers"))


@pytest.fixture(scope="module")
def evaluated(
    house: House, store: AnswerStore, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Scoreboard, PromotionVerdict, Path]:
    out = tmp_path_factory.mktemp("reports")
    return *evaluate(house, house.champion, out, store), out


def test_the_candidate_is_promoted_over_a_champion_weak_on_new_labels(
    evaluated: tuple[Scoreboard, PromotionVerdict, Path],
) -> None:
    board, verdict, out = evaluated
    assert verdict.verdict == "promote", verdict.reasons
    assert verdict.opponent == "champion"
    for metric, found in board.comparisons["candidate_vs_base"].items():
        assert found.result == "better", metric
    assert board.comparisons["candidate_vs_champion"]["intent_accuracy"].result == "better"
    written = read_json(out / "verdict.json")
    assert written["verdict"] == "promote"
    assert written["champion"] == "abc"
    assert written["items"] == ITEMS
    primary = written["comparisons"]["candidate_vs_champion"]["intent_accuracy"]
    headline = read_json(out / "headline.json")
    assert headline == pytest.approx({"score": primary["mean_a"], "difference": primary["difference"]}, rel=5e-4)
    whole = {row["model"]: row["score"] for row in read_json(out / "slices.json") if row["slice"].startswith("source ")}
    assert whole["candidate"] == pytest.approx(primary["mean_a"])
    assert {"mean_a", "mean_b", "difference", "low", "high", "detectable", "items"} <= set(
        written["comparisons"]["candidate_vs_champion"]["loss"]
    )


def test_predictions_hold_every_item_and_model_and_give_the_means_back(
    evaluated: tuple[Scoreboard, PromotionVerdict, Path],
) -> None:
    board, _, out = evaluated
    rows = read_table(out / "predictions.parquet", PREDICTIONS).to_pylist()
    assert [row["model"] for row in rows] == ["base"] * ITEMS + ["champion"] * ITEMS + ["candidate"] * ITEMS
    assert len({row["item"] for row in rows}) == ITEMS
    predictions = [Prediction(**{**row, "scores": {s["metric"]: s["value"] for s in row["scores"]}}) for row in rows]
    candidate = [p for p in predictions if p.model == "candidate"]
    for metric in ("intent_accuracy", "rouge_l", "exact_match"):
        mean = sum(p.scores[metric] for p in candidate) / ITEMS
        assert mean == pytest.approx(board.estimates[("candidate", metric)].value)
    loss = sum(p.loss * p.tokens for p in candidate) / sum(p.tokens for p in candidate)
    assert loss == pytest.approx(board.estimates[("candidate", "loss")].value)


def test_figures_are_flat_numbers(evaluated: tuple[Scoreboard, PromotionVerdict, Path]) -> None:
    board, _, out = evaluated
    figures = read_json(out / "metrics.json")
    assert all(isinstance(value, int | float) for value in figures.values())
    assert figures["candidate.loss"] == board.estimates[("candidate", "loss")].value
    assert figures["candidate_vs_champion.rouge_l.low"] == board.against_opponent["rouge_l"].low
    assert figures["promote"] == 1
    assert figures["intent_ceiling"] == board.ceiling == 1.0


def test_slices_show_where_the_champion_is_weak(evaluated: tuple[Scoreboard, PromotionVerdict, Path]) -> None:
    board, verdict, _ = evaluated
    groupings = group_items(board.items, ("source", "label"))
    slices = {part.name: part for part in score_slices(board, verdict.primary, groupings.found, 500, 0)}
    assert {part.name for part in slices.values() if part.dimension == "label"} == set(LABELS)
    assert sum(part.items for part in slices.values() if part.dimension == "label") == ITEMS
    whole = slices["tiny"]
    assert whole.values["candidate"] == board.estimates[("candidate", "intent_accuracy")].value
    for label in LABELS[2:]:
        assert slices[label].values["champion"] == 0
        assert slices[label].difference > 0.5
        assert slices[label].stands_out
    assert not any(slices[label].stands_out for label in LABELS[:2])


def test_the_page_tells_it_and_loads_nothing(evaluated: tuple[Scoreboard, PromotionVerdict, Path]) -> None:
    board, verdict, out = evaluated
    page = (out / "index.html").read_text()
    better, worse = find_changes(board, "intent_accuracy")
    assert f"Wrong to right: {len(better)} of {ITEMS}" in page
    assert f"Right to wrong: {len(worse)} of {ITEMS}" in page
    assert len(better) > 10
    assert "champion · wrong" in page
    assert "candidate · right" in page
    assert f"<li>{verdict.reasons[0].split(':')[0].capitalize()}" in page
    assert '<p class="lede">Promote it: on the same 60 held-out items the candidate&#39;s intent accuracy is ' in page
    assert "What would change it" in page
    assert "page 59" in page
    assert "page 60" not in page
    assert "Of <code>no</code> consequence" in page or "Of `no` consequence" in page
    assert "Validation loss fell from 0.84" in page
    everything = read_json(out / "report.json")
    assert everything["scores"]["candidate"]["loss"]["value"] == board.estimates["candidate", "loss"].value
    assert everything["costs"]["tokens trained on"] == 3000
    assert everything["lineage"]["tuned by"] == "full"
    assert everything["blocks"][0]["pages"] == 70
    axes = {one["axis"]: one for one in everything["blocks"][1]["axes"]}
    assert axes["Stereotype"]["measures"][0]["scores"].keys() == board.outcomes.keys()
    assert axes["Privacy"]["why_not"] == "not measured: no suite for it; add {name: memorisation}"
    assert "DecodingTrust" in page
    assert page.count("<svg") == 5
    assert "right on 100.0% of the held-out reference answers" in page
    loaded = re.findall(r'(?:src|href)="([^"#][^"]*)"', page)
    assert loaded == [
        "../index.html", "../fine_tuning/index.html", "../deployment/index.html", "../runs.js", "predictions.parquet",
        "report.json",
    ]  # fmt: skip
    assert "Other tests of the differences" in page
    assert "McNemar p" in page


def test_the_same_inputs_give_the_same_bytes(
    house: House, evaluated: tuple[Scoreboard, PromotionVerdict, Path], tmp_path: Path
) -> None:
    evaluate(house, house.champion, tmp_path)
    for name in ("predictions.parquet", "metrics.json", "verdict.json", "index.html", "report.json"):
        assert (tmp_path / name).read_bytes() == (evaluated[2] / name).read_bytes(), name


def test_answers_of_an_earlier_evaluation_are_taken(
    house: House,
    store: AnswerStore,
    evaluated: tuple[Scoreboard, PromotionVerdict, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Only where all is the same; a file that cannot be read is generated again, to the same bytes."""
    loaded: list[str] = []

    def note(name: str, real: Any) -> None:
        def load(*arguments: Any) -> Any:
            loaded.append(name)
            return real(*arguments)

        monkeypatch.setattr(f"tasks.evaluation.outcomes.{name}", load)

    note("load_folder", load_folder)
    note("load_tuned", outcomes.load_tuned)
    evaluate(house, house.champion, tmp_path, store)
    # The champion's folder here has no manifest beside it, so nobody can tell whether it is the same.
    assert loaded == ["load_folder"]
    for name in ("predictions.parquet", "metrics.json", "verdict.json", "index.html"):
        assert (tmp_path / name).read_bytes() == (evaluated[2] / name).read_bytes(), name
    for path in store.folder.iterdir():
        path.write_text(path.read_text()[:-20])
    loaded.clear()
    evaluate(house, house.champion, tmp_path, store)
    assert sorted(loaded) == ["load_folder", "load_folder", "load_tuned"]
    assert (tmp_path / "predictions.parquet").read_bytes() == (evaluated[2] / "predictions.parquet").read_bytes()


def test_the_key_of_answers_is_everything_that_decides_about_them(tmp_path: Path) -> None:
    items = make_items(["a", "b"])
    settings = {"max_new_tokens": 8, "batch_size": 2}
    keys = {
        make_key("m", items, settings),
        make_key("n", items, settings),
        make_key("m", items[:1], settings),
        make_key("m", items[::-1], settings),
        make_key("m", make_items(["a", "c"]), settings),
        make_key("m", items, {**settings, "max_new_tokens": 9}),
    }
    assert len(keys) == 6
    store = AnswerStore(tmp_path)
    fields = vars(make_outcome("base", ["x", "y"], [0.1, 1 / 3], [3, 4]))
    for number in range(KEPT + 3):
        store.keep(f"{number:02}", fields)
        os.utime(tmp_path / f"{number:02}.json", (number, number))
    store.keep("last", fields)
    assert len(list(tmp_path.iterdir())) == KEPT
    found = store.find("last", 2)
    assert found is not None
    assert (found["answers"], found["losses"].tolist(), found["tokens"].tolist()) == (["x", "y"], [0.1, 1 / 3], [3, 4])
    assert store.find("last", 3) is None
    assert store.find("00", 2) is None


def test_an_answer_that_takes_too_long_is_cut_off(house: House) -> None:
    items = select_items(house.test, 4, house.initial, None).items
    how = AnswerSettings(**{**SETTINGS.generation.model_dump(), "timeout_s": 1e-9})
    outcome = answer_with_candidate(items, house.initial, house.tuned, how)
    assert not outcome.finished.any()
    assert outcome.answer_tokens.tolist() == [2] * 4


def test_suites_are_asked_without_answering_the_items_again(
    house: House,
    store: AnswerStore,
    evaluated: tuple[Scoreboard, PromotionVerdict, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: Any) -> Any:
        raise RuntimeError("asked")

    asked = read_suites([make_facts(tmp_path / "facts.jsonl", 6), Stereotype()])
    how = AnswerSettings(**SETTINGS.generation.model_dump(), store=store)
    items = evaluated[0].items
    monkeypatch.setattr(outcomes, "_answer_items", fail)
    first = answer_with_candidate(items, house.initial, house.tuned, replace(how, suites=asked.questions))
    assert first.answers == evaluated[0].outcomes["candidate"].answers
    assert [reply.problem for reply in first.replies["facts"]] == [""] * 6
    assert any(reply.text for reply in first.replies["facts"])
    # The suite measures what the probe of every evaluation does.
    leans = Stereotype().score(asked.questions["stereotype"], first.replies["stereotype"]).scores["lean"].values
    assert first.bias is not None
    assert np.abs(leans - first.bias.leans).max() < 1e-3
    monkeypatch.setattr(outcomes, "ask_conversations", fail)
    again = answer_with_candidate(items, house.initial, house.tuned, replace(how, suites=asked.questions))
    assert again.replies == first.replies
    others = {"facts": asked.questions["facts"][:3]}
    broken = answer_with_candidate(items, house.initial, house.tuned, replace(how, suites=others))
    assert [reply.problem for reply in broken.replies["facts"]] == ["asking raised RuntimeError: asked"] * 3


def test_what_a_probe_measures_is_kept_with_the_answers(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    items = select_items(house.test, 3, house.initial, None).items
    how = AnswerSettings(2, SETTINGS.generation.batch_size, store=AnswerStore(tmp_path / "store"))
    probes = list_probes([CalibrationError()])
    first = answer_with_base(items, house.initial, replace(how, probes=probes))
    assert len(first.probes["confidence"]["confidence"]) == 3
    monkeypatch.setattr("tasks.evaluation.outcomes.load_folder", lambda *_: pytest.fail("all of it is known"))
    again = answer_with_base(items, house.initial, replace(how, probes=probes))
    assert again.probes == first.probes
    monkeypatch.undo()
    (tmp_path / "store/probes").joinpath(f"{next((tmp_path / 'store/probes').iterdir()).name}").write_text("{")
    assert answer_with_base(items, house.initial, replace(how, probes=probes)).probes == first.probes
    # Times are those of this run, and are never kept.
    base = load_folder(resolve_model(house.initial), "fp32")[0]
    weights = sum(one.numel() for one in base.parameters())
    costs = replace(how, probes=list_probes([Latency(prompts=2, tries=1), ModelSize()]))
    before, after = (answer_with_base(items, house.initial, costs).probes for _ in range(2))
    assert before["size"] == after["size"] == {"parameters": weights}
    first_times, times = (found["seconds 2 1"]["seconds"] for found in (before, after))
    assert first_times != times
    assert times[2] is None
    assert min(times[:2]) > 0


def test_without_a_champion_only_the_base_is_compared(house: House, tmp_path: Path) -> None:
    board, verdict = evaluate(house, None, tmp_path)
    assert list(board.outcomes) == ["base", "candidate"]
    assert set(verdict.comparisons) == {"candidate_vs_base"}
    assert (verdict.verdict, verdict.champion) == ("promote", None)
    assert read_json(tmp_path / "verdict.json")["champion"] is None


def test_a_model_with_broken_weights_is_named(house: House, tmp_path: Path) -> None:
    model, tokenizer = load_folder(house.champion, "fp32")
    with torch.no_grad():
        model.model.norm.weight.fill_(float("nan"))
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    items = select_items(house.test, 3, house.initial, None).items
    with pytest.raises(PipelineError, match=r"champion: the loss of 3 of 3 items is not a number"):
        answer_with_champion(items, tmp_path, AnswerSettings(**SETTINGS.generation.model_dump()))


def test_a_folder_without_a_model_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(PipelineError, match=r"empty: not a model folder that transformers can load"):
        load_folder(tmp_path / "empty", "fp32")


def test_changes_are_sorted_by_size_and_split_by_direction() -> None:
    items = make_items(["a"] * 4)
    outcomes = [
        make_outcome("base", ["x"] * 4, [1.0, 1.0, 1.0, 1.0]),
        make_outcome("candidate", ["y"] * 4, [0.9, 0.2, 1.0, 3.0]),
    ]
    better, worse = find_changes(make_board(items, outcomes), "loss")
    assert [change.item.id for change in better] == ["item1", "item0"]
    assert [change.item.id for change in worse] == ["item3"]
    assert better[0].gain == pytest.approx(0.8)
    assert better[0].answers == {"base": "x", "candidate": "y"}


def test_a_model_answers_for_worse_answers_too(house: House, tmp_path: Path) -> None:
    """Found in the answer sets, scored like references, kept with the answers, and scored again for others."""
    chosen = select_items(house.test, 3, house.initial, None).items
    rows = {row["id"]: row for row in read_examples(house.test).to_pylist()}
    sets = []
    for number, item in enumerate(chosen):
        row = rows[item.id]
        texts = [(item.reference, 2.0), ("Middling.", 1.0), ("Away with you.", 0.0)][: 3 if number else 1]
        answers = [{"turns": [{"role": "assistant", "content": text}], "score": score} for text, score in texts]
        kept = {key: row[key] for key in ("id", "source", "row", "cluster")}
        sets.append({**kept, "split": "test", "prompt": row["messages"][:-1], "answers": answers})
    write_table(pa.Table.from_pylist(sets, schema=ANSWER_SETS), tmp_path / "answers.parquet", ANSWER_SETS)
    items = select_items(house.test, 3, house.initial, None, answers=tmp_path / "answers.parquet").items
    assert [item.worse for item in items] == [None, "Away with you.", "Away with you."]
    how = AnswerSettings(2, SETTINGS.generation.batch_size, store=AnswerStore(tmp_path / "store"))
    first, again = (answer_with_base(items, house.initial, how).worse for _ in range(2))
    assert first is not None
    assert again is not None
    model, tokenizer = load_folder(house.initial, "fp32")
    expected = score_references(model.eval(), tokenizer, [items[1].prompt], ["Away with you."])[0]
    assert np.isnan(first.losses[0])
    assert (first.losses[1], first.tokens[1]) == (pytest.approx(expected.mean, abs=1e-5), expected.tokens)
    np.testing.assert_array_equal(first.losses, again.losses)
    np.testing.assert_array_equal(first.tokens, again.tokens)
    others = tuple(replace(item, worse=item.worse and "Go.") for item in items)
    changed = answer_with_base(others, house.initial, how).worse
    assert changed is not None
    assert changed.losses[1] != first.losses[1]
