"""The card as Markdown, with the front matter that data set hubs read
(https://github.com/huggingface/hub-docs/blob/main/datasetcard.md)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tasks.pages.page import Page

# The hub accepts licence identifiers such as apache-2.0; any other licence is "other" with its name.
LICENCE_IDENTIFIER = re.compile(r"[a-z0-9][a-z0-9.+-]*\Z")
SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
LARGE_SIZES = ((10_000_000, "1M<n<10M"), (100_000_000, "10M<n<100M"), (1_000_000_000, "100M<n<1B"))

_SIGNS = re.compile(r"([\\`*<\[|$])|(?<!\w)(_)|(_)(?!\w)")


def name_size(rows: int) -> str:
    """The hub's name of the size category of a number of rows."""
    return next((name for limit, name in (*SIZES, *LARGE_SIZES) if rows < limit), "n>1B")


def write_front(
    title: str,
    licenses: Sequence[str],
    languages: Sequence[str],
    tasks: Sequence[str],
    rows: int,
    files: Mapping[str, str],
) -> str:
    """The front matter.

    Args:
        title: Name of the data set.
        licenses: Licences of the sources, as stated; an empty text where none is stated.
        languages: ISO 639-1 codes; empty when they are unknown.
        tasks: Task names of the hub.
        rows: Number of rows in all splits.
        files: Split to file name.
    """
    from huggingface_hub import DatasetCardData

    stated = sorted({name for name in licenses if name})
    known = {"unknown"} if "" in licenses or not stated else set()
    known |= {name.lower() if LICENCE_IDENTIFIER.match(name.lower()) else "other" for name in stated}
    named = [name for name in stated if not LICENCE_IDENTIFIER.match(name.lower())]
    extra: dict[str, Any] = {"license_name": ", ".join(named)} if named else {}
    data = DatasetCardData(
        pretty_name=title,
        license=sorted(known) if len(known) > 1 else next(iter(known)),
        language=list(languages) or None,
        size_categories=name_size(rows),
        task_categories=list(tasks),
        tags=["heptune", "fine-tuning"],
        configs=[
            {
                "config_name": "default",
                "data_files": [{"split": split, "path": path} for split, path in files.items()],
            }
        ],
        **extra,
    )
    return f"---\n{data.to_yaml().strip()}\n---\n"


def write_body(page: Page) -> str:
    """The content of a page as Markdown, with figures as captions and conversations as plain text."""
    parts = [f"# {escape(page.title)}", escape(page.lede)]
    if page.verdict:
        parts.append(f"**{escape(page.verdict)}**")
    for block in page.blocks:
        parts += _write_block(block)
    return "\n\n".join(part for part in parts if part) + "\n"


def _write_block(block: Mapping[str, Any]) -> Iterator[str]:
    kind = block["kind"]
    if block.get("heading"):
        yield f"## {escape(block['heading'])}"
    if kind == "heading":
        yield f"## {escape(block['text'])}"
    elif kind == "text":
        yield escape(block["text"])
    elif kind == "cards":
        yield ", ".join(f"{escape(name)}: **{escape(value)}**" for name, value in block["values"].items())
    elif kind == "list":
        yield "\n".join(f"* {escape(item)}" for item in block["items"])
    elif kind == "table":
        yield _write_table(block)
        yield escape(block["note"])
    elif kind == "figure":
        yield escape(block["caption"])
    elif kind == "link":
        yield f"[{escape(block['text'])}]({block['href']})"
    elif kind == "conversation":
        # Indented as code, so that none of it is read as Markdown or HTML.
        lines = "\n".join(f"{speaker}: {text}" for speaker, text in block["turns"]).splitlines()
        yield "\n".join(f"    {line}".rstrip() for line in lines)


def _write_table(block: Mapping[str, Any]) -> str:
    rows = block["rows"]
    if not rows:
        return "None."
    lines = [
        [escape(name) for name in block["columns"]],
        ["---:" if number else "---" for _, number in rows[0]],
        *([escape(text) for text, _ in row] for row in rows),
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def escape(text: str) -> str:
    """A text on one line, with the characters escaped that Markdown would interpret."""
    return _SIGNS.sub(lambda match: "\\" + match[0], " ".join(text.split()))
