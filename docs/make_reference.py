"""Write the pages of ``docs/reference``: every param from its description, every command from its ``--help``.

``python docs/make_reference.py`` after a change of either; ``--check`` says whether the pages are up to date.
"""

from __future__ import annotations

import subprocess
import sys
import types
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, TypeAdapter
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

ROOT = Path(__file__).resolve().parent.parent
REFERENCE = ROOT / "docs/reference"
PARAMS_HEAD = """\
# Params

Every key of `params.yaml`, its type, its default and what it means. `heptune params` checks your file and prints it
with its defaults; `heptune params --schema` prints the JSON schema, which editors complete from.

Where a key takes one of several choices, each choice is named by `name` and has keys of its own:
`method: {name: lora, rank: 16}`.
"""
COMBINATIONS_HEAD = """\
# What goes together

Of the keys of `training_setup`, from what each choice says of itself (`can`). The plan refuses what says no here, all
of it at once, each with what to write instead. Kinds of choice that have no table go together whatever they are; what
depends on the model, the machine or numbers is refused by the choice itself.
"""
METHODS_HEAD = """\
# Methods

What `training_setup.method` may be, as each is without any other key, over the embedded base (`models/base`, 10,059,840
weights). Which one is good for what: [choosing](../choosing.md#the-method); their keys: [params](params.md).
"""
# Facts of methods, as columns.
METHOD_FACTS = {
    "frozen_base": "leaves the base as it is",
    "quantized_base": "over NF4 and int8",
    "checkpointing": "recomputed activations",
    "reads_gradients": "reads gradients",
    "packing": "packed rows",
    "merging": "merges",
    "low_rank": "pairs A and B (LoRA+)",
}
# Signs that a bound is written with, by the attribute of pydantic's metadata.
BOUNDS = {"gt": ">", "ge": "≥", "lt": "<", "le": "≤"}


def main() -> int:
    sys.path.insert(0, str(ROOT))
    pages = {
        "params.md": describe_params(),
        "commands.md": describe_commands(),
        "combinations.md": describe_combinations(),
        "methods.md": describe_methods(),
    }
    if "--check" in sys.argv[1:]:
        stale = [name for name, text in pages.items() if not is_current(REFERENCE / name, text)]
        if stale:
            print(
                f"docs/reference: {', '.join(stale)} not up to date; run python docs/make_reference.py", file=sys.stderr
            )
        return bool(stale)
    for name, text in pages.items():
        (REFERENCE / name).write_text(text, encoding="utf-8")
    return 0


def is_current(path: Path, text: str) -> bool:
    return path.is_file() and path.read_text(encoding="utf-8") == text


def describe_combinations() -> str:
    """A table for every two kinds of choice that have rules, and the kinds that go with all."""
    from tasks.training.combinations import CHOICES, RULES, find_reasons, name_of

    parts, pairs = [COMBINATIONS_HEAD], list(dict.fromkeys(rule.kinds for rule in RULES))
    for first, second in pairs:
        parts.append(heading(2, f"`{first}` and `{second}`"))
        reasons: dict[str, int] = {}
        cells: dict[tuple[str, str], str] = {}
        for one in CHOICES[first]:
            for other in CHOICES[second]:
                found = find_reasons((first, second), one, other)
                numbers = [reasons.setdefault(reason, len(reasons) + 1) for reason in found]
                cells[name_of(one), name_of(other)] = f"no ({', '.join(map(str, numbers))})" if numbers else "yes"
        rows, columns = ([name_of(choice) for choice in CHOICES[kind]] for kind in (first, second))
        # Choices that are alike share a column or a row.
        across = group([(name, tuple(cells[row, name] for row in rows)) for name in columns])
        down = group([(name, tuple(cells[name, column] for column in columns)) for name in rows])
        lines = [f"| | {' | '.join(label(names) for names in across)} |", "|---" * (len(across) + 1) + "|"]
        lines += [f"| {label(names)} | {' | '.join(cells[names[0], one[0]] for one in across)} |" for names in down]
        notes = [f"{number}. {reason[0].upper()}{reason[1:]}." for reason, number in reasons.items()]
        parts.append("\n".join([*lines, "", *notes]).rstrip() + "\n")
    return "\n".join(parts)


def group(named: list[tuple[str, tuple[str, ...]]]) -> list[list[str]]:
    """Names that have the same cells, together."""
    found: dict[tuple[str, ...], list[str]] = {}
    for name, cells in named:
        found.setdefault(cells, []).append(name)
    return list(found.values())


def label(names: list[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def describe_methods() -> str:
    """What each method trains of the embedded base as it is by default, and what it can."""
    from dataclasses import fields

    from tasks.language_models.folder.headers import read_shape_of
    from tasks.model_initialisation.checks import check_folder
    from tasks.training.methods import METHODS
    from tasks.training.methods.method import Can
    from tasks.training.objectives import OBJECTIVES

    base = check_folder(ROOT / "models/base")
    shape = read_shape_of(base.config, base.weights.shapes)
    facts = [fact.name for fact in fields(Can)]
    lines = [
        METHODS_HEAD,
        "| method | trained weights | share | beside the base, MB | learning rates | "
        + " | ".join(METHOD_FACTS[fact] for fact in facts)
        + " |",
    ]
    lines.append("|---" * (5 + len(facts)) + "|")
    for kind in METHODS:
        method = kind().resolve(shape)
        trained = method.trainable(shape)
        share = f"{100 * trained / shape.parameters:.3g}%"
        beside = f"{method.own_bytes(shape) / 1e6:.3g}"
        rates = " to ".join(f"{rate:.1e}" for rate in method.usual_rates(shape))
        cells = " | ".join("yes" if getattr(method.can, fact) else "no" for fact in facts)
        title = method.describe().split(" (")[0]
        lines.append(f"| `{method.name}`: {title} | {trained:,} | {share} | {beside} | {rates} | {cells} |")
    shares: dict[float, list[str]] = {}
    for objective in OBJECTIVES:
        if objective.rate_share != 1:
            shares.setdefault(objective.rate_share, []).append(f"`{objective().name}`")
    others = "; ".join(f"{share:g} of them: {', '.join(names)}" for share, names in shares.items())
    lines.append(f"\nOutside the learning rates the plan warns. They are for AdamW and supervised learning; {others}.")
    return "\n".join(lines) + "\n"


def describe_commands() -> str:
    command = [sys.executable, "-m", "typer", "flows.commands.command_line", "utils", "docs", "--name", "heptune"]
    done = subprocess.run([*command, "--title", "Commands"], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.strip() + "\n"


def describe_params() -> str:
    """One chapter a section; what stands in several places is described at the first."""
    from flows.wiring.params import Params

    parts, seen = [PARAMS_HEAD], set[type[BaseModel]]()
    for name, field in Params.model_fields.items():
        parts += describe_key(name, field, seen, level=2)
    return "\n".join(parts)


def describe_key(path: str, field: FieldInfo, seen: set[type[BaseModel]], level: int) -> Iterator[str]:
    """What a key may hold: a section, or one of several choices, whose common keys are told once."""
    sections = list(dict.fromkeys(sections_in(field.annotation)))
    choices = [one for one in sections if is_choice(one)]
    known = [one for one in choices if one in seen]
    common: dict[str, str] = {}
    if len(choices) > len(known):
        yield heading(level, f"`{path}`: one of {', '.join(f'`{choice_name(one)}`' for one in choices)}")
        common = common_rows(choices)
        if common:
            yield table("Keys of all of them, where nothing else is said:", common)
    if known:
        yield f"`{path}`: {', '.join(f'`{choice_name(one)}`' for one in known)} as described above.\n"
    for one in sections:
        if one not in seen:
            yield from describe_section(path, one, common, seen, level + (len(choices) > 0))


def describe_section(
    path: str, section: type[BaseModel], common: dict[str, str], seen: set[type[BaseModel]], level: int
) -> Iterator[str]:
    """A table of the keys that are not in ``common``, then what is below them."""
    seen.add(section)
    yield heading(level, f"`{choice_name(section)}`" if is_choice(section) else f"`{path}`")
    rows = describe_rows(section)
    own = {key: row for key, row in rows.items() if common.get(key) != row}
    missing = [f"`{key}`" for key in common if key not in rows]
    summary = " ".join((section.__doc__ or "").strip().partition("\n\n")[0].split())
    yield table(summary + (f" Without {', '.join(missing)}." if missing else ""), own)
    for key, field in section.model_fields.items():
        yield from describe_key(f"{path}.{key}", field, seen, level + 1)


def common_rows(choices: list[type[BaseModel]]) -> dict[str, str]:
    """Rows that more than half of the choices, and at least three, have alike."""
    counts = Counter((key, row) for one in choices for key, row in describe_rows(one).items())
    return {key: row for (key, row), count in counts.items() if count > max(2, len(choices) / 2)}


def describe_rows(section: type[BaseModel]) -> dict[str, str]:
    """Per key a line of a table: type, default, meaning."""
    rows = {}
    for key, field in section.model_fields.items():
        if key == "name" and is_choice(section):
            continue
        meaning = cell(field.description or "")
        rows[key] = f"| `{key}` | {show_type(field)} | {show_default(field)} | {meaning} |"
    return rows


def heading(level: int, text: str) -> str:
    return f"{'#' * min(level, 6)} {text}\n"


def table(lead: str, rows: dict[str, str]) -> str:
    lines = ["| key | type | default | meaning |", "|---|---|---|---|", *rows.values()] if rows else []
    return "\n".join([lead, "", *lines]).strip() + "\n"


def sections_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """The sections that a type names, however deep in unions, lists and annotations."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from sections_in(inner)


def is_choice(section: type[BaseModel]) -> bool:
    name = section.model_fields.get("name")
    return name is not None and get_origin(name.annotation) is Literal


def choice_name(section: type[BaseModel]) -> str:
    return str(get_args(section.model_fields["name"].annotation)[0])


def show_type(field: FieldInfo) -> str:
    shown = name_type(field.annotation)
    bounds = [
        f"{sign} {getattr(rule, attribute):g}"
        for rule in field.metadata
        for attribute, sign in BOUNDS.items()
        if getattr(rule, attribute, None) is not None
    ]
    return cell(", ".join([shown, *bounds]))


def name_type(annotation: Any) -> str:
    """A type in YAML's words."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if annotation is type(None):
        return "null"
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in arguments)
    if origin in (Union, types.UnionType):
        names = dict.fromkeys(name_type(one) for one in arguments)
        choices = [one for one in names if one != "null"]
        return " or ".join([", ".join(choices), "null"] if "null" in names else choices)
    if origin in (list, tuple, frozenset, set):
        return f"list of {name_type(arguments[0])}"
    if origin is dict or annotation is dict:
        return f"{name_type(arguments[0])}: {name_type(arguments[1])}" if arguments else "keys with values"
    if hasattr(annotation, "__metadata__"):
        return name_type(arguments[0])
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return f"`{choice_name(annotation)}`" if is_choice(annotation) else "section"
    return {str: "text", int: "integer", float: "number", bool: "true, false", Path: "path", Any: "any"}.get(
        annotation, getattr(annotation, "__name__", str(annotation))
    )


def show_default(field: FieldInfo) -> str:
    """The default as YAML writes it; sections are only named, since their keys have defaults of their own."""
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if value is PydanticUndefined:
        return ""
    if isinstance(value, BaseModel):
        return f"`{{name: {choice_name(type(value))}}}`" if is_choice(type(value)) else "below"
    if isinstance(value, (tuple, list)) and any(sections_in(field.annotation)):
        return ", ".join(f"`{item.name}`" if hasattr(item, "name") else "below" for item in value) or "none"
    plain = TypeAdapter(field.annotation).dump_python(value, mode="json")
    written = yaml.safe_dump(plain, default_flow_style=True, width=10_000, allow_unicode=True)
    return cell("`" + written.removesuffix("...\n").strip() + "`")


def cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    sys.exit(main())
