"""Models by what a person calls them: the base, what was just trained, a registered version, or a folder."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from flows.wiring import artifacts
from flows.wiring.params import Params, read_params
from flows.wiring.releases.source import MODEL
from tasks.contracts.errors import PipelineError
from tasks.contracts.manifest import NAME, hash_file, hash_folder

if TYPE_CHECKING:
    from tasks.evaluation.asking.endpoint import AnswerEndpoint
    from tasks.gateway.decodings.emulated import EmulatedDecoding

if TYPE_CHECKING:
    from tasks.language_models.writers import AnyWriter

ALIASES = ("champion", "challenger", "previous")
KEY = "HEPTUNE_ENDPOINT_KEY"
EXPECTED = (
    f"expected base, tuned, emulated, {', '.join(ALIASES)}, the number of a registered version, the run that made "
    "one, or a model folder"
)
# The beginning of an id of MLflow or Prefect.
RUN = re.compile(r"(?=.*\d)[0-9a-f]{8}[0-9a-f-]*")


@dataclass(frozen=True)
class NamedModel:
    """A model that can be opened.

    Attributes:
        name: What it is called on the page.
        folder: Where its tokenizer and configuration are; for the base the folder that model initialisation wrote.
        identity: Hash of its files; empty for a folder without a manifest.
        load: Gives the model and its tokenizer.
        asked: What a person called it.
        commit: Git commit that a registered version was made at; empty where it is not known.
    """

    name: str
    folder: Path
    identity: str
    load: Callable[[], tuple[Any, Any]]
    asked: str = ""
    commit: str = ""


@dataclass(frozen=True)
class NamedWriter:
    """A mixture of models, or another writer.

    Attributes:
        name: What it is called on the page.
        writer: What is asked.
    """

    name: str
    writer: AnyWriter


def read_writer(asked: str, values: Any) -> NamedWriter:
    """A model that is only asked, by its params, as a judge or a teacher has them.

    Args:
        asked: The params as a person wrote them.
        values: The same, read.

    Raises:
        PipelineError: They are wrong.
    """
    from pydantic import TypeAdapter, ValidationError

    from tasks.language_models.writers import AnyWriter

    try:
        writer: AnyWriter = TypeAdapter(AnyWriter).validate_python(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise PipelineError(
            f"{asked}: {place}: {first['msg']}; expected a writer, such as {{name: openai, url: ..., model: ...}}"
        ) from error

    return NamedWriter(writer.describe(), writer)


@dataclass(frozen=True)
class NamedEndpoint:
    """A model behind a URL.

    Attributes:
        name: What it is called on the page.
        endpoint: The model.
    """

    name: str
    endpoint: AnswerEndpoint


def find_endpoint(asked: str) -> NamedEndpoint | None:
    """The model behind a URL that a person means by ``http://127.0.0.1:8000/v1#MODEL``; None for anything else.

    A key is taken from ``HEPTUNE_ENDPOINT_KEY``.

    Raises:
        PipelineError: The URL names no model.
    """
    from tasks.evaluation.asking.endpoint import AnswerEndpoint

    if not asked.startswith(("http://", "https://")):
        return None
    url, _, model = asked.partition("#")
    if not model:
        raise PipelineError(f'"{asked}": which of its models? write it after the URL: {url}#MODEL')
    return NamedEndpoint(f"{model} at {urlsplit(url).netloc}", AnswerEndpoint(url, model, os.environ.get(KEY, "")))


def find_model(asked: str, precision: Literal["fp32", "bf16"]) -> NamedModel:
    """The model that a person means; nothing is loaded yet.

    Args:
        asked: ``base``, ``tuned``, ``emulated``, an alias or number (``7`` or ``v7``) of a registered version, a run by
            the id (or its first 8 digits) that MLflow or Prefect has for it, or a folder.
        precision: Number format that a release's weights are read in.

    Raises:
        PipelineError: There is none.
    """
    from tasks.evaluation.outcomes import load_folder
    from tasks.language_models.folder.model_folder import load_tokenizer, resolve_model
    from tasks.training.released import find_base
    from tasks.training.tuned import load_tuned

    if asked in ("base", "tuned"):
        for folder in (artifacts.INITIAL, *([artifacts.TUNED] if asked == "tuned" else [])):
            if not (folder / NAME).is_file():
                raise PipelineError(f"{folder}: missing or not complete; `heptune run` makes it")
        initial, tuned = artifacts.INITIAL, artifacts.TUNED
        identity = hash_file(initial / NAME)
        if asked == "tuned":
            return NamedModel(
                asked, initial, f"{identity} {hash_file(tuned / NAME)}", lambda: load_tuned(initial, tuned), asked
            )
        return NamedModel(
            asked,
            initial,
            identity,
            lambda: (load_folder(resolve_model(initial), precision)[0], load_tokenizer(initial)),
            asked,
        )
    if asked == "emulated":
        return open_emulated(find_model("tuned", precision), precision)
    number = re.fullmatch(r"v?(\d+)", asked)
    if asked in ALIASES or number:
        return open_version(asked if number is None else None, int(number[1]) if number else None, precision)
    place = Path(asked)
    if (find_base(place) / "config.json").is_file():
        return NamedModel(asked, place, "", lambda: load_folder(place, precision), asked)
    if RUN.fullmatch(asked) and not place.exists():
        return open_version(None, _find_version_of(asked), precision)
    found = "no config.json there" if place.is_dir() else "no such folder"
    raise PipelineError(f'"{asked}": {found}; {EXPECTED}')


def emulates(params: Params) -> EmulatedDecoding | None:
    """How the gateway's params emulate a tuned large model; None where they do not."""
    from tasks.gateway.decodings.emulated import EmulatedDecoding

    decoding = params.deployment.gateway.engine.decoding
    return decoding if isinstance(decoding, EmulatedDecoding) else None


def open_emulated(tuned: NamedModel, precision: Literal["fp32", "bf16"]) -> NamedModel:
    """A large base steered by what training changed in the small one, as the gateway's params say.

    Args:
        tuned: What was just trained.
        precision: Number format that the other two are read in.

    Raises:
        PipelineError: The params do not say, or a model is missing. Opening raises it for another vocabulary.
    """
    from tasks.evaluation.outcomes import load_folder
    from tasks.language_models.generation import count_virtual_tokens

    decoding = emulates(read_params())
    if decoding is None:
        raise PipelineError(
            '"emulated": deployment.gateway.engine.decoding says how, and is another; set it to {name: emulated, '
            "large: models/large, small: models/base}"
        )
    for key, folder in (("large", decoding.large), ("small", decoding.small)):
        if not (folder / "config.json").is_file():
            raise PipelineError(f"deployment.gateway.engine.decoding.{key}: {folder}: no config.json there")

    def load() -> tuple[Any, Any]:
        model, tokenizer = tuned.load()
        if count_virtual_tokens(model):
            raise PipelineError(
                '"emulated": what was trained are vectors before every row, which the large base cannot be steered by; '
                "train with another method"
            )
        read = partial(load_folder, precision=precision)
        emulated = decoding.prepare(model, tokenizer, read, 0, 0).model
        return emulated, tokenizer

    others = " ".join(hash_folder(folder) for folder in (decoding.large, decoding.small))
    return NamedModel("emulated", tuned.folder, f"{tuned.identity} {others} {decoding.strength!r}", load, "emulated")


def open_version(alias: str | None, version: int | None, precision: Literal["fp32", "bf16"]) -> NamedModel:
    """A registered version, fetched if it is not stored locally.

    Args:
        alias: Its alias; None where it is asked for by number.
        version: Its number.
        precision: Number format that its weights are read in.
    """
    from flows.wiring.releases.registry import open_registry
    from tasks.evaluation.outcomes import load_folder

    registry = open_registry()
    found = registry.find_version(alias, version)
    release = registry.fetch_release(found.release)
    name = f"version {found.version}" + (f" ({alias})" if alias else "")
    return NamedModel(
        name,
        release / MODEL,
        hash_file(release / NAME),
        lambda: load_folder(release / MODEL, precision),
        alias or str(found.version),
        registry.read_commit(found.version),
    )


def _find_version_of(run: str) -> int:
    """The version that a run made."""
    from flows.wiring.releases.registry import open_registry

    return open_registry().find_run(run).version
