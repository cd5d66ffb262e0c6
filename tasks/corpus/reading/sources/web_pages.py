"""Fetch web pages politely, with a cache.

robots.txt (RFC 9309) is requested first and obeyed: a missing one (4xx) allows everything; of a host where it is
unavailable (5xx) nothing is requested. Requests to a host are separated by a delay, and by the one that the host asks
for. A redirect is followed with the same checks.

Timeouts, torn connections and the statuses 408, 425, 429 and 5xx are no answer: they are tried again, and after the
last attempt the page counts as not answered. After `UNANSWERED_PAGES` of these in a row the host is left alone for this
run.

Responses are cached in a folder: the body in a file named by its SHA-256, and in ``index.json`` for each URL its hash
and kind, or the reason of the refusal (a status such as 404, or robots.txt). What was not answered is not cached, so
that the next run asks again.
"""

from __future__ import annotations

import hashlib
import re
import time
import zlib
from collections import Counter
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
MAX_REDIRECTS = 5
MAX_ATTEMPTS = 4
# Pages of a host in a row without an answer, after which it is left alone.
UNANSWERED_PAGES = 3
MAX_WAIT_S = 60.0
MAX_ROBOTS_BYTES = 512 * 1024
REFUSED_BY_ROBOTS = "robots.txt forbids it"
# Refusals in the index of earlier versions that were none.
_NO_REFUSAL = re.compile(r"HTTP (?:408|425|429|5\d\d)")


class NotAnsweredError(Exception):
    """A URL that did not answer in any attempt."""


@dataclass(frozen=True)
class WebPage:
    """The response of a URL.

    Attributes:
        body: Its bytes.
        kind: Content type, without parameters.
        sha256: SHA-256 of the body; empty without a body.
        refusal: Reason why there is no body; empty with a body.
        answered: Whether the host answered; if not, ``refusal`` says what happened, and the next run asks again.
    """

    body: bytes = b""
    kind: str = ""
    sha256: str = ""
    refusal: str = ""
    answered: bool = True


class Pages:
    """Web pages, cached in a folder.

    Args:
        folder: The cache folder.
        title: Name of the source, for messages.
        agent: User agent.
        delay_s: Minimum seconds between two requests to a host.
        timeout_s: Seconds to wait for data from the server.
    """

    def __init__(self, folder: Path, title: str, agent: str, delay_s: float, timeout_s: float) -> None:
        import httpx

        self._folder, self._title, self._agent, self._delay_s = folder, title, agent, delay_s
        self._index: dict[str, dict[str, str]] = read_json(folder / INDEX) if (folder / INDEX).is_file() else {}
        self._client = httpx.Client(headers={"User-Agent": agent, "Accept-Encoding": "gzip"}, timeout=timeout_s)
        self._rules: dict[str, Protego] = {}
        self._unanswered: Counter[str] = Counter()
        self._left_alone: dict[str, str] = {}
        self._last_request_s: dict[str, float] = {}

    def __enter__(self) -> Pages:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._client.close()

    def get(self, url: str, max_bytes: int) -> WebPage:
        """A page, from the cache if it is there, else from the web.

        Args:
            url: The page.
            max_bytes: Maximum size of its body.

        Raises:
            PipelineError: The cached page was changed.
        """
        if url not in self._index or _NO_REFUSAL.fullmatch(self._index[url].get("refusal", "")):
            try:
                page = self._fetch(url, max_bytes)
            except NotAnsweredError as error:
                return WebPage(refusal=f"does not answer ({error}); the next run asks again", answered=False)
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
        digest = hashlib.sha256(body).hexdigest()
        if digest != entry["sha256"]:
            raise PipelineError(
                f"{file}: {url} is cached there, but its sha256 is {digest}; delete {self._folder} to fetch anew"
            )
        return WebPage(body, entry.get("kind", ""), digest)

    def _fetch(self, url: str, max_bytes: int) -> WebPage:
        for _ in range(MAX_REDIRECTS + 1):
            if urlsplit(url).scheme not in ("http", "https"):
                return WebPage(refusal="it redirects to what is no page")
            rules = self._read_rules(url)
            if not rules.can_fetch(url, self._agent):
                return WebPage(refusal=REFUSED_BY_ROBOTS)
            status, headers, body = self._request(url, max_bytes, rules.crawl_delay(self._agent) or 0.0)
            if status in (301, 302, 303, 307, 308) and "location" in headers:
                url = urljoin(url, headers["location"])
                continue
            if status != 200:
                return WebPage(refusal=f"HTTP {status}")
            if len(body) > max_bytes:
                return WebPage(refusal=f"larger than {max_bytes >> 20} MiB")
            kind = headers.get("content-type", "").partition(";")[0].strip().lower()
            return WebPage(body, kind, hashlib.sha256(body).hexdigest())
        return WebPage(refusal=f"more than {MAX_REDIRECTS} redirects")

    def _read_rules(self, url: str) -> Protego:
        """The rules of a host's robots.txt."""
        from protego import Protego

        parts = urlsplit(url)
        host = f"{parts.scheme}://{parts.netloc}"
        if host not in self._rules:
            robots_url = f"{host}/robots.txt"
            for _ in range(MAX_REDIRECTS + 1):
                try:
                    status, headers, body = self._request(robots_url, MAX_ROBOTS_BYTES, 0.0)
                except NotAnsweredError as error:
                    self._left_alone[parts.netloc] = f"robots.txt: {error}"
                    raise NotAnsweredError(self._left_alone[parts.netloc]) from error
                if status not in (301, 302, 303, 307, 308) or "location" not in headers:
                    break
                robots_url = urljoin(robots_url, headers["location"])
            text = body[:MAX_ROBOTS_BYTES].decode(errors="replace") if status == 200 else ""
            self._rules[host] = Protego.parse(text)
        return self._rules[host]

    def _request(self, url: str, max_bytes: int, delay_s: float) -> tuple[int, Any, bytes]:
        """Status, headers and body of one URL; the body is truncated shortly after ``max_bytes``.

        Raises:
            NotAnsweredError: No attempt was answered.
        """
        import httpx

        host = urlsplit(url).netloc
        if host in self._left_alone:
            raise NotAnsweredError(self._left_alone[host])
        failure = ""
        wait_s = 0.0
        for _ in range(MAX_ATTEMPTS):
            pause = (
                self._last_request_s.get(host, float("-inf")) + max(self._delay_s, delay_s, wait_s) - time.monotonic()
            )
            if pause > 0:
                time.sleep(pause)
            try:
                with self._client.stream("GET", url) as response:
                    body = _decompress(response.iter_raw(), response.headers.get("content-encoding", ""), max_bytes)
                    if response.status_code not in (408, 425, 429) and response.status_code < 500:
                        self._unanswered[host] = 0
                        return response.status_code, response.headers, body
                    failure = f"HTTP {response.status_code}"
                    retry_after = response.headers.get("retry-after", "")
                    wait_s = min(float(retry_after) if retry_after.isdigit() else 2 * max(wait_s, 0.5), MAX_WAIT_S)
            except (httpx.HTTPError, httpx.InvalidURL, zlib.error) as error:
                failure = f"{type(error).__name__}: {error}"[:200]
                wait_s = min(2 * max(wait_s, 0.5), MAX_WAIT_S)
            finally:
                self._last_request_s[host] = time.monotonic()
        failure = f"{failure}, {MAX_ATTEMPTS} times"
        self._unanswered[host] += 1
        if self._unanswered[host] >= UNANSWERED_PAGES:
            self._left_alone[host] = f"{UNANSWERED_PAGES} pages of {host} in a row did not, the last with {failure}"
        raise NotAnsweredError(failure)


def _decompress(blocks: Iterable[bytes], encoding: str, max_bytes: int) -> bytes:
    """The decompressed body of a response, truncated shortly after ``max_bytes`` whatever its compression ratio."""
    body = bytearray()
    # zlib detects gzip or deflate by the header; no other encoding is accepted by the request.
    decompressor = zlib.decompressobj(47) if encoding.strip().lower() in ("gzip", "x-gzip", "deflate") else None
    for block in blocks:
        body += decompressor.decompress(block, max_bytes + 1 - len(body)) if decompressor else block
        if len(body) > max_bytes:
            break
    return bytes(body)
