"""Folders of strangers: nothing in them runs, nothing outside is read, and none takes the machine's memory or time.

Each case changes a good model's folder in one way. It is refused with one line, or, where the strange thing is only
beside the model, pinned without it. What would run leaves a mark, and every connection fails.
"""

from __future__ import annotations

import json
import os
import pickle
import socket
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tasks.contracts.errors import PipelineError
from tasks.contracts.records import EXAMPLES
from tasks.model_initialisation import template_trial, tokenizer_trial
from tasks.model_initialisation.chat_template import choose_template
from tasks.model_initialisation.checks import check_folder, open_tokenizer
from tasks.model_initialisation.describe import describe_model
from tasks.model_initialisation.fit import check_fit
from tasks.model_initialisation.generation_config import settle_generation_config
from tasks.model_initialisation.pin import fetch_model, pin_model
from tasks.model_initialisation.sources.folder import Folder
from tasks.model_initialisation.template_trial import try_template
from tasks.model_initialisation.tokenizer_trial import try_tokenizer
from tests.tiny import example_rows

Change = Callable[[Path, Path], Any]
ROWS = pa.Table.from_pylist(example_rows(3), schema=EXAMPLES)


class Marked:
    """Opening its pickle makes a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return open, (str(self.mark), "w")


def pickled(*names: str) -> Change:
    return lambda folder, mark: [(folder / name).write_bytes(pickle.dumps(Marked(mark))) for name in names]


def code(*names: str) -> Change:
    def change(folder: Path, mark: Path) -> None:
        for name in names:
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text(f"open({str(mark)!r}, 'w')\n")

    return change


def setting(file: str, **values: Any) -> Change:
    def change(folder: Path, _: Path) -> None:
        path = folder / file
        content = json.loads(path.read_text()) if path.is_file() else {}
        path.write_text(json.dumps(content | values))

    return change


def both(*changes: Change) -> Change:
    return lambda folder, mark: [change(folder, mark) for change in changes]


def text(file: str, content: str | bytes) -> Change:
    data = content.encode() if isinstance(content, str) else content
    return lambda folder, _: (folder / file).write_bytes(data)


def template(content: str) -> Change:
    return text("chat_template.jinja", content)


def link(name: str, target: str) -> Change:
    """A link in place of a file; ``SECRET`` is a file beside the folder."""

    def change(folder: Path, mark: Path) -> None:
        secret = mark.with_name("secret")
        secret.mkdir(exist_ok=True)
        (secret / "file").write_text("secret")
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.unlink(missing_ok=True)
        path.symlink_to(target.replace("SECRET", str(secret)))

    return change


def pipe(name: str) -> Change:
    def change(folder: Path, _: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        os.mkfifo(folder / name)

    return change


def bind_socket(folder: Path, _: Path) -> None:
    here = Path.cwd()
    os.chdir(folder)  # the path of a socket may have only 100 characters
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("control.txt")
    os.chdir(here)


def sparse(name: str, size: int) -> Change:
    def change(folder: Path, _: Path) -> None:
        with (folder / name).open("ab") as stream:
            stream.truncate(size)

    return change


def header(change_header: Callable[[dict[str, Any]], Any]) -> Change:
    """Weights with another header; a text that it returns is the header."""

    def change(folder: Path, _: Path) -> None:
        path = folder / "model.safetensors"
        whole = path.read_bytes()
        length = struct.unpack("<Q", whole[:8])[0]
        entries = json.loads(whole[8 : 8 + length])
        written = change_header(entries)
        data = written.encode() if isinstance(written, str) else json.dumps(entries).encode()
        path.write_bytes(struct.pack("<Q", len(data)) + data + whole[8 + length :])

    return change


NORM = "model.norm.weight"


def entry(**values: Any) -> Change:
    return header(lambda entries: entries[NORM].update(values))


def index(name: str) -> Change:
    def change(folder: Path, _: Path) -> None:
        (folder / "model.safetensors").rename(folder / "a.safetensors")
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {NORM: name}}))

    return change


def torch_archive(folder: Path, mark: Path) -> None:
    with zipfile.ZipFile(folder / "model.safetensors", "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(Marked(mark)))


def only_pickled(folder: Path, mark: Path) -> None:
    (folder / "model.safetensors").unlink()
    pickled("pytorch_model.bin")(folder, mark)


def doubled(entries: dict[str, Any]) -> str:
    return json.dumps(entries)[:-1] + f', "{NORM}": {json.dumps(entries[NORM])}}}'


def overlapping(entries: dict[str, Any]) -> None:
    first, second = (entries[name] for name in sorted(set(entries) - {"__metadata__"})[:2])
    second.update(first)


REMOTE_CODE = {"AutoModelForCausalLM": "modeling.Evil", "AutoTokenizer": ["modeling.Evil", None]}
NAMED = "{% for m in messages %}{{ m['content'] + eos_token }}{% endfor %}"
ENDLESS = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
DEEP = "[" * 100_000 + "]" * 100_000

REFUSED: dict[str, tuple[Change, str]] = {
    "weights only as a pickle": (only_pickled, "only pickled weights"),
    "a pickle called safetensors": (pickled("model.safetensors"), "not a safetensors file"),
    "an archive of torch called safetensors": (torch_archive, "not a safetensors file"),
    "auto_map of the model": (both(setting("config.json", auto_map=REMOTE_CODE), code("modeling.py")), "auto_map"),
    "auto_map of the text model": (setting("config.json", text_config={"auto_map": REMOTE_CODE}), "auto_map"),
    "auto_map of the tokenizer": (
        both(setting("tokenizer_config.json", auto_map=REMOTE_CODE), code("modeling.py")),
        "auto_map",
    ),
    "auto_map of the generation config": (setting("generation_config.json", auto_map=REMOTE_CODE), "auto_map"),
    "auto_map of a processor": (setting("processor_config.json", auto_map=REMOTE_CODE), "auto_map"),
    "weights behind a link": (link("model.safetensors", "SECRET/file"), "model.safetensors: a link that leads out"),
    "a card behind a link": (link("README.md", "SECRET/file"), "README.md: a link that leads out"),
    "a template behind a link": (link("chat_template.jinja", "/etc/passwd"), "a link that leads out"),
    "a relative link": (link("notes.txt", "../secret/file"), "notes.txt: a link that leads out"),
    "a folder behind a link": (link("onnx", "SECRET"), "onnx: a link that leads out"),
    "a chain of links": (
        both(link("a.json", "SECRET/file"), link("b.json", "a.json"), link("tokenizer.json", "b.json")),
        "tokenizer.json: a link that leads out",
    ),
    "a circle of links": (both(link("a.json", "b.json"), link("b.json", "a.json")), "a link that leads nowhere"),
    "a link deep inside": (link("additional_chat_templates/x.jinja", "SECRET/file"), "a link that leads out"),
    "a device": (link("tokenizer.json", "/dev/zero"), "tokenizer.json: a link that leads out"),
    "a pipe as tokenizer": (pipe("tokenizer.json"), "tokenizer.json: neither a file nor a folder"),
    "a pipe as notes": (pipe("notes.txt"), "notes.txt: neither a file nor a folder"),
    "a socket": (bind_socket, "control.txt: neither a file nor a folder"),
    "a header as long as the memory": (text("model.safetensors", struct.pack("<Q", 1 << 60)), "not a safetensors file"),
    "a header of a gigabyte": (
        both(text("model.safetensors", struct.pack("<Q", 1 << 30)), sparse("model.safetensors", 3 << 30)),
        "not a safetensors file",
    ),
    "tensors that overlap": (header(overlapping), "overlap or leave gaps"),
    "a tensor beyond the end": (entry(data_offsets=[1 << 40, (1 << 40) + 256]), "overlap or leave gaps"),
    "a negative place": (entry(data_offsets=[-256, 0]), "no whole number of 0 or more"),
    "a name that stands twice": (header(doubled), "a name that stands twice"),
    "a shape that is no number": (entry(shape=[float("nan")]), "NaN in place of a number"),
    "a shape that is true": (entry(shape=[True, 64]), "no whole number"),
    "a shape larger than its bytes": (entry(shape=[1 << 50]), "numbers in 256 bytes"),
    "a type that nobody knows": (entry(dtype="PICKLE"), "type PICKLE"),
    "a header nested without end": (header(lambda _: DEEP), "not readable"),
    "bytes that no tensor owns": (sparse("model.safetensors", 1_000_000), "but its header describes"),
    "a shard above the folder": (index("../a.safetensors"), "no safetensors file of this folder"),
    "a shard at an absolute path": (index("/etc/a.safetensors"), "no safetensors file of this folder"),
    "a shard on the network": (index("https://evil.example/a.safetensors"), "no safetensors file of this folder"),
    "a shard with a null byte": (index("a\0.safetensors"), "no safetensors file of this folder"),
    "a shard that is a pickle": (index("pytorch_model.bin"), "no safetensors file of this folder"),
    "two sets of weights": (text("model.safetensors.index.json", '{"weight_map": {}}'), "are both there"),
    "a template that climbs out": (
        template("{{ ''.__class__.__mro__[1].__subclasses__() }}" + NAMED),
        "reaches for what its sandbox forbids",
    ),
    "a template that formats its way out": (
        template("{{ '{0.__class__.__mro__}'.format('') }}" + NAMED),
        "reaches for what its sandbox forbids",
    ),
    "a template without end": (
        template(ENDLESS + NAMED),
        "did not end within",
    ),
    "a template with a power": (
        template("{% if messages %}{{ 9 ** (9 ** (8 + messages|length)) }}{% endif %}" + NAMED),
        "did not end",
    ),
    "a template as long as the memory": (
        template("{% if messages %}{{ 'a' * (10 ** 11 * messages|length) }}{% endif %}" + NAMED),
        "GiB of memory",
    ),
    "a second template without end": (
        both(
            lambda folder, _: (folder / "additional_chat_templates").mkdir(),
            text("additional_chat_templates/tool_use.jinja", ENDLESS + NAMED),
        ),
        "did not end within",
    ),
    "a template that includes a file": (template("{% include '/etc/passwd' %}"), "chat template"),
    "a tokenizer nested without end": (text("tokenizer.json", DEEP), "tokenizer.json: not JSON"),
    "a tokenizer as large as the disk": (sparse("tokenizer.json", 1 << 40), "at most 256,000,000 are read"),
    "a tokenizer that is a list": (text("tokenizer.json", "[]"), "expected an object"),
    "a regular expression without end": (
        setting(
            "tokenizer.json",
            pre_tokenizer={
                "type": "Split",
                "pattern": {"Regex": "(a|a|a+)+b"},
                "behavior": "Isolated",
                "invert": False,
            },
        ),
        "retry-limit-in-match over",
    ),
    "a tokenizer that reads a text for ever": (
        setting(
            "tokenizer.json",
            pre_tokenizer={
                "type": "Split",
                "pattern": {"Regex": "(?:a|a){20}[!?]"},
                "behavior": "Isolated",
                "invert": False,
            },
        ),
        "did not end within 1 s of processor time",
    ),
    "a tokenizer that wants 8 GiB when it is read": (
        setting("tokenizer.json", normalizer={"type": "Precompiled", "precompiled_charsmap": "/////w=="}),
        "memory allocation of 8589934584 bytes failed",
    ),
    "a tokenizer that panics when it is read": (
        setting("tokenizer.json", normalizer={"type": "Precompiled", "precompiled_charsmap": "AAAA"}),
        "Cannot parse precompiled_charsmap",
    ),
    "a tokenizer that panics on a text": (
        setting("tokenizer.json", pre_tokenizer={"type": "FixedLength", "length": 0}),
        "chunk size must be non-zero",
    ),
    "a tokenizer that is no tokenizer": (text("tokenizer.json", '{"model": {"type": "Evil"}}'), "does not load"),
    "a configuration that is a list": (text("config.json", "[]"), "a JSON list, expected an object"),
    "a configuration in another encoding": (text("config.json", b'{"model_type": "\xff\xfe"}'), "not JSON"),
    "a configuration nested without end": (text("config.json", f'{{"a": {DEEP}}}'), "not JSON"),
    "a configuration as large as the disk": (sparse("config.json", 1 << 40), "at most 16,000,000 are read"),
    "a negative width": (setting("config.json", hidden_size=-64), "expected a whole number of 1 or more"),
    "no heads": (setting("config.json", num_attention_heads=0), "expected a whole number of 1 or more"),
    "a billion layers": (setting("config.json", num_hidden_layers=10**9), "but the files hold"),
    "a vocabulary as large as the memory": (setting("config.json", vocab_size=10**12), "the widest tensor"),
    "a context without end": (setting("config.json", max_position_embeddings=10**15), "at most 100,000,000 tokens"),
    "a width that is a text": (setting("config.json", intermediate_size="__import__('os')"), "expected a whole number"),
    "more layers than weights": (setting("config.json", num_hidden_layers=15, layer_types=None), "describes"),
    "a text model that is none": (setting("config.json", text_config="evil"), "text_config is 'evil'"),
    "a type that is a path": (setting("config.json", model_type="../../evil"), "no causal language model"),
    "an adapter that names another base": (
        setting("adapter_config.json", peft_type="LORA", base_model_name_or_path="evil/model"),
        "adapter_config.json: an adapter",
    ),
    "weights that are quantised by code": (
        setting("config.json", quantization_config={"quant_method": "evil", "modules": "os.system"}),
        "quantised already",
    ),
    "a kernel from the network": (setting("config.json", attn_implementation="evil/kernel:run"), "code of elsewhere"),
    "weights of another name": (setting("config.json", transformers_weights="pytorch_model.bin"), "never allowed"),
    "a type of numbers that is code": (setting("config.json", dtype="os.system"), "expected one of"),
    "a generation config that is a list": (text("generation_config.json", "[]"), "expected an object"),
}

LEFT_OUT: dict[str, tuple[Change, tuple[str, ...]]] = {
    "pickles beside the weights": (
        pickled("pytorch_model.bin", "model.pt", "a.pkl", "training_args.bin", "optimizer.pth", "last.ckpt"),
        ("pytorch_model.bin", "model.pt", "a.pkl", "training_args.bin", "optimizer.pth", "last.ckpt"),
    ),
    "code beside the weights": (
        code("modeling.py", "tokenizer.py", "__init__.py", "sitecustomize.py", "custom_generate/generate.py"),
        ("modeling.py", "tokenizer.py", "__init__.py", "sitecustomize.py", "custom_generate/"),
    ),
    "a compiled library": (text("kernel.so", b"\x7fELF"), ("kernel.so",)),
    "weights that the index does not name": (text("other.safetensors", b"hidden"), ("other.safetensors",)),
    "a large file that nobody reads": (sparse("notes.pdf", 1 << 40), ("notes.pdf",)),
    "hidden files": (both(text(".env", "TOKEN=1"), text(".hidden.json", "{}"), text(".npmrc", "x")), ()),
    "another model's address": (setting("config.json", _name_or_path="evil/model"), ()),
    "a tokenizer of another place": (
        setting("tokenizer_config.json", tokenizer_file="/etc/passwd", name_or_path="evil/model"),
        (),
    ),
    "a pickle called tokenizer.model": (pickled("tokenizer.model"), ()),
    "code in a generation config": (setting("generation_config.json", custom_generate="evil/generate"), ()),
}  # fmt: skip


def initialise(folder: Path, out: Path) -> tuple[str, ...]:
    """All of the stage that opens the folder; names of what was left out."""
    source = Folder(path=folder)
    base = check_folder(fetch_model(source))
    try_tokenizer(base.folder, ROWS)
    tokenizer = open_tokenizer(base.folder)
    try_template(tokenizer, "own", ROWS)
    chosen = choose_template(tokenizer, "own")
    check_fit(base.folder, tokenizer, base.weights.parameters)
    generation_config = settle_generation_config(base.folder, tokenizer)
    facts = describe_model(base, tokenizer).facts()
    pin_model(base, source, False, chosen, generation_config, facts, out)
    return base.left_out


@pytest.fixture
def guarded(monkeypatch: pytest.MonkeyPatch) -> None:
    def connect(*_: Any) -> None:
        raise AssertionError("a connection was tried")

    monkeypatch.setattr(socket.socket, "connect", connect)
    monkeypatch.setattr(template_trial, "LIMIT_S", 0.2)
    monkeypatch.setattr(tokenizer_trial, "LIMIT_S", 1.0)


@pytest.mark.parametrize("name", REFUSED)
def test_a_hostile_folder_is_refused_in_one_line(name: str, model: Path, tmp_path: Path, guarded: None) -> None:
    change, reason = REFUSED[name]
    mark = tmp_path / "mark"
    change(model, mark)
    with pytest.raises(PipelineError) as refused:
        initialise(model, tmp_path / "initial")
    assert reason in str(refused.value)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "initial").exists()
    assert not mark.exists()


@pytest.mark.parametrize("name", LEFT_OUT)
def test_what_is_only_beside_a_model_is_left_out_and_listed(
    name: str, model: Path, tmp_path: Path, guarded: None
) -> None:
    change, listed = LEFT_OUT[name]
    before = {path.name for path in model.iterdir()}
    mark, out = tmp_path / "mark", tmp_path / "initial"
    change(model, mark)
    assert set(initialise(model, out)) == set(listed)
    assert {path.name for path in out.iterdir()} - {"tokenizer.model"} == before | {"manifest.json"}
    assert not mark.exists()


def test_the_mark_shows_what_runs(tmp_path: Path) -> None:
    # The cases above would prove nothing if their pickles and code did nothing.
    pickled("a.pkl")(tmp_path, tmp_path / "mark")
    pickle.loads((tmp_path / "a.pkl").read_bytes()).close()
    assert (tmp_path / "mark").exists()


def test_a_snapshot_of_the_hub_s_cache_is_no_escape(model: Path, tmp_path: Path, guarded: None) -> None:
    blobs, snapshot = tmp_path / "models--a--b/blobs", tmp_path / "models--a--b/snapshots/0123"
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for number, path in enumerate(sorted(model.iterdir())):
        path.rename(blobs / str(number))
        (snapshot / path.name).symlink_to(f"../../blobs/{number}")
    initialise(snapshot, tmp_path / "initial")
    (snapshot / "README.md").symlink_to("../../blobs/../../secret")
    (tmp_path / "secret").write_text("secret")
    with pytest.raises(PipelineError, match=r"README\.md: a link that leads out"):
        initialise(snapshot, tmp_path / "again")
