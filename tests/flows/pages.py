"""Every page that can be reached from one, in a browser: nothing is broken, cut off or fetched from elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit

import httpx

from tests.browser import Tab, is_local

# Pixels: a laptop and a phone.
WIDTHS = (1280, 420)


@dataclass
class Walk:
    """What a walk over pages found.

    Attributes:
        pages: Addresses of the pages that were seen, in the order of the walk.
        faults: What was wrong, a line each.
    """

    pages: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


def walk_pages(tab: Tab, start: str, root: str, passed_by: str = "") -> Walk:
    """Open a page and all that its links lead to, each in every width.

    Args:
        tab: Where.
        start: The first page.
        root: Beginning of the addresses that are walked; what is linked beside them must be there too.
        passed_by: Part of addresses that are only asked for, since there are many of the same kind.
    """
    walk, waiting, anchors = Walk(), [start], list[tuple[str, str, str]]()
    known: dict[str, bool] = {start: True}
    while waiting:
        page = waiting.pop(0)
        walk.pages.append(page)
        for width in WIDTHS:
            tab.resize(width)
            tab.visit(page)
            if (found := tab.width) > width:
                walk.faults.append(f"{page}: is {found} pixels wide on a screen of {width}")
            walk.faults += [f"{page}: cuts off the side of {part} at {width} pixels" for part in tab.list_cut_off()]
        walk.faults += [f"{page}: {error}" for error in tab.errors]
        walk.faults += [f"{page}: loads {address}" for address in tab.requests if not is_local(address)]
        for link in dict.fromkeys(tab.list_links()):
            address, anchor = urldefrag(link)
            if not is_local(address):
                continue
            if address not in known:
                known[address] = answers(address)
                walked = address.startswith(root) and is_page(address) and not (passed_by and passed_by in address)
                if walked and known[address]:
                    waiting.append(address)
            if not known[address]:
                walk.faults.append(f"{page}: leads to {address}, which is not there")
            # MLflow's addresses have their page behind the #.
            elif anchor and address.startswith((root, "file:")):
                anchors.append((page, address, anchor))
    for page, address, anchor in anchors:
        tab.visit(address)
        if not tab.has_anchor(unquote(anchor)):
            walk.faults.append(f"{page}: leads to {address}#{anchor}, a place that is not there")
    return walk


def is_page(address: str) -> bool:
    """Whether an address names a page, by its ending; servers name many without one."""
    return Path(urlsplit(address).path).suffix in ("", ".html")


def answers(address: str) -> bool:
    """Whether there is anything at a local address."""
    if urlsplit(address).scheme == "file":
        return Path(unquote(urlsplit(address).path)).exists()
    # As a browser asks; Prefect's server has pages for nobody else.
    return httpx.get(address, headers={"accept": "text/html"}, timeout=30, follow_redirects=True).status_code == 200


def click_through(tab: Tab, overview: str, stages: Sequence[str]) -> None:
    """Go from the overview to each stage's page and back, and once from stage to stage, by clicks.

    Raises:
        AssertionError: A click is not possible, or leads elsewhere.
    """
    folder = overview.rsplit("/", 1)[0]
    tab.visit(overview)
    for stage in stages:
        page = f"{folder}/{stage}/index.html"
        assert tab.click(f'a[href="{stage}/index.html"]') == page
        assert tab.click("nav a.brand") == overview, f"{page} has another way back"
    tab.click(f'a[href="{stages[0]}/index.html"]')
    for stage in stages[1:]:
        assert tab.click("nav a[rel=next]") == f"{folder}/{stage}/index.html"
    for stage in reversed(stages[:-1]):
        assert tab.click("nav a[rel=prev]") == f"{folder}/{stage}/index.html"
