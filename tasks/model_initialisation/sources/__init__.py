"""Where base models come from, one file each.

A source has `fetch(access) -> Path` (a folder with the files on this machine; `access` is what only a flow has),
`origin(folder) -> dict[str, str]` (its name in the manifest), `reference(folder) -> dict[str, str]` (how to find the
files again without a copy), `facts(folder) -> dict[str, str]` (what a conversion proved, for the report) and
`immutable` (its files never change in place, so a pinned copy may share them by hard link).
"""
