"""Variants come of training rows only, keep what the answer needs, and never come near a held-out row."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tasks.contracts.errors import PipelineError
from tasks.contracts.records import content_id
from tasks.corpus.label_classifier import fit_label_classifier
from tasks.corpus.rows.rows import Origin, Rows
from tasks.corpus.text.word_edits import NEIGHBOURS, list_words, mistype
from tasks.data_preparation.gate.gate import check_quality
from tasks.data_preparation.gate.measures import describe_rows, describe_sources
from tasks.data_preparation.gate.params import Gate
from tasks.data_preparation.screening.params import Duplicates
from tasks.data_preparation.splitting.params import Split
from tasks.data_preparation.splitting.split import repeat_train
from tasks.data_preparation.trainset.augmentation.adversarial import Adversarial
from tasks.data_preparation.trainset.augmentation.augment import augment_train
from tasks.data_preparation.trainset.augmentation.back_translation import BackTranslation
from tasks.data_preparation.trainset.augmentation.characters import Characters
from tasks.data_preparation.trainset.augmentation.material import judge_rewriting, tidy_answer
from tasks.data_preparation.trainset.augmentation.params import Augmentation
from tasks.data_preparation.trainset.augmentation.paraphrase import Paraphrase
from tasks.data_preparation.trainset.augmentation.synonyms import Synonyms, read_synonyms
from tasks.language_models.writers.answers import AnswerCache, WriterAnswer, ask
from tasks.language_models.writers.local import Local
from tasks.language_models.writers.openai import OpenAi
from tests.conversations import Turns, make, pair
from tests.endpoint import Endpoint, broken, busy, drop_line, send, slow

NEAR = Duplicates()
TOPICS = {
    "card": ["withdraw", "machine", "swipe", "contactless", "declined", "terminal"],
    "parcel": ["courier", "depot", "delivered", "doorstep", "tracking", "shipment"],
}
FILLER = ["please", "today", "where", "could", "someone", "tell", "about", "again", "quickly", "kindly"]


def rows_of(turns: list[Turns], labels: list[str | None], splits: list[str]) -> Rows:
    rows = make(*turns, labels=labels)
    ids = [content_id(t) for t in rows.table["messages"].to_pylist()]
    table = rows.table
    for name, values in (("id", ids), ("split", splits), ("cluster", ids)):
        table = table.append_column(name, pa.array(values, pa.string()))
    origin = Origin("s", "jsonl", "x", "alpaca", {}, len(turns), 1.0)
    return replace(rows, table=table, origins=(origin,))


def labelled(count: int = 160, held: int = 20) -> Rows:
    rng = random.Random(7)
    labels: list[str | None] = [("card", "parcel")[i % 2] for i in range(count + 2 * held)]
    turns = [
        pair(
            " ".join(rng.sample(TOPICS[str(label)], 3) + rng.sample(FILLER, 5)) + f" order {4000 + i}?",
            "We look at it.",
        )
        for i, label in enumerate(labels)
    ]
    return rows_of(turns, labels, ["train"] * count + ["validation"] * held + ["test"] * held)


def prompts(rows: Rows, source: str | None = None) -> list[str]:
    table = rows.table if source is None else rows.table.filter(pc.equal(rows.table["source"], source))
    return [turns[-2]["content"] for turns in table["messages"].to_pylist()]


def augment(rows: Rows, *methods: Any, folder: Path | None = None, **params: Any) -> Rows:
    return augment_train(rows, Augmentation(methods=methods, **params), NEAR, folder)


def test_variants_enter_as_training_rows_of_a_source_of_their_own(tmp_path: Path) -> None:
    rows = labelled()
    out = augment(rows, Characters(share=0.5))
    added = out.table.slice(200).to_pylist()
    assert out.table.slice(0, 200).equals(rows.table)
    assert 55 <= len(added) <= 100
    assert {row["split"] for row in added} == {"train"}
    assert {row["source"] for row in added} == {"augmented by characters"}
    by_id = {row["id"]: row for row in rows.table.to_pylist()}
    for row in added:
        parent = by_id[row["cluster"]]
        assert parent["split"] == "train"
        assert row["label"] == parent["label"]
        assert row["messages"][-1] == parent["messages"][-1]
        assert row["messages"][0]["content"] != parent["messages"][0]["content"]
        assert row["id"] == content_id(row["messages"])
        assert row["messages"][0]["content"].endswith(parent["messages"][0]["content"][-6:])
    pairs = [p for p in out.twins.to_pylist() if p["kind"] == "augmented"]
    assert [(p["row"], p["id"], p["twin_id"]) for p in pairs] == [(r["row"], r["id"], r["cluster"]) for r in added]
    assert all(0.4 < p["similarity"] < 1 for p in pairs)
    assert out.origins[-1].rows == len(added) + out.dropped.num_rows
    assert out.table.equals(augment(rows, Characters(share=0.5)).table)
    assert not out.table.equals(augment(rows, Characters(share=0.5), seed=1).table)
    # Written and judged like any other row.
    assert repeat_train(out.table.filter(pc.equal(out.table["split"], "train")), out, 0).num_rows == 160 + len(added)
    verdict = check_quality(out, Gate(), NEAR, Split(), tmp_path)
    assert [r.check.name for r in verdict.failed] == []


def test_variants_are_not_augmented_again(tmp_path: Path) -> None:
    path = tmp_path / "synonyms.txt"
    path.write_text("\n".join(f"{word}, other{word}" for words in TOPICS.values() for word in words))
    out = augment(labelled(), Characters(share=0.5), Synonyms(share=1.0, sets=str(path)))
    found = Counter(out.table["source"].to_pylist())
    assert 0 < found["augmented by synonyms"] <= 160
    clusters = {row["cluster"] for row in out.table.slice(200).to_pylist()}
    assert clusters <= set(out.table.slice(0, 160)["id"].to_pylist())


@dataclass
class Echo:
    """A method that writes what it is told to."""

    say: Callable[[str], str]
    name: str = "echo"
    share: float = 1.0
    seen: list[str] = field(default_factory=list)

    def rewrite(self, chosen: Any, material: Any) -> Any:
        from tasks.data_preparation.trainset.augmentation.material import Variant

        self.seen = [material.prompts[row] for row in chosen]
        return [Variant(row, self.say(material.prompts[row])) for row in chosen]


def echoed(rows: Rows, say: Callable[[str], str], keep_labels: bool = False) -> tuple[Rows, Echo]:
    method = Echo(say)
    plan = Augmentation.model_construct(methods=(method,), seed=0, keep_labels=keep_labels)  # type: ignore[arg-type]
    return augment_train(rows, plan, NEAR), method


def test_a_variant_that_reads_like_another_label_is_refused() -> None:
    other = dict(zip(TOPICS["card"], TOPICS["parcel"], strict=True))

    def turn_over(prompt: str) -> str:
        return " ".join(other.get(word, word) for word in prompt.split())

    rows = labelled()
    out, _ = echoed(rows, turn_over, keep_labels=True)
    assert Counter(out.dropped["reason"].to_pylist()) == {"a classifier reads another label": 80, "unchanged": 80}
    assert set(out.dropped["source"].to_pylist()) == {"augmented by echo"}
    # What is refused counts as sound: nothing was wrong with the source.
    described = describe_sources(out, describe_rows(out, NEAR), Split()).to_pylist()
    assert [row["bad_share"] for row in described] == [0.0, 0.0]
    assert echoed(rows, turn_over)[0].table.num_rows > 200


@pytest.mark.parametrize("split", ["validation", "test"])
def test_near_copies_of_held_out_rows_are_refused(split: str) -> None:
    rows = labelled()
    held = rows.table["split"].to_pylist().index(split)
    target = prompts(rows)[held]
    copies = [
        target,
        target.upper(),
        target.replace("order 4", "order 9"),
        target.replace("please", "pleese").replace("a", "aa", 1),
        f"{target} thanks",
    ]
    for copy in copies:
        out, method = echoed(rows, lambda _, copy=copy: copy)
        assert out.table.num_rows == 200, copy
        assert set(out.dropped["reason"].to_pylist()) == {f"too like a row of {split}"}, copy
        # Held-out prompts are never shown to a method.
        assert not set(method.seen) & set(prompts(rows)[160:])


def test_copies_of_training_rows_and_of_one_another_are_refused() -> None:
    rows = labelled()
    new = "an altogether new question about nothing that was asked before"
    out, _ = echoed(rows, lambda _: new)
    assert prompts(out)[200:] == [new]
    assert Counter(out.dropped["reason"].to_pylist()) == {"a row that is there already": 159}
    same, _ = echoed(rows, lambda prompt: prompt)
    assert Counter(same.dropped["reason"].to_pylist()) == {"unchanged": 160}


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="abcdefghijklmnopqrstuvwxyzABCéß", min_size=4, max_size=12), st.integers())
def test_a_typing_error_changes_little(word: str, seed: int) -> None:
    changed = mistype(word, random.Random(seed))
    assert changed[0] == word[0]
    assert changed[-1] == word[-1]
    assert abs(len(changed) - len(word)) <= 1
    if len(changed) == len(word):
        differ = [i for i, (a, b) in enumerate(zip(word, changed, strict=True)) if a != b]
        assert len(differ) <= 2
        if len(differ) == 1:
            assert changed[differ[0]].lower() in NEIGHBOURS[word[differ[0]].lower()]
    else:
        longer, shorter = sorted((word, changed), key=len, reverse=True)
        assert any(longer[:i] + longer[i + 1 :] == shorter for i in range(len(longer)))


def test_keys_are_neighbours_of_one_another() -> None:
    assert NEIGHBOURS["s"] == "adwx"
    assert NEIGHBOURS["q"] == "wa"
    assert all(key in NEIGHBOURS[other] for key, others in NEIGHBOURS.items() for other in others)


def test_words_that_must_stay_stay() -> None:
    prompt = (
        "Please send IBAN details for [EMAIL] to bob@mail.org about order A4711, `code here` "
        "and the blanket at www.shop.com"
    )
    words = [prompt[slice(*span)] for span in list_words(prompt, "The blanket is on its way.", 4)]
    assert words == ["Please", "send", "details", "about", "order"]
    assert list_words("Hi yo", "", 4) == []


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("send 3 to [NAME]", "please send 3 to [NAME]", None),
        ("send 3 to [NAME]", "[NAME] gets 3.", None),
        ("send 3 to [NAME]", "please send 4 to [NAME]", "numbers, addresses or placeholders changed"),
        ("send 3 to [NAME]", "please send 3 to Bob", "numbers, addresses or placeholders changed"),
        ("where is it", None, "no answer, or one cut off"),
        ("where is it", "it is " * 60, "of another length altogether"),
        ("it is " * 60, "where", "of another length altogether"),
    ],
)
def test_what_a_model_wrote_is_judged(old: str, new: str | None, reason: str | None) -> None:
    assert judge_rewriting(old, new) == reason


def test_quotes_around_an_answer_go() -> None:
    assert tidy_answer('  "where is it"\n') == "where is it"
    assert tidy_answer("“where”") == "where"
    assert tidy_answer('"a" and "b"') == '"a" and "b"'
    assert tidy_answer('""') == '""'
    assert tidy_answer("-----\nwhere\n-----") == "where"
    assert tidy_answer("  ") is None
    assert tidy_answer(None) is None


def test_synonyms_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "synonyms.txt"
    path.write_text("# animals\nDog, hound\n\nbig,  quite   large, large,\n")
    assert read_synonyms(path) == {
        "dog": ["hound"],
        "hound": ["dog"],
        "big": ["large", "quite large"],
        "large": ["big", "quite large"],
        "quite large": ["big", "large"],
    }
    turns = [
        pair(f"{a} my {b} number {i}", "fine") for i, (a, b) in enumerate([("Big", "dog"), ("large", "hound")] * 40)
    ]
    rows = rows_of(turns, [None] * 80, ["train"] * 78 + ["validation", "test"])
    made = prompts(augment(rows, Synonyms(share=1.0, words=0.3, sets=str(path))), "augmented by synonyms")
    starts = {" ".join(text.split(" number")[0].split()) for text in made}
    assert starts <= {
        *(f"{a} my {b}" for a in ("Large", "Quite large", "Big") for b in ("dog", "hound")),
        *(f"{a} my {b}" for a in ("big", "quite large", "large") for b in ("dog", "hound")),
    }
    assert "Large my dog" in starts


def test_a_wrong_file_of_synonyms_is_named(tmp_path: Path) -> None:
    path = tmp_path / "synonyms.txt"
    path.write_text("big, large\nopen\nnew; recent")
    with pytest.raises(
        PipelineError, match=r'(?s)synonyms\.txt:2: "open" has no synonym.*:3: "new; recent" has no synonym'
    ):
        read_synonyms(path)
    with pytest.raises(PipelineError, match="gone cannot be read"):
        read_synonyms(tmp_path / "gone")
    with pytest.raises(ValidationError, match="do not distinguish open from close; use sets"):
        Synonyms.model_validate({"name": "synonyms", "vectors": "glove.txt"})


def test_attacks_mislead_the_classifier_and_keep_the_label() -> None:
    rng = random.Random(3)
    labels: list[str | None] = [("card", "parcel")[i % 2] for i in range(200)]
    # One telling word each, so that one typing error can hide it.
    turns = [
        pair(f"{' '.join(rng.sample(FILLER, 4))} {rng.choice(TOPICS[str(label)])} {i}", "fine")
        for i, label in enumerate(labels)
    ]
    rows = rows_of(turns, labels, ["train"] * 180 + ["validation"] * 10 + ["test"] * 10)
    out = augment(rows, Adversarial(share=1.0))
    added = out.table.slice(200)
    assert added.num_rows > 20
    reader = fit_label_classifier(prompts(rows)[:180], labels[:180])
    assert reader is not None
    read = reader.predict([turns[-2]["content"] for turns in added["messages"].to_pylist()])
    assert all(found != label for found, label in zip(read, added["label"].to_pylist(), strict=True))
    with pytest.raises(PipelineError, match="fewer than two labels"):
        augment(rows_of(turns, [None] * 200, ["train"] * 180 + ["validation"] * 20), Adversarial())


@pytest.fixture
def serve() -> Iterator[Callable[[Callable[[str], str | dict[str, Any]]], Endpoint]]:
    servers: list[Endpoint] = []

    def start(answer: Callable[[str], str | dict[str, Any]]) -> Endpoint:
        servers.append(Endpoint(answer))
        return servers[-1]

    yield start
    for endpoint in servers:
        endpoint.close()


def between(order: str) -> str:
    return order.split("\n-----\n")[1].removesuffix("\n-----")


def translate(order: str) -> str:
    """Reversing the words, which a second time gives them back, one of them changed."""
    head, text = order.split("\n")[0], between(order)
    words = text.split()
    return " ".join(reversed(words)) if "German" in head else " ".join(reversed(words)).replace("please", "kindly ask")


def test_back_translation_by_an_endpoint(serve: Any, tmp_path: Path) -> None:
    pytest.importorskip("openai", reason="openai is in the extra writers")
    endpoint = serve(translate)
    writer = OpenAi(url=endpoint.url, model="m")
    method = BackTranslation(share=1.0, writer=writer)
    rows = labelled(40, 5)
    out = augment(rows, method, folder=tmp_path)
    made = prompts(out, "augmented by back_translation")
    assert len(made) > 10
    assert [text for text in made if "kindly ask" not in text] == []
    assert Counter(out.dropped["reason"].to_pylist())["unchanged"] > 0
    assert len(made) + out.dropped.num_rows == 40
    calls = len(endpoint.asked)
    assert calls == 80
    # Held-out prompts never leave the machine.
    held = prompts(rows)[40:]
    assert not any(text in asked for asked in endpoint.asked for text in held)
    again = augment(rows, method, folder=tmp_path)
    assert len(endpoint.asked) == calls
    assert again.table.equals(out.table)


def test_paraphrases_in_several_manners(serve: Any, tmp_path: Path) -> None:
    pytest.importorskip("openai", reason="openai is in the extra writers")

    def rewrite(order: str) -> str | dict[str, Any]:
        text = between(order)
        if "shorter" in order:
            return {"finish_reason": "length", "content": text[:10]}
        return f'"I would like to know: {text}"' if "politely" in order else text.replace("order", "order 1,")

    method = Paraphrase(share=0.5, copies=3, writer=OpenAi(url=serve(rewrite).url, model="m"))
    out = augment(labelled(40, 5), method, folder=tmp_path)
    made = prompts(out, "augmented by paraphrase")
    assert made
    assert all(text.startswith("I would like to know: ") for text in made)
    reasons = Counter(out.dropped["reason"].to_pylist())
    assert reasons["no answer, or one cut off"] == reasons["numbers, addresses or placeholders changed"] == len(made)


def ask_one(writer: OpenAi, text: str = "hello", folder: Path | None = None) -> list[str | None]:
    return ask(writer, [[{"role": "user", "content": text}]], folder)


def test_an_endpoint_that_stumbles_is_asked_again(serve: Any) -> None:
    pytest.importorskip("openai", reason="openai is in the extra writers")
    endpoint = serve(lambda text: text.upper())
    endpoint.troubles = [busy, broken, slow]
    assert ask_one(OpenAi(url=endpoint.url, model="m", timeout_s=0.5)) == ["HELLO"]
    assert endpoint.troubles == []


def test_an_endpoint_that_refuses_or_is_away_is_one_clear_line(serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("openai", reason="openai is in the extra writers")
    endpoint = serve(lambda text: text)
    endpoint.troubles = [lambda handler: send(handler, 401, {"error": {"message": "bad key"}})]
    with pytest.raises(PipelineError, match=r"status 401 .*bad key.*check url, model and key") as caught:
        ask_one(OpenAi(url=endpoint.url, model="m"))
    assert "\n" not in str(caught.value)
    endpoint.troubles = [busy, busy]
    with pytest.raises(PipelineError, match="status 429"):
        ask_one(OpenAi(url=endpoint.url, model="m", retries=1))
    endpoint.troubles = [drop_line]
    with pytest.raises(PipelineError, match="no answer in 1 attempts of 60 s"):
        ask_one(OpenAi(url=endpoint.url, model="m", retries=0))
    endpoint.troubles = [lambda handler: send(handler, 200, b"<html>")]
    with pytest.raises(PipelineError, match="cannot be read"):
        ask_one(OpenAi(url=endpoint.url, model="m", retries=0))
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    with pytest.raises(PipelineError, match="environment variable NO_SUCH_KEY is not set"):
        ask_one(OpenAi(url=endpoint.url, model="m", key_env="NO_SUCH_KEY"))


def test_a_key_comes_from_the_environment(serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("openai", reason="openai is in the extra writers")
    endpoint = serve(lambda text: text)
    seen: list[str] = []
    endpoint.troubles = [lambda handler: (seen.append(handler.headers["Authorization"]), busy(handler))[1]]
    monkeypatch.setenv("MY_KEY", "sesame")
    assert ask_one(OpenAi(url=endpoint.url, model="m", key_env="MY_KEY")) == ["hello"]
    assert seen == ["Bearer sesame"]


def test_answers_that_came_before_a_failure_are_kept(serve: Any, tmp_path: Path) -> None:
    pytest.importorskip("openai", reason="openai is in the extra writers")
    endpoint = serve(lambda text: text.upper())
    writer = OpenAi(url=endpoint.url, model="m", concurrency=1, retries=0)
    questions = [[{"role": "user", "content": text}] for text in ("one", "two", "one")]
    assert ask(writer, questions[:1], tmp_path) == ["ONE"]
    endpoint.troubles = [broken]
    with pytest.raises(PipelineError, match="received answers are cached"):
        ask(writer, questions, tmp_path)
    assert ask(writer, questions, tmp_path) == ["ONE", "TWO", "ONE"]
    assert endpoint.asked == ["one", "two"]
    # Other settings are another question.
    assert ask(writer.model_copy(update={"temperature": 0.0}), questions[:1], tmp_path) == ["ONE"]
    assert len(endpoint.asked) == 3


def test_a_torn_answer_on_the_disk_is_asked_again(tmp_path: Path) -> None:
    cache = AnswerCache(tmp_path, {"model": "m"})
    prompt = [{"role": "user", "content": "x"}]
    cache.store(prompt, WriterAnswer("y", "", 3, 1))
    assert cache.find(prompt) == WriterAnswer("y", "", 3, 1)
    cache.store(prompt, WriterAnswer(None, "cut off"))
    assert cache.find(prompt) == WriterAnswer(None, "cut off")
    # As they were kept before tokens were counted.
    next(tmp_path.rglob("*.json")).write_text('{"answer":"y"}')
    assert cache.find(prompt) == WriterAnswer("y")
    next(tmp_path.rglob("*.json")).write_text("{torn")
    assert cache.find(prompt) is None
    assert AnswerCache(None, {}).find(prompt) is None


def test_a_local_model_writes_the_same_every_time(tiny_model: Path, tmp_path: Path) -> None:
    writer = Local(path=str(tiny_model), max_tokens=8)
    questions = [[{"role": "user", "content": text}] for text in ("where is it", "when does it open")]
    first = ask(writer, questions, tmp_path)
    assert len(first) == 2
    assert ask(writer, questions, None) == first
    out = augment(labelled(12, 2), Paraphrase(share=1.0, writer=writer), folder=tmp_path)
    assert out.table.num_rows + out.dropped.num_rows == 16 + 12
    with pytest.raises(PipelineError, match=r"holds no config\.json"):
        ask(Local(path=str(tmp_path)), questions, None)


def test_nothing_is_added_unless_asked() -> None:
    rows = labelled()
    assert augment(rows) is rows
    none = augment(rows, Characters(share=1e-9))
    assert none.table.equals(rows.table)
    assert none.steps[-1].notes == {"rows_chosen": 0, "variants": 0}
