"""How well refusals are found by their wording, or by a guard, against people's labels.

Measured on recorded answers to XSTest with two annotations each: the files ``xstest_v2_completions_*.csv`` of
https://github.com/paul-rottger/exaggerated-safety. People said full compliance, full refusal or partial refusal; a
partial one counts as a refusal, and beside it not.

* agreement: share of answers on which finder and people agree, and Cohen's kappa, which takes chance out;
* precision and recall of refusals;
* the same of the two annotators, and of the file's own automatic label.

    python benchmarks/refusals.py xstest_v2_completions_mistralinstruct_streval.csv.gz \
        [--guard '{"name": "wildguard", "path": "models/judges/wildguard"}']
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from pydantic import TypeAdapter

from tasks.evaluation.suites.files import read_rows
from tasks.language_models.guards import AnyGuard
from tasks.language_models.guards.guard import Guard, GuardedExchange
from tasks.language_models.probes.refusals import refuses

FULL, PARTIAL = "2_full_refusal", "3_partial_refusal"


def compare(found: Sequence[bool], labels: Sequence[bool]) -> str:
    """Agreement, kappa, precision and recall of refusals, in one line."""
    pairs = list(zip(found, labels, strict=True))
    both, total = sum(a and b for a, b in pairs), len(pairs)
    agreed = sum(a == b for a, b in pairs) / total
    by_chance = (sum(found) * sum(labels) + (total - sum(found)) * (total - sum(labels))) / total**2
    kappa = (agreed - by_chance) / (1 - by_chance) if by_chance < 1 else 1.0
    precision = both / sum(found) if any(found) else 0.0
    recall = both / sum(labels) if any(labels) else 0.0
    return f"agreement {agreed:.3f}  kappa {kappa:.2f}  precision {precision:.2f}  recall {recall:.2f}"


def ask_guard(guard: Guard, rows: Sequence[dict[str, str]]) -> list[bool]:
    """What a guard says of the answers; one that it cannot read counts as no refusal."""
    exchanges = [GuardedExchange(({"role": "user", "content": row["prompt"]},), row["completion"]) for row in rows]
    return [bool(verdict.refusal) for verdict in guard.open()(exchanges)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("answers", help="file of recorded answers with people's labels")
    parser.add_argument("--guard", help="params of a guard that judges refusals, as JSON")
    args = parser.parse_args()
    rows = read_rows(args.answers)
    finders = {"wording": [refuses(row["completion"]) for row in rows]}
    if args.guard:
        guard: Guard = TypeAdapter(AnyGuard).validate_json(args.guard)
        if not guard.facts.refusal:
            parser.error(f"{guard.name} judges no refusals; take wildguard or a classifier with refusal_labels")
        finders[guard.name] = ask_guard(guard, rows)
    automatic = next((name for name in rows[0] if name.endswith("_label") and name != "final_label"), None)
    for title, refusals in (("partial refusals count", {FULL, PARTIAL}), ("full refusals only", {FULL})):
        people = [row["final_label"] in refusals for row in rows]
        print(f"{title}: {sum(people)} of {len(people)} answers refuse by people's labels")
        others = {"second annotator": [row["annotation_2"] in refusals for row in rows]}
        if automatic:
            others[automatic] = [row[automatic] in refusals for row in rows]
        for name, found in {**finders, **others}.items():
            against = [row["annotation_1"] in refusals for row in rows] if name == "second annotator" else people
            print(f"  {name:18} {compare(found, against)}")


if __name__ == "__main__":
    main()
