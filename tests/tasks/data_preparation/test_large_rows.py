"""A very long row beside normal ones goes through every step of the preparation in bounded memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

FORMS = ("no spaces", "one line", "lines", "spaces", "one word", "digits", "numbers", "cjk")
MIB = 2**20

# Prints by how many bytes the steps raised the peak of memory above that of the same steps on short rows.
RUN = """
import contextlib, json, random, resource, sys
from pathlib import Path

form, count, folder = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])

from tasks.data_preparation.cleaning.clean import NoRowLeft, clean_rows
from tasks.data_preparation.cleaning.steps.c4 import C4
from tasks.data_preparation.cleaning.steps.echo import Echo
from tasks.data_preparation.output.sizes import measure_sizes
from tasks.data_preparation.params import DataPreparation
from tasks.data_preparation.screening.clusters import write_clusters
from tasks.data_preparation.screening.contamination import remove_contamination
from tasks.data_preparation.screening.duplicates import remove_duplicates
from tasks.data_preparation.screening.params import Contamination
from tasks.data_preparation.screening.triggers import find_triggers
from tasks.data_preparation.splitting.split import split_examples
from tests.conversations import make, pair

rng = random.Random(1)
words = ["".join(rng.choices("abcdefghijklmnop", k=rng.randint(2, 8))) for _ in range(50_000)]
normal = [" ".join(rng.choices(words, k=20)) for _ in range(50)]
long = {
    "no spaces": lambda: "".join(rng.choices("abcdefgh", k=count)),
    "spaces": lambda: " " * count,
    "one word": lambda: "word " * (count // 5),
    "one line": lambda: " ".join(rng.choices(words, k=count // 6)),
    "lines": lambda: "\\n".join(" ".join(rng.choices(words, k=10)) for _ in range(count // 60)),
    "cjk": lambda: "".join(map(chr, rng.choices(range(0x4E00, 0x9000), k=count // 3))),
    "digits": lambda: "".join(rng.choices("0123456789", k=count)),
    "numbers": lambda: " ".join(map(str, rng.choices(range(10**6), k=count // 7))),
}[form]()
(folder / "benchmark.jsonl").write_text(
    "\\n".join(json.dumps({"question": text, "answer": "x"}) for text in [*normal[:5], long[:100_000]])
)
benchmark = {"path": "benchmark.jsonl", "title": "b"}
contamination = Contamination.model_validate({"benchmarks": [benchmark], "action": "report"})
names = "unicode controls html whitespace pii chunk missing length repetition quality c4 echo refusals labels".split()
settings = DataPreparation.model_validate({"cleaning": [{"name": name} for name in names]})
steps = [*settings.cleaning, Echo(similarity=0.8), C4(span=3, curly=False, terminal=False)]


def prepare(conversations):
    rows = make(*conversations, labels=[f"label {n % 3}" for n in range(len(conversations))])
    for step in steps:
        print(step.name, file=sys.stderr)
        # Each step by itself: what one drops, the next must not be spared.
        with contextlib.suppress(NoRowLeft):
            clean_rows(rows, [step], None)
    print("screening", file=sys.stderr)
    rows = remove_duplicates(rows, settings.duplicates)
    rows = remove_contamination(rows, contamination, folder)
    rows = find_triggers(rows, settings.triggers)
    rows = split_examples(rows, settings.split, settings.duplicates)
    write_clusters(rows, folder / "clusters")
    measure_sizes(rows.table)
    assert rows.table.num_rows > 40


def peak():
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


short = [pair(text, f"answer {n % 5}") for n, text in enumerate(normal)]
prepare(short)
before = peak()
prepare([pair(long, long), *short])
prepare([[("assistant", long)], *[[("assistant", text)] for text in normal]])
print(peak() - before)
"""

CHUNK = """
import random, resource, sys

from tasks.data_preparation.cleaning.clean import clean_rows
from tasks.data_preparation.cleaning.steps.chunk import Chunk
from tests.conversations import make

texts, characters = int(sys.argv[1]), int(sys.argv[2])
rng = random.Random(1)
words = ["".join(rng.choices("abcdefghijklmnop", k=rng.randint(2, 8))) for _ in range(5_000)]


def write(size):
    return "".join(" ".join(rng.choices(words, k=12)) + rng.choice([". ", ".\\n\\n"]) for _ in range(size // 73))[:size]


def peak():
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


clean_rows(make([("assistant", write(20_000))]), [Chunk(overlap=200)], None)
rows = make(*([("assistant", write(characters))] for _ in range(texts)))
before = peak()
done = clean_rows(rows, [Chunk(overlap=200)], None)
assert done.table.num_rows > texts * characters // 4000
print(peak() - before)
"""


def run(script: str, *arguments: object) -> int:
    """The figure that a script prints in a process of its own."""
    command = [sys.executable, "-c", script, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, (done.returncode, done.stderr[-3000:])
    return int(done.stdout.splitlines()[-1])


def most(mebibytes: int, times: int) -> int:
    """Bytes that a row whose prompt and answer have this size may take; the first are for libraries and short rows."""
    return 64 * MIB + times * 2 * mebibytes * MIB


@pytest.mark.parametrize(("form", "mebibytes"), [("no spaces", 2), ("one line", 1)])
def test_memory_is_a_small_multiple_of_a_long_row(form: str, mebibytes: int, tmp_path: Path) -> None:
    assert run(RUN, form, mebibytes * MIB, tmp_path) < most(mebibytes, 40)


# In scripts without spaces every character is a word.
@pytest.mark.slow
@pytest.mark.parametrize(("form", "mebibytes"), [*((form, 4) for form in FORMS), ("one line", 16)])
def test_a_row_of_many_mebibytes_goes_through_every_step(form: str, mebibytes: int, tmp_path: Path) -> None:
    assert run(RUN, form, mebibytes * MIB, tmp_path) < most(mebibytes, 60)


@pytest.mark.parametrize(("texts", "characters"), [(1, 3_200_000), (15, 800_000)])
def test_books_are_chunked_in_memory_of_a_few_times_their_text(texts: int, characters: int) -> None:
    assert run(CHUNK, texts, characters) < 10 * texts * characters
