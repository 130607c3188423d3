"""Bar charts as SVG geometry: what is where, in pixels. Templates draw it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

WIDTH: Final = 640
_LABEL_WIDTH: Final = 200
_VALUE_WIDTH: Final = 90
_BAR: Final = 13
_GAP: Final = 8
_TOP: Final = 4


@dataclass(frozen=True, slots=True)
class Bar:
    """One value."""

    x: int
    y: int
    width: float
    height: int
    series: int
    """0 is the week, 1 the week before."""
    text: str


@dataclass(frozen=True, slots=True)
class Label:
    """What the bars beside it are about."""

    y: int
    text: str


@dataclass(frozen=True, slots=True)
class Chart:
    """Horizontal bars, one group per label."""

    title: str
    width: int
    height: int
    label_x: int
    labels: Sequence[Label]
    bars: Sequence[Bar]


def bar_chart(title: str, rows: Sequence[tuple[str, Sequence[float]]]) -> Chart:
    """A chart of rows (label, one value per series) on one scale from 0; a negative value has no bar."""
    most = max((value for _, values in rows for value in values), default=0)
    scale = (WIDTH - _LABEL_WIDTH - _VALUE_WIDTH) / most if most > 0 else 0.0
    labels, bars, y = [], [], _TOP
    for text, values in rows:
        labels.append(Label(y + (len(values) * _BAR) // 2 + 4, _shortened(text)))
        for series, value in enumerate(values):
            width = round(max(value, 0) * scale, 1)
            bars.append(Bar(_LABEL_WIDTH, y, width, _BAR - 2, series, f"{value:,.0f}"))
            y += _BAR
        y += _GAP
    return Chart(title, WIDTH, y, _LABEL_WIDTH - 8, labels, bars)


def _shortened(text: str) -> str:
    return text if len(text) <= 24 else f"{text[:23]}…"
