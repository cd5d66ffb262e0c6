"""Web pages as plain text, listed or found in a sitemap: the main text of each without menus and footers.

Main text by trafilatura (Barbaresi, "Trafilatura: A Web Scraping Library", ACL 2021). Pages are fetched politely, see
`web_pages`, and cached below ``cache``: a cached page is never fetched again, so a second run needs no network and
gives the same bytes. A page that did not answer is a broken row and asked for again by the next run. To fetch anew,
delete the folder. Below ``data/raw`` DVC tracks it.

Example:
    ``{name: web, title: help, sitemap: "https://help.example.com/sitemap.xml", cache: data/raw/help}`` reads a row
    ``{"url": ..., "title": ..., "text": ...}`` a page.
"""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from tasks.contracts.errors import PipelineError
from tasks.corpus.reading.sources.pins import check_pin, log
from tasks.corpus.reading.sources.source import Broken, Part, Records, Source
from tasks.corpus.reading.sources.values import has_surrogates

if TYPE_CHECKING:
    from tasks.corpus.reading.sources.web_pages import Pages, WebPage

LARGEST_PAGE = 10 * 1024 * 1024
# The sitemap protocol's bounds: 50,000 addresses and 50 MB a file, one level of sitemaps in a sitemap index.
LARGEST_SITEMAP = 50 * 1024 * 1024
PAGE_KINDS = ("text/html", "application/xhtml+xml", "text/plain")


class Web(Source):
    """Pages of the web."""

    name: Literal["web"] = "web"
    urls: tuple[str, ...] = Field(default=(), description="pages")
    sitemap: str | None = Field(
        default=None, description="URL of a sitemap, or of a sitemap index; its pages come after urls"
    )
    cache: str = Field(min_length=1, description="cache folder, such as data/raw/help")
    agent: str = Field(
        default="Heptune",
        pattern="^[A-Za-z_-]+$",
        description="user agent of the requests and of the rules in robots.txt",
    )
    delay_s: float = Field(
        default=1.0, ge=0, description="seconds between two requests to a host; a longer Crawl-delay has precedence"
    )
    timeout_s: float = Field(default=30.0, gt=0, description="seconds to wait for data from the server")
    max_pages: int = Field(
        default=1000, ge=1, description="maximum number of pages; further pages are skipped with a warning"
    )

    @field_validator("urls", "sitemap")
    @classmethod
    def _check_urls(cls, value: Any) -> Any:
        for url in (value,) if isinstance(value, str) else value or ():
            parts = urlsplit(url)
            if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None:
                raise ValueError(f"{url} is no URL of the web; expected http://host/path or https://host/path")
        return value

    @model_validator(mode="after")
    def _check_pages(self) -> Web:
        if not self.urls and self.sitemap is None:
            raise ValueError("name pages in urls, or a sitemap")
        return self

    @property
    def place(self) -> str:
        """What it reads, for messages and reports."""
        return self.sitemap or (
            self.urls[0] if len(self.urls) == 1 else f"{len(self.urls)} pages, the first {self.urls[0]}"
        )

    def read(self, root: Path) -> Records:
        """Read the pages in their order; one that is refused, not answered or without main text becomes a broken row.

        Raises:
            PipelineError: No page was answered, a cached page was changed, or the sitemap is invalid.
        """
        hashes: dict[str, str] = {}
        return Records(self._read(root, hashes), hashes)

    def _read(self, root: Path, hashes: dict[str, str]) -> Iterator[Part]:
        from tasks.corpus.reading.sources.web_pages import Pages

        title = self.title or self.name
        missing = [name for name in ("lxml", "protego", "trafilatura") if find_spec(name) is None]
        if missing:
            raise PipelineError(f"source \"{title}\": {', '.join(missing)} missing; run `pip install 'heptune[web]'`")
        with Pages(root / self.cache, title, self.agent, self.delay_s, self.timeout_s) as pages:
            urls = list(dict.fromkeys([*self.urls, *self._list_sitemap(pages)]))
            if len(urls) > self.max_pages:
                log.warning('source "%s": %d pages beyond max_pages are left out', title, len(urls) - self.max_pages)
            failures: list[str] = []
            for number, url in enumerate(urls[: self.max_pages], start=1):
                page = pages.get(url, LARGEST_PAGE)
                if not page.answered:
                    failures.append(f"{url} {page.refusal}")
                    log.warning('source "%s": %s', title, failures[-1])
                if page.sha256:
                    hashes[url] = page.sha256
                reason, text = (page.refusal, "") if page.refusal else read_page(page)
                if reason:
                    yield Part(broken=[Broken(number, reason, url)])
                else:
                    yield Part("", [{"url": url, "title": read_title(page), "text": text}], [number])
        if failures and len(failures) == len(urls[: self.max_pages]):
            raise PipelineError(f'source "{title}": none of its {len(failures):,} pages was answered; {failures[0]}')
        if hashes or self.sha256 is not None:
            check_pin(self, self.cache, hashes, root)

    def _list_sitemap(self, pages: Pages) -> list[str]:
        if self.sitemap is None:
            return []
        kind, urls = self._read_sitemap(pages, self.sitemap)
        if kind == "urlset":
            return urls
        return [url for nested in urls for url in self._read_sitemap(pages, nested)[1]]

    def _read_sitemap(self, pages: Pages, url: str) -> tuple[str, list[str]]:
        page = pages.get(url, LARGEST_SITEMAP)
        if page.refusal:
            raise PipelineError(
                f'source "{self.title or self.name}": the sitemap {url} is not to be had ({page.refusal})'
            )
        try:
            return read_sitemap(page.body)
        except ValueError as error:
            raise PipelineError(
                f'source "{self.title or self.name}": {url} is no sitemap ({error}); list urls'
            ) from error


def read_page(page: WebPage) -> tuple[str, str]:
    """The reason why a page gives no row, empty if it gives one, and its main text."""
    import trafilatura

    if page.kind not in PAGE_KINDS:
        return f"not a page of text ({page.kind or 'no content type'})", ""
    if page.kind == "text/plain":
        try:
            text = page.body.decode()
        except UnicodeDecodeError:
            return "not UTF-8", ""
    else:
        text = trafilatura.extract(page.body, include_comments=False, include_tables=True, deduplicate=False) or ""
    if has_surrogates(text):
        return "not UTF-8", ""
    return ("", text) if text.strip() else ("no main text", "")


def read_title(page: WebPage) -> str:
    """The title of a page; empty if it has none."""
    if page.kind == "text/plain":
        return ""
    from trafilatura.metadata import extract_metadata

    return extract_metadata(page.body).title or ""


def read_sitemap(body: bytes) -> tuple[str, list[str]]:
    """The kind of a sitemap (``urlset`` or ``sitemapindex``) and its http and https URLs.

    Raises:
        ValueError: It is no valid sitemap.
    """
    from lxml import etree

    if body.startswith(b"\x1f\x8b"):
        try:
            body = gzip.GzipFile(fileobj=io.BytesIO(body)).read(LARGEST_SITEMAP + 1)
        except (OSError, EOFError, zlib.error) as error:
            raise ValueError(f"torn gzip: {error}") from error
        if len(body) > LARGEST_SITEMAP:
            raise ValueError(f"unpacks to more than {LARGEST_SITEMAP >> 20} MiB")
    # Entities and external files are not needed in a sitemap, and are used for attacks.
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False)
    try:
        tree = etree.fromstring(body, parser)
    except etree.XMLSyntaxError as error:
        raise ValueError(str(error)) from error
    kind = etree.QName(tree).localname
    if kind not in ("urlset", "sitemapindex"):
        raise ValueError(f"its root is <{kind}>")
    urls = [(node.text or "").strip() for node in tree.iterfind("{*}*/{*}loc")]
    return kind, [url for url in urls if urlsplit(url).scheme in ("http", "https")]
