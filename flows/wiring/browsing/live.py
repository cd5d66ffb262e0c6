"""The curves of a run, from the entries that it has recorded so far: a live page needs no MLflow."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from flows.wiring.runs.recording import UNSENT

WIDTH, HEIGHT = 640, 160
MOST_POINTS = 400


@dataclass(frozen=True)
class Curve:
    """A metric over the steps of a run.

    Attributes:
        name: Name of the metric.
        points: Steps and values, in the order of the steps.
    """

    name: str
    points: Sequence[tuple[int, float]]

    @property
    def last(self) -> float:
        return self.points[-1][1]

    @property
    def low(self) -> float:
        return min(value for _, value in self.points)

    @property
    def high(self) -> float:
        return max(value for _, value in self.points)

    @property
    def line(self) -> str:
        """The points as the ``points`` of an SVG polyline of `WIDTH` by `HEIGHT`."""
        first, last = self.points[0][0], self.points[-1][0]
        across, up = max(last - first, 1), (self.high - self.low) or 1.0
        shown = self.points[:: max(len(self.points) // MOST_POINTS, 1)]
        return " ".join(
            f"{(step - first) / across * WIDTH:.1f},{HEIGHT - (value - self.low) / up * HEIGHT:.1f}"
            for step, value in shown
        )


def read_curves(flow_run: str, root: Path = Path()) -> list[Curve]:
    """Curves of the run of a stage that is at work; none where its entries were all sent, or there are none."""
    for path in (root / UNSENT).glob("*.jsonl"):
        with path.open("rb") as stream:
            if flow_run not in stream.readline().decode(errors="replace"):
                continue
            return _collect(stream.readlines())
    return []


def _collect(lines: Sequence[bytes]) -> list[Curve]:
    points: dict[str, dict[int, float]] = {}
    for line in lines:
        try:
            entry = json.loads(line)
        except ValueError:  # being written
            continue
        if entry.get("kind") == "metrics" and not entry.get("pipeline"):
            for name, value in entry["values"].items():
                points.setdefault(name, {})[entry["step"]] = value
    return [Curve(name, sorted(found.items())) for name, found in points.items() if len(found) > 1]
