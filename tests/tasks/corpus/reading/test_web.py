"""Pages from a real server: main text only, robots and pauses kept, and a second run that needs no server."""

from __future__ import annotations

import gzip
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from tasks.contracts.errors import PipelineError
from tasks.corpus.reading.ingest import read_sources
from tasks.corpus.reading.sources.source import Records
from tasks.corpus.reading.sources.web import Web

HTML = """<!doctype html><html><head><title>{title} | Fernhollow</title></head><body>
<nav><a href="/">Home</a> <a href="/cart">Cart</a></nav><main><article><h1>{title}</h1>
<p>You can return any item within thirty days of delivery, as long as it is unused.</p>
<p>We refund {title} within five days after the parcel has reached us, to the card you paid with.</p></article></main>
<footer>Copyright Fernhollow</footer></body></html>"""
SITEMAP = '<?xml version="1.0"?><urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">{}</urlset>'

Answer = tuple[int, dict[str, str], bytes]


@dataclass
class Site:
    """A web server, what it answers, and what it was asked when."""

    pages: dict[str, Answer | Callable[[int], Answer]] = field(default_factory=dict)
    asked: list[tuple[str, float]] = field(default_factory=list)
    agents: set[str] = field(default_factory=set)
    url: str = ""

    def page(self, path: str, title: str) -> str:
        self.pages[path] = (200, {"Content-Type": "text/html; charset=utf-8"}, HTML.format(title=title).encode())
        return self.url + path

    @property
    def paths(self) -> list[str]:
        return [path for path, _ in self.asked]

    def answer(self, path: str) -> Answer:
        found = self.pages.get(path, (404, {}, b"no such page"))
        return found(self.paths.count(path)) if callable(found) else found


@pytest.fixture
def site() -> Iterator[Site]:
    made = Site()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            made.asked.append((self.path, time.monotonic()))
            made.agents.add(self.headers["User-Agent"])
            status, headers, body = made.answer(self.path)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield made
    server.shutdown()
    server.server_close()


def read(root: Path, **params: Any) -> tuple[list[dict[str, Any]], list[tuple[int, str]], Records]:
    records = Web(cache="data/raw/help", **{"delay_s": 0.0, **params}).read(root)
    parts = list(records.parts)
    return (
        [item for part in parts for item in part.items],
        [(row.number, row.reason) for part in parts for row in part.broken],
        records,
    )


def test_main_text_of_a_sitemap_and_a_second_run_offline(site: Site, tmp_path: Path) -> None:
    urls = [site.page(f"/help/{title}", title) for title in ("returns", "refunds")]
    entries = "".join(f"<url><loc>{url}</loc><lastmod>2026-01-01</lastmod></url>" for url in urls)
    site.pages["/sitemap.xml"] = (200, {}, gzip.compress(SITEMAP.format(entries).encode()))
    index = f'<sitemapindex xmlns="http://www.sitemaps.org/schemas/sitemap/0.9"><sitemap><loc>{site.url}/sitemap.xml</loc></sitemap></sitemapindex>'
    site.pages["/index.xml"] = (200, {}, index.encode())
    site.pages["/plain"] = (200, {"Content-Type": "text/plain"}, b"Just text.")
    params: dict[str, Any] = {"sitemap": f"{site.url}/index.xml", "urls": (f"{site.url}/plain",)}

    rows, broken, records = read(tmp_path, **params)
    assert broken == []
    assert [row["url"] for row in rows] == [f"{site.url}/plain", *urls]
    assert rows[0]["text"] == "Just text."
    assert rows[1]["title"] == "returns"
    assert rows[1]["text"].splitlines()[-1].startswith("We refund returns within five days")
    assert not any(word in rows[1]["text"] for word in ("Cart", "Copyright"))
    assert site.paths == ["/robots.txt", "/index.xml", "/sitemap.xml", "/plain", "/help/returns", "/help/refunds"]
    assert site.agents == {"Heptune"}

    kept = {p.name: p.read_bytes() for p in (tmp_path / "data/raw/help").iterdir()}
    site.asked.clear()
    site.pages.clear()
    again = read(tmp_path, **params)
    assert again[:2] == (rows, [])
    assert again[2].files == records.files
    assert site.asked == []
    assert {p.name: p.read_bytes() for p in (tmp_path / "data/raw/help").iterdir()} == kept


def test_robots_are_obeyed_also_wildcards_and_behind_a_redirect(site: Site, tmp_path: Path) -> None:
    site.pages["/robots.txt"] = (200, {}, b"User-agent: *\nDisallow: /\n\nUser-agent: heptune\nDisallow: /*/private$\n")
    urls = (site.page("/a/private", "secret"), site.page("/a/private/not", "open"), f"{site.url}/moved")
    site.pages["/moved"] = (302, {"Location": "/a/private"}, b"")
    rows, broken, _ = read(tmp_path, urls=urls)
    assert [row["title"] for row in rows] == ["open"]
    assert broken == [(1, "robots.txt forbids it"), (3, "robots.txt forbids it")]
    assert "/a/private" not in site.paths
    # What was forbidden is remembered too.
    site.asked.clear()
    assert read(tmp_path, urls=urls)[1] == broken
    assert site.asked == []


def test_where_robots_cannot_be_read_nothing_is_asked_until_the_next_run(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.corpus.reading.sources.web_pages.MAX_ATTEMPTS", 1)
    site.pages["/robots.txt"] = (500, {}, b"")
    urls = (site.page("/a", "a"), site.page("/b", "b"))
    with pytest.raises(PipelineError, match=r"none of its 2 pages was answered; .*/a does not .*robots.txt: HTTP 500"):
        read(tmp_path, urls=urls)
    assert site.paths == ["/robots.txt"]
    site.pages["/robots.txt"] = (404, {}, b"")
    assert [row["title"] for row in read(tmp_path, urls=urls)[0]] == ["a", "b"]


def test_pauses_between_requests(site: Site, tmp_path: Path) -> None:
    site.pages["/robots.txt"] = (200, {}, b"User-agent: *\nCrawl-delay: 0.3\n")
    busy = (429, {"Retry-After": "1"}, b"")
    fine = (200, {"Content-Type": "text/html"}, HTML.format(title="b").encode())
    site.pages["/b"] = lambda count: busy if count == 1 else fine
    rows, _, _ = read(tmp_path, urls=(site.page("/a", "a"), f"{site.url}/b"), delay_s=0.1)
    assert [row["title"] for row in rows] == ["a", "b"]
    times = [moment for _, moment in site.asked]
    assert site.paths == ["/robots.txt", "/a", "/b", "/b"]
    assert times[1] - times[0] >= 0.3
    assert times[2] - times[1] >= 0.3
    assert times[3] - times[2] >= 1.0


def test_pages_that_give_no_row_say_why(site: Site, tmp_path: Path) -> None:
    site.pages |= {
        "/image": (200, {"Content-Type": "image/png"}, b"\x89PNG"),
        "/empty": (200, {"Content-Type": "text/html"}, b"<html><body></body></html>"),
        "/latin": (200, {"Content-Type": "text/plain"}, b"caf\xe9"),
        "/loop": (301, {"Location": "/loop"}, b""),
        "/file": (301, {"Location": "file:///etc/passwd"}, b""),
        "/bomb": (200, {"Content-Type": "text/html", "Content-Encoding": "gzip"}, gzip.compress(b" " * 50_000_000)),
        "/packed": (200, {"Content-Type": "text/plain", "Content-Encoding": "gzip"}, gzip.compress(b"fine")),
    }
    names = ("gone", "image", "empty", "latin", "loop", "file", "bomb", "packed")
    rows, broken, _ = read(tmp_path, urls=tuple(f"{site.url}/{name}" for name in names))
    assert [row["text"] for row in rows] == ["fine"]
    assert [reason for _, reason in broken] == [
        "HTTP 404",
        "not a page of text (image/png)",
        "no main text",
        "not UTF-8",
        "more than 5 redirects",
        "it redirects to what is no page",
        "larger than 10 MiB",
    ]


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504, 521])
def test_a_page_that_does_not_answer_is_listed_and_asked_again_by_the_next_run(
    status: int, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.corpus.reading.sources.web_pages.MAX_ATTEMPTS", 2)
    urls = (site.page("/a", "a"), f"{site.url}/b")
    site.pages["/b"] = (status, {"Retry-After": "0"}, b"")
    rows, broken, _ = read(tmp_path, urls=urls)
    assert [row["title"] for row in rows] == ["a"]
    assert broken == [(2, f"does not answer (HTTP {status}, 2 times); the next run asks again")]
    assert site.paths == ["/robots.txt", "/a", "/b", "/b"]
    site.page("/b", "b")
    site.asked.clear()
    assert [row["title"] for row in read(tmp_path, urls=urls)[0]] == ["a", "b"]
    assert site.paths == ["/robots.txt", "/b"]


def test_refusals_stay_and_what_earlier_versions_took_for_one_is_asked_again(site: Site, tmp_path: Path) -> None:
    urls = tuple(f"{site.url}/{status}" for status in (401, 403, 404, 410, 451))
    site.pages |= {f"/{status}": (status, {}, b"") for status in (401, 403, 410, 451)}
    broken = read(tmp_path, urls=urls)[1]
    assert [reason for _, reason in broken] == ["HTTP 401", "HTTP 403", "HTTP 404", "HTTP 410", "HTTP 451"]
    site.asked.clear()
    assert read(tmp_path, urls=urls)[1] == broken
    assert site.asked == []
    index = tmp_path / "data/raw/help/index.json"
    kept = {url: {"refusal": "HTTP 502"} for url in (site.page("/a", "a"),)}
    index.write_text(json.dumps(kept))
    assert [row["title"] for row in read(tmp_path, urls=tuple(kept))[0]] == ["a"]


def test_a_host_that_is_down_is_left_alone_after_three_pages(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.corpus.reading.sources.web_pages.MAX_ATTEMPTS", 1)
    urls = tuple(f"{site.url}/{number}" for number in range(6))
    site.page("/0", "fine")
    site.pages |= {f"/{number}": (500, {}, b"") for number in range(1, 6)}
    rows, broken, _ = read(tmp_path, urls=urls)
    assert [row["title"] for row in rows] == ["fine"]
    assert len(broken) == 5
    assert site.paths == ["/robots.txt", "/0", "/1", "/2", "/3"]
    with pytest.raises(PipelineError, match=r"none of its 1 pages was answered; http://127.0.0.1:1/x does not answer"):
        read(tmp_path, urls=("http://127.0.0.1:1/x",))


def test_kept_pages_that_were_changed_and_pins(site: Site, tmp_path: Path) -> None:
    urls = (site.page("/a", "a"),)
    found = next(iter(read(tmp_path, urls=urls)[2].files.values()))
    read(tmp_path, urls=urls, sha256=found)
    with pytest.raises(PipelineError, match=f"has sha256 {found}; pinned is {'0' * 64}"):
        read(tmp_path, urls=urls, sha256="0" * 64)
    (tmp_path / "data/raw/help" / found).write_bytes(b"changed")
    with pytest.raises(PipelineError, match="but its sha256 is"):
        read(tmp_path, urls=urls)


def test_a_sitemap_with_entities_or_of_another_kind_is_refused(site: Site, tmp_path: Path) -> None:
    bomb = '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa">' + "".join(
        f'<!ENTITY {chr(98 + n)} "{"&" + chr(97 + n) + ";"}{"&" + chr(97 + n) + ";"}">' for n in range(20)
    )
    bomb += "]><urlset><url><loc>http://x/&u;</loc></url></urlset>"
    for path, body, reason in (
        ("/bomb.xml", bomb, "Maximum entity nesting depth"),
        ("/page", "<html/>", "its root is <html>"),
        ("/no", "no", "Start tag expected"),
    ):
        site.pages[path] = (200, {}, body.encode())
        with pytest.raises(PipelineError, match=f"is no sitemap .*{reason}"):
            read(tmp_path, sitemap=site.url + path)


def test_params_refuse_what_cannot_work() -> None:
    for params in ({}, {"urls": ("ftp://x/y",)}, {"urls": ("http://me:secret@x/y",)}, {"sitemap": "sitemap.xml"}):
        with pytest.raises(ValidationError):
            Web(cache="data/raw/help", **params)


def test_pages_become_texts_to_go_on_from(site: Site, tmp_path: Path) -> None:
    urls = tuple(site.page(f"/{title}", title) for title in ("returns", "refunds", "gifts"))
    source = Web(urls=(*urls, f"{site.url}/gone"), cache="data/raw/help", delay_s=0.0, title="help")
    rows = read_sources([source], "quarantine", tmp_path)
    assert rows.origins[0].shape == "plain_text"
    assert [[turn["role"] for turn in turns] for turns in rows.table["messages"].to_pylist()] == [["assistant"]] * 3
    assert "We refund gifts within" in rows.table["messages"][2].as_py()[0]["content"]
    assert [(row["source"], row["row"], row["reason"]) for row in rows.dropped.to_pylist()] == [("help", 4, "HTTP 404")]
