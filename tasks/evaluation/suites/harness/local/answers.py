"""How answers to local tasks are scored where the harness's own metrics do not do it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from io import StringIO
from typing import Any

UNANSWERABLE = "unanswerable"


def score_span(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, float]:
    """SQuAD's exact match and token F1, the best over the right answers.

    Rajpurkar et al., arXiv:1606.05250; of a question without an answer the right one is "unanswerable".
    """
    from tasks.evaluation.metrics.words.token_f1 import find_answer_words

    found = find_answer_words(results[0])
    exact = f1 = 0.0
    for expected in map(find_answer_words, doc["answers"] or [UNANSWERABLE]):
        common = sum((Counter(found) & Counter(expected)).values())
        exact = max(exact, float(found == expected))
        f1 = max(f1, 2 * common / (len(found) + len(expected)) if common else 0.0)
    return {"exact": exact, "f1": f1}


def score_instructions(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, Any]:
    """IFEval's checks (Zhou et al., arXiv:2311.07911) by the harness's own code, which never downloads here.

    Counting sentences needs NLTK's ``punkt_tab``; without it the questions that ask for it cannot be scored.
    """
    import nltk

    download = nltk.download
    nltk.download = lambda *_, **__: False
    try:
        # It says that it has downloaded something also where it has not.
        with redirect_stdout(StringIO()):
            from lm_eval.tasks.ifeval.utils import process_results
    finally:
        nltk.download = download
    try:
        found: dict[str, Any] = process_results(dict(doc), list(results))
    except LookupError as error:
        raise LookupError(
            "NLTK's punkt_tab is not on this machine; fetch it with python -m nltk.downloader punkt_tab"
        ) from error
    return found


def agg_inst_level_acc(items: Sequence[Sequence[bool]]) -> float:
    """Share of all instructions that are followed, as the harness names it."""
    flat = [followed for each in items for followed in each]
    return sum(flat) / len(flat)
