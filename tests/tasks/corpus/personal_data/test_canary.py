"""Personal data planted in the input is in nothing the stage writes: every mode, every shape, many spellings."""

from __future__ import annotations

import json
import random
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from pydantic import SecretStr

from tasks.corpus.personal_data.patterns import Patterns
from tasks.corpus.personal_data.pii import AnyFinder, Pii
from tasks.corpus.personal_data.presidio import Presidio
from tasks.corpus.reading.answers import exclude_rejected
from tasks.corpus.reading.ingest import read_sources
from tasks.corpus.reading.sources.csv import Csv
from tasks.corpus.reading.sources.jsonl import Jsonl
from tasks.data_preparation.cleaning.clean import clean_rows
from tasks.data_preparation.gate.gate import check_quality
from tasks.data_preparation.gate.params import Gate
from tasks.data_preparation.output.publish import write_quarantine, write_splits
from tasks.data_preparation.output.report import write_metrics, write_report
from tasks.data_preparation.params import DataPreparation
from tasks.data_preparation.screening.duplicates import remove_duplicates
from tasks.data_preparation.splitting.split import split_examples

KEY = SecretStr("a key for tests only")
# As they are looked for: without spaces, dashes and dots between digits, in small letters.
CANARIES = {
    "email": "kanarie.vogel@geheim-post.example",
    "phone": "447700900123",
    "iban": "de89370400440532013000",
    "card": "4111111111111111",
    "ip": "81.2.69.142",
}
EMAIL, PHONE, IBAN, CARD, IP = (
    "kanarie.vogel@geheim-post.example",
    "+44 7700 900123",
    "DE89 3704 0044 0532 0130 00",
    "4111 1111 1111 1111",
    "81.2.69.142",
)
AT = {"&#64;": "@", "&commat;": "@", "%40": "@"}
WIDE = {code: code + 0xFEE0 for code in range(0x21, 0x7F)}
SPELLINGS = [
    *(EMAIL, PHONE, IBAN, CARD, IP),
    *(f"({value})." for value in (EMAIL, PHONE, IBAN, CARD, IP)),
    *(f"first line\n{value}\nlast line" for value in (EMAIL, PHONE, IBAN, CARD, IP)),
    *(f'{{"contact": "now:\\n{value}"}}' for value in (EMAIL, PHONE, IBAN, CARD)),
    *(f"<p>{value}</p><br>{value}" for value in (EMAIL, PHONE, IBAN, CARD, IP)),
    *(f"`{value}` and ```\n{value}\n```" for value in (EMAIL, PHONE, IBAN, CARD, IP)),
    *(value.translate(WIDE) for value in (PHONE, IBAN, CARD)),
    *(value.replace(" ", "\u00a0") for value in (PHONE, IBAN, CARD)),
    *(value.replace(" ", "\u2013") for value in (PHONE, IBAN, CARD)),
    *(value.replace(" ", "  ") for value in (PHONE, IBAN, CARD)),
    *(value.replace(" ", "") for value in (PHONE, IBAN, CARD)),
    *("\u200b".join(value) for value in (EMAIL, PHONE, CARD)),
    *("\u200d".join(value) for value in (EMAIL, PHONE, CARD)),
    *(f"\u202a{value}\u202c" for value in (EMAIL, PHONE, CARD)),
    *(value.replace("1", "1\u00ad") for value in (PHONE, IBAN, CARD)),
    *(value.translate({ord("0") + i: 0x0660 + i for i in range(10)}) for value in (PHONE, CARD)),
    f"[me](mailto:{EMAIL}?subject=hi) https://shop.example/?mail={EMAIL}&x=1",
    EMAIL.replace("@", "&#64;"),
    EMAIL.replace("@", "%40"),
    f"`{EMAIL.replace('@', '&commat;')}`",
    CARD.replace(" ", "\\u00a0"),
    EMAIL.replace("@", "\uff20"),
    EMAIL.upper(),
    IBAN.lower().replace(" ", ""),
    f"cafÃ© {EMAIL} Ã¼ber",
    f"call me at {PHONE[4:]}, my number is 07700 900123, or text me: 07700900123",
    f"lost \ufffd {EMAIL} {CARD}",
]


def shaped(text: str, number: int) -> dict[str, dict[str, Any]]:
    """A row of every shape, with the text in one of its fields."""
    rng = random.Random(number)
    plain = [" ".join("".join(rng.choices("abdeiklmnorstu", k=7)) for _ in range(9)) for _ in range(5)]

    def fill(template: Any, place: list[int]) -> Any:
        if isinstance(template, str) and template.startswith("#"):
            place[0] -= 1
            return f"{plain[int(template[1:]) % 5]} {text}" if place[0] == -1 else plain[int(template[1:]) % 5]
        if isinstance(template, dict):
            return {key: fill(value, place) for key, value in template.items()}
        return [fill(value, place) for value in template] if isinstance(template, list) else template

    def fields(template: Any) -> int:
        return json.dumps(template).count('"#')

    return {name: fill(t, [number % fields(t)]) for name, t in TEMPLATES.items()}


TEMPLATES: dict[str, Any] = {
    "messages": {
        "messages": [
            {"role": "system", "content": "#0"},
            {"role": "user", "content": "#1"},
            {"role": "assistant", "content": "#2"},
            {"role": "user", "content": "#3"},
            {"role": "tool", "content": "#4"},
            {"role": "assistant", "content": "#0"},
        ]
    },
    "sharegpt": {"conversations": [{"from": "human", "value": "#0"}, {"from": "gpt", "value": "#1"}]},
    "alpaca": {"instruction": "#0", "input": "#1", "output": "#2", "system": "#3", "history": [["#4", "#0"]]},
    "prompt_completion": {"prompt": "#0", "completion": "#1", "remark": "#2"},
    "question_answer": {"question": "#0", "context": "#1", "answer": "#2"},
    "text_label": {"text": "#0", "label": "#1"},
    "plain_text": {"text": "#0"},
    "preference": {"prompt": "#0", "chosen": "#1", "rejected": "#2"},
    "preference_implicit": {
        "chosen": "\n\nHuman: who is there\n\nAssistant: nobody",
        "rejected": "\n\nHuman: who is there\n\nAssistant: somebody",
        "note": "#0",
    },
    "kto": {"prompt": "#0", "completion": "#1", "label": False},
    "ranked": {"prompt": "#0", "responses": ["#1", "#2", "#3"], "scores": [3, 2, 1]},
    "squad": {"context": "#0", "question": "#1", "answers": {"text": ["#2"], "answer_start": [0]}},
    "multiple_choice": {"question": "#0", "choices": ["#1", "#2", "#3"], "answer": 1},
}


def write_sources(folder: Path) -> tuple[Jsonl | Csv, ...]:
    files: dict[str, list[str]] = {name: [] for name in TEMPLATES}
    # The last ones hold nothing, so that something is left when rows are dropped.
    for number, text in enumerate([*SPELLINGS, *("nothing" for _ in range(15))]):
        for name, row in shaped(text, number).items():
            files[name].append(json.dumps(row, ensure_ascii=number % 2 == 0))
    # Rows that cannot be read or used keep what they hold, and so does a dialogue in one text.
    for text in (EMAIL, PHONE, CARD, EMAIL.replace("@", "\\u0040")):
        files["messages"] += [f'{{"messages": [{{"role": "user", "content": "\\n{text}', f'"{text}"']
        files["prompt_completion"] += [json.dumps({"prompt": f"see\n{text}", "completion": ""})]
        talk = f"\n\nHuman: reach me on {text}\n\nAssistant:"
        files["preference_implicit"] += [
            json.dumps({"chosen": f"{talk} I wrote {text} down", "rejected": f"{talk} and {text} is forgotten"})
        ]
    files["prompt_completion"] += [json.dumps({"prompt": "numbers", "completion": 4111111111111111})]
    sources: list[Jsonl | Csv] = []
    for name, lines in files.items():
        (folder / f"{name}.jsonl").write_text("\n".join(lines), encoding="utf-8")
        sources.append(Jsonl(path=f"{name}.jsonl", title=name, shape=name))
    cells = [text.replace('"', '""') for text in SPELLINGS]
    (folder / "table.csv").write_text("text,label\n" + "".join(f'"{c}, said {i}","{c}"\n' for i, c in enumerate(cells)))
    return (*sources, Csv(path="table.csv", title="table"))


def read_out(folder: Path) -> Iterator[tuple[str, str]]:
    """Every text that the stage wrote, as a reader would have it."""
    for path in sorted(folder.rglob("*")):
        if path.suffix == ".parquet":
            for row in pq.read_table(path).to_pylist():
                yield path.name, json.dumps(row, ensure_ascii=False, default=str)
        elif path.is_file():
            yield path.name, path.read_text(encoding="utf-8")


def squeeze(text: str) -> str:
    """Without spaces, dashes, escapes and what cannot be seen, in small plain letters."""
    for mark, meaning in {"\\u00a0": " ", "\\u0040": "@", "\\n": " ", "\\": "", **AT}.items():
        text = text.replace(mark, meaning)
    plain = unicodedata.normalize("NFKC", text).casefold()
    digits = "".join(str(unicodedata.digit(c)) if unicodedata.category(c) == "Nd" else c for c in plain)
    return "".join(c for c in digits if unicodedata.category(c) not in ("Cf", "Zs", "Cc") and c not in "\u2013")


def test_the_check_sees_every_canary() -> None:
    for text in SPELLINGS:
        assert any(value in squeeze(text) for value in (*CANARIES.values(), "7700900123")), text


PLAIN = Patterns(kinds=("email", "phone", "iban", "card", "ip"))
MODES: list[tuple[str, AnyFinder]] = [
    *((mode, PLAIN) for mode in ("redact", "replace", "hash", "drop")),
    ("redact", Presidio()),
]


@pytest.mark.parametrize(("mode", "finder"), MODES, ids=[f"{mode}-{finder.name}" for mode, finder in MODES])
def test_no_canary_comes_through(mode: str, finder: AnyFinder, tmp_path: Path) -> None:
    if finder.name == "presidio":
        pytest.importorskip("presidio_analyzer", reason="the extra pii is not installed")
    base = DataPreparation()
    steps = tuple(Pii.model_validate({"mode": mode, "finder": finder}) if s.name == "pii" else s for s in base.cleaning)
    lenient = {"min_used_share": 0, "max_bad_share": 1, "max_duplicate_share": 1}
    gate = Gate.model_validate({"severity": {"sources_supervised": "warning"}, **lenient})
    settings = base.model_copy(update={"sources": write_sources(tmp_path), "cleaning": steps, "gate": gate})
    out = tmp_path / "out"
    rows = clean_rows(read_sources(settings.sources, "quarantine", tmp_path), settings.cleaning, KEY)
    cleaned = {row["source"] for row in rows.table.select(["source"]).to_pylist()}
    assert cleaned == {"table", *TEMPLATES} - ({"table"} if mode == "drop" else set())
    found = next(step for step in rows.steps if step.name == "pii")
    assert {kind for kind, _, _ in found.listings[0].rows} == set(CANARIES)
    rows = remove_duplicates(rows, settings.duplicates)
    rows = exclude_rejected(split_examples(rows, settings.split, settings.duplicates))
    write_quarantine(rows, out / "prepared/quarantine.parquet")
    verdict = check_quality(rows, settings.gate, settings.duplicates, settings.split, out / "report/data_docs")
    write_report(rows, verdict, out / "report/index.html")
    write_metrics(rows, verdict, out / "report/metrics.json")
    write_splits(rows, verdict, settings.split.seed, out / "prepared")
    leaks = [
        (name, kind, text[max(0, place - 60) : place + 60])
        for name, whole in read_out(out)
        for text in (squeeze(whole),)
        for kind, value in CANARIES.items()
        if (place := text.find(value)) >= 0
    ]
    assert leaks == []
    kept = sum(pq.read_table(out / f"prepared/{name}.parquet").num_rows for name in ("train", "validation", "test"))
    assert kept >= (50 if mode == "drop" else 400)
