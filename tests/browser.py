"""A headless Chromium that is driven as a person would: it opens pages, clicks on what is seen, and tells what went
wrong on the way.

It speaks the DevTools protocol (https://chromedevtools.github.io/devtools-protocol/) over one websocket. No name but
127.0.0.1 is resolved, so that a page that loads something from elsewhere shows an error.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from websockets.sync.client import connect

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
TIMEOUT_S = 60.0
POLL_S = 0.05
SETTLED_S = 0.5
AGAIN_S = 3.0
LOCAL = ("127.0.0.1", "localhost")
# What a reader sees of a click: a link that is covered by something else, or has no size, cannot be clicked.
FIND = """
(() => {
  const found = [...document.querySelectorAll(%s)].filter(one => one.getClientRects().length);
  if (!found.length) return null;
  found[0].scrollIntoView({block: "center", inline: "center", behavior: "instant"});
  const {left, top, width, height} = found[0].getClientRects()[0];
  const at = [left + width / 2, top + height / 2];
  const hit = document.elementFromPoint(...at);
  return {at, hit: found[0].contains(hit), instead: hit ? hit.outerHTML.slice(0, 200) : "nothing"};
})()
"""

CUT_OFF = """
[...document.querySelectorAll("body *")]
  .filter(one => one.clientWidth && one.scrollWidth > one.clientWidth + 40)
  .filter(one => ["hidden", "clip"].includes(getComputedStyle(one).overflowX) && one.innerText.trim())
  .concat([...document.querySelectorAll("td, th")].filter(one => one.clientWidth < 50 && one.innerText.length > 14))
  .map(one => one.cloneNode(false).outerHTML.slice(0, 100))
"""


class Tab:
    """A tab of the browser.

    Attributes:
        errors: What the console shows in red, failed requests among it, since the last `visit` or `click`.
        requests: Addresses that were loaded since then, without ``data:``.
    """

    def __init__(self, socket: Any) -> None:
        self._socket, self._calls, self._session = socket, 0, ""
        self._loaded = False
        self.errors: list[str] = []
        self.requests: list[str] = []
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self._call(f"{domain}.enable")

    def resize(self, width: int, height: int = 900) -> None:
        """Show pages as a screen of this width does, pixels; below 700 as a phone, which obeys the page's viewport."""
        self._call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 700
        )

    def visit(self, address: str) -> None:
        """Open a page and wait until it has loaded.

        Raises:
            AssertionError: There is no such page, or it takes too long.
        """
        self._begin()
        answer = self._call("Page.navigate", url=address)
        assert "errorText" not in answer, f"{address}: {answer['errorText']}"
        if answer.get("loaderId"):  # another part of the same page is shown at once
            self._wait(lambda: self._loaded, f"{address} to load")

    def click(self, selector: str) -> str:
        """Click on the first thing that a selector finds, as a mouse does, and wait for the page that it leads to.

        A page that opens in a tab of its own is shown in this one.

        Returns:
            The address of that page.

        Raises:
            AssertionError: There is nothing to click on, something covers it, or no other page comes.
        """
        before, others = self.address, self._list_tabs()
        self.press(selector)

        def opened() -> dict[str, str]:
            return {tab: url for tab, url in self._list_tabs().items() if tab not in others and url != "about:blank"}

        self._wait(lambda: opened() or self.address != before, f"{selector} to lead on")
        if opened():
            self._listen(SETTLED_S)  # until the last of its redirects
            ((tab, address),) = opened().items()
            self._call("Target.closeTarget", targetId=tab)
            self.visit(address)
        self._wait(lambda: self.evaluate("document.readyState") == "complete", f"{self.address} to load")
        return self.address

    def show(self, selector: str, by: str) -> None:
        """Click on something until something else is shown: what moves while a page is drawn may be missed.

        Args:
            selector: What is to be shown.
            by: What is clicked on.

        Raises:
            AssertionError: It is not shown in time, or there is nothing to click on.
        """
        deadline = time.monotonic() + TIMEOUT_S
        while not self.is_shown(selector):
            assert time.monotonic() < deadline, f"{by} on {self.address} does not show {selector}"
            self.press(by)
            self._listen(AGAIN_S)

    def press(self, selector: str) -> None:
        """Click on the first thing that a selector finds, wherever that leads.

        Raises:
            AssertionError: There is nothing to click on, or something covers it.
        """
        self.wait_for(selector)
        self._begin()
        found = self.evaluate(FIND % json.dumps(selector))
        assert found, f"{self.address}: {selector} is gone"
        assert found["hit"], f"{self.address}: {selector} is covered by {found['instead']}"
        x, y = found["at"]
        for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
            button = {} if kind == "mouseMoved" else {"button": "left", "clickCount": 1}
            self._call("Input.dispatchMouseEvent", type=kind, x=x, y=y, **button)

    def wait_for(self, selector: str) -> None:
        """Wait until a page that draws itself shows something.

        Raises:
            AssertionError: It does not in time.
        """
        self._wait(lambda: self.is_shown(selector), f"{selector} on {self.address}")

    def is_shown(self, selector: str) -> bool:
        """Whether anything that a selector finds can be seen."""
        found = f"[...document.querySelectorAll({json.dumps(selector)})]"
        return bool(self.evaluate(f"{found}.some(one => one.getClientRects().length > 0)"))

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression; None where the page went away meanwhile."""
        answer = self._call("Runtime.evaluate", expression=expression, returnByValue=True)
        return answer.get("result", {}).get("value")

    @property
    def address(self) -> str:
        return str(self.evaluate("location.href"))

    @property
    def width(self) -> int:
        """Pixels that the page takes in width; more than those of the screen is a scroll bar below the page."""
        return int(self.evaluate("document.scrollingElement.scrollWidth"))

    def list_cut_off(self) -> list[str]:
        """Parts of the page whose sides are hidden and to which nobody can scroll, and cells too narrow for words."""
        parts: list[str] = self.evaluate(CUT_OFF)
        return parts

    def list_links(self) -> list[str]:
        """Addresses of all links that can be seen."""
        links: list[str] = self.evaluate(
            "[...document.querySelectorAll('a[href]')].filter(one => one.getClientRects().length).map(one => one.href)"
        )
        return links

    def has_anchor(self, name: str) -> bool:
        """Whether the page has a place of this name."""
        place = json.dumps(name)
        return bool(self.evaluate(f"!!(document.getElementById({place}) || document.getElementsByName({place})[0])"))

    def take_picture(self, path: Path) -> None:
        """Write the whole page as a PNG file."""
        import base64

        size = self._call("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": min(size["height"], 16_000), "scale": 1}
        answer = self._call("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip)
        path.write_bytes(base64.b64decode(answer["data"]))

    def _list_tabs(self) -> dict[str, str]:
        """Addresses of all tabs by their id."""
        found = self._call("Target.getTargets")["targetInfos"]
        return {target["targetId"]: target["url"] for target in found if target["type"] == "page" and target["url"]}

    def _begin(self) -> None:
        self._loaded, self.errors, self.requests = False, [], []

    def _wait(self, condition: Callable[[], Any], what: str) -> None:
        deadline = time.monotonic() + TIMEOUT_S
        while not condition():
            assert time.monotonic() < deadline, f"waited {TIMEOUT_S:g} s for {what}; errors: {self.errors}"
            self._listen(POLL_S)

    def _call(self, method: str, **params: Any) -> dict[str, Any]:
        """Ask the browser for something; what happens meanwhile is noted.

        Raises:
            AssertionError: It refuses.
        """
        self._calls += 1
        number = self._calls
        message = {"id": number, "method": method, "params": params}
        self._socket.send(json.dumps(message | ({"sessionId": self._session} if self._session else {})))
        while True:
            answer = json.loads(self._socket.recv(timeout=TIMEOUT_S))
            if answer.get("id") == number:
                # A page that is being left has nothing to evaluate in.
                assert "error" not in answer or method == "Runtime.evaluate", f"{method}: {answer['error']}"
                result: dict[str, Any] = answer.get("result", {})
                return result
            self._note(answer)

    def _listen(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            try:
                self._note(json.loads(self._socket.recv(timeout=left)))
            except TimeoutError:
                return

    def _note(self, event: dict[str, Any]) -> None:
        kind, params = event.get("method"), event.get("params", {})
        if kind == "Page.loadEventFired":
            self._loaded = True
        elif kind == "Network.requestWillBeSent":
            if not (address := params["request"]["url"]).startswith(("data:", "blob:")):
                self.requests.append(address)
        elif kind == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            self.errors.append(details.get("exception", {}).get("description") or details["text"])
        elif kind == "Runtime.consoleAPICalled" and params["type"] in ("error", "assert"):
            self.errors.append(" ".join(str(each.get("value", each.get("description"))) for each in params["args"]))
        elif kind == "Log.entryAdded" and params["entry"]["level"] == "error":
            entry = params["entry"]
            self.errors.append(f"{entry['text']} {entry.get('url', '')}".strip())


def find_browser() -> str | None:
    """The program; None where there is no Chromium."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


@contextmanager
def open_browser() -> Iterator[Tab]:
    """A tab of a browser that ends with the block; skips where there is no Chromium."""
    program = find_browser()
    if program is None:
        pytest.skip(f"no browser: none of {', '.join(NAMES)} is on the path")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [program, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
        command += ["--disable-background-networking", "--disable-component-update", "--remote-debugging-port=0"]
        command += [f"--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE {LOCAL[0]}", f"--user-data-dir={profile}"]
        process = subprocess.Popen(
            [*command, "about:blank"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            place = Path(profile, "DevToolsActivePort")
            deadline = time.monotonic() + TIMEOUT_S
            while not (place.is_file() and len(place.read_text().splitlines()) == 2):
                assert process.poll() is None, f"{program} ended by itself"
                assert time.monotonic() < deadline, f"{program} does not answer"
                time.sleep(POLL_S)
            port, path = place.read_text().splitlines()
            with connect(f"ws://{LOCAL[0]}:{port}{path}", max_size=None, compression=None, proxy=None) as socket:
                yield Tab(socket)
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def is_local(address: str) -> bool:
    """Whether an address is on this machine: a file, or a server on loopback."""
    parts = urlsplit(address)
    return parts.scheme in ("file", "about") or parts.hostname in LOCAL
