"""Each filter keeps or drops for its reason, at the thresholds of its source; figures are worked out by hand."""

from __future__ import annotations

import csv
import gzip
import json
import os
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tasks.contracts.errors import PipelineError
from tasks.contracts.manifest import hash_file
from tasks.corpus.rows.rows import Rows
from tasks.data_preparation.cleaning.clean import Cleaner, clean_rows
from tasks.data_preparation.cleaning.steps.c4 import C4, count_sentences, split_sentences
from tasks.data_preparation.cleaning.steps.controls import Controls, remove_controls
from tasks.data_preparation.cleaning.steps.echo import Echo
from tasks.data_preparation.cleaning.steps.labels import Labels
from tasks.data_preparation.cleaning.steps.language import Language
from tasks.data_preparation.cleaning.steps.quality import Quality
from tasks.data_preparation.cleaning.steps.refusals import Refusals
from tasks.data_preparation.cleaning.steps.repetition import (
    Ngrams,
    Repetition,
    repeated_share,
)
from tasks.data_preparation.cleaning.steps.tokens import Tokens, count_tokens
from tasks.data_preparation.cleaning.steps.toxicity import Toxicity
from tasks.data_preparation.cleaning.steps.unicode import Unicode, make_repair
from tasks.language_models.probes.refusals import refuses
from tests.conversations import make, pair, texts

REAL = Path(os.environ.get("HEPTUNE_REAL_DATA", "/nonexistent"))


def needs(path: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(not (REAL / path).exists(), reason=f"HEPTUNE_REAL_DATA has no {path}")


def run(step: Cleaner, *answers: str, question: str = "Could you tell me more about that, please?") -> Rows:
    """The answers through a step, with one that always stays."""
    return clean_rows(make(*(pair(question, answer) for answer in (*answers, PROSE))), [step])


# 62 different words.
PROSE = (
    "The old harbour lies below a hill that people have climbed since anyone can remember, and from its top you see "
    "both islands. Fishing boats leave early with nets folded on deck; ferries follow later, carrying bread, letters, "
    "schoolchildren plus two noisy dogs. When storms come everything stops, shutters close, lamps glow, while somebody "
    "tells stories about winters long ago."
)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("bell\x07 null\x00 zero\u200bwidth \ufeffbom", "bell null zerowidth bom"),
        ("\x1b[31mred\x1b[0m \x1b]0;title\x07text", "red text"),
        ("a\x0bb\x0cc\x85d\x1ce", "a\nb\nc\nd\ne"),
        ("soft\u00adhyphen", "softhyphen"),
        ("tab\tand\nline\r\n", "tab\tand\nline\r\n"),
        ("👩\u200d👩\u200d👧 می\u200cخواهم \u200fעברית", "👩\u200d👩\u200d👧 می\u200cخواهم \u200fעברית"),
        # Tag characters: the flag of Scotland stays, hidden text goes.
        ("\U0001f3f4\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f", None),
        ("hi\U000e0068\U000e0069 there", "hi there"),
    ],
)
def test_controls(before: str, after: str | None) -> None:
    assert remove_controls(before) == (before if after is None else after)


@given(st.text(max_size=30))
def test_removing_controls_twice_is_once(text: str) -> None:
    assert remove_controls(remove_controls(text)) == remove_controls(text)


def test_controls_are_seen_by_the_prefilter() -> None:
    unseen = [chr(c) for c in (*range(0x20), *range(0x7F, 0xA0), 0xAD, 0x200B, 0x2060, 0x206A, 0xFEFF, 0xFFF9, 0xFFFE)]
    unseen = [c for c in (*unseen, "\U000e0041", "\uffff") if c not in "\t\n\r"]
    rows = clean_rows(make(*(pair(f"a{c}b", "x") for c in unseen)), [Controls()])
    assert rows.steps[-1].changed == len(unseen)
    assert {row[0] for row in texts(rows)} <= {"ab", "a\nb"}


@needs("naughty_strings/blns.json")
def test_naughty_strings_pass_the_repair_unchanged() -> None:
    strings: list[str] = json.loads((REAL / "naughty_strings/blns.json").read_text(encoding="utf-8"))
    repair = make_repair()
    assert len(strings) == 515
    assert [text for text in strings if repair(text) != text] == []
    rows = clean_rows(make(*(pair(f"Say: {text}", text) for text in strings)), [Unicode(drop_lost=False)])
    assert texts(rows) == [[f"Say: {text}", text] for text in strings]
    assert rows.steps[-1].changed == 0


def test_unusual_text_that_was_never_broken_stays() -> None:
    for text in (
        "表ポあA鷗ŒéＢ逍Üßªąñ丂㐀𠀀",
        " \x85 next line",
        "\x80\x81\x82\x83\x8d\x9d",
        "Ω≈ç√∫˜µ≤≥÷",
        "ﾊﾝｶｸ (ﾉಥ益ಥ)",
    ):
        assert make_repair()(text) == text


def test_mojibake_beside_what_is_right_is_repaired() -> None:
    assert make_repair()("naïve cafÃ© “x”") == "naïve café “x”"
    assert make_repair()("It\x92s â€œfineâ€\x9d") == "It’s “fine”"


def test_shares_of_repeats_by_hand() -> None:
    assert repeated_share(["a", "b", "a", "a"]) == 0.5
    # 4 of 7 characters.
    assert repeated_share(["aa", "b", "aa", "aa"], by_characters=True) == 4 / 7
    # "to be" twice: 8 of 18 letters; an n-gram that occurs once is no repeat.
    words = ["to", "be", "or", "not", "to", "be", "that", "is"]
    assert Ngrams(words).top_share(2) == 8 / sum(map(len, words))
    assert Ngrams(words).top_share(3) == 0.0
    # "a b c" stands at 0 and 4; its letters once each: 6 of 7.
    assert Ngrams(["a", "b", "c", "x", "a", "b", "c"]).repeated_share(3) == 6 / 7
    # Overlapping repeats count a letter once.
    assert Ngrams(["a"] * 10).repeated_share(5) == 1.0


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (PROSE, None),
        ("no " * 49, None),
        ("no " * 50, "most frequent 2-gram over 20%"),
        ("\n".join([PROSE] + ["Thank you for calling."] * 12), "repeated lines over 30%"),
        (f"{PROSE}\n{PROSE}\n{PROSE}\n{PROSE[:40]}\n{PROSE[40:]}", "repeated lines over 30%"),
        (
            f"{PROSE}\n\n{PROSE}\n" + "\n".join(f"Line {i} is another one." for i in range(9)),
            "repeated lines by characters over 20%",
        ),
        # Two paragraphs of two lines, the same lines in another order: only n-grams show it.
        (f"{PROSE}\nAnd so on.\nThen {PROSE}", "repeated 5-grams over 15%"),
    ],
)
def test_repetition(answer: str, reason: str | None) -> None:
    assert Repetition().judge(answer) == reason
    dropped = run(Repetition(), answer).steps[-1].reasons
    assert dropped == ({reason: 1} if reason else {})


def test_repetition_in_a_script_without_spaces() -> None:
    sound = (
        "酒店的位置很好，走路五分钟就到地铁站，房间不大但是很干净，早餐的种类也多，前台的服务员非常热情，"
        "还帮我们叫了出租车。唯一的缺点是隔音一般，晚上能听到走廊里有人说话，"
        "如果能换一扇厚一点的门就更完美了，下次来这里出差还会选择它。"
    )
    assert Repetition().judge(sound) is None
    assert Repetition().judge("就是有点贵，还是有点贵。" * 12) == "most frequent 2-gram over 20%"


def test_gophers_limits_are_the_published_ones() -> None:
    step = Repetition()
    assert (step.lines, step.line_characters, step.paragraphs, step.paragraph_characters) == (0.3, 0.2, 0.3, 0.2)
    assert step.top_ngrams == {2: 0.20, 3: 0.18, 4: 0.16}
    assert step.repeated_ngrams == {5: 0.15, 6: 0.14, 7: 0.13, 8: 0.12, 9: 0.11, 10: 0.10}


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (PROSE, None),
        (" ".join(PROSE.split()[:49]), "fewer than 50 words"),
        ("a to " * 30, "words shorter than 3 characters on average"),
        ("the incomprehensibilities and counterrevolutionaries of " * 20, "words longer than 10 characters on average"),
        (PROSE + " ##" * 10, "more than 0.1 # signs per word"),
        (PROSE.replace(",", "...") + " wait..." * 3, "more than 0.1 ellipses per word"),
        ("\n".join(f"- {part.strip()}" for part in PROSE.split(",")), "almost only bullet points"),
        (
            "\n".join(f"{part.strip()} and so on and on with it ..." for part in PROSE.split(";")) + "…",
            "many lines end in ...",
        ),
        (PROSE + " 1234 5678" * 10, "few words with letters"),
        (
            "zwölf große Boxkämpfer jagen Viktor quer über den Sylter Deich " * 6,
            "fewer than 2 of the usual English words",
        ),
    ],
)
def test_quality(answer: str, reason: str | None) -> None:
    assert Quality().judge(answer) == reason


def test_c4_keeps_prose_and_takes_what_is_around_it() -> None:
    page = (
        "Home | Shop | Login\n"
        "The mill was built in 1820 by two brothers.[1]\n"
        "Please enable Javascript to see this page.\n"
        "It burned down twice and was built again each time.\n"
        "We use cookies to make this page better.\n"
        "Read more here...\n"
        "Today it is a museum that anyone can visit!\n"
        "Too short."
    )
    rows = run(C4(), page)
    assert texts(rows)[0][1] == (
        "The mill was built in 1820 by two brothers.\n"
        "It burned down twice and was built again each time.\n"
        "Today it is a museum that anyone can visit!"
    )
    assert rows.steps[-1].changed == 1


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("Lorem ipsum dolor sit amet, he said to us.", "lorem ipsum"),
        ("It does this: {} and then it does that again.", "curly bracket"),
        ("One sentence has a few words here. And another one has words too.", "fewer than 3 sentences"),
    ],
)
def test_c4_drops(answer: str, reason: str) -> None:
    assert run(C4(), answer).steps[-1].reasons == {reason: 1}


def test_c4_keeps_a_shared_span_of_three_sentences_once() -> None:
    shared = "We ship on every working day. Orders before noon leave at once. Later ones leave the next day."
    first = f"{shared} This answer is about shoes and their sizes."
    second = f"Another answer comes first in this one. {shared} Then it goes on with more. And it ends with one more."
    rows = run(C4(), first, second)
    assert texts(rows)[0][1] == first
    assert texts(rows)[1][1] == (
        "Another answer comes first in this one. Then it goes on with more. And it ends with one more."
    )
    assert texts(run(C4(span=0), first, second))[1][1] == second


def test_c4_counts_the_first_copy_of_a_span_among_the_rows_it_keeps() -> None:
    shared = "We ship on every working day. Orders before noon leave at once. Later ones leave the next day."
    rows = run(C4(), f"{shared} The rest is {{ code }} of a program.", shared, f"{shared} It is the last of three.")
    assert shared in [answer for _, answer in texts(rows)]
    assert rows.steps[-1].reasons == {"curly bracket": 1, "fewer than 3 sentences": 1}


@given(st.text(alphabet='ab .?!"\n', max_size=50))
def test_sentences_joined_are_the_text(text: str) -> None:
    assert "".join(split_sentences(text)) == text
    assert count_sentences(text) <= len(split_sentences(text))


@pytest.mark.parametrize(
    ("question", "answer", "drops"),
    [
        ("Where is my order?", "Where is my order?", True),
        ("Where is my order?", "where is MY order", True),
        ("Where is my order?", "Where is your order? Here it is.", False),
        ("Good morning", "Good morning!", False),
        ("Which is larger, a cat or a horse?", "A horse", False),
    ],
)
def test_echo(question: str, answer: str, drops: bool) -> None:
    rows = run(Echo(), answer, question=question)
    assert rows.steps[-1].reasons == ({"answer repeats the question": 1} if drops else {})


def test_echo_in_a_script_without_spaces() -> None:
    assert Echo().repeats("我的订单在哪里？", "我的订单在哪里")
    assert not Echo().repeats("我的订单在哪里？", "您的订单在路上")


@pytest.mark.parametrize("similarity", [1.0, 0.95])
def test_echo_tells_operators_and_numbers_apart(similarity: float) -> None:
    step = Echo(similarity=similarity)
    assert step.repeats("Is a + b = c?", "is a + b = c")
    assert not step.repeats("Is a + b = c?", "Is a - b = c?")
    assert not step.repeats("What about version 1.0?", "What about version 10?")


def test_echo_by_similarity_and_in_any_turn() -> None:
    near = Echo(similarity=0.8)
    # 8 of 9 words in common and in order: 2 * 8 / (9 + 8).
    assert near.repeats("please tell me where my blue order is now", "tell me where my blue order is now")
    assert not near.repeats("please tell me where my order is now", "your order is on its way to you")
    turns = [*pair("a b c d", "fine"), *pair("how are you today", "how are you today")]
    assert clean_rows(make(turns, pair("x", "y")), [Echo()]).table.num_rows == 1


REFUSED = [
    "I'm sorry, but I can't assist with that request.",
    "As an AI language model, I do not have personal opinions.",
    "I cannot provide medical advice.",
    "Sorry, I am unable to help with this.",
    "I'm sorry, Dave. I won't do that.",
    "I’m not able to answer that question.",
    "I must decline.",
    "I don't have access to your neighbour's password.",
    "It's not appropriate to make fun of that.",
    "It is important to note that this is illegal in most countries.",
    "Sorry, I’m not allowed to say.",
    "I'd rather not.",
]
ANSWERED = [
    "I'm sorry, your parcel is late. It arrives on Monday.",
    "I cannot see a problem with your plan, go ahead.",
    "You cannot provide two addresses; choose one.",
    "The AI language model cannot be changed after training.",
    "I can help you with that. Open the settings first.",
    "I can't help but admire the view.",
    "I won't share your address with anyone.",
    "It is important to note that the office closes at five.",
    "If I don't answer, leave a message.",
]


def test_refusals() -> None:
    step = Refusals()
    assert [text for text in REFUSED if not refuses(text)] == []
    assert [text for text in ANSWERED[:-1] if refuses(text)] == []
    late = f"{PROSE} I cannot assist with that."
    assert not refuses(late)
    assert run(step, REFUSED[0], ANSWERED[0]).steps[-1].reasons == {"answer refuses": 1}


@needs("xstest/xstest_v2_completions_mistralinstruct_gpteval.csv.gz")
def test_refusals_against_peoples_labels() -> None:
    path = REAL / "xstest/xstest_v2_completions_mistralinstruct_gpteval.csv.gz"
    with gzip.open(path, "rt", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    found = [refuses(row["completion"]) for row in rows]
    refused = [row["final_label"] != "1_full_compliance" for row in rows]
    assert sum(refused) == 76
    assert sum(f and r for f, r in zip(found, refused, strict=True)) == 36
    assert sum(f and not r for f, r in zip(found, refused, strict=True)) == 8


def test_tokens_are_those_of_the_tokenizer(tiny_model: Path) -> None:
    from transformers import AutoTokenizer

    theirs = AutoTokenizer.from_pretrained(tiny_model)
    rows = make(pair("Where is my order?", PROSE), pair("Where is my order?", "Here."))
    each = rows.table["messages"].combine_chunks().flatten().field("content")
    counts = count_tokens(each, tiny_model)
    assert counts.tolist() == [len(theirs.encode(text, add_special_tokens=False)) for text in each.to_pylist()]
    total = int(counts[:2].sum())
    place = str(tiny_model)
    assert clean_rows(rows, [Tokens(tokenizer=place, max_total=total)]).table.num_rows == 2
    out = clean_rows(rows, [Tokens(tokenizer=place, max_total=total - 1)])
    assert out.steps[-1].reasons == {f"longer than {total - 1} tokens": 1}
    short = clean_rows(rows, [Tokens(tokenizer=f"{place}/tokenizer.json", min_answer=int(counts[3]) + 1)])
    assert short.steps[-1].reasons == {f"answer shorter than {int(counts[3]) + 1} tokens": 1}


def test_tokens_refuse_what_they_cannot_use(tiny_model: Path, tmp_path: Path) -> None:
    rows = make(pair("a", "b"))
    with pytest.raises(PipelineError, match=r"no tokenizer at .*; name the folder of a model"):
        clean_rows(rows, [Tokens(tokenizer=str(tmp_path / "none"))])
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(PipelineError, match="is not a tokenizer"):
        clean_rows(rows, [Tokens(tokenizer=str(tmp_path))])
    right = hash_file(tiny_model / "tokenizer.json")
    assert clean_rows(rows, [Tokens(tokenizer=str(tiny_model), sha256=right)]).table.num_rows == 1
    with pytest.raises(PipelineError, match=f"has SHA-256 {right}, pinned is 0000"):
        clean_rows(rows, [Tokens(tokenizer=str(tiny_model), sha256="0" * 64)])
    with pytest.raises(ValidationError, match="no row could be kept"):
        Tokens(min_prompt=5, min_answer=6, max_total=10)


def test_what_is_no_word_says_nothing_of_the_language() -> None:
    pytest.importorskip("lingua", reason="the extra language is not installed")
    tagged = "Thank you Ohio - see you tonight my friends! #MakeAmericaGreatAgain https://t.co/0DyHkzzWvj"
    code = "Bump @prefecthq/vue-compositions from 1.1.0 to 1.1.1 in /orion-ui (#7937)"
    french = "Où est ma commande, s'il vous plaît ? https://example.com/where-is-my-order"
    step = Language(languages=("en",), among=("en", "fr", "tl", "yo"), of="answers")
    assert run(step, tagged, code, french).steps[-1].reasons == {"language fr": 1}


def test_language() -> None:
    pytest.importorskip("lingua", reason="the extra language is not installed")
    german, french = "Ihre Bestellung ist unterwegs und kommt morgen an.", "Où est ma commande, s'il vous plaît ?"
    step = Language(languages=("en",), among=("en", "de", "fr"), of="answers")
    rows = run(step, german, french, "OK")
    assert rows.steps[-1].reasons == {"language de": 1, "language fr": 1}
    assert texts(rows)[0][1] == "OK"
    listing = rows.steps[-1].listings[0]
    assert listing.rows == (("de", 1), ("en", 1), ("fr", 1))
    assert listing.note == "1 rows with fewer than 20 letters were not classified."
    both = Language(languages=("de", "en"), among=("en", "de", "fr"), of="answers")
    assert run(both, german).table.num_rows == 2
    with pytest.raises(PipelineError, match="lingua does not know xx"):
        run(Language(languages=("xx",)), "A text that is long enough to judge.")
    with pytest.raises(ValidationError, match="among must include the wanted languages en"):
        Language(among=("de", "fr"))
    with pytest.raises(ValidationError, match="at least two languages"):
        Language(among=("en",))


def test_short_texts_keep_their_language_among_all() -> None:
    pytest.importorskip("lingua", reason="the extra language is not installed")
    # English is the likeliest of each, though far from half of the confidence of all 75.
    english = ["How do I track the card you sent me?", "My card isn't here yet, why?", "Have you sent out my card yet?"]
    other = ["Wo bleibt meine neue Karte denn nun?", "Où est donc ma nouvelle carte bancaire ?"]
    shares = [share for _, share in Language().detect([*english, *other])]
    assert [share >= 0.5 for share in shares] == [True, True, True, False, False]


@needs("asp_stories/asp_stories.en_fr_sw_zu.jsonl.gz")
def test_language_on_stories_in_four_languages() -> None:
    pytest.importorskip("lingua", reason="the extra language is not installed")
    with gzip.open(REAL / "asp_stories/asp_stories.en_fr_sw_zu.jsonl.gz", "rt", encoding="utf-8") as stream:
        stories = [json.loads(line) for line in stream]
    step = Language(among=("en", "fr", "sw", "zu"), of="answers", fast=True)
    told = step.detect([story["text"][:500] for story in stories])
    right = [language == story["lang"] for story, (language, _) in zip(stories, told, strict=True)]
    assert np.mean(right) >= 0.99


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier of three labels, trained to see two words."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("classifier")
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "idiot", "kill"]
    core = Tokenizer(models.WordLevel({name: i for i, name in enumerate(names)}, unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    core.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]",
        model_max_length=16,
    ).save_pretrained(folder)  # fmt: skip
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(names), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=64, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
        problem_type="multi_label_classification", id2label={0: "toxic", 1: "insult", 2: "threat"},
        label2id={"toxic": 0, "insult": 1, "threat": 2},
    )  # fmt: skip
    model = BertForSequenceClassification(config).train()
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    rng = random.Random(0)
    for _ in range(200):
        texts = [["day"] * rng.randint(1, 14) for _ in range(32)]
        for text in texts[::2]:
            text[rng.randrange(len(text))] = rng.choice(["idiot", "kill"])
        batch = tokenizer([" ".join(text) for text in texts], return_tensors="pt", padding=True, truncation=True)
        wanted = [["idiot" in text or "kill" in text, "idiot" in text, "kill" in text] for text in texts]
        loss = model(**batch, labels=torch.tensor(wanted).float()).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval().save_pretrained(folder)
    return folder


def test_toxicity(classifier: Path) -> None:
    step = Toxicity(classifier=str(classifier), of="answers")
    rows = run(step, "you idiot", "a good day", "i kill you")
    assert texts(rows)[0][1] == "a good day"
    assert sum(rows.steps[-1].reasons.values()) == 2
    only = Toxicity(classifier=str(classifier), of="answers", labels=("threat",))
    assert run(only, "you idiot", "i kill you").steps[-1].reasons == {"threat over 0.5": 1}
    listing = run(only, "you idiot", "i kill you").steps[-1].listings[0]
    assert listing.rows[0][:2] == ("threat", 1)


def test_toxicity_reads_long_texts_to_their_end(classifier: Path) -> None:
    step = Toxicity(classifier=str(classifier), of="answers", labels=("insult",), batch_size=2)
    long = "day " * 60
    rows = run(step, f"{long} idiot {long}", long)
    assert rows.steps[-1].reasons == {"insult over 0.5": 1}


def test_toxicity_scores_do_not_depend_on_the_company(classifier: Path) -> None:
    step = Toxicity(classifier=str(classifier), of="answers")
    each = ["you idiot", "a good day", "i kill you", PROSE]
    _, together = step.score(each)
    alone = np.concatenate([step.score([text])[1] for text in each])
    assert np.abs(together - alone).max() < 1e-5


def test_toxicity_says_what_it_lacks(classifier: Path, tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match=r"no classifier in .*; put one there"):
        run(Toxicity(classifier=str(tmp_path)), "a")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(PipelineError, match="is no sequence classifier with safetensors"):
        run(Toxicity(classifier=str(tmp_path)), "a")
    with pytest.raises(PipelineError, match=r"has no label \['hate'\]; it has \['toxic', 'insult', 'threat'\]"):
        run(Toxicity(classifier=str(classifier), labels=("hate",)), "a")
    with pytest.raises(PipelineError, match="always applies; name the toxic ones in labels"):
        run(Toxicity(classifier=str(classifier), activation="softmax"), "a")


def test_merged_labels_are_listed() -> None:
    labels = ["Cancel-Order", "cancel order", "cancel order", "refund", None]
    rows = clean_rows(make(*(pair(str(i), "x") for i in range(5)), labels=labels), [Labels()])
    listing = rows.steps[-1].listings[0]
    assert listing.rows == (("cancel_order", 3, "cancel order (2), Cancel-Order (1)"),)
    assert clean_rows(make(pair("a", "x"), labels=["Refund"]), [Labels()]).steps[-1].listings == ()
