"""`python -m benchmarks.summary`: the promises of all results, printed and in `benchmarks/results/latest.json`.

It also plots the streaming programs: `docs/streaming-programs.svg`.
"""

import json
from collections.abc import Mapping, Sequence
from html import escape
from math import log10
from pathlib import Path
from typing import Any

from benchmarks.report import LATEST, RESULTS, told

PLOT = Path(__file__).parent.parent / "docs/streaming-programs.svg"
WIDTH, LABEL, BAR = 720, 230, 24


def promises(results: Path) -> list[dict[str, Any]]:
    """Every promise of the results in a folder, by its id, with the command and the machine it was measured by."""
    rows = []
    for path in sorted(results.glob("*.json")):
        if path.name == LATEST.name:
            continue
        result = json.loads(path.read_text())
        origin = {"command": result["command"], "machine": result["machine"]}
        rows += [promise | origin for promise in result["promises"]]
    return sorted(rows, key=lambda row: row["id"])


def plot(rows: Sequence[Mapping[str, Any]]) -> str:
    """Bars of events per second, on a logarithmic scale from 10 to a million."""
    ordered = sorted(rows, key=lambda row: -row["eventsPerSecond"])
    height = BAR * len(ordered) + 40
    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" '
            'font-size="12"><rect width="100%" height="100%" fill="white"/>'
            '<text x="8" y="18" font-weight="bold">Events per second (logarithmic scale)</text>'
        )
    ]
    for number, row in enumerate(ordered):
        y = 30 + BAR * number
        width = max(1.0, (log10(row["eventsPerSecond"]) - 1) / 5 * (WIDTH - LABEL - 80))
        colour = "#1f6feb" if row["program"] == "Stockflow" else "#9aa4af"
        parts.append(
            f'<text x="{LABEL - 8}" y="{y + 15}" text-anchor="end">{escape(row["program"])}</text>'
            f'<rect x="{LABEL}" y="{y + 3}" width="{width:.0f}" height="{BAR - 8}" fill="{colour}"/>'
            f'<text x="{LABEL + width + 6:.0f}" y="{y + 15}">{row["eventsPerSecond"]:,}</text>'
        )
    return "\n".join([*parts, "</svg>\n"])


def main() -> None:
    """Print, write and plot."""
    found = promises(RESULTS)
    for promise in found:
        print(told(promise))
    LATEST.write_text(json.dumps(found, indent=2) + "\n")
    streaming = RESULTS / "streaming_peers.json"
    if streaming.exists():
        PLOT.write_text(plot(json.loads(streaming.read_text())["figures"]))


if __name__ == "__main__":
    main()
