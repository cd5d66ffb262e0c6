"""The hub source downloads one commit's safe files, proven against a small hub of our own on loopback."""

from __future__ import annotations

import hashlib
import json
import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from pydantic import TypeAdapter, ValidationError

from tasks.contracts.errors import PipelineError
from tasks.contracts.manifest import read_manifest
from tasks.language_models.folder.model_folder import resolve_model
from tasks.model_initialisation.chat_template import choose_template
from tasks.model_initialisation.checks import check_folder, open_tokenizer
from tasks.model_initialisation.describe import describe_model
from tasks.model_initialisation.params import ModelInitialisation, Source
from tasks.model_initialisation.pin import fetch_model, pin_model
from tasks.model_initialisation.sources.access import Access
from tasks.model_initialisation.sources.hub import Hub

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class SmallHub(ThreadingHTTPServer):
    """Serves one repository, ``house/tiny``, at one commit, as the hub's API does."""

    folder: Path
    asked: list[str]
    tokens: list[str | None]
    refusal: tuple[int, str] | None
    card: dict[str, object]


class Handler(BaseHTTPRequestHandler):
    server: SmallHub

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, body: bool) -> None:
        path = self.path.partition("?")[0]
        self.server.tokens.append(self.headers.get("Authorization"))
        if self.server.refusal:
            status, code = self.server.refusal
            self._send(status, b"{}", {"X-Error-Code": code} if code else {}, body)
            return
        names = sorted(p.name for p in self.server.folder.iterdir())
        name = path.rpartition("/")[2]
        if "/house/tiny/" in path and COMMIT not in path:
            self._send(404, b"{}", {"X-Error-Code": "RevisionNotFound"}, body)
        elif path.startswith("/api/models/house/tiny/revision/"):
            info = {"id": "house/tiny", "sha": COMMIT, "siblings": [{"rfilename": n} for n in names]}
            info["cardData"] = self.server.card
            self._send(200, json.dumps(info).encode(), {}, body)
        elif path.startswith("/api/models/house/tiny/tree/"):
            tree = [
                {"type": "file", "path": n, "oid": "0" * 40, "size": (self.server.folder / n).stat().st_size}
                for n in names
            ]
            self._send(200, json.dumps(tree).encode(), {}, body)
        elif path.startswith(f"/house/tiny/resolve/{COMMIT}/") and name in names:
            self.server.asked.append(name)
            content = (self.server.folder / name).read_bytes()
            etag = hashlib.sha256(content).hexdigest()
            self._send(200, content, {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT}, body)
        else:
            self._send(404, b"{}", {"X-Error-Code": "RepoNotFound"}, body)

    def _send(self, status: int, content: bytes, headers: dict[str, str], body: bool) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


@pytest.fixture
def hub(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SmallHub]:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    server = SmallHub(("127.0.0.1", 0), Handler)
    server.folder, server.asked, server.tokens, server.refusal, server.card = model, [], [], None, {}
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def source(hub: SmallHub, revision: str = COMMIT, name: str = "house/tiny") -> Hub:
    return Hub(id=name, revision=revision, endpoint=f"http://127.0.0.1:{hub.server_port}")


def test_a_commit_is_downloaded_without_pickles_and_code(hub: SmallHub) -> None:
    (hub.folder / "pytorch_model.bin").write_bytes(b"pickle")
    (hub.folder / "modeling.py").write_text("print('run me')")
    folder = fetch_model(source(hub))
    assert check_folder(folder).weights.parameters == check_folder(hub.folder).weights.parameters
    assert (folder / "model.safetensors").read_bytes() == (hub.folder / "model.safetensors").read_bytes()
    assert "model.safetensors" in hub.asked
    assert not {"pytorch_model.bin", "modeling.py"} & set(hub.asked)
    assert not list(folder.rglob("*.py"))


def test_only_pickled_weights_are_refused_with_the_conversion(hub: SmallHub) -> None:
    (hub.folder / "model.safetensors").rename(hub.folder / "pytorch_model.bin")
    with pytest.raises(PipelineError, match=r"only pickled weights \(pytorch_model.bin\).*convert it"):
        fetch_model(source(hub))


def test_an_unknown_commit_and_an_unknown_model_are_told_apart(hub: SmallHub) -> None:
    with pytest.raises(PipelineError, match="no such commit"):
        fetch_model(source(hub, revision="f" * 40))
    with pytest.raises(PipelineError, match="no such model"):
        fetch_model(source(hub, name="house/other"))


def test_offline_the_cache_answers_and_without_it_the_line_says_so(hub: SmallHub) -> None:
    online = source(hub)
    first = fetch_model(online)
    hub.shutdown()
    hub.server_close()
    asked = len(hub.asked)
    assert fetch_model(online) == first
    assert len(hub.asked) == asked
    shutil.rmtree(first.parent.parent)
    with pytest.raises(PipelineError, match="does not answer"):
        fetch_model(online)


@pytest.mark.parametrize(
    ("refusal", "without_token", "with_token"),
    [
        ((403, "GatedRepo"), "accept them on the model's page and set HF_TOKEN", "HF_TOKEN has not accepted"),
        ((401, "GatedRepo"), "accept them on the model's page and set HF_TOKEN", "HF_TOKEN has not accepted"),
        ((401, ""), "no such model, or a private one without HF_TOKEN", r"the hub refuses HF_TOKEN \(401\)"),
        ((404, "RepoNotFound"), "no such model, or a private one without", "no such model, or a private one that HF"),
        ((403, ""), "to nobody without a token", r"HF_TOKEN may not read it \(403\)"),
        ((503, ""), "answers with status 503", "answers with status 503"),
    ],
)
def test_a_refusal_of_the_hub_says_what_is_missing(
    hub: SmallHub, monkeypatch: pytest.MonkeyPatch, refusal: tuple[int, str], without_token: str, with_token: str
) -> None:
    monkeypatch.setattr("huggingface_hub.utils._headers.get_token", lambda: None)
    hub.refusal = refusal
    for token, expected in ((None, without_token), ("hf_secret", with_token)):
        with pytest.raises(PipelineError, match=expected) as refused:
            fetch_model(source(hub), Access(token))
        assert "\n" not in str(refused.value)
        assert "hf_secret" not in str(refused.value) + repr(Access(token))
        assert hub.tokens[-1] == (f"Bearer {token}" if token else None)


def test_a_gated_model_is_downloaded_with_the_token(hub: SmallHub) -> None:
    fetch_model(source(hub), Access("hf_secret"))
    assert set(hub.tokens) == {"Bearer hf_secret"}


def test_offline_mode_is_told_from_a_hub_that_is_gone(hub: SmallHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(PipelineError, match="HF_HUB_OFFLINE forbids"):
        fetch_model(source(hub))


def test_a_denied_licence_is_refused_before_anything_is_downloaded(hub: SmallHub) -> None:
    hub.card = {"license": "other", "license_name": "llama2"}
    with pytest.raises(PipelineError, match=r"its licence is llama2, which .*deny \(llama\*\) rules out"):
        fetch_model(source(hub), Access(deny=("llama*",)))
    assert hub.asked == []


@pytest.mark.parametrize("revision", ["main", "v1.0", COMMIT[:12], COMMIT.upper()])
def test_only_a_whole_commit_hash_is_a_revision(revision: str) -> None:
    with pytest.raises(ValidationError, match="revision"):
        Hub(id="house/tiny", revision=revision)


def test_an_unknown_source_is_answered_with_the_valid_ones() -> None:
    with pytest.raises(ValidationError, match=r"'folder', .*'hub'"):
        TypeAdapter(Source).validate_python({"name": "torrent"})
    assert ModelInitialisation().source.name == "folder"


def test_a_reference_to_the_hub_loads_from_the_cache(hub: SmallHub, tmp_path: Path) -> None:
    found = source(hub)
    base = check_folder(fetch_model(found))
    tokenizer = open_tokenizer(base.folder)
    facts = describe_model(base, tokenizer).facts()
    out = pin_model(base, found, True, choose_template(tokenizer, "own"), None, facts, tmp_path / "initial")
    assert read_manifest(out)["reference"] == {"hub": "house/tiny", "revision": COMMIT}
    assert resolve_model(out) == base.folder


def test_a_copy_from_the_hub_shares_the_cache_s_files(hub: SmallHub, tmp_path: Path) -> None:
    found = source(hub)
    base = check_folder(fetch_model(found))
    template = choose_template(open_tokenizer(base.folder), "chatml")
    out = pin_model(base, found, False, template, None, {"context": 256}, tmp_path / "initial")
    assert (out / "model.safetensors").stat().st_ino == (base.folder / "model.safetensors").stat().st_ino
    assert (out / "chat_template.jinja").read_text() == template.supplied
    assert (base.folder / "chat_template.jinja").read_bytes() == (hub.folder / "chat_template.jinja").read_bytes()
