"""The charts of a page on one's own video as SVG: the timeline, and attention (NumPy only).

A short video is one chart.  A longer one is an overview and rows of some seconds or minutes each,
so that an expression of half a second can be seen.  The axis is the video's clock.  Classes are
those of `spotjax.pages.plots.CSS` and of `CSS` here; all text is escaped.
"""

from collections.abc import Sequence
from html import escape
from typing import NamedTuple

import numpy as np

from spotjax.pages.plot_timeline import downsample
from spotjax.pages.svg import BAR, path, runs, svg, text
from spotjax.spotting import Spotting
from spotjax.types import Detection

CSS = """
.chart .macro { fill: var(--ok); } .chart .micro { fill: var(--wrong); }
.chart .band.macro, .chart .band.micro { opacity: .13; } .chart a:hover { opacity: .7; }
.chart a text { fill: var(--dim); font-size: 10px; }
"""
SINGLE_S = 90.0
"""Seconds up to which a video is one chart."""
ROW_S = (30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1800.0, 3600.0)
MAX_ROWS = 15
REGIONS = (
    "left brow, inner", "left brow, middle", "left brow, outer",
    "right brow, inner", "right brow, middle", "right brow, outer",
    "left mouth corner", "right mouth corner", "upper lip", "lower lip",
)  # fmt: skip
"""SpotFormer's regions in their order (`data_prep.swmro`), left and right as in the picture."""
STEPS_S = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400)

_WIDTH, _LEFT, _RIGHT = 1120, 62, 48
_CURVE, _LOW_CURVE, _LANE, _NUMBER, _APART = 60, 40, 12, 14, 20


class Span(NamedTuple):
    """A part of the video's clock in seconds, `start` to `stop`."""

    start: float
    stop: float

    @property
    def scale(self) -> float:
        """px per second."""
        return (_WIDTH - _LEFT - _RIGHT) / max(self.stop - self.start, 1e-3)

    def x(self, seconds: float) -> float:
        """px of a time, held inside the span."""
        return _LEFT + (min(max(seconds, self.start), self.stop) - self.start) * self.scale


def clock(seconds: float, digits: int = 2) -> str:
    """Time as mm:ss.cc, from an hour on h:mm:ss.cc; `digits` after the point.

    >>> clock(75.456), clock(59.999), clock(3723.5, 0), clock(0.2, 1)
    ('01:15.46', '01:00.00', '1:02:04', '00:00.2')
    """
    whole = round(seconds * 10**digits)
    whole, part = divmod(whole, 10**digits)
    minutes, second = divmod(whole, 60)
    hours, minute = divmod(minutes, 60)
    start = f"{hours}:{minute:02}:{second:02}" if hours else f"{minute:02}:{second:02}"
    return f"{start}.{part:0{digits}}" if digits else start


def spans(length_s: float) -> list[Span]:
    """The rows of a video of `length_s` seconds; one if it is short.

    >>> len(spans(80)), [span.start for span in spans(100)], len(spans(3600)), spans(3600)[0].stop
    (1, [0.0, 30.0, 60.0, 90.0], 12, 300.0)
    """
    if length_s <= SINGLE_S:
        return [Span(0.0, length_s)]
    fits = (row for row in ROW_S if length_s / row <= MAX_ROWS)
    row = next(fits, length_s / MAX_ROWS)
    return [Span(i * row, (i + 1) * row) for i in range(int(np.ceil(length_s / row - 1e-9)))]


def overview(spotting: Spotting) -> str:
    """The whole video in one chart."""
    whole = Span(0.0, spotting.length_s)
    return _chart(spotting, whole, _LOW_CURVE, False, f"Overview of {spotting.video}")


def rows(spotting: Spotting) -> list[str]:
    """The charts of all `spans`; a bar is a link to `#d1`, `#d2`... by its place in the list."""
    return [
        _chart(
            spotting, span, _CURVE, True,
            f"{spotting.video} from {clock(span.start)} to {clock(span.stop)}",
        )
        for span in spans(spotting.length_s)
    ]  # fmt: skip


def attention(frames: np.ndarray, regions: np.ndarray) -> str:
    """Bars: how much each frame of a clip f32[W] and each of `REGIONS` f32[10] is attended to."""
    width, row, left = 240, 13, 108
    out = []
    for number, (name, share) in enumerate(zip(REGIONS, regions.tolist(), strict=True)):
        y = 2 + number * row
        long = max((width - left - 30) * share / max(float(regions.max()), 1e-6), 0.5)
        out.append(text(left - 5, y + 9, name, "end"))
        out.append(f'<rect class="s0" x="{left}" y="{y}" width="{long:.1f}" height="{row - 3}"/>')
        out.append(text(left + long + 4, y + 9, f"{share:.0%}"))
    base = 2 + len(REGIONS) * row + 42
    each = width / len(frames)
    for number, share in enumerate(frames.tolist()):
        high = max(32 * share / max(float(frames.max()), 1e-6), 0.5)
        middle = number == len(frames) // 2
        out.append(
            f'<rect class="{"s0" if middle else "s1"}" x="{number * each + 1:.1f}" '
            f'y="{base - high:.1f}" width="{each - 2:.1f}" height="{high:.1f}">'
            f"<title>frame {number - len(frames) // 2:+d} from the apex: {share:.0%}</title></rect>"
        )
    out.append(text(0, base + 12, f"\u2212{len(frames) // 2} frames"))
    out.append(text(width / 2, base + 12, "apex", "mid"))
    out.append(text(width, base + 12, f"+{len(frames) // 2}", "end"))
    return svg(width, base + 16, "Attention by region and by frame", out)


def _chart(spotting: Spotting, span: Span, height: int, numbered: bool, label: str) -> str:
    """Score and findings of every type within `span`."""
    body: list[str] = []
    top = 4.0
    for type in spotting.scores:
        panel, top = _panel(spotting, type, span, top, height, numbered)
        body += panel
    ends = np.append(spotting.times[1:], spotting.length_s)
    gone = []
    for first, stop in runs(spotting.face == 0):
        start_s, stop_s = float(spotting.times[first]), float(ends[stop - 1])
        if start_s < span.stop and stop_s > span.start:
            x = span.x(start_s)
            gone.append(
                f'<rect class="gone" x="{x:.1f}" y="0" '
                f'width="{max(span.x(stop_s) - x, 0.5):.1f}" height="{top:.0f}">'
                f"<title>no face: {clock(start_s)} to {clock(stop_s)}</title></rect>"
            )
    return svg(_WIDTH, top + 20, label, gone + body + _axis(span, spotting.length_s, top))


def _axis(span: Span, length_s: float, top: float) -> list[str]:
    """The axis at y = `top`; it ends with the video."""
    most = span.stop - span.start
    step = next((step for step in STEPS_S if most / step <= 12), most / 12)
    digits = 0 if step >= 1 else 1
    last = min(span.stop, length_s)
    out = [f'<path class="axis" d="M{_LEFT} {top:.0f}H{span.x(last):.1f}"/>']
    first = int(np.ceil(span.start / step - 1e-9))
    for number in range(first, int(np.floor(last / step + 1e-9)) + 1):
        x = span.x(number * step)
        out.append(f'<path class="axis" d="M{x:.1f} {top:.0f}v4"/>')
        out.append(text(x, top + 16, clock(number * step, digits), "mid"))
    return out


def _panel(
    spotting: Spotting, type: str, span: Span, top: float, height: int, numbered: bool
) -> tuple[list[str], float]:
    """The elements of one type from y = `top` on, and where the next one starts."""
    found = [
        (number, d)
        for number, d in enumerate(spotting.detections, 1)
        if d.type == type and spotting.onset_s(d) < span.stop and spotting.offset_s(d) > span.start
    ]
    bottom = top + height
    out = [text(0, top + height / 2 + 4, type, "strong")]
    for _, d in found:
        x = span.x(spotting.onset_s(d))
        width = max(span.x(spotting.offset_s(d)) - x, 2.0)
        out.append(
            f'<rect class="band {escape(type)}" x="{x:.1f}" y="{top:.0f}" width="{width:.1f}" '
            f'height="{height}"/>'
        )
    out += _curve(spotting, type, span, top, height, [d for _, d in found] if numbered else [])
    lanes = _lanes([d for _, d in found])
    each = _LANE + (_NUMBER if numbered else 0)
    free = dict.fromkeys(lanes, 0.0)  # px from which a number hides no other
    for (number, d), lane in zip(found, lanes, strict=True):
        at = span.x((spotting.onset_s(d) + spotting.offset_s(d)) / 2)
        named = numbered and at >= free[lane]
        out.append(_bar(spotting, span, number, d, bottom + 5 + lane * each, named))
        free[lane] = at + _APART if named else free[lane]
    return out, bottom + 5 + max([lane + 1 for lane in lanes], default=1) * each + 8


def _bar(
    spotting: Spotting, span: Span, number: int, d: Detection, y: float, numbered: bool
) -> str:
    """A detection: its bar, linked to its row in the table, with its number below."""
    x = span.x(spotting.onset_s(d))
    width = max(span.x(spotting.offset_s(d)) - x, 3.0)
    tip = (
        f"{number}: {d.type} from {clock(spotting.onset_s(d))} to {clock(spotting.offset_s(d))}, "
        f"apex {clock(spotting.apex_s(d))}, frames {d.onset} to {d.offset}, score {d.score:.3g}"
    ) + (f", {d.emotion}" if d.emotion else "")
    bar = (
        f'<rect class="bar {escape(d.type)}" x="{x:.1f}" y="{y:.0f}" width="{width:.1f}" '
        f'height="{BAR}" rx="1.5"><title>{escape(tip)}</title></rect>'
    )
    apex = spotting.apex_s(d)
    if width > 8 and span.start <= apex < span.stop:
        bar += f'<path class="apex" d="M{span.x(apex):.1f} {y + 1.5:.1f}v7"/>'
    if numbered:
        bar += text(x + width / 2, y + BAR + 10, str(number), "mid")
    return f'<a href="#d{number}">{bar}</a>'


def _lanes(found: Sequence[Detection]) -> list[int]:
    """A lane for each of some detections by rising onset, so that none hides another."""
    ends: list[int] = []
    lanes = []
    for d in found:
        lane = next((lane for lane, end in enumerate(ends) if end < d.onset), len(ends))
        ends[lane : lane + 1] = [d.offset]
        lanes.append(lane)
    return lanes


def _curve(
    spotting: Spotting, type: str, span: Span, top: float, height: int, found: Sequence[Detection]
) -> list[str]:
    """The score within `span` with threshold and apexes; all charts of a video have one scale."""
    score = spotting.scores[type]
    threshold = spotting.thresholds.get(type, float("nan"))
    known = np.append(score[np.isfinite(score)], threshold if np.isfinite(threshold) else [])
    low = float(known.min(initial=0.0))
    high = float(known.max(initial=low))
    high = high if high > low else low + 1.0
    bottom = top + height

    def y_of(value: np.ndarray | float) -> np.ndarray:
        return bottom - 2 - (np.asarray(value) - low) / (high - low) * (height - 8)

    first, stop = np.searchsorted(spotting.times, [span.start - 1e-9, span.stop - 1e-9])
    inside = slice(max(int(first) - 1, 0), int(stop) + 1)  # a frame more, so that rows join
    values = np.asarray(score[inside], np.float64)
    chosen = downsample(values)
    along = _LEFT + (spotting.times[inside][chosen] - span.start) * span.scale
    right = _WIDTH - _RIGHT
    out = [
        f'<path class="grid" d="M{_LEFT} {bottom:.0f}H{right}M{_LEFT} {top:.0f}V{bottom:.0f}"/>',
        text(_LEFT - 6, float(y_of(high)) + 4, f"{high:.2g}", "end"),
        text(_LEFT - 6, bottom - 1, f"{low:.2g}", "end"),
    ]
    if np.isfinite(values).any():
        line = path(np.clip(along, _LEFT, right), y_of(values[chosen]))
        out.append(f'<path class="curve" d="{line}"/>')
    elif not np.isfinite(score).any():
        out.append(text((_LEFT + right) / 2, top + height / 2, "no score in this video", "mid"))
    if np.isfinite(threshold):
        y = float(y_of(threshold))
        out.append(f'<path class="level" d="M{_LEFT} {y:.1f}H{right}"/>')
        out.append(text(right + 5, y + 4, f"{threshold:.3g}"))
    for d in found:
        apex = spotting.apex_s(d)
        if span.start <= apex < span.stop and np.isfinite(score[d.apex]):
            x, y = span.x(apex), float(y_of(score[d.apex]))
            out.append(f'<circle class="peak" cx="{x:.1f}" cy="{y:.1f}" r="3"/>')
    return out
