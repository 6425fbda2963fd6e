"""Line charts as SVG text, with colours from the page's style sheet. Nothing is fetched, nothing is a script."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 640, 300
LEFT, RIGHT, TOP, BOTTOM = 62, 18, 34, 46
COLOURS = 6
"""So many the style sheet has: classes c0 to c5."""


@dataclass(frozen=True)
class Line:
    """One curve. colour: of the style sheet. style: `line`, `step`, `step thick`, `dashed`, `dots` on a line."""

    name: str
    points: Sequence[tuple[float, float]]
    colour: int = 0
    style: str = "line"


@dataclass(frozen=True)
class Mark:
    """A straight line across the chart at a value of one axis: an objective, the window's begin."""

    axis: str
    at: float
    name: str


@dataclass(frozen=True)
class Axis:
    """log: ticks at 1, 2, 5. low and high: where it begins and ends, when not at the data."""

    name: str
    low: float | None = None
    high: float | None = None
    log: bool = False
    percent: bool = False


def chart(title: str, x: Axis, y: Axis, lines: Sequence[Line], marks: Sequence[Mark] = ()) -> str:
    """The chart, or a line of text where there is nothing to draw."""
    drawn = [line for line in lines if line.points]
    if not drawn:
        return f'<figure><figcaption>{escape(title)}</figcaption><p class="none">nothing was measured</p></figure>'
    xs = _scale(x, [p[0] for line in drawn for p in line.points], LEFT, WIDTH - RIGHT)
    marked = [mark.at for mark in marks if mark.axis == "y"]
    ys = _scale(y, [p[1] for line in drawn for p in line.points] + marked, HEIGHT - BOTTOM, TOP)
    parts = [_grid(xs, ys)]
    for mark in marks:
        parts.append(_mark(mark, xs, ys))
    for line in drawn:
        parts.append(_curve(line, xs, ys))
    middle, foot = (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8
    legend = "".join(
        f'<span class="c{line.colour % COLOURS} {line.style}">{escape(line.name)}</span>' for line in drawn
    )
    return (
        f'<figure><figcaption>{escape(title)}<span class="legend">{legend}</span></figcaption>'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">{"".join(parts)}'
        f'<text class="axis" x="{middle}" y="{foot}" text-anchor="middle">{escape(x.name)}</text>'
        f'<text class="axis" x="{LEFT}" y="{TOP - 14}" text-anchor="start">{escape(y.name)}</text></svg></figure>'
    )


@dataclass(frozen=True)
class _Scale:
    place: Callable[[float], float]
    low: float
    high: float
    ticks: Sequence[float]
    told: Callable[[float], str]


def _scale(axis: Axis, values: Sequence[float], begin: float, end: float) -> _Scale:
    low = axis.low if axis.low is not None else min(values)
    high = axis.high if axis.high is not None else max(values)
    if axis.log:
        rounds = [m * 10.0**e for e in range(-6, 9) for m in (1, 2, 5)]
        low = max([tick for tick in rounds if tick <= low * 1.0001], default=rounds[0])
        if axis.high is None:
            high = min([tick for tick in rounds if tick >= high * 0.9999], default=rounds[-1])
        high = max(high, low * 1.5)
        ticks = [tick for tick in rounds if low <= tick <= high * 1.0001]
        span = math.log(high / low)

        def place(value: float) -> float:
            return begin + (end - begin) * math.log(max(value, low) / low) / span
    else:
        high = high if high > low else low + 1
        step = _step(high - low)
        if axis.high is None:
            high = math.ceil(high / step - 1e-9) * step
        low = low if axis.low is not None else math.floor(low / step + 1e-9) * step
        ticks = [low + step * i for i in range(round((high - low) / step) + 1) if low + step * i <= high * 1.0001]

        def place(value: float) -> float:
            return begin + (end - begin) * (value - low) / (high - low)

    return _Scale(place, low, high, ticks, (lambda v: f"{100 * v:.3g}%") if axis.percent else (lambda v: f"{v:,.5g}"))


def _step(span: float) -> float:
    """The round step that gives four to eight ticks."""
    rough = span / 5
    power = 10.0 ** math.floor(math.log10(rough))
    return next(m * power for m in (1, 2, 5, 10) if m * power >= rough)


def _grid(xs: _Scale, ys: _Scale) -> str:
    parts = []
    for value in ys.ticks:
        y = ys.place(value)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="tick" x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{ys.told(value)}</text>')
    for value in xs.ticks:
        x = xs.place(value)
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>')
        parts.append(
            f'<text class="tick" x="{x:.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{xs.told(value)}</text>'
        )
    return "".join(parts)


def _mark(mark: Mark, xs: _Scale, ys: _Scale) -> str:
    if mark.axis == "x":
        if not xs.low <= mark.at <= xs.high:
            return ""
        x = xs.place(mark.at)
        side, anchor = (x - 5, "end") if x > WIDTH * 0.7 else (x + 5, "start")
        line = f'<line class="mark" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>'
        name = f'x="{side:.1f}" y="{TOP + 11}" text-anchor="{anchor}">{escape(mark.name)}'
        return f'{line}<text class="marked" {name}</text>'
    y = ys.place(mark.at)
    line = f'<line class="mark" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
    return (
        f'{line}<text class="marked" x="{WIDTH - RIGHT}" y="{y - 5:.1f}" text-anchor="end">{escape(mark.name)}</text>'
    )


def _curve(line: Line, xs: _Scale, ys: _Scale) -> str:
    places = [(xs.place(x), ys.place(y)) for x, y in line.points if xs.low <= x <= xs.high * 1.0001]
    words: list[str] = []
    for x, y in places:
        if not words:
            words.append(f"M{x:.1f} {y:.1f}")
        elif line.style.startswith("step"):
            words.append(f"H{x:.1f}V{y:.1f}")
        else:
            words.append(f"L{x:.1f} {y:.1f}")
    colour = f"c{line.colour % COLOURS}"
    dots = "".join(f'<circle class="{colour}" cx="{x:.1f}" cy="{y:.1f}" r="3.5"/>' for x, y in places)
    return f'<path class="{colour} {line.style}" d="{"".join(words)}"/>{dots if line.style == "dots" else ""}'
