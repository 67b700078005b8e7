"""The timeline of a video as SVG: a pure function of NumPy arrays, standard library only.

From top to bottom: annotated intervals, score curve, proposals if there are any, spotted intervals.
Colours and line styles are the classes of `plots.CSS`; all text is escaped here.
"""

from collections.abc import Sequence
from functools import partial
from html import escape

import numpy as np

from spotjax.pages.svg import BAR, path, runs, svg, text, ticks_of
from spotjax.pages.tracks import Spotted, Track, Truth, VideoReport

MAX_POINTS = 1200
"""Most points drawn of one score curve."""
MAX_PROPOSALS = 300
"""Most proposals drawn of one track, the best ones."""
PROPOSAL_LANES = 4

_WIDTH, _LEFT, _RIGHT = 1120, 110, 48
_CURVE_HEIGHT, _LANE, _THIN = 76, 13, 5


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


def timeline(video: VideoReport) -> str:
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
        for start, stop in runs(video.missing_face)
    ]
    axis = [f'<path class="axis" d="M{_LEFT} {top:.0f}H{right}"/>']
    seconds = num_frames / video.fps
    for tick in ticks_of(0.0, seconds, 12):
        x = _LEFT + tick * video.fps * scale
        axis.append(f'<path class="axis" d="M{x:.1f} {top:.0f}v4"/>')
        axis.append(text(x, top + 15, f"{tick:g} s", "mid"))
    if num_frames:
        axis.append(text(_LEFT, top + 29, f"frame {video.frame_ids[0]}"))
        axis.append(text(right, top + 29, f"frame {video.frame_ids[-1]}", "end"))
    label = f"Timeline of {video.subject} {video.name}"
    return svg(_WIDTH, top + 34, label, shaded + body + axis)


def _panel(video: VideoReport, track: Track, scale: float, top: float) -> tuple[list[str], float]:
    """The elements of one track that starts at y = `top`, and where the next one starts."""
    right, extent = _WIDTH - _RIGHT, partial(_extent, video, scale)
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
    thin, spotted_top = _proposals(video, track, scale, plot_bottom + 5)
    out += thin
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


def _proposals(
    video: VideoReport, track: Track, scale: float, top: float
) -> tuple[list[str], float]:
    """Thin bars of the proposals, stronger for a higher score, and where the next lane starts.

    The best come first: each goes to the first of a few sub-lanes where it hides none, to the last
    one if there is no such (bars let others shine through).
    """
    count = len(track.proposals)
    if not count:
        return [], top
    out = [text(_LEFT - 8, top + 10, "proposed", "end")]
    ranked = track.proposals[np.argsort(-track.proposals[:, 2], kind="stable")[:MAX_PROPOSALS]]
    placed: list[list[tuple[int, int]]] = [[] for _ in range(PROPOSAL_LANES)]
    for *ends, score in ranked.tolist():
        onset, offset = map(round, ends)
        free = [
            number
            for number, lane in enumerate(placed)
            if all(offset < first or last < onset for first, last in lane)
        ]
        lane = free[0] if free else PROPOSAL_LANES - 1
        placed[lane].append((onset, offset))
        x, width = _extent(video, scale, onset, offset)
        out.append(
            f'<rect class="proposed" x="{x:.1f}" y="{top + 1 + lane * _THIN:.0f}" '
            f'width="{width:.1f}" height="{_THIN - 1}" '
            f'fill-opacity="{max(0.1, 0.8 * min(max(score, 0.0), 1.0) ** 2):.2f}">'
            f"<title>proposal: {escape(_span(video, onset, offset))}, score {score:.3g}</title>"
            "</rect>"
        )
    if count > len(ranked):
        tip = f"of {count} proposals the {len(ranked)} of highest score are drawn"
        words = (f"{len(ranked)} of", f"{count}")
        note = [text(_WIDTH - _RIGHT + 4, top + 9 + 11 * n, word) for n, word in enumerate(words)]
        out.append(f"<g><title>{tip}</title>{''.join(note)}</g>")
    used = max(number + 1 for number, lane in enumerate(placed) if lane)
    return out, top + max(used * _THIN, _LANE) + 3


def _extent(video: VideoReport, scale: float, onset: int, offset: int) -> tuple[float, float]:
    """Left end and width of a bar, inside the panel and wide enough to be seen."""
    first, last = np.clip([onset, offset + 1], 0, len(video.frame_ids))
    return _LEFT + float(first) * scale, max(float(last - first) * scale, 3.0)


def _curve(track: Track, scale: float, top: float, right: float) -> list[str]:
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
        f'<path class="curve" d="{path(_LEFT + (chosen + 0.5) * scale, height(score[chosen]))}"/>',
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


def _bar(x: float, y: float, width: float, state: str, tip: str) -> str:
    return (
        f'<rect class="bar {state}" x="{x:.1f}" y="{y:.0f}" width="{width:.1f}" height="{BAR}" '
        f'rx="1.5"><title>{escape(tip)}</title></rect>'
    )


def _lanes(intervals: Sequence[Truth] | Sequence[Spotted]) -> tuple[list[int], float]:
    """A lane per interval so that none hides another, and the height of all lanes."""
    ends: list[int] = []
    lanes = [0] * len(intervals)
    for i in sorted(range(len(intervals)), key=lambda i: intervals[i].onset):
        free = [lane for lane, end in enumerate(ends) if end < intervals[i].onset]
        lanes[i] = free[0] if free else len(ends)
        ends[lanes[i] : lanes[i] + 1] = [intervals[i].offset]
    return lanes, max(len(ends), 1) * _LANE


def _number(video: VideoReport, frame: int) -> int:
    """The data set's own number of `frame`; counted on beyond the ends of the video."""
    inside = min(max(frame, 0), len(video.frame_ids) - 1)
    return int(video.frame_ids[inside]) + frame - inside


def _span(video: VideoReport, first: int, last: int) -> str:
    times = f"{first / video.fps:.2f} to {(last + 1) / video.fps:.2f} s"
    return f"frames {_number(video, first)} to {_number(video, last)} ({times})"
