"""Write ``docs/images``: the pages of the last run, as a browser shows them.

``python docs/make_screenshots.py`` after `make demo`. Needs Chromium or Chrome on the path.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
IMAGES = ROOT / "docs/images"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
# Pages of the guide, with the height that is shown, pixels.
PAGES = {
    "overview": ("index.html", 900),
    "evaluation": ("evaluation/index.html", 1200),
    "monitoring": ("monitoring/index.html", 1000),
}
WIDTH = 1280


def main() -> int:
    browser = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if browser is None:
        print(f"no browser; expected one of {', '.join(BROWSERS)} on the path", file=sys.stderr)
        return 1
    missing = [page for page, _ in PAGES.values() if not (ROOT / "reports" / page).is_file()]
    if missing:
        print(f"reports: {', '.join(missing)} not there; run `make demo` first", file=sys.stderr)
        return 1
    IMAGES.mkdir(exist_ok=True)
    for name, (page, height) in PAGES.items():
        take(browser, (ROOT / "reports" / page).as_uri(), IMAGES / f"{name}.png", height)
        print(IMAGES / f"{name}.png")
    return 0


def take(browser: str, address: str, image: Path, height: int) -> None:
    """Show a page without a window and keep what is seen."""
    with tempfile.TemporaryDirectory() as profile:
        command = [browser, "--headless", "--no-sandbox", "--hide-scrollbars", f"--user-data-dir={profile}"]
        command += [f"--window-size={WIDTH},{height}", f"--screenshot={image}", address]
        subprocess.run(command, check=True, capture_output=True, timeout=120)


if __name__ == "__main__":
    sys.exit(main())
