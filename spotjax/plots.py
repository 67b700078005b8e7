"""SVG charts of the report as strings: pure functions of NumPy arrays, standard library only.

Colours and line styles are CSS classes: a page that shows these charts includes `CSS` once.
All text is escaped here.  Lengths are in SVG user units, about one CSS pixel on a wide screen.
"""

from collections.abc import Mapping, Sequence
from html import escape

import numpy as np

from spotjax.svg import svg, text
from spotjax.tracks import Spotted, Track, Truth, VideoReport

MAX_POINTS = 1200
"""Most points drawn of one score curve."""

CSS = """
:root { --ok: #0072b2; --wrong: #d55e00; --grid: #e3e5e8; --grey: #8b929b; --pale: #c9ced4;
  --gone: #ecedef; --gone-line: #c4c8cd; --curve: #3c434b; --dim: #5d656e; --paper: #fff; }
@media screen and (prefers-color-scheme: dark) {
  :root { --ok: #56b4e9; --wrong: #f0a030; --grid: #2f353c; --grey: #868e98; --pale: #4d545d;
    --gone: #24292f; --gone-line: #59616b; --curve: #c6ccd3; --dim: #a0a8b1; --paper: #15181c; } }
.chart { display: block; font: 11px system-ui, sans-serif; print-color-adjust: exact;
  -webkit-print-color-adjust: exact; }
.chart text { fill: var(--dim); } .chart .strong { font-weight: 650; fill: currentColor; }
.chart .end { text-anchor: end; } .chart .mid { text-anchor: middle; }
.chart .grid { stroke: var(--grid); fill: none; } .chart .axis { stroke: var(--grey); fill: none; }
.chart .gone { fill: var(--gone); stroke: var(--gone-line); stroke-width: .5; }
.chart .band { fill: var(--ok); opacity: .13; } .chart .band.open { opacity: .07; }
.chart .curve { fill: none; stroke: var(--curve); stroke-width: 1.2; stroke-linejoin: round;
  stroke-linecap: round; }
.chart .level { stroke: var(--dim); stroke-width: 1.2; stroke-dasharray: 5 4; fill: none; }
.chart .peak { fill: var(--paper); stroke: var(--curve); stroke-width: 1.6; }
.chart .found, .chart .hit { fill: var(--ok); } .chart .false { fill: var(--wrong); }
.chart .missed { fill: var(--paper); stroke: var(--ok); stroke-width: 1.5; }
.chart .apex { stroke: var(--paper); stroke-width: 1.2; } .chart .apex.open { stroke: var(--ok); }
.chart .s0 { fill: var(--ok); } .chart .s1 { fill: var(--grey); } .chart .s2 { fill: var(--pale); }
.chart .s3 { fill: var(--dim); } .chart .s4 { fill: var(--gone-line); }
.chart .whisker { stroke: currentColor; stroke-width: 1.3; fill: none; }
.chart .fold { fill: none; stroke: var(--grey); stroke-width: 1; opacity: .55; }
.chart .mean { fill: none; stroke: var(--ok); stroke-width: 2.6; stroke-linejoin: round; }
.chart .cell { fill: var(--ok); } .chart .right { stroke: currentColor; stroke-width: 1.6; }
"""

_WIDTH, _LEFT, _RIGHT = 1120, 110, 48
_CURVE_HEIGHT, _LANE, _BAR = 76, 13, 10


def downsample(values: np.ndarray, max_points: int = MAX_POINTS) -> np.ndarray:
    """Indices i64[n], rising, n <= `max_points`, of the least and the greatest of each bucket.

    `values` is f32[T].  A bucket without a finite value is represented by its first index, so
    that the gap stays a gap; extremes (peaks) always survive.
    """
    if len(values) <= max_points:
        return np.arange(len(values))
    size = -(-len(values) // (max_points // 2))
    count = -(-len(values) // size)
    padded = np.full(count * size, np.nan)
    padded[: len(values)] = values
    buckets = padded.reshape(count, size)
    finite = np.isfinite(buckets)
    first = np.arange(count) * size
    least = first + np.argmin(np.where(finite, buckets, np.inf), axis=1)
    greatest = first + np.argmax(np.where(finite, buckets, -np.inf), axis=1)
    return np.unique(np.concatenate([least, greatest]))


def timeline(video: "VideoReport") -> str:
    """One video: per track the annotated intervals, the score curve and the spotted intervals."""
    num_frames = len(video.frame_ids)
    scale = (_WIDTH - _LEFT - _RIGHT) / max(num_frames, 1)
    body: list[str] = []
    top = 4.0
    for track in video.tracks:
        panel, top = _panel(video, track, scale, top)
        body += panel
    right = _WIDTH - _RIGHT
    shaded = [
        f'<rect class="gone" x="{_LEFT + start * scale:.1f}" y="0" '
        f'width="{max((stop - start) * scale, 0.5):.1f}" height="{top:.0f}">'
        f"<title>no face: {_span(video, start, stop - 1)}</title></rect>"
        for start, stop in _runs(video.missing_face)
    ]
    axis = [f'<path class="axis" d="M{_LEFT} {top:.0f}H{right}"/>']
    seconds = num_frames / video.fps
    for tick in _ticks(0.0, seconds, 12):
        x = _LEFT + tick * video.fps * scale
        axis.append(f'<path class="axis" d="M{x:.1f} {top:.0f}v4"/>')
        axis.append(text(x, top + 15, f"{tick:g} s", "mid"))
    if num_frames:
        axis.append(text(_LEFT, top + 29, f"frame {video.frame_ids[0]}"))
        axis.append(text(right, top + 29, f"frame {video.frame_ids[-1]}", "end"))
    label = f"Timeline of {video.subject} {video.name}"
    return svg(_WIDTH, top + 34, label, shaded + body + axis)


def _panel(
    video: "VideoReport", track: "Track", scale: float, top: float
) -> tuple[list[str], float]:
    """The elements of one track that starts at y = `top`, and where the next one starts."""
    right, num_frames = _WIDTH - _RIGHT, len(video.frame_ids)

    def extent(onset: int, offset: int) -> tuple[float, float]:
        first, last = np.clip([onset, offset + 1], 0, num_frames)
        return _LEFT + float(first) * scale, max(float(last - first) * scale, 3.0)

    lanes, height = _lanes(track.truths)
    plot_top = top + height + 5
    out = [text(_LEFT - 8, top + 10, "annotated", "end")]
    out.append(text(0, plot_top + _CURVE_HEIGHT / 2 + 4, track.type, "strong"))
    plot_bottom = plot_top + _CURVE_HEIGHT
    for truth, lane in zip(track.truths, lanes, strict=True):
        (x, width), y = extent(truth.onset, truth.offset), top + 1 + lane * _LANE
        state = "found" if truth.found else "missed"
        apex = f", apex {_number(video, truth.apex)}" if truth.apex >= 0 else ""
        tip = f"annotated {track.type}, {state}: {_span(video, truth.onset, truth.offset)}{apex}"
        tip += f", {truth.emotion}" if truth.emotion else ""
        is_open = "" if truth.found else " open"
        out.append(
            f'<rect class="band{is_open}" x="{x:.1f}" y="{plot_top:.0f}" width="{width:.1f}" '
            f'height="{_CURVE_HEIGHT}"/>'
        )
        out.append(_bar(x, y, width, state, tip))
        if truth.apex >= 0 and width > 8:
            mark = _LEFT + (truth.apex + 0.5) * scale
            out.append(f'<path class="apex{is_open}" d="M{mark:.1f} {y + 1.5:.1f}v7"/>')
    out += _curve(track, scale, plot_top, right)
    spotted_top = plot_bottom + 5
    out.append(text(_LEFT - 8, spotted_top + 10, "spotted", "end"))
    lanes, height = _lanes(track.spotted)
    for spotted, lane in zip(track.spotted, lanes, strict=True):
        x, width = extent(spotted.onset, spotted.offset)
        state, meaning = ("hit", "hit") if spotted.hit else ("false", "false positive")
        tip = (
            f"spotted {track.type}, {meaning}: {_span(video, spotted.onset, spotted.offset)}, "
            f"apex {_number(video, spotted.apex)}, score {spotted.score:.3g}"
        ) + (f", {spotted.emotion}" if spotted.emotion else "")
        out.append(_bar(x, spotted_top + 1 + lane * _LANE, width, state, tip))
    return out, spotted_top + height + 14


def _curve(track: "Track", scale: float, top: float, right: float) -> list[str]:
    """Score curve, threshold, peaks and the limits of the score axis."""
    score = np.asarray(track.score, np.float64)
    finite = score[np.isfinite(score)]
    known = np.append(finite, track.threshold) if np.isfinite(track.threshold) else finite
    low = float(known.min(initial=0.0))
    high = float(known.max(initial=low))
    high = high if high > low else low + 1.0
    bottom, chosen = top + _CURVE_HEIGHT, downsample(score)

    def height(value: np.ndarray | float) -> np.ndarray:
        return bottom - 2 - (np.asarray(value) - low) / (high - low) * (_CURVE_HEIGHT - 8)

    out = [
        f'<path class="grid" d="M{_LEFT} {bottom:.0f}H{right}M{_LEFT} {top:.0f}V{bottom:.0f}"/>',
        text(_LEFT - 8, float(height(high)) + 4, f"{high:.3g}", "end"),
        text(_LEFT - 8, float(height(low)), f"{low:.3g}", "end"),
        f'<path class="curve" d="{_path(_LEFT + (chosen + 0.5) * scale, height(score[chosen]))}"/>',
    ]
    if not finite.size:
        out.append(text((_LEFT + right) / 2, top + 42, "no score in this video", "mid"))
    if np.isfinite(track.threshold):
        y = float(height(track.threshold))
        out.append(f'<path class="level" d="M{_LEFT} {y:.1f}H{right}"/>')
        out.append(text(right + 5, y + 4, f"{track.threshold:.3g}"))
    for peak in track.peaks:
        if 0 <= peak < len(score) and np.isfinite(score[peak]):
            x, y = _LEFT + (int(peak) + 0.5) * scale, float(height(score[peak]))
            out.append(f'<circle class="peak" cx="{x:.1f}" cy="{y:.1f}" r="3"/>')
    return out


def bars_with_intervals(
    groups: Sequence[str],
    series: Mapping[str, Sequence[float]],
    intervals: Sequence[tuple[float, float] | None],
) -> str:
    """Grouped bars, one per series and group; `intervals` [groups] belong to the first series."""
    width, height, left, base = 360, 232, 30, 188
    tops = [v for values in series.values() for v in values if np.isfinite(v)]
    tops += [pair[1] for pair in intervals if pair is not None]
    ticks = _ticks(0.0, max([0.1, *tops]), 5)
    limit = max(ticks[-1], max(tops, default=0.0) * 1.06)
    room = (width - left) / max(len(groups), 1)
    bar = min(32.0, room * 0.86 / max(len(series), 1))

    def y_of(value: float) -> float:
        return base - value / limit * (base - 14)

    out = []
    for tick in ticks:
        out.append(f'<path class="grid" d="M{left} {y_of(tick):.1f}H{width}"/>')
        out.append(text(left - 6, y_of(tick) + 4, f"{tick:g}", "end"))
    for g, group in enumerate(groups):
        start = left + room * (g + 0.5) - bar * len(series) / 2
        for s, (name, values) in enumerate(series.items()):
            if not np.isfinite(values[g]):
                continue
            x, y = start + bar * s, y_of(values[g])
            pair = intervals[g] if s == 0 else None
            tip = f"{group}, {name}: {values[g]:.3f}"
            if pair is not None:
                tip += f" (95 % interval {pair[0]:.3f} to {pair[1]:.3f})"
            out.append(
                f'<rect class="s{s}" x="{x + 1:.1f}" y="{y:.1f}" width="{bar - 2:.1f}" '
                f'height="{max(base - y, 0.5):.1f}" rx="1"><title>{escape(tip)}</title></rect>'
            )
            if pair is not None:
                low, high, middle = y_of(pair[0]), y_of(pair[1]), x + bar / 2
                out.append(
                    f'<path class="whisker" d="M{middle:.1f} {low:.1f}V{high:.1f}'
                    f'M{middle - 5:.1f} {low:.1f}h10M{middle - 5:.1f} {high:.1f}h10"/>'
                )
                y = min(y, high)
            out.append(text(x + bar / 2, y - 4, f"{values[g]:.2f}", "mid"))
        out.append(text(left + room * (g + 0.5), base + 15, group, "strong mid"))
    out.append(f'<path class="axis" d="M{left} {base}H{width}"/>')
    for s, name in enumerate(series):
        x = left + s * (width - left) / max(len(series), 1)
        out.append(f'<rect class="s{s}" x="{x:.1f}" y="{base + 28}" width="10" height="10"/>')
        out.append(text(x + 15, base + 37, name))
    return svg(width, height, "F1 per expression type", out)


def loss_curves(folds: Mapping[str, np.ndarray], label: str) -> str:
    """Training loss f64[E] over epochs 1..E: a thin line per fold, their mean thick.

    NaN is a gap.  The axis is logarithmic where the positive losses span more than a factor 30.
    """
    width, height, left, base = 540, 220, 46, 184
    table = np.asarray(list(folds.values()), np.float64)
    table = np.where(np.isfinite(table), table, np.nan)
    finite = table[np.isfinite(table)]
    low, high = (float(np.min(finite)), float(np.max(finite))) if finite.size else (0.0, 1.0)
    log = low > 0 and high > 30 * low
    epochs = table.shape[1]
    if log:
        ticks = (10.0 ** np.arange(np.ceil(np.log10(low)), np.log10(high) + 1e-9)).tolist()
    else:
        low = min(low, 0.0)
        high = high if high > low else low + 1.0
        ticks = _ticks(low, high, 5)

    def y_of(value: np.ndarray | float) -> np.ndarray:
        at, bottom, top = (np.log(v) if log else np.asarray(v) for v in (value, low, high))
        return np.asarray(base - (at - bottom) / (top - bottom) * (base - 14))

    def x_of(epoch: np.ndarray | float) -> np.ndarray:
        return np.asarray(left + (epoch - 0.5) * (width - left - 8) / epochs)

    out = []
    for tick in ticks:
        y = float(y_of(tick))
        out.append(f'<path class="grid" d="M{left} {y:.1f}H{width}"/>')
        out.append(text(left - 6, y + 4, f"{tick:g}", "end"))
    for epoch in _ticks(1, epochs, 10):
        if epoch == int(epoch):
            out.append(text(float(x_of(epoch)), base + 15, f"{epoch:g}", "mid"))
    out.append(f'<path class="axis" d="M{left} {base}H{width}"/>')
    x = x_of(np.arange(1, epochs + 1))
    for name, values in zip(folds, table, strict=True):
        out.append(
            f'<path class="fold" d="{_path(x, y_of(values))}"><title>{escape(name)}</title></path>'
        )
    filled = np.isfinite(table)
    total, number = np.where(filled, table, 0.0).sum(axis=0), filled.sum(axis=0)
    mean = np.where(number > 0, total / np.maximum(number, 1), np.nan)
    out.append(f'<path class="mean" d="{_path(x, y_of(mean))}"><title>mean</title></path>')
    out.append(text((left + width) / 2, base + 31, "epoch", "mid"))
    return svg(width, height, label, out)


def swatch(kind: str) -> str:
    """A legend sample of `kind`: a class of `CSS` such as "found", "curve" or "peak"."""
    shapes = {
        "curve": '<path class="curve" d="M1 10L7 9L13 2L19 8L27 10"/>',
        "level": '<path class="level" d="M0 6H28"/>',
        "peak": '<circle class="peak" cx="14" cy="6" r="3"/>',
    }
    rect = f'<rect class="{escape(kind)}" x="1" y="1" width="26" height="{_BAR}" rx="1.5"/>'
    return f'<svg class="chart" width="28" height="12">{shapes.get(kind, rect)}</svg>'


def _bar(x: float, y: float, width: float, state: str, tip: str) -> str:
    return (
        f'<rect class="bar {state}" x="{x:.1f}" y="{y:.0f}" width="{width:.1f}" height="{_BAR}" '
        f'rx="1.5"><title>{escape(tip)}</title></rect>'
    )


def _path(x: np.ndarray, y: np.ndarray) -> str:
    """SVG path through the points; a NaN starts a new piece, a lone point becomes a dot."""
    pieces = []
    for start, stop in _runs(np.isfinite(y)):
        points = zip(x[start:stop], y[start:stop], strict=True)
        pieces.append("M" + " ".join(f"{a:.1f} {b:.1f}" for a, b in points))
        pieces.append("h0" if stop == start + 1 else "")
    return "".join(pieces)


def _runs(mask: np.ndarray) -> list[tuple[int, int]]:
    """[start, stop) of every run of true values in bool[T]."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], np.asarray(mask, np.int8), [0]])))
    return [(int(start), int(stop)) for start, stop in edges.reshape(-1, 2)]


def _lanes(intervals: "Sequence[Truth] | Sequence[Spotted]") -> tuple[list[int], float]:
    """A lane per interval so that none hides another, and the height of all lanes."""
    ends: list[int] = []
    lanes = [0] * len(intervals)
    for i in sorted(range(len(intervals)), key=lambda i: intervals[i].onset):
        free = [lane for lane, end in enumerate(ends) if end < intervals[i].onset]
        lanes[i] = free[0] if free else len(ends)
        ends[lanes[i] : lanes[i] + 1] = [intervals[i].offset]
    return lanes, max(len(ends), 1) * _LANE


def _number(video: "VideoReport", frame: int) -> int:
    """The data set's own number of `frame`; counted on beyond the ends of the video."""
    inside = min(max(frame, 0), len(video.frame_ids) - 1)
    return int(video.frame_ids[inside]) + frame - inside


def _span(video: "VideoReport", first: int, last: int) -> str:
    times = f"{first / video.fps:.2f} to {(last + 1) / video.fps:.2f} s"
    return f"frames {_number(video, first)} to {_number(video, last)} ({times})"


def _ticks(low: float, high: float, most: int) -> list[float]:
    """Round numbers within [low, high], at most `most` + 1."""
    raw = max(high - low, 1e-9) / most
    power = 10.0 ** np.floor(np.log10(raw))
    step = float(power * next(m for m in (1, 2, 5, 10) if m * power >= raw * (1 - 1e-9)))
    first, last = int(np.ceil(low / step - 1e-9)), int(np.floor(high / step + 1e-9))
    return [round(i * step, 10) for i in range(first, last + 1)]
