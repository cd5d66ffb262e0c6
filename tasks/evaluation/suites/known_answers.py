"""Questions with known answers: the answer contains the right one, or equals it, or ends in the right number.

The simplest guard of what a model could do before it was tuned: a file of your own with a question and its answer a
row. ``contains`` looks for the words of the right answer in a row, in any case and without articles and punctuation, as
SQuAD's scorer reads them (Rajpurkar et al., arXiv:1606.05250); ``equals`` wants nothing else; ``number`` compares the
last numbers, as GSM8K is judged (Cobbe et al., arXiv:2110.14168).

Good for short answers without judgement; blind to right answers in other words.

Example:
    ``{name: known_answers, title: shop facts, files: data/suites/facts.jsonl, role: guard, margin: 0.05}`` with
    ``{"question": "Until when are you open?", "answer": "8 pm"}``: "We are open until 8 PM." contains it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from tasks.contracts.params import Reads
from tasks.evaluation.suites.suite import TITLE, Measure, SuiteScores, SuiteSection, score_each, select_questions

if TYPE_CHECKING:
    from tasks.evaluation.asking.question import Question, Reply


class KnownAnswers(SuiteSection):
    """Questions and their answers."""

    name: Literal["known_answers"] = "known_answers"
    title: str = Field(pattern=TITLE, description="its name in tables and reasons")
    files: Annotated[str, Reads("place")] = Field(description="file or folder of rows with a question and its answer")
    question: str = Field(default="question", description="column of the question")
    answer: str = Field(default="answer", description="column of the right answer")
    match: Literal["contains", "equals", "number"] = Field(
        default="contains", description="contains or equals its words, or has its last number"
    )

    @property
    def key(self) -> str:
        return self.title

    @property
    def measures(self) -> dict[str, Measure]:
        return {"right": Measure("right answers"), "finished": Measure("answers that end within the limits")}

    def read(self) -> list[Question]:
        from tasks.evaluation.asking.question import Question
        from tasks.evaluation.suites.files import need_columns, read_rows

        found: dict[str, Question] = {}
        for number, row in enumerate(read_rows(self.files), 1):
            need_columns(row, (self.question, self.answer), self.files, number)
            asked, facts = str(row[self.question]), {"answer": str(row[self.answer]), "match": self.match}
            key = f"{asked}\n{facts['answer']}"
            prompt = ({"role": "user", "content": asked},)
            found.setdefault(key, Question(key, prompt=prompt, cluster=asked, facts=facts))
        return select_questions(list(found.values()), self.items, lambda one: one.key)

    def score(self, questions: Sequence[Question], replies: Sequence[Reply]) -> SuiteScores:
        return score_each(questions, replies, list(self.measures), _score)


def _score(question: Question, reply: Reply) -> Mapping[str, float]:
    expected, match = question.facts["answer"], question.facts["match"]
    return {"right": float(is_right(expected, reply.text, match)), "finished": float(reply.finished)}


def is_right(expected: str, answer: str, match: Literal["contains", "equals", "number"]) -> bool:
    """Whether an answer is the expected one.

    Raises:
        ValueError: The expected answer has no number, or no words, so nothing could be it.
    """
    import math

    from tasks.evaluation.metrics.words.number_match import find_last_number
    from tasks.evaluation.metrics.words.token_f1 import find_answer_words

    if match == "number":
        number, found = find_last_number(expected), find_last_number(answer)
        if number is None:
            raise ValueError(f'no number in the right answer "{expected}"')
        return found is not None and math.isclose(found, number, rel_tol=1e-6)
    wanted, words = find_answer_words(expected), find_answer_words(answer)
    if not wanted:
        raise ValueError(f'no word in the right answer "{expected}"')
    if match == "equals":
        return wanted == words
    return any(words[start : start + len(wanted)] == wanted for start in range(len(words) - len(wanted) + 1))
