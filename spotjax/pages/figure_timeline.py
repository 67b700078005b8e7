"""The timelines of a run: score, ground truth and detections of every video (NumPy only)."""

import re
from collections.abc import Iterator

from spotjax.config import digest
from spotjax.pages import plot_timeline
from spotjax.pages.figure_data import Figure, Opened, Source, epochs_of
from spotjax.results import video_report


def figures(source: Source, opened: Opened) -> Iterator[Figure]:
    """One for each video, as in the report."""
    for video in opened.videos:
        found = opened.found[video.id]
        drawn = opened.drawn[video.id]
        report = video_report(opened.dataset, video, found, drawn, opened.taken)
        counts = [
            f"{track.type}: {sum(s.hit for s in track.spotted)} hits, "
            f"{sum(not s.hit for s in track.spotted)} false, "
            f"{sum(not t.found for t in track.truths)} missed"
            for track in report.tracks
        ]
        yield Figure(
            name_of(video.subject, video.name),
            f"Timeline of {video.id}",
            f"Annotated above the score, spotted below; by the fold that never saw "
            f"{video.subject}, {epochs_of(source)}. {'; '.join(counts)}.",
            plot_timeline.timeline(report),
        )


def name_of(subject: str, video: str) -> str:
    """A file's name; one with other letters ends in a hash, so that no two are alike.

    >>> name_of("s15", "15_0101"), name_of("s 1", "a/b")
    ('timeline_s15_15_0101', 'timeline_s-1_a-b-8c3be4')
    """
    text = f"{subject}_{video}"
    clean = re.sub(r"[^A-Za-z0-9._-]", "-", text)
    return f"timeline_{clean}" + ("" if clean == text else f"-{digest([subject, video])[:6]}")
