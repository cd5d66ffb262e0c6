"""Variables of the environment that other programs left, or that keep the stages from what they need."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from flows.commands.doctor.finding import Finding, Surroundings
from flows.wiring.processes import LEADER, has_process, read_mark
from flows.wiring.servers.server import OWNER

LAUNCH = ("WORLD_SIZE", "RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT", "TORCHELASTIC_RUN_ID")
# They choose an engine over the head of the plan.
ENGINES = ("ACCELERATE_USE_DEEPSPEED", "ACCELERATE_USE_FSDP", "ACCELERATE_USE_CPU", "ACCELERATE_MIXED_PRECISION")
RUNS = ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME")
SLOW = {"CUDA_LAUNCH_BLOCKING": "every kernel is waited for", "TORCH_SHOW_CPP_STACKTRACES": "errors are slow"}
FOLDERS = ("TMPDIR", "HF_HOME", "HF_HUB_CACHE", "DVC_CACHE_DIR")
PROXIES = ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy")
OFF = ("", "0", "false", "no", "off")


def examine(here: Surroundings) -> Iterator[Finding]:
    environment = os.environ
    unset = "unset it before you start anything"
    for name in LAUNCH:
        if name in environment and (name != "WORLD_SIZE" or environment[name] != "1"):
            yield Finding(
                "error" if name == "WORLD_SIZE" else "warning", name, f"is {environment[name]!r}, of another launch; "
                "training starts its processes itself", unset,
            )  # fmt: skip
    for name in ENGINES:
        if environment.get(name, "").lower() not in OFF:
            found = f"is {environment[name]!r}, which an accelerate launch sets; it overrides the plan"
            yield Finding("error", name, found, unset)
    for name in RUNS:
        if environment.get(name):
            found = f"is {environment[name]!r}; every stage would record into that run or experiment"
            yield Finding("warning", name, found, unset)
    for name, why in SLOW.items():
        if environment.get(name, "").lower() not in OFF:
            yield Finding("warning", name, f"is set, with which {why}", "unset it unless you look for a fault")
    for name in (OWNER, LEADER):
        mark = read_mark(environment.get(name, ""))
        if mark is not None and not has_process(mark):
            yield Finding("warning", name, "names a process that has ended", unset)
    for name in FOLDERS:
        if environment.get(name) and not _is_usable(Path(environment[name]), name):
            yield Finding("error", name, f"{environment[name]} is not there", "make the folder, or unset the variable")
    yield from _find_offline(here, environment)
    yield from _find_proxy(environment)


def _is_usable(folder: Path, name: str) -> bool:
    """Caches are made where their parent is; nothing makes the folder of temporary files."""
    if name == "TMPDIR":
        return folder.is_dir()
    return any(above.is_dir() for above in (folder, *folder.parents[:2]) if above != Path("/"))


def _find_offline(here: Surroundings, environment: Mapping[str, str]) -> Iterator[Finding]:
    """A hub model that neither the cache has nor the hub may give."""
    from tasks.model_initialisation.sources.hub import Hub

    source = here.params.model_initialisation.source if here.params else None
    if not isinstance(source, Hub):
        return
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        if environment.get(name, "").lower() in OFF or _is_cached(source.id, source.revision):
            continue
        yield Finding(
            "error", name, f"is set, and {source.id} at {source.revision[:12]} is not in the cache",
            "unset it once, or copy the cache of a machine that has the model (HF_HOME)",
        )  # fmt: skip


def _is_cached(model: str, revision: str) -> bool:
    home = Path(os.environ.get("HF_HOME", Path.home() / ".cache/huggingface"))
    hub = Path(os.environ.get("HF_HUB_CACHE", home / "hub"))
    return (hub / f"models--{model.replace('/', '--')}" / "snapshots" / revision).is_dir()


def _find_proxy(environment: Mapping[str, str]) -> Iterator[Finding]:
    spared = environment.get("NO_PROXY") or environment.get("no_proxy") or ""
    names = {name.strip() for name in spared.split(",")}
    proxy = next((name for name in PROXIES if environment.get(name)), None)
    if proxy and "*" not in names and not {"127.0.0.1", "localhost"} <= names:
        yield Finding(
            "error", proxy, "sends calls to this machine's own servers (Prefect, MLflow, gateway) to the proxy too; "
            f"NO_PROXY is {spared!r}", "set NO_PROXY=127.0.0.1,localhost beside it",
        )  # fmt: skip
