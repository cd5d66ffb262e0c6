"""Data preparation against named rivals, as ratios in one run; every measurement is a process of its own.

* ingest, clean, exact duplicates, split, write: against a plain script that parses with json, and one that parses with
  orjson (`data_scripts/plain.py`). How many rows of the script's output are the stage's, word for word, is shown.
* near duplicates: MinHash proposals checked by exact Jaccard similarity, here and with datasketch's MinHashLSH, on the
  same texts, at most 50,000. ``wrong`` is the share of the pairs reported below the threshold, ``missed`` the share of
  the pairs of 2,000 texts, compared with all others, that was not reported; neither costs time that is measured.
* the gate: one suite on the same described rows, evaluated by the gate, by one polars query a table, and by plain Great
  Expectations on whole pandas frames; all three must find the same. On 1,000 rows it shows what does not grow.
* rows a second of each step that does the work, personal data by itself too, and near duplicates without signatures.
* the whole stage with its default params and a benchmark of 2,000 items, by its steps: near duplicates, contamination,
  triggers, gate, clusters, report and card included; seconds and peak memory of each, and growth over the sizes.

The data is the seeded sample, made larger by other words in its copies.

    pip install -e .[benchmarks]
    python benchmarks/data.py [--rows 10000 100000 1000000] [--rounds 3] [--only stage near gate steps whole]
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from flows.wiring.settings import MEMORY, TELEMETRY_OFF  # noqa: E402 - found below the root

PLAIN = Path(__file__).parent / "data_scripts/plain.py"
SEED_ROWS = 8_000
THRESHOLD, SHINGLE = 0.75, 4
MOST_TEXTS, PROBES = 50_000, 2_000
BENCHMARK_ITEMS = 2_000
# Share of the plain script's rows that must be the stage's, so that their times are of the same work.
SAME_ROWS = 0.99
_WORD = re.compile(r"[a-z]{4,}")
_DIGIT = re.compile(r"\d")
SYLLABLES = [a + b for a in "bdfgklmnprstvz" for b in ("a", "e", "i", "o", "u", "an", "el", "or")]


def make_rows(count: int) -> Iterator[bytes]:
    """So many JSON lines: the sample with its defects, then copies with half of their words exchanged."""
    import orjson

    from tasks.sample_shop.sample import generate_sample

    base = [orjson.dumps(row).decode() for row in generate_sample(min(count, SEED_ROWS), 1).table.to_pylist()]
    for number in range(count):
        copy, place = divmod(number, len(base))
        yield (vary(base[place], copy) if copy else base[place]).encode()


def vary(line: str, copy: int) -> str:
    """Another row of the same build: other words, other digits."""
    row = json.loads(line)
    for turn in row["messages"]:
        text = _WORD.sub(lambda match: exchange(match.group(), copy), turn["content"])
        turn["content"] = _DIGIT.sub(lambda match: str((int(match.group()) + copy) % 10), text)
    return json.dumps(row, ensure_ascii=False)


@lru_cache(maxsize=1_000_000)
def exchange(word: str, copy: int) -> str:
    """A word of a copy: itself or, every other time, a made-up one."""
    rng = random.Random(f"{word} {copy}")
    return word if rng.random() < 0.5 else "".join(rng.choices(SYLLABLES, k=max(2, len(word) // 3)))


# What is measured: each runs in a process of its own and returns figures.


def run_stage(source: str, out: str) -> dict[str, Any]:
    """The stage's own functions, from the file to the sealed splits; near duplicates and the gate aside."""
    from tasks.contracts.records import EXAMPLES, QUARANTINE
    from tasks.contracts.tables import write_table

    rows, _ = prepare(source, near=False)
    write_splits(rows, Path(out), write_table, EXAMPLES, QUARANTINE)
    return {"rows": rows.steps[0].rows_in}


def write_splits(rows: Any, out: Path, write_table: Callable[..., None], examples: Any, quarantine: Any) -> None:
    import pyarrow.compute as pc

    for name in ("train", "validation", "test"):
        write_table(rows.table.filter(pc.equal(rows.table["split"], name)), out / f"{name}.parquet", examples)
    write_table(rows.dropped, out / "quarantine.parquet", quarantine)


def make_settings(source: str, near: bool) -> Any:
    import logging

    from tasks.data_preparation.params import DataPreparation

    logging.disable(logging.WARNING)
    return DataPreparation.model_validate(
        {"sources": [{"name": "jsonl", "path": source, "title": "bench"}], "duplicates": {"near": near}}
    )


def prepare(source: str, near: bool) -> tuple[Any, Any]:
    from tasks.corpus.reading.ingest import read_sources
    from tasks.data_preparation.cleaning.clean import clean_rows
    from tasks.data_preparation.screening.duplicates import remove_duplicates
    from tasks.data_preparation.splitting.split import split_examples

    settings = make_settings(source, near)
    rows = read_sources(settings.sources, settings.on_bad_row, Path())
    rows = clean_rows(rows, settings.cleaning)
    rows = remove_duplicates(rows, settings.duplicates)
    return split_examples(rows, settings.split, settings.duplicates), settings


def run_plain(parser: str, source: str, out: str) -> dict[str, Any]:
    """The script, as a script."""
    subprocess.run([sys.executable, str(PLAIN), parser, source, out], check=True)
    return {}


def read_texts(source: str) -> list[str]:
    import orjson

    lines = Path(source).read_bytes().splitlines()
    return ["\n".join(turn["content"] for turn in orjson.loads(line)["messages"]) for line in lines]


def run_near(source: str, most: int) -> dict[str, Any]:
    """Pairs of texts at the threshold, every one checked."""
    from tasks.corpus.similarity.pairs import find_similar_pairs

    texts = read_texts(source)[:most]
    find_similar_pairs(texts[:100], [""] * 100, THRESHOLD, THRESHOLD, SHINGLE)
    began = time.process_time()
    found = find_similar_pairs(texts, [""] * len(texts), THRESHOLD, THRESHOLD, SHINGLE, numbers=False)
    seconds = time.process_time() - began
    return {"texts": len(texts), "seconds": seconds, **judge_pairs(texts, found.pairs)}


def judge_pairs(texts: list[str], pairs: Any) -> dict[str, Any]:
    """Shares of the pairs that are none, and of the pairs of so many rows that are missing, by exact Jaccard."""
    import numpy as np

    from tasks.corpus.similarity.probes import list_probe_pairs
    from tasks.corpus.similarity.shingles import compute_jaccard, cut_shingles, fold_texts

    shingles = cut_shingles(fold_texts(texts), SHINGLE)
    probes = np.sort(np.random.default_rng(1).choice(len(texts), min(PROBES, len(texts)), replace=False))
    every = list_probe_pairs(shingles, np.zeros(len(texts), dtype=np.int64), probes, THRESHOLD)
    truth = {tuple(pair) for pair in every.tolist()}
    return {
        "pairs": len(pairs),
        "wrong": float((compute_jaccard(shingles, pairs) < THRESHOLD).mean()) if len(pairs) else 0.0,
        "missed": len(truth - {tuple(pair) for pair in pairs.tolist()}) / max(len(truth), 1),
        "probed pairs": len(truth),
    }


def run_datasketch(source: str, most: int) -> dict[str, Any]:
    """datasketch with as many hashes: signatures in batches, a query for each text, and every answer checked."""
    import numpy as np
    from datasketch import MinHash, MinHashLSH

    from tasks.corpus.similarity.minhash import PERMUTATIONS
    from tasks.corpus.text.words import fold_text

    part = read_texts(source)[:most]
    MinHash.bulk([{b"a"}], num_perm=PERMUTATIONS, seed=1)
    began = time.process_time()
    folded = [f" {fold_text(text)} " for text in part]
    sets = [{text[i : i + SHINGLE].encode() for i in range(len(text) - SHINGLE + 1)} for text in folded]
    signatures = MinHash.bulk(sets, num_perm=PERMUTATIONS, seed=1)
    # As told to miss few; at its default weights it missed 12% of the pairs.
    lsh = MinHashLSH(threshold=THRESHOLD, num_perm=PERMUTATIONS, weights=(0.05, 0.95))
    found = set()
    for number, signature in enumerate(signatures):
        for other in lsh.query(signature):
            both = len(sets[number] & sets[other])
            if both >= THRESHOLD * (len(sets[number]) + len(sets[other]) - both):
                found.add((other, number))
        lsh.insert(number, signature)
    seconds = time.process_time() - began
    pairs = np.array(sorted(found), dtype=np.int64).reshape(-1, 2)
    return {"texts": len(part), "seconds": seconds, **judge_pairs(part, pairs)}


def run_gate(source: str) -> dict[str, Any]:
    """The suite of the gate on described rows: as the gate evaluates it, in polars, with the plain library."""
    from tasks.data_preparation.gate.expectations import list_checks
    from tasks.data_preparation.gate.gate import evaluate, make_expectations
    from tasks.data_preparation.gate.measures import describe_rows, describe_sources, describe_splits

    rows, settings = prepare(source, near=False)
    timed: dict[str, Any] = {"rows": rows.table.num_rows}

    def take(name: str, do: Callable[[], Any]) -> Any:
        began = time.process_time()
        done = do()
        timed[name] = time.process_time() - began
        return done

    described = take("describe", lambda: describe_rows(rows, settings.duplicates, texts=False))
    tables = {
        "rows": described,
        "sources": describe_sources(rows, described),
        "splits": describe_splits(rows, settings.split),
    }
    few = tables | {"rows": described.slice(0, 1000)}
    checks = list_checks(settings.gate, labelled=True, steps=[step.name for step in rows.steps])
    timed["checks"] = len(checks)
    take("polars, 1,000 rows", lambda: polars_checks(checks, few))
    broken = take("polars", lambda: polars_checks(checks, tables))
    take("import", lambda: make_expectations(checks))
    take("gate, 1,000 rows", lambda: evaluate(checks, few))
    ours = {result.check.name for result in take("gate", lambda: evaluate(checks, tables)) if not result.success}
    frames = take("to pandas", lambda: {name: table.to_pandas() for name, table in tables.items()})
    plain = take("great expectations", lambda: expectations_checks(checks, frames))
    assert broken == ours == plain, (broken, ours, plain)
    with tempfile.TemporaryDirectory() as folder:
        take("whole gate", lambda: check_all(rows, settings, Path(folder)))
    return timed


def check_all(rows: Any, settings: Any, folder: Path) -> None:
    from tasks.data_preparation.gate.gate import check_quality

    check_quality(rows, settings.gate, settings.duplicates, settings.split, folder)


def polars_checks(checks: list[Any], tables: dict[str, Any]) -> set[str]:
    """Names of the checks that do not hold; one query a table."""
    import polars as pl

    failed: set[str] = set()
    for name, table in tables.items():
        mine = {check.name: holds(check) for check in checks if check.table == name}
        frame = pl.from_arrow(table)
        assert isinstance(frame, pl.DataFrame)
        found = frame.lazy().select(**mine).collect().row(0, named=True)
        failed |= {check for check, good in found.items() if not good}
    return failed


def holds(check: Any) -> Any:
    """A check as a polars expression."""
    import polars as pl

    given = check.kwargs
    low, high = given.get("min_value"), given.get("max_value")
    if check.type == "expect_table_row_count_to_be_between":
        return pl.len() >= low
    column = pl.col(given["column"])
    if check.type == "expect_column_values_to_be_unique":
        return column.n_unique() == pl.len()
    if check.type == "expect_column_values_to_be_in_set":
        return column.is_in(given["value_set"]).all()
    if check.type == "expect_column_distinct_values_to_equal_set":
        return column.is_in(given["value_set"]).all() & (column.n_unique() == len(given["value_set"]))
    assert check.type == "expect_column_values_to_be_between", check.type
    bounds = [column >= low] if low is not None else []
    return pl.all_horizontal(*bounds, *([column <= high] if high is not None else [])).all()


def expectations_checks(checks: list[Any], frames: dict[str, Any]) -> set[str]:
    """Names of the checks that do not hold, by Great Expectations on the whole frames, as its tutorial has it."""
    import great_expectations as gx
    from great_expectations.expectations.registry import get_expectation_impl

    failed: set[str] = set()
    context = gx.get_context(mode="ephemeral")
    for name, frame in frames.items():
        batch = (
            context.data_sources.add_pandas(name).add_dataframe_asset(name).add_batch_definition_whole_dataframe(name)
        )
        suite = context.suites.add(gx.ExpectationSuite(name=name))
        for check in checks:
            if check.table == name:
                kind: Any = get_expectation_impl(check.type)
                suite.add_expectation(kind(**check.kwargs, meta={"check": check.name}))
        found = batch.get_batch({"dataframe": frame}).validate(suite)
        failed |= {each.expectation_config.meta["check"] for each in found.results if not each.success}  # type: ignore[union-attr]
    return failed


def run_whole(source: str, benchmark: str, out: str) -> dict[str, Any]:
    """The whole stage in one process, with its default params and one benchmark, see `data_scripts/whole.py`."""
    from benchmarks.data_scripts.whole import run_stage_steps

    return run_stage_steps(Path(source), Path(benchmark), Path(out))


def run_steps(source: str, warm: str) -> dict[str, Any]:
    """Seconds of the steps that do the work, each alone, once their libraries are loaded by a few rows."""
    from tasks.corpus.reading.ingest import read_sources
    from tasks.corpus.similarity.minhash import sketch
    from tasks.corpus.similarity.pairs import ROWS_PER_BATCH
    from tasks.corpus.similarity.shingles import Sides
    from tasks.data_preparation.cleaning.clean import clean_rows
    from tasks.data_preparation.screening.duplicates import (
        drop_exact_duplicates,
        find_near_duplicates,
        join_prompts_and_answers,
    )
    from tasks.data_preparation.splitting.split import split_examples

    timed: dict[str, Any] = {}

    def take(name: str, do: Callable[..., Any], *arguments: Any) -> Any:
        began = time.process_time()
        done = do(*arguments)
        timed[name] = time.process_time() - began
        return done

    def sign(sides: tuple[list[str], list[str]], size: int) -> None:
        for start in range(0, len(sides[0]), ROWS_PER_BATCH):
            part = Sides(*(side[start : start + ROWS_PER_BATCH] for side in sides), size)
            sketch(part.cut_both(range(len(part.prompts))))

    for path in (warm, source):
        settings = make_settings(path, near=True)
        near = settings.duplicates
        rows = take("read", read_sources, settings.sources, settings.on_bad_row, Path())
        timed["rows"] = rows.table.num_rows
        before = clean_rows(rows, settings.cleaning[:4])
        take("personal data", settings.cleaning[4].clean, before.table)
        rows = take("clean", clean_rows, rows, settings.cleaning)
        rows = take("exact duplicates", drop_exact_duplicates, rows)
        sides = join_prompts_and_answers(rows.table)
        take("signatures", sign, sides, near.shingle)
        take("near duplicates", find_near_duplicates, rows.table, near, False, near.probes)
        timed["near duplicates"] -= timed["signatures"]
        take("split", split_examples, rows, settings.split, near.model_copy(update={"near": False}))
    return timed


WORK: dict[str, Callable[..., dict[str, Any]]] = {
    "stage": run_stage,
    "plain": run_plain,
    "near": run_near,
    "datasketch": run_datasketch,
    "gate": run_gate,
    "whole": run_whole,
    "steps": run_steps,
}


def measure(name: str, *arguments: str | int | Path) -> dict[str, Any]:
    """Figures of one piece of work in a fresh process: its own, seconds of CPU and wall time, and peak memory in MB."""
    words = [sys.executable, str(Path(__file__).resolve()), "--work", name, *map(str, arguments)]
    began = time.monotonic()
    done = subprocess.run(words, capture_output=True, text=True, env={**os.environ, **MEMORY, **TELEMETRY_OFF})
    if done.returncode:
        raise SystemExit(f"{name} failed:\n{done.stdout}\n{done.stderr}")
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return {**figures, "wall": time.monotonic() - began}


def work(name: str, arguments: list[str]) -> None:
    figures = WORK[name](*[int(word) if word.isdigit() else word for word in arguments])
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    # A script's own process is the larger one; ours has no children.
    figures["cpu"] = sum(each.ru_utime + each.ru_stime for each in used) if name != "plain" else (
        used[1].ru_utime + used[1].ru_stime
    )  # fmt: skip
    figures["memory"] = used[1 if name == "plain" else 0].ru_maxrss / 1024
    print(json.dumps(figures))


def medians(runs: list[dict[str, Any]]) -> dict[str, Any]:
    return {key: statistics.median(run[key] for run in runs) for key in runs[0]}


def same_rows(stage: Path, plain: Path) -> float:
    """Share of the script's kept rows that the stage kept with the same words in the same split."""
    import orjson
    import pyarrow.parquet as pq

    same = total = 0
    for name in ("train", "validation", "test"):
        ours = set(pq.read_table(stage / f"{name}.parquet", columns=["id"])["id"].to_pylist())
        theirs = []
        for line in (plain / f"{name}.jsonl").read_bytes().splitlines():
            turns = [[turn["role"], turn["content"]] for turn in orjson.loads(line)["messages"]]
            theirs.append(hashlib.sha256(orjson.dumps(turns)).hexdigest()[:16])
        same += sum(each in ours for each in theirs)
        total += len(theirs)
    return same / max(total, 1)


def compare(source: Path, folder: Path, rounds: int, only: list[str], shown: int) -> dict[str, dict[str, Any]]:
    """All measurements at one size."""
    megabytes = source.stat().st_size / 1e6
    print(f"\n{shown:,} rows, {megabytes:,.0f} MB, median of {rounds}")
    taken: dict[str, dict[str, Any]] = {}
    if "stage" in only:
        places = {"stage": ("stage",), "json script": ("plain", "json"), "orjson script": ("plain", "orjson")}
        runs: dict[str, list[dict[str, Any]]] = {name: [] for name in places}
        for _ in range(rounds):
            for name, (kind, *words) in places.items():
                runs[name].append(measure(kind, *words, source, folder / name))
        taken |= {name: medians(found) for name, found in runs.items()}
        ours = taken["stage"]
        line("", "CPU s", "wall s", "peak MB", "rows/CPU s")
        for name in places:
            each = taken[name]
            line(name, each["cpu"], each["wall"], each["memory"], shown / each["cpu"])
        for name in ("json script", "orjson script"):
            line(f"  {name} / stage", taken[name]["cpu"] / ours["cpu"], taken[name]["wall"] / ours["wall"])
        line("  peak memory / file", "", "", ours["memory"] / megabytes)
        same = same_rows(folder / "stage", folder / "json script")
        line("  rows the same", same)
        if same < SAME_ROWS:
            raise SystemExit(f"{PLAIN.name} no longer does what the stage does: {same:.1%} of its rows are the stage's")
    if "near" in only:
        for name in ("near", "datasketch"):
            taken[name] = medians([measure(name, source, MOST_TEXTS) for _ in range(rounds)])
        line("near duplicates", "texts/CPU s", "wrong", "missed", "probed pairs")
        for name in ("near", "datasketch"):
            each = taken[name]
            line(name, each["texts"] / each["seconds"], each["wrong"], each["missed"], each["probed pairs"])
        ratio = taken["near"]["texts"] / taken["near"]["seconds"]
        line("  ours / datasketch", ratio / (taken["datasketch"]["texts"] / taken["datasketch"]["seconds"]))
    if "gate" in only:
        each = taken["gate"] = medians([measure("gate", source) for _ in range(rounds)])
        line(f"gate, {each['checks']:.0f} checks", "CPU s", "/ polars")
        for name in ("polars", "gate", "great expectations"):
            line(f"  {name}", each[name], each[name] / each["polars"])
        for name in ("polars, 1,000 rows", "gate, 1,000 rows", "import", "to pandas", "describe", "whole gate"):
            line(f"  {name}", each[name], "")
    if "steps" in only:
        warm = folder.with_name("warm.jsonl")
        warm.write_bytes(b"".join(row + b"\n" for row in make_rows(2_000)))
        each = taken["steps"] = medians([measure("steps", source, warm) for _ in range(rounds)])
        line("steps", "rows/CPU s")
        for name in ("read", "clean", "personal data", "exact duplicates", "signatures", "near duplicates", "split"):
            line(f"  {name}", each["rows"] / each[name])
    if "whole" in only:
        benchmark = write_benchmark(source, folder.with_name("benchmark.jsonl"))
        each = taken["whole"] = medians([measure("whole", source, benchmark, folder / "whole") for _ in range(rounds)])
        line("whole stage", "CPU s", "wall s", "peak MB", "rows/CPU s")
        line("", each["cpu"], each["wall"], each["memory"], shown / each["cpu"])
        line("  step", "CPU s", "peak MB", "kB a row")
        for name in (key.removeprefix("peak ") for key in each if key.startswith("peak ")):
            added = max(each[f"peak {name}"] - each["peak import"], 0)
            line(f"  {name}", each[name], each[f"peak {name}"], added * 1e3 / shown)
    return taken


def write_benchmark(source: Path, path: Path) -> Path:
    """A benchmark: every other item is a prompt of a row, the others are prompts that no row has."""
    every = max(sum(1 for _ in source.open("rb")) // (BENCHMARK_ITEMS // 2), 1)
    with source.open("rb") as rows, path.open("wb") as file:
        for number, row in enumerate(rows):
            if number % every == 0:
                for line_ in (row.decode(), vary(row.decode(), -1)):
                    text = next(
                        (turn["content"] for turn in json.loads(line_)["messages"] if turn["role"] == "user"), ""
                    )
                    file.write(json.dumps({"question": text}).encode() + b"\n")
    return path


def line(name: str, *values: Any) -> None:
    print(f"{name:34}" + "".join(f"{show(value):>14}" for value in values), flush=True)


def show(value: Any) -> str:
    if isinstance(value, str):
        return value
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def main() -> None:
    if sys.argv[1:2] == ["--work"]:
        work(sys.argv[2], sys.argv[3:])
        return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", default=["stage", "near", "gate", "steps", "whole"])
    settings = parser.parse_args()
    taken: dict[int, dict[str, dict[str, Any]]] = {}
    with tempfile.TemporaryDirectory() as place:
        source = Path(place) / "rows.jsonl"
        for rows in settings.rows:
            with source.open("wb") as file:
                file.writelines(row + b"\n" for row in make_rows(rows))
            taken[rows] = compare(source, Path(place) / "out", settings.rounds, settings.only, rows)
    first, last = min(taken), max(taken)
    for name in {"stage", "whole"} & set(taken[first]) if last > first else ():
        growth = taken[last][name]["cpu"] / taken[first][name]["cpu"]
        print(f"\n{name}: {last / first:.0f} x the rows, {growth:.1f} x the CPU time")


if __name__ == "__main__":
    main()
