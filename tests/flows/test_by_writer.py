"""Models that are only asked, a mixture among them, beside those that are opened."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flows.wiring.releases.named_models import read_writer
from tasks.contracts.errors import PipelineError
from tasks.evaluation.metrics.likelihoods.loss import Loss
from tasks.evaluation.metrics.likelihoods.perplexity import Perplexity
from tasks.evaluation.metrics.metric import Evidence
from tasks.evaluation.metrics.words.exact_match import ExactMatch
from tasks.evaluation.ranking import rank_models
from tasks.evaluation.remote.by_writer import answer_with_writer
from tests.endpoint import Endpoint, broken
from tests.tasks.evaluation.boards import make_items, make_outcome


@pytest.fixture
def server() -> Iterator[Endpoint]:
    made = Endpoint(lambda text: "yes" if text.endswith(("1", "2")) else "no")
    yield made
    made.close()


def agent(server: Endpoint, **more: Any) -> dict[str, Any]:
    return {"name": "openai", "url": server.url, "model": "m", "temperature": 0, "retries": 0, **more}


def test_a_mixture_is_ranked_beside_a_model_and_asked_once(server: Endpoint, tmp_path: Path) -> None:
    values = {"name": "mixture", "layers": [[agent(server)]], "aggregator": agent(server, seed=1)}
    model = read_writer("{...}", values)
    assert model.name == "mixture(m | m)"
    items = (*make_items(["yes"] * 4), replace(make_items(["a document"])[0], prompt=(), id="d", cluster="d"))
    outcomes = [answer_with_writer(model.name, model.writer, items, tmp_path) for _ in range(2)]
    assert outcomes[0].answers == outcomes[1].answers == ["no", "yes", "yes", "no", ""]
    assert len(server.asked) == 8
    assert np.isnan(outcomes[0].losses).all()
    opened = make_outcome("base", ["yes", "no", "no", "no", ""])
    metrics = (Loss(), ExactMatch(), Perplexity())
    ranking = rank_models(Evidence(items[:4], None), [replace_answers(opened), replace_answers(outcomes[0])], metrics,
                          1_000, 0.95, 0.8, 0)  # fmt: skip
    assert ranking.models[0] == model.name
    assert set(ranking.not_applicable) == {"loss", "perplexity"}
    assert ranking.estimates[model.name, "exact_match"].value == 0.5


def replace_answers(outcome: Any) -> Any:
    """The same without the document."""
    return replace(outcome, answers=outcome.answers[:4], tokens=outcome.tokens[:4])


def test_what_has_no_answer_is_empty_and_nothing_at_all_is_an_error(server: Endpoint) -> None:
    writer = read_writer("{...}", agent(server, concurrency=1)).writer
    server.troubles = [broken]
    assert answer_with_writer("m", writer, make_items(["yes"] * 3), None).answers == ["", "yes", "yes"]
    server.troubles = [broken] * 3
    with pytest.raises(PipelineError, match=r"m: not one of 3 items is answered \(writer .*status 503"):
        answer_with_writer("m", writer, make_items(["yes"] * 3), None)


def test_what_is_no_writer_is_one_line() -> None:
    with pytest.raises(PipelineError, match=r"\{name: openai\}: openai\.url: Field required; expected a writer, such"):
        read_writer("{name: openai}", {"name": "openai"})
