"""Vectors of texts that belong together: the loss is the formula, and what is no negative does not count as one."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pyarrow as pa
import pytest
import torch

from tasks.contracts.records import EXAMPLES
from tasks.corpus.embedders.sentence_transformers import SentenceTransformers
from tasks.deployment.embedder import write_embedder
from tasks.evaluation.retrieval import embed_texts
from tasks.fine_tuning.checkpoints import Checkpoints
from tasks.fine_tuning.loss.batches import collate
from tasks.fine_tuning.origin import origin_of
from tasks.fine_tuning.rows import tokenize_splits
from tasks.fine_tuning.trainer.start import make_trainer
from tasks.language_models.folder.model_folder import load_tokenizer
from tasks.language_models.pooling import Pooling, read_pooling
from tasks.training.hard_negatives import list_worse_answers, mine_negatives
from tasks.training.objectives.contrastive import Contrastive, HardNegatives, contrast, find_negatives, pool
from tasks.training.objectives.data import Tokenization, split_tables
from tasks.training.text_pairs import NO_MATE, NO_PAIR, list_pairs
from tests.tasks.fine_tuning.small import make_plan
from tests.tasks.training.objectives import rows
from tests.tasks.training.objectives.halves import run_whole_and_halves
from tests.tiny import example_rows


def table(rows: int, seed: int = 0) -> pa.Table:
    return pa.Table.from_pylist(example_rows(rows, seed), schema=EXAMPLES)


def trainer_of(initial: Path, folder: Path, objective: Contrastive, **changes: Any) -> Any:
    plan = make_plan(method={"name": "full"}, objective=objective, **changes)
    splits = tokenize_splits(table(24), table(12, 100), initial, 128, 12, objective=objective)
    return make_trainer(plan, splits, initial, Checkpoints(folder, origin_of(plan, splits, initial), 1))


def test_the_loss_is_the_formula_and_leaves_out_what_is_no_negative() -> None:
    cosines = torch.tensor([[0.9, 0.1, 0.4], [0.2, 0.8, 0.0], [0.3, 0.5, 0.4]])
    usable = ~torch.eye(3, dtype=torch.bool)
    usable[0, 2] = usable[2, 0] = False
    losses, first = contrast(cosines, usable, 0.5)
    expected = [
        math.log(1 + math.exp((0.1 - 0.9) / 0.5)),
        math.log(1 + math.exp((0.2 - 0.8) / 0.5) + math.exp((0.0 - 0.8) / 0.5)),
        math.log(1 + math.exp((0.5 - 0.4) / 0.5)),
    ]
    assert losses.tolist() == pytest.approx(expected, rel=1e-5)
    assert first.tolist() == [1.0, 1.0, 0.0]


def test_the_same_text_or_label_is_no_negative() -> None:
    # Pairs (1, 2), (3, 2), (1, 4) and (5, 6), the last two of one label.
    texts, labels = torch.tensor([1, 2, 3, 2, 1, 4, 5, 6]), torch.tensor([0, 0, 0, 0, 7, 7, 7, 7])
    assert find_negatives(texts, labels).tolist() == [
        [False, False, False, True],
        [False, False, True, True],
        [False, True, False, False],
        [True, True, False, False],
    ]


def test_pairs_are_a_prompt_and_its_answer_or_two_prompts_of_a_label() -> None:
    rows = example_rows(12)
    lonely = {**rows[0], "id": "0" * 16, "label": "alone"}
    document = {**rows[1], "id": "1" * 16, "messages": [{"role": "assistant", "content": "A text."}]}
    examples = pa.Table.from_pylist([*rows, lonely, document], schema=EXAMPLES)
    answers, dropped = list_pairs(examples, "answers")
    assert (len(answers), dropped) == (13, {NO_PAIR: 1})
    assert answers[0][1:3] == (rows[0]["messages"][0]["content"], rows[0]["messages"][1]["content"])  # type: ignore[index]
    mates, dropped = list_pairs(examples, "labels")
    assert dropped[NO_MATE] >= 1
    label_of = {row["messages"][0]["content"]: row["label"] for row in rows}  # type: ignore[index]
    assert all(label_of[pair.first] == label_of[pair.second] == pair.label for pair in mates)
    assert all(pair.first != pair.second for pair in mates)
    # Neither order nor number of the rows has a part in it.
    again, _ = list_pairs(examples.take(list(reversed(range(examples.num_rows)))), "labels")
    assert sorted(again) == sorted(mates)


@pytest.mark.parametrize("pooling", get_args(Pooling))
def test_vectors_are_those_of_the_released_embedder_and_of_evaluation(
    initial: Path, tmp_path: Path, pooling: Pooling
) -> None:
    trainer = trainer_of(initial, tmp_path, Contrastive(pooling=pooling))
    released = tmp_path / "released"
    shutil.copytree(initial, released)
    write_embedder(released, pooling)
    assert read_pooling(released) == pooling
    rows = trainer.splits.train
    inputs = collate(rows, [[0], [1], [2]], trainer.pad, packed=False)
    trainer.model.eval()
    with torch.no_grad():
        vectors = pool(trainer.objective.scorer(trainer.model), inputs, pooling).numpy()
    pairs, _ = list_pairs(table(24), "answers")
    texts = [text for pair in pairs[:3] for text in (pair.first, pair.second)]
    assert np.allclose(vectors, SentenceTransformers(path=str(released)).embed(texts), atol=1e-5)
    assert np.allclose(vectors, embed_texts(trainer.model, load_tokenizer(initial), texts, 4, pooling), atol=1e-5)


def test_hard_negatives_are_told_from_by_all_pairs_of_a_batch() -> None:
    # Two pairs with two hard negatives each; of the second pair the last one is a filler, its own second text.
    texts = torch.tensor([1, 2, 3, 4, 5, 6, 2, 6])
    labels = torch.tensor([0, 0, 0, 9, 9, 9, 0, 9])
    # Candidates are 2 and 6, then 3, 4, 2, 6: of the first pair 2 is its own, and of the second 4 has its label.
    assert find_negatives(texts, labels, 4).tolist() == [
        [False, True, True, True, False, True],
        [True, False, True, False, True, False],
    ]
    cosines = torch.tensor([[0.9, 0.1, 0.9], [0.2, 0.8, 0.0]])
    usable = torch.tensor([[False, True, True], [True, False, False]])
    losses, first = contrast(cosines, usable, 0.5)
    expected = [math.log(2 + math.exp((0.1 - 0.9) / 0.5)), math.log(1 + math.exp((0.2 - 0.8) / 0.5))]
    assert losses.tolist() == pytest.approx(expected, rel=1e-5)
    assert first.tolist() == [1.0, 1.0]


def test_the_loss_with_hard_negatives_is_that_of_sentence_transformers() -> None:
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

    torch.manual_seed(0)
    first, second, hard = (torch.nn.functional.normalize(torch.randn(5, 8), dim=-1) for _ in range(3))
    theirs = MultipleNegativesRankingLoss(torch.nn.Identity(), scale=20.0)  # type: ignore[arg-type]
    expected = theirs.compute_loss_from_embeddings([first, second, hard], None)  # type: ignore[arg-type]
    cosines = first @ torch.cat([second, hard]).T
    losses, _ = contrast(cosines, ~torch.eye(5, 10, dtype=torch.bool), 1 / 20)
    assert losses.mean().item() == pytest.approx(expected.item(), rel=1e-5)


def test_mined_are_the_nearest_that_are_a_margin_less_near_than_the_partner() -> None:
    def unit(degrees: float) -> list[float]:
        return [math.cos(math.radians(degrees)), math.sin(math.radians(degrees))]

    # Opposite pairs, so that the mean is nothing; of the first text, at 0, the others are 20, 30, 60 and 80 away.
    angles = [(0, 20), (10, 30), (5, 60), (-5, 80)]
    first, second = (np.array([unit(pair[side]) for pair in angles]) for side in (0, 1))
    first, second = np.concatenate([first, -first]), np.concatenate([second, -second])
    texts = np.arange(1, 17).reshape(-1, 2)
    none = np.zeros(8, dtype=np.int64)
    assert mine_negatives(first, second, texts, none, 2, 0.2)[0].tolist() == [2, 3]
    assert mine_negatives(first, second, texts, none, 2, 0.0)[0].tolist() == [1, 2]
    # One of the same label, and one whose text belongs to another pair of the label too.
    labels = np.array([7, 0, 7, 0, 0, 0, 0, 7])
    shared = texts.copy()
    shared[7, 1] = texts[3, 1]
    assert mine_negatives(first, second, shared, labels, 1, 0.0)[0].tolist() == [1]
    assert not {2, 3, 7} & set(mine_negatives(first, second, shared, labels, 8, 0.0)[0].tolist())
    # What also answers the same first text is no negative of it.
    same = texts.copy()
    same[1, 0] = same[0, 0]
    assert mine_negatives(first, second, same, none, 1, 0.0)[0].tolist() == [2]
    # Where the partner is far away, nothing is safely less near.
    assert mine_negatives(first, -second, texts, none, 1, 0.2)[0, 0] in (-1, *range(4, 8))


def test_given_negatives_are_the_worse_answers_of_a_row(initial: Path) -> None:
    examples, answers = rows.examples("train"), rows.answers()
    objective = Contrastive(negatives=HardNegatives(source="given", count=2))
    how = Tokenization(load_tokenizer(initial), 128)
    tables = split_tables(examples, answers, "train")
    found = objective.tokenize(tables, how)
    assert (found.per_item, objective.sequences, len(found)) == (4, 4, examples.num_rows)
    worse = list_worse_answers(tables.answers)
    tokenizer = load_tokenizer(initial)
    for item in (0, 1):
        texts = [tokenizer.decode(found.row(4 * item + number)[0]) for number in range(4)]
        expected = worse[str(examples["id"][item])]
        assert len(expected) == 1 + item % 2
        assert texts[2 : 2 + len(expected)] == expected
        numbers = found.columns["text"][4 * item : 4 * item + 4]
        assert (numbers[3] == numbers[1]) == (len(expected) == 1), "a filler is no negative"
    assert "no answer is read" in Contrastive(pairs="labels", negatives=objective.negatives).problems(None)[0]  # type: ignore[arg-type]


@pytest.mark.parametrize("mined", [False, True], ids=["labels", "mined"])
def test_training_brings_partners_together_and_resumes_to_the_same_bytes(
    initial: Path, tmp_path: Path, mined: bool
) -> None:
    hard = HardNegatives(source="mined", count=2, margin=0.05) if mined else None
    objective = Contrastive(pairs="labels", negatives=hard, pooling="last" if mined else "mean")
    plan = make_plan(
        method={"name": "lora", "rank": 4, "dropout": 0.1}, objective=objective, steps=12, batch_size=8,
        learning_rate=1e-2, evaluate_every_steps=12, log_every_steps=1, checkpoint_every_steps=5,
    )  # fmt: skip
    splits = tokenize_splits(table(24), table(12, 100), initial, 128, 12, objective=objective)
    whole = run_whole_and_halves(plan, splits, initial, tmp_path, until=8, checkpoint=5)
    validated = [point for point in whole.curve if point.eval_loss is not None]
    first, last = validated[0], validated[-1]
    assert first.eval_loss is not None
    assert last.eval_loss is not None
    assert last.eval_loss < 0.8 * first.eval_loss
    assert last.figures["eval_margin"] > first.figures["eval_margin"]
    if mined:
        assert 0 < last.figures["eval_hard_negatives"] <= 2
        assert all(0 < point.figures["hard_negatives"] <= 2 for point in whole.curve if point.loss is not None)
