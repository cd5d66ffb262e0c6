"""What is wrong with a value of ``params.yaml``, in the words of that file: key, found, expected, what to write.

pydantic's own sentences speak of Python ("Input should be a valid dictionary or instance of Lora").
"""

from __future__ import annotations

import difflib
import json
import re
import types
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from flows.wiring.params.hub_commit import describe_commit

Location = tuple[int | str, ...]

# Keys of earlier versions and where they stand now.
MOVED = {
    "data_preparation.annotation": "annotation",
    "data_preparation.synthesis": "synthesis",
    "evaluation.gate.must_not_fall": "evaluation.gate.must_not_worsen",
    "training_setup.checkpoint_every_steps": "training_setup.checkpoint_every.steps",
    "training_setup.evaluate_every_steps": "training_setup.evaluate_every.steps",
}
EXPECTED = "; expected "
KEYS, LIST = "keys with values", "a list"
# Type of pydantic's error to what was expected; in braces its context.
WANTED = {
    "bool_parsing": "true or false",
    "bool_type": "true or false",
    "date_from_datetime_inexact": "a date such as 2026-01-31",
    "date_from_datetime_parsing": "a date such as 2026-01-31",
    "date_parsing": "a date such as 2026-01-31",
    "date_type": "a date such as 2026-01-31",
    "dict_type": KEYS,
    "finite_number": "a finite number",
    "float_parsing": "a number",
    "float_type": "a number",
    "greater_than": "a number above {gt:g}",
    "greater_than_equal": "{ge:g} or more",
    "int_from_float": "a whole number",
    "int_parsing": "a whole number",
    "int_parsing_size": "a whole number of at most 4,300 digits",
    "int_type": "a whole number",
    "invalid_key": "a text as key",
    "less_than": "a number below {lt:g}",
    "less_than_equal": "{le:g} or less",
    "list_type": LIST,
    "mapping_type": KEYS,
    "model_attributes_type": KEYS,
    "model_type": KEYS,
    "multiple_of": "a multiple of {multiple_of:g}",
    "none_required": "null",
    "path_type": "a path",
    "string_sub_type": "text",
    "string_too_long": "text of at most {max_length} characters",
    "string_too_short": "text of at least {min_length} character(s)",
    "string_type": "text",
    "string_unicode": "text in UTF-8",
    "too_long": "a list of at most {max_length}",
    "too_short": "a list of at least {min_length}",
    "tuple_type": LIST,
}
# What a pattern stands for.
PATTERNS = {
    r"^[0-9a-f]{40}$": "a commit, 40 hex digits",
    "^[0-9a-f]{64}$": "a SHA-256, 64 hex digits",
    "^https?://": "a URL that begins with http:// or https://",
    "^[^/]*$": "text without a slash",
    r"\.py$": "the path of a .py file",
}
# Ending of a path to the kinds of source or model that read such a file.
ENDINGS = {".csv": "csv", ".tsv": "csv", ".jsonl": "jsonl", ".json": "jsonl", ".parquet": "parquet", ".txt": "text"} | {
    ".gguf": "gguf"
}
SHOWN_PLACES, SHOWN_KEYS = 3, 6


def describe(root: type[BaseModel], values: Any, problem: Any) -> str:
    """One line for one pydantic error: key, what was found, what is expected.

    Args:
        root: The model that was validated.
        values: What the file holds.
        problem: One of `ValidationError.errors`.
    """
    keys = list_keys(values, problem["loc"])
    key = ".".join(keys) or "(top)"
    found, kind, context = problem["input"], problem["type"], problem.get("ctx", {})
    if key in MOVED:
        return f'{key}: this is now "{MOVED[key]}", counted from the top level; write it there'
    if kind == "extra_forbidden":
        return f"{key}: unknown key; {suggest_key(root, problem['loc'], keys)}"
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        return f"{key}: {describe_name(root, problem['loc'], context.get('tag'))}"
    if keys[-1:] == ["revision"] and kind in ("missing", "string_pattern_mismatch"):
        revision = "main" if kind == "missing" else str(found)
        said = "missing" if kind == "missing" else f"found {show(found)}"
        return f"{key}: {said}{EXPECTED}{describe_commit(section_of(values, problem['loc']), revision)}"
    if kind == "missing":
        return f"{key}: missing{EXPECTED}{describe_field(root, problem['loc'])}"
    if kind in ("value_error", "assertion_error"):
        return f"{key}: {problem['msg'].removeprefix('Value error, ').removeprefix('Assertion failed, ')}"
    wanted = expect(kind, context, found)
    if kind == "string_type" and isinstance(found, bool | int | float):
        wanted += ", in quotes where YAML takes it for something else"
    if wanted in (KEYS, LIST):
        wanted += suggest_spelling(root, problem["loc"], found, wanted)
    shown = KEYS if isinstance(found, dict) and found else LIST if isinstance(found, list) else show(found)
    return f"{key}: found {shown}{EXPECTED}{wanted}"


def expect(kind: str, context: Mapping[str, Any], found: Any) -> str:
    """What pydantic expected, in plain words."""
    if kind in ("too_long", "too_short") and isinstance(found, Mapping):
        return WANTED[kind].format(**context).replace("a list of", "keys with values,")
    if kind in WANTED:
        return WANTED[kind].format(**context)
    if kind == "literal_error":
        choices = re.findall(r"'([^']*)'|([^\s',]+)(?=,|$| or )", context["expected"].replace(" or ", ", "))
        names = [quoted or bare for quoted, bare in choices]
        near = difflib.get_close_matches(str(found), names, 1)
        listed = f"{', '.join(names[:-1])} or {names[-1]}" if len(names) > 1 else names[0]
        return listed + (f' (did you mean "{near[0]}"?)' if near else "")
    if kind == "string_pattern_mismatch":
        pattern = context["pattern"]
        return PATTERNS.get(pattern, f"text of the form {pattern}")
    if kind.startswith("date"):
        return WANTED["date_type"]
    return f"another value ({kind.replace('_', ' ')})"


def show(value: Any) -> str:
    """A value as YAML has it."""
    if isinstance(value, float):
        return str(value)
    try:
        return json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError):
        return repr(value)


def describe_name(root: type[BaseModel], location: Location, tag: Any) -> str:
    """A ``name`` that none of the choices has, or that is not given."""
    names = valid_names(root, location)
    near = difflib.get_close_matches(str(tag), names, 1)
    found = f'unknown name "{tag}"' if tag else 'no "name"'
    hint = f'did you mean "{near[0]}"? ' if near else ""
    return f"{found}; {hint}valid names: {', '.join(names)}"


def describe_field(root: type[BaseModel], location: Location) -> str:
    """What a key is for that has to be given."""
    for model in models_at(root, location[:-1]):
        field = model.model_fields.get(str(location[-1]))
        if field and field.description:
            return field.description
    return "this key"


def suggest_key(root: type[BaseModel], location: Location, keys: Sequence[str]) -> str:
    """The nearest key of the same section, the section that has this key, or all keys of this one."""
    name, allowed = keys[-1], known_keys(root, location[:-1])
    places = [place for place, last in list_places(root) if last == name]
    here = ".".join(key for key in keys if not key.isdigit())
    if here in places:
        return f"others have it, {location[-2]} does not; take it out, or write the section whole, with its name"
    near = difflib.get_close_matches(name, allowed, 1)
    if near and (not places or difflib.SequenceMatcher(None, name, near[0]).ratio() > 0.8):
        return f'did you mean "{near[0]}"?'
    if not places:
        everywhere = {last for _, last in list_places(root)}
        elsewhere = difflib.get_close_matches(name, everywhere, 1, 0.85)
        places = [place for place, last in list_places(root) if last in elsewhere]
    if places:
        # Those of the same section first.
        places.sort(key=lambda place: place.partition(".")[0] != keys[0])
        listed = " or ".join(places[:SHOWN_PLACES]) + (", for example" if len(places) > SHOWN_PLACES else "")
        return f"there is {listed}"
    return f"known keys: {', '.join(allowed)}"


def list_places(root: type[BaseModel]) -> list[tuple[str, str]]:
    """Every key with its place, such as ``training_setup.method.rank``; choices of one union count once."""
    found: dict[str, str] = {}
    waiting: list[tuple[type[BaseModel], str, tuple[type[BaseModel], ...]]] = [(root, "", ())]
    while waiting:
        model, prefix, above = waiting.pop(0)
        for name, field in model.model_fields.items():
            found.setdefault(f"{prefix}{name}", name)
            waiting += [
                (inner, f"{prefix}{name}.", (*above, model))
                for inner in models_in(field.annotation)
                if inner not in above
            ]
    return list(found.items())


def suggest_spelling(root: type[BaseModel], location: Location, found: Any, wanted: str) -> str:
    """How a name or a path that stands alone is written in full: ``{name: lora}``."""
    names, known = valid_names(root, location), known_keys(root, location)
    if not names:
        return f": {', '.join(known)}" if wanted == KEYS and 0 < len(known) <= SHOWN_KEYS else ""
    if not isinstance(found, str):
        return ""
    near = difflib.get_close_matches(found, names, 1)
    ending = Path(found).suffix if "." in found else ""
    kind = ENDINGS.get(ending) if ENDINGS.get(ending) in names else None
    if kind is None and "/" in found and "folder" in names:
        kind = "folder"
    if near:
        spelling = spell(root, location, near[0])
    elif kind:
        spelling = f"{{name: {kind}, path: {found}}}"
    else:
        return f"; valid names: {', '.join(names)}"
    return f": write {spelling}" if wanted == KEYS else f": write [{spelling}]"


def spell(root: type[BaseModel], location: Location, name: str) -> str:
    """A choice with the keys that it has to have."""
    model = next(model for model in models_at(root, location) if name in name_values(model))
    needed = [key for key, field in model.model_fields.items() if field.is_required() and key != "name"]
    return "{" + ", ".join([f"name: {name}", *(f"{key}: ..." for key in needed)]) + "}"


def join_choices(lines: Iterable[str]) -> list[str]:
    """One line for the kinds of value that a key may have, where pydantic has a problem for each."""
    told: dict[str, list[str]] = {}
    for line in lines:
        head, _, wanted = line.partition(EXPECTED)
        told.setdefault(head, [])
        if wanted and wanted not in told[head]:
            told[head].append(wanted)
    return [head + (EXPECTED + " or ".join(wanted) if wanted else "") for head, wanted in told.items()]


def section_of(values: Any, location: Location) -> Mapping[str, Any]:
    """The values beside the one at a place."""
    for part in location[:-1]:
        if isinstance(part, int):
            values = values[part] if isinstance(values, list) and part < len(values) else {}
        elif isinstance(values, Mapping) and part in values and values.get("name") != part:
            values = values[part]
    return values if isinstance(values, Mapping) else {}


def list_keys(values: Any, location: Location) -> list[str]:
    """The keys as the file has them, without what pydantic adds: names of plug-ins, validators, members of unions."""
    keys = []
    for at, part in enumerate(location):
        inner = values.get(part) if isinstance(values, Mapping) else None
        if isinstance(values, list) and isinstance(part, int):
            inner = values[part] if part < len(values) else None
        elif (
            not isinstance(values, Mapping)
            or "[" in str(part)
            or (part not in values and (values.get("name") == part or at + 1 < len(location)))
        ):
            continue
        keys.append(str(part))
        values = inner
    return keys


def known_keys(root: type[BaseModel], location: Location) -> list[str]:
    """The keys a section or plug-in at this place may hold."""
    return sorted({name for model in models_at(root, location) for name in model.model_fields})


def valid_names(root: type[BaseModel], location: Location) -> list[str]:
    """The names that a choice at this place may have."""
    return sorted({str(value) for model in models_at(root, location) for value in name_values(model)})


def models_at(root: type[BaseModel], location: Location) -> list[type[BaseModel]]:
    """The sections that may stand at a place: one, or the members of a union."""
    found = [root]
    for part in location:
        inner: list[type[BaseModel]] = []
        for model in found:
            if isinstance(part, str) and part in model.model_fields:
                inner += list(models_in(model.model_fields[part].annotation))
        if not inner:
            named = [model for model in found if part in name_values(model)]
            leaf = any(isinstance(part, str) and part in model.model_fields for model in found)
            inner = named or ([] if leaf else found)
        found = inner
    return found


def name_values(model: type[BaseModel]) -> tuple[Any, ...]:
    field = model.model_fields.get("name")
    return () if field is None else typing.get_args(field.annotation)


def models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """The sections that a type names, however deep in unions and lists."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in typing.get_args(annotation):
        if isinstance(inner, type | types.UnionType) or typing.get_origin(inner):
            yield from models_in(inner)
