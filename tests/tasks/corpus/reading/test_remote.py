"""Files in other stores are read like local ones: S3 from moto's server, HTTP from a real one, and fsspec's memory."""

from __future__ import annotations

import gzip
import io
import json
import lzma
import threading
import zipfile
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from pydantic import ValidationError

from tasks.contracts.errors import PipelineError
from tasks.corpus.reading.ingest import read_sources
from tasks.corpus.reading.sources.csv import Csv
from tasks.corpus.reading.sources.files import Files
from tasks.corpus.reading.sources.jsonl import Jsonl
from tasks.corpus.reading.sources.parquet import Parquet
from tasks.corpus.reading.sources.text import Text
from tasks.corpus.rows.rows import Rows

ROWS = [{"question": f"Question {n}, and is it answered?", "answer": f"Answer {n}."} for n in range(6)]


def lines(rows: list[dict[str, str]]) -> bytes:
    return "\n".join(json.dumps(row) for row in rows).encode()


def table(rows: list[dict[str, str]]) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), buffer)
    return buffer.getvalue()


def delimited(rows: list[dict[str, str]]) -> bytes:
    return ("question\tanswer\n" + "".join(f"{r['question']}\t{r['answer']}\n" for r in rows)).encode()


FILES = {
    "faq/a.jsonl.gz": gzip.compress(lines(ROWS[:2])),
    "faq/b.jsonl.xz": lzma.compress(lines(ROWS[2:4])),
    "faq/c.jsonl.zst": zstandard.ZstdCompressor().compress(lines(ROWS[4:])),
    "faq/read me.txt": b"not data",
    "shards/1.parquet": table(ROWS[:3]),
    "shards/2.parquet": table(ROWS[3:]),
    "all.tsv": delimited(ROWS),
}


def read(source: Files, root: Path) -> Rows:
    return read_sources([source], "quarantine", root)


def questions(rows: Rows) -> list[str]:
    return [messages[0]["content"] for messages in rows.table["messages"].to_pylist()]


EXPECTED = [row["question"] for row in ROWS]


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """The endpoint of a moto server."""
    server = pytest.importorskip("moto.moto_server.threaded_moto_server")
    pytest.importorskip("s3fs")
    running = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    yield f"http://{host}:{port}"
    running.stop()


@pytest.fixture
def bucket(s3: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Storage params of a bucket with the files."""
    monkeypatch.setenv("SHOP_KEY", "key-of-the-shop")
    monkeypatch.setenv("SHOP_SECRET", "secret-of-the-shop")
    store = fsspec.filesystem("s3", endpoint_url=s3, key="k", secret="s", skip_instance_cache=True)
    store.makedirs("shop", exist_ok=True)
    for name, content in FILES.items():
        store.pipe(f"shop/{name}", content)
    return {"storage": {"endpoint_url": s3}, "storage_secrets": {"key": "SHOP_KEY", "secret": "SHOP_SECRET"}}


@pytest.mark.parametrize(
    ("kind", "path"),
    [
        (Jsonl, "s3://shop/faq/*.jsonl.*"),
        (Jsonl, "s3://shop/faq"),
        (Parquet, "s3://shop/shards/?.parquet"),
        (Parquet, "s3://shop/shards/"),
        (Csv, "s3://shop/all.tsv"),
    ],
)
def test_s3_gives_what_local_files_give(bucket: dict[str, Any], tmp_path: Path, kind: Any, path: str) -> None:
    for name, content in FILES.items():
        (tmp_path / "data/raw" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "data/raw" / name).write_bytes(content)
    remote = read(kind(path=path, title="shop", **bucket), tmp_path)
    local = read(kind(path=path.replace("s3://shop", "data/raw"), title="shop"), tmp_path)
    assert questions(remote) == EXPECTED
    assert remote.table.equals(local.table)
    names = [name.replace("s3://shop", "data/raw") for name in remote.origins[0].files]
    assert dict(zip(names, remote.origins[0].files.values(), strict=True)) == local.origins[0].files


def test_pins_are_those_of_local_files(bucket: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "data/raw/shards").mkdir(parents=True)
    for name in ("1", "2"):
        (tmp_path / f"data/raw/shards/{name}.parquet").write_bytes(FILES[f"shards/{name}.parquet"])
    wrong = "0" * 64
    found = []
    for path, params in (("data/raw/shards", {}), ("s3://shop/shards", bucket)):
        with pytest.raises(PipelineError, match=f"has sha256 .*; pinned is {wrong}") as caught:
            read(Parquet(path=path, sha256=wrong, **params), tmp_path)
        found.append(str(caught.value).partition("sha256 ")[2][:64])
    assert found[0] == found[1]
    assert read(Parquet(path="s3://shop/shards", sha256=found[0], **bucket), tmp_path).table.num_rows == 6


def test_troubles_with_a_store_are_one_line_without_secrets(
    bucket: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in ("s3://shop/none.jsonl", "s3://shop/*.none", "s3://nobody/x.jsonl"):
        with pytest.raises(PipelineError, match="does not exist"):
            read(Jsonl(path=path, **bucket), tmp_path)
    gone = {
        **bucket,
        "storage": {"endpoint_url": "http://127.0.0.1:1", "config_kwargs": {"retries": {"max_attempts": 0}}},
    }
    with pytest.raises(PipelineError, match="cannot be read") as caught:
        read(Jsonl(path="s3://shop/all.tsv", **gone), tmp_path)
    assert "of-the-shop" not in str(caught.value)
    assert "\n" not in str(caught.value)
    monkeypatch.delenv("SHOP_SECRET")
    with pytest.raises(PipelineError, match="the environment variable SHOP_SECRET is not set; export it"):
        read(Jsonl(path="s3://shop/faq", **bucket), tmp_path)
    with pytest.raises(PipelineError, match="cannot be read"):
        read(Jsonl(path="nostore://shop/faq"), tmp_path)


def test_http_with_a_query_that_is_not_shown(tmp_path: Path) -> None:
    (tmp_path / "served").mkdir()
    (tmp_path / "served/faq.jsonl.gz").write_bytes(gzip.compress(lines(ROWS)))

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path / "served")))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    try:
        rows = read(Jsonl(path=f"{url}/faq.jsonl.gz?signature=abc", title="web"), tmp_path)
        assert questions(rows) == EXPECTED
        assert "signature" not in str(rows.origins)
        with pytest.raises(PipelineError, match=r"/gone\.jsonl does not exist"):
            read(Jsonl(path=f"{url}/gone.jsonl"), tmp_path)
    finally:
        server.shutdown()
        server.server_close()


def test_memory_store_with_a_torn_file_and_an_optional_one(tmp_path: Path) -> None:
    store = fsspec.filesystem("memory")
    store.pipe("/torn/x.jsonl.gz", FILES["faq/a.jsonl.gz"][:-9])
    with pytest.raises(PipelineError, match=r"memory:///torn/x\.jsonl\.gz: cannot be read"):
        read(Jsonl(path="memory://torn/x.jsonl.gz"), tmp_path)
    store.pipe("/fine/x.jsonl", lines(ROWS))
    both = [Jsonl(path="memory://fine/*.jsonl", title="a"), Jsonl(path="memory://gone/*", title="b", optional=True)]
    assert read_sources(both, "quarantine", tmp_path).table.num_rows == 6


def test_files_of_an_archive_below_the_root(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "data/raw").mkdir(parents=True)
    with zipfile.ZipFile(tmp_path / "data/raw/notes.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("notes/b.txt", "Crème brûlée.".encode("latin-1"))
        archive.writestr("notes/a.txt", "First of all.")
        archive.writestr("notes/zeros.bin", bytes(10_000_000))
        archive.writestr("notes/README", "no row")
    source = Text(path="zip://notes/*.txt::data/raw/notes.zip", title="notes", encoding="latin-1")
    rows = read(source, tmp_path)
    assert [m[0]["content"] for m in rows.table["messages"].to_pylist()] == ["First of all.", "Crème brûlée."]
    assert rows.table["file"].to_pylist() == ["a.txt", "b.txt"]
    assert "DVC does not watch" not in caplog.text
    whole = Text(path="zip://notes/zeros.bin::data/raw/notes.zip", max_bytes=1_000_000)
    with pytest.raises(PipelineError, match="unpacks to 10,000,000 bytes, more than the 1,000,000 of max_bytes"):
        read(whole, tmp_path)
    with pytest.raises(PipelineError, match="cannot be read"):
        read(Text(path="zip://*::data/raw/gone.zip"), tmp_path)


@pytest.mark.parametrize(
    ("params", "reason"),
    [
        ({"path": "data/raw/x.jsonl", "storage": {"anon": True}}, "storage is for URLs"),
        ({"path": "s3://a/b", "storage": {"secret": "x"}}, "must not hold secret"),
        ({"path": "s3://a/b", "storage": {"aws_session_token": "x"}}, "must not hold aws_session_token"),
        ({"path": "ftp://me:pass@host/b"}, "must not hold a password"),
    ],
)
def test_params_refuse_secrets_and_what_cannot_work(params: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        Jsonl(**params)
