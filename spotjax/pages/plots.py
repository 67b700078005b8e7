"""SVG charts of the report as strings: pure functions of NumPy arrays, standard library only.

Colours and line styles are CSS classes: a page that shows these charts includes `CSS` once.
All text is escaped here.  Lengths are in SVG user units, about one CSS pixel on a wide screen.
"""

from collections.abc import Mapping, Sequence
from html import escape

import numpy as np

from spotjax.pages.svg import BAR, path, svg, text, ticks_of

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
.chart .proposed { fill: var(--curve); }
.chart .apex { stroke: var(--paper); stroke-width: 1.2; } .chart .apex.open { stroke: var(--ok); }
.chart .s0 { fill: var(--ok); } .chart .s1 { fill: var(--grey); } .chart .s2 { fill: var(--pale); }
.chart .s3 { fill: var(--dim); } .chart .s4 { fill: var(--gone-line); }
.chart .whisker { stroke: currentColor; stroke-width: 1.3; fill: none; }
.chart .fold { fill: none; stroke: var(--grey); stroke-width: 1; opacity: .55; }
.chart .mean { fill: none; stroke: var(--ok); stroke-width: 2.6; stroke-linejoin: round; }
.chart .cell { fill: var(--ok); } .chart .right { stroke: currentColor; stroke-width: 1.6; }
"""


def bars_with_intervals(
    groups: Sequence[str],
    series: Mapping[str, Sequence[float]],
    intervals: Sequence[tuple[float, float] | None],
) -> str:
    """Grouped bars, one per series and group; `intervals` [groups] belong to the first series."""
    width, height, left, base = 360, 232, 30, 188
    tops = [v for values in series.values() for v in values if np.isfinite(v)]
    tops += [pair[1] for pair in intervals if pair is not None]
    ticks = ticks_of(0.0, max([0.1, *tops]), 5)
    limit = max(ticks[-1], max(tops, default=0.0) * 1.06)
    room = (width - left) / max(len(groups), 1)
    bar = min(32.0, room * 0.86 / max(len(series), 1))
    digits = 3 if bar > 30 else 2  # as many as fit

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
            out.append(text(x + bar / 2, y - 4, f"{values[g]:.{digits}f}", "mid"))
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
        ticks = ticks_of(low, high, 5)

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
    for epoch in ticks_of(1, epochs, 10):
        if epoch == int(epoch):
            out.append(text(float(x_of(epoch)), base + 15, f"{epoch:g}", "mid"))
    out.append(f'<path class="axis" d="M{left} {base}H{width}"/>')
    x = x_of(np.arange(1, epochs + 1))
    for name, values in zip(folds, table, strict=True):
        out.append(
            f'<path class="fold" d="{path(x, y_of(values))}"><title>{escape(name)}</title></path>'
        )
    filled = np.isfinite(table)
    total, number = np.where(filled, table, 0.0).sum(axis=0), filled.sum(axis=0)
    mean = np.where(number > 0, total / np.maximum(number, 1), np.nan)
    out.append(f'<path class="mean" d="{path(x, y_of(mean))}"><title>mean</title></path>')
    out.append(text((left + width) / 2, base + 31, "epoch", "mid"))
    return svg(width, height, label, out)


def swatch(kind: str) -> str:
    """A legend sample of `kind`: a class of `CSS` such as "found", "curve" or "peak"."""
    shapes = {
        "curve": '<path class="curve" d="M1 10L7 9L13 2L19 8L27 10"/>',
        "level": '<path class="level" d="M0 6H28"/>',
        "peak": '<circle class="peak" cx="14" cy="6" r="3"/>',
        "proposed": '<rect class="proposed" x="1" y="4" width="26" height="4" fill-opacity=".5"/>',
    }
    rect = f'<rect class="{escape(kind)}" x="1" y="1" width="26" height="{BAR}" rx="1.5"/>'
    return f'<svg class="chart" width="28" height="12">{shapes.get(kind, rect)}</svg>'
