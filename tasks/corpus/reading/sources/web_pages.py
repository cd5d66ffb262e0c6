"""Fetch pages politely, once.

robots.txt (RFC 9309) is asked first and obeyed: one that is not there (4xx) allows everything, one that cannot be read
(5xx, no answer) forbids. Between two requests to a host lies a pause, after a 429 or 503 the one it asks for. A
redirect is followed with the same care.

What came back is kept below a folder: the body in a file named after its SHA-256, and in ``index.json`` for each URL
its hash and kind, or why there is none. Only a host that does not answer leaves no trace, so that the next run tries
again.
"""

from __future__ import annotations

import hashlib
import time
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

from tasks.contracts.errors import PipelineError
from tasks.contracts.manifest import read_json, write_json

if TYPE_CHECKING:
    from protego import Protego

INDEX = "index.json"
MOST_REDIRECTS = 5
TRIES = 4
LONGEST_WAIT_S = 60.0
LARGEST_ROBOTS = 512 * 1024
FORBIDDEN = "robots.txt forbids it"


@dataclass(frozen=True)
class WebPage:
    """What a URL gave.

    Attributes:
        body: Its bytes.
        kind: Content type, without parameters.
        sha256: Of the body; empty where there is none.
        refusal: Why there is no body; empty where there is one.
    """

    body: bytes = b""
    kind: str = ""
    sha256: str = ""
    refusal: str = ""


class Pages:
    """Pages of the web, kept in a folder.

    Args:
        folder: Where they are kept.
        title: Name of the source, for messages.
        agent: Name of the product.
        delay_s: Least seconds between two requests to a host.
        timeout_s: Seconds a server may be silent.
    """

    def __init__(self, folder: Path, title: str, agent: str, delay_s: float, timeout_s: float) -> None:
        import httpx

        self._folder, self._title, self._agent, self._delay_s = folder, title, agent, delay_s
        self._index: dict[str, dict[str, str]] = read_json(folder / INDEX) if (folder / INDEX).is_file() else {}
        self._client = httpx.Client(headers={"User-Agent": agent, "Accept-Encoding": "gzip"}, timeout=timeout_s)
        self._rules: dict[str, Protego | None] = {}
        self._asked: dict[str, float] = {}

    def __enter__(self) -> Pages:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._client.close()

    def get(self, url: str, most: int) -> WebPage:
        """The page, from the folder where it is there, else from the web.

        Args:
            url: The page.
            most: Bytes a body may have.

        Raises:
            PipelineError: The host does not answer, or the kept page was changed.
        """
        if url not in self._index:
            page = self._fetch(url, most)
            if page.sha256:
                self._folder.mkdir(parents=True, exist_ok=True)
                (self._folder / page.sha256).write_bytes(page.body)
            entry = {"refusal": page.refusal, "kind": page.kind, "sha256": page.sha256}
            self._index[url] = {name: value for name, value in entry.items() if value}
            write_json(self._folder / INDEX, self._index)
        entry = self._index[url]
        if "sha256" not in entry:
            return WebPage(refusal=entry["refusal"])
        file = self._folder / entry["sha256"]
        body = file.read_bytes() if file.is_file() else b""
        found = hashlib.sha256(body).hexdigest()
        if found != entry["sha256"]:
            raise PipelineError(
                f"{file}: {url} is kept there, but its sha256 is {found}; delete {self._folder} to fetch anew"
            )
        return WebPage(body, entry.get("kind", ""), found)

    def _fetch(self, url: str, most: int) -> WebPage:
        for _ in range(MOST_REDIRECTS + 1):
            if urlsplit(url).scheme not in ("http", "https"):
                return WebPage(refusal="it redirects to what is no page")
            rules = self._read_rules(url)
            if rules is None or not rules.can_fetch(url, self._agent):
                return WebPage(refusal=FORBIDDEN)
            status, headers, body = self._ask(url, most, rules.crawl_delay(self._agent) or 0.0)
            if status in (301, 302, 303, 307, 308) and "location" in headers:
                url = urljoin(url, headers["location"])
                continue
            if status != 200:
                return WebPage(refusal=f"HTTP {status}")
            if len(body) > most:
                return WebPage(refusal=f"larger than {most >> 20} MiB")
            kind = headers.get("content-type", "").partition(";")[0].strip().lower()
            return WebPage(body, kind, hashlib.sha256(body).hexdigest())
        return WebPage(refusal=f"more than {MOST_REDIRECTS} redirects")

    def _read_rules(self, url: str) -> Protego | None:
        """The rules of a host; None forbids everything."""
        from protego import Protego

        parts = urlsplit(url)
        host = f"{parts.scheme}://{parts.netloc}"
        if host not in self._rules:
            place = f"{host}/robots.txt"
            for _ in range(MOST_REDIRECTS + 1):
                status, headers, body = self._ask(place, LARGEST_ROBOTS, 0.0)
                if status not in (301, 302, 303, 307, 308) or "location" not in headers:
                    break
                place = urljoin(place, headers["location"])
            if status >= 500:
                self._rules[host] = None
            else:
                text = body[:LARGEST_ROBOTS].decode(errors="replace") if status == 200 else ""
                self._rules[host] = Protego.parse(text)
        return self._rules[host]

    def _ask(self, url: str, most: int, delay_s: float) -> tuple[int, Any, bytes]:
        """Status, headers and body of one URL; of the body little more than ``most`` bytes."""
        import httpx

        host = urlsplit(url).netloc
        trouble = ""
        wait_s = 0.0
        for _ in range(TRIES):
            pause = self._asked.get(host, float("-inf")) + max(self._delay_s, delay_s, wait_s) - time.monotonic()
            if pause > 0:
                time.sleep(pause)
            try:
                with self._client.stream("GET", url) as answer:
                    body = _unpack(answer.iter_raw(), answer.headers.get("content-encoding", ""), most)
                    if answer.status_code not in (429, 503):
                        return answer.status_code, answer.headers, body
                    trouble = f"HTTP {answer.status_code}"
                    asked = answer.headers.get("retry-after", "")
                    wait_s = min(float(asked) if asked.isdigit() else 2 * max(wait_s, 0.5), LONGEST_WAIT_S)
            except (httpx.HTTPError, httpx.InvalidURL, zlib.error) as error:
                trouble = f"{type(error).__name__}: {error}"[:200]
                wait_s = min(2 * max(wait_s, 0.5), LONGEST_WAIT_S)
            finally:
                self._asked[host] = time.monotonic()
        raise PipelineError(
            f'source "{self._title}": {url} does not answer ({trouble}, {TRIES} times); '
            "what was fetched is kept, so run again, or take it out"
        )


def _unpack(blocks: Iterable[bytes], coding: str, most: int) -> bytes:
    """The body of an answer, cut shortly after ``most`` bytes however well it is packed."""
    body = bytearray()
    # Either of gzip and deflate, told apart by their first bytes; anything else was not asked for.
    decompressor = zlib.decompressobj(47) if coding.strip().lower() in ("gzip", "x-gzip", "deflate") else None
    for block in blocks:
        body += decompressor.decompress(block, most + 1 - len(body)) if decompressor else block
        if len(body) > most:
            break
    return bytes(body)
