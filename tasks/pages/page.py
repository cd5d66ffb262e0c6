"""The look of every report page: one HTML file, the same bytes for the same content.

A page is an out of DVC, so it holds neither a date nor the name of the run that wrote it: the same work gives the same
bytes through whatever door it was started. Its header has a place for them (`fill_run`). In the checkout a script fills
the place from ``reports/runs.js``, which the overview writes beside the pages from the records of the runs; it names
the run that wrote these very bytes, also where DVC restored them. A copy that is kept elsewhere is filled when it is
made.

Example:
    >>> page = Page("Data preparation", "6,000 rows in, 5,412 out.")
    >>> page.cards({"rows in": "6,000", "rows out": "5,412"})
    >>> page.table("Splits", ["split", "rows"], [["train", 4800], ["test", 612]])
    >>> "Data preparation" in page.render()
    True
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from tasks.contracts.manifest import write_bytes
from tasks.pages.examples import ShownChange
from tasks.pages.stages import STAGE_TITLES, list_neighbours
from tasks.pages.text import printable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Tone = Literal["good", "bad", "warn", "plain"]
BLANK = ("", "–", "-")  # empty cells of a numeric column
_NUMBER = re.compile(r"[+-]?\d[\d,.]*(%( \(|\Z)|\Z)")  # a percentage with its interval, if it has one
_NO_ANCHOR = re.compile(r"[^a-z0-9]+")
_LONG_WORD = re.compile(r"[\w./:-]{10,}")
_CODE = re.compile(r"`([^`\n]{1,200})`")
_BREAK_AFTER = re.compile(r"([_/.])(?=\w)")
PALETTE = ("#2f5bea", "#e8833a", "#1f9d76", "#b64fc8", "#c43d4b", "#6b7280")


def _show_printable(value: Any) -> Any:
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value


_environment = Environment(
    loader=PackageLoader("tasks.pages"), autoescape=True, undefined=StrictUndefined, finalize=_show_printable
)


class Page:
    """A report page, filled from top to bottom and written once.

    Args:
        title: Heading of the page.
        lede: One or two sentences that summarise the result.
        verdict: A short word shown as a badge beside the title (``passed``, ``drift``), if any.
        tone: Colour of the badge.
        stage: Name of the stage or command whose folder below ``reports`` the page is in.
        inside: Folder of the page within that of its stage, such as ``data_docs``; empty for those directly in it.
    """

    def __init__(
        self, title: str, lede: str, verdict: str = "", tone: Tone = "plain", *, stage: str = "", inside: str = ""
    ) -> None:
        self.title, self.lede, self.verdict, self.tone = title, lede, verdict, tone
        self.stage = stage
        self.above = "../" * (1 + len(Path(inside).parts))
        self.blocks: list[dict[str, Any]] = []

    @property
    def ways(self) -> list[tuple[str, str, str]]:
        """Links of the header, but the one to the overview: relation, stage and text."""
        before, after = list_neighbours(self.stage)
        own = self.stage if self.title != STAGE_TITLES.get(self.stage, self.title) else None
        ways = (("prev", before), ("up", own), ("next", after))
        return [(relation, name, STAGE_TITLES[name]) for relation, name in ways if name]

    def cards(self, values: Mapping[str, str | int | float]) -> None:
        """A row of cards: large figures with their names below."""
        self.blocks.append({"kind": "cards", "values": {k: show(v) for k, v in values.items()}})

    def heading(self, text: str) -> None:
        self.blocks.append({"kind": "heading", "text": text})

    def text(self, text: str) -> None:
        """One paragraph of plain text."""
        self.blocks.append({"kind": "text", "text": text})

    def listing(self, items: Sequence[str], heading: str = "") -> None:
        """A bulleted list of plain texts."""
        self.blocks.append({"kind": "list", "items": list(items), "heading": heading})

    def table(self, heading: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], note: str = "") -> None:
        """A table; numeric columns are right-aligned. Without rows it shows "None."."""
        cells = list(zip(*rows, strict=True))
        numeric = [_is_numeric(column) for column in cells]
        # Decimals are aligned among numbers only: the settings of a plan have little in common.
        columns_shown = (show_column(c) if n else [show(v) for v in c] for c, n in zip(cells, numeric, strict=True))
        shown = zip(*columns_shown, strict=True)
        self.blocks.append(
            {
                "kind": "table",
                "heading": heading,
                "columns": list(columns),
                "rows": [list(zip(row, numeric, strict=True)) for row in shown],
                "note": note,
            }
        )

    def figure(self, figure: Figure, heading: str, caption: str = "") -> None:
        """A matplotlib figure, embedded as SVG."""
        self.blocks.append({"kind": "figure", "heading": heading, "svg": Markup(svg(figure)), "caption": caption})

    def conversation(self, turns: Sequence[tuple[str, str]], heading: str = "") -> None:
        """A conversation as ``(speaker, text)`` pairs."""
        self.blocks.append({"kind": "conversation", "heading": heading, "turns": list(turns)})

    def changes(self, changes: Sequence[ShownChange]) -> None:
        """Answers of two models side by side, with a filter where the browser runs scripts."""
        groups = sorted({name for one in changes for name in one.group_names})
        self.blocks.append({"kind": "changes", "changes": list(changes), "groups": groups})

    def contents(self) -> None:
        """Links to the headings that follow; from then on each heading has a place of its own."""
        self.blocks.append({"kind": "contents"})

    @property
    def places(self) -> dict[int, tuple[str, str]]:
        """Number of each block with a heading below `contents`, if that is there, to its anchor and heading."""
        kinds = [block["kind"] for block in self.blocks]
        if "contents" not in kinds:
            return {}
        found: dict[int, tuple[str, str]] = {}
        for number, block in enumerate(self.blocks):
            text = block.get("heading") or (block["text"] if block["kind"] == "heading" else "")
            if text and number > kinds.index("contents"):
                found[number] = f"{_NO_ANCHOR.sub('-', text.lower()).strip('-')}-{len(found) + 1}", text
        return found

    def link(self, href: str, text: str) -> None:
        """A link to a file beside the page."""
        self.blocks.append({"kind": "link", "href": href, "text": text})

    def render(self) -> str:
        return _environment.get_template("page.html").render(page=self)

    def render_header(self) -> str:
        """The header alone, with its own style, for a page that another library drew."""
        return _environment.get_template("head.html").render(page=self)

    def write(self, path: Path) -> None:
        """Write the page, aside first and renamed into place."""
        write_bytes(path, self.render().encode())


_RUN = re.compile(r"<!--run-->.*<!--/run-->", re.DOTALL)


def fill_run(html: str, facts: Sequence[tuple[str, str]]) -> str:
    """A rendered page whose header says which run wrote it, for a copy that is kept with its run.

    Args:
        html: The page.
        facts: Names and values, such as ``("made", "2026-11-29 10:30 UTC")``; a page without the place is unchanged.
    """
    filled = " ".join(f"<span>{escape(name)} <b>{escape(printable(value))}</b></span>" for name, value in facts)
    return _RUN.sub(lambda _: f'<p class="run">{filled}</p>', html, count=1)


def _is_numeric(column: Sequence[Any]) -> bool:
    """Whether a column has numbers or percentages only, as text too, and at least one."""
    filled = [cell for cell in column if cell is not None and cell not in BLANK]
    return bool(filled) and all(map(is_number, filled))


def is_number(cell: Any) -> bool:
    """Whether a cell is a number or the text of one."""
    return bool(_NUMBER.match(cell)) if isinstance(cell, str) else True


def allow_breaks(text: str) -> Markup:
    """A text for HTML: long names may break after ``_``, ``/`` and dots, a number stays with its ±."""
    shown = str(escape(printable(text))).replace(" ± ", "\u00a0±\u00a0")
    return Markup(_LONG_WORD.sub(lambda match: _BREAK_AFTER.sub(r"\1<wbr>", match[0]), shown))


def show_code(text: str) -> Markup:
    """A sentence of ours for HTML, with what stands between backticks as code."""
    return Markup(_CODE.sub(r"<code>\1</code>", str(escape(printable(text)))))


def show(value: Any) -> str:
    """A value as text: numbers with thousands separators and four significant digits."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "–"}[value]
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}"
    return str(value)


def show_column(values: Sequence[Any]) -> list[str]:
    """Values of a column as text, fractions with equally many decimals, unless these are more than 4."""
    texts = [show(value) for value in values]
    fractions = [isinstance(value, float) and "e" not in text for value, text in zip(values, texts, strict=True)]
    decimals = max((len(text.partition(".")[2]) for text, f in zip(texts, fractions, strict=True) if f), default=0)
    if not 0 < decimals <= 4:
        return texts
    shown = zip(values, texts, fractions, strict=True)
    return [f"{value:,.{decimals}f}" if fraction else text for value, text, fraction in shown]


def plot_style() -> dict[Any, Any]:
    """Settings for `matplotlib.rc_context`, so that all plots have the same style and are reproducible."""
    from cycler import cycler

    return {
        "svg.hashsalt": "heptune",
        "svg.fonttype": "none",
        "font.family": "sans-serif",
        "font.size": 10,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "grid.color": "#e5e7eb",
        "axes.edgecolor": "#9ca3af",
        "axes.labelcolor": "#374151",
        "xtick.color": "#374151",
        "ytick.color": "#374151",
        "axes.axisbelow": True,
        "axes.prop_cycle": cycler(color=PALETTE),
        "figure.figsize": (7.2, 3.2),
        "legend.frameon": False,
    }


def count_steps(axes: Any) -> None:
    """Label the horizontal axis of a plot as optimizer steps, of which there are no halves."""
    axes.locator_params(axis="x", integer=True)
    axes.set_xlabel("optimizer step")


def svg(figure: Figure) -> str:
    """A figure as an SVG element without dates or random ids."""
    from matplotlib import rc_context

    stream = io.StringIO()
    with rc_context(plot_style()), warnings.catch_warnings():
        # The text stays text in an SVG, and the reader's fonts draw it.
        warnings.filterwarnings("ignore", r"Glyph \d+ .* missing from", UserWarning)
        figure.savefig(stream, format="svg", metadata={"Date": None}, bbox_inches="tight", transparent=True)
    text = stream.getvalue()
    return text[text.index("<svg") :]


_environment.filters |= {"allow_breaks": allow_breaks, "show_code": show_code}
