"""Subtitles (SubRip): every player shows over the video what was found."""

from spotjax.spotting import Spotting
from spotjax.writers.spans import title


def srt(spotting: Spotting) -> str:
    """One subtitle per detection, in order of onset; empty where nothing was found.

    A subtitle lasts from the start of the onset frame to the end of the offset frame, at least
    1 ms.  Those of two types may overlap: players show both.
    """
    blocks = []
    for number, d in enumerate(spotting.detections, 1):
        start = round(spotting.onset_s(d) * 1000)
        end = max(round(spotting.offset_s(d) * 1000), start + 1)
        blocks.append(f"{number}\n{_clock(start)} --> {_clock(end)}\n{title(d)}\n")
    return "\n".join(blocks)


def _clock(ms: int) -> str:
    """Milliseconds as HH:MM:SS,mmm.

    >>> _clock(3_723_004)
    '01:02:03,004'
    """
    seconds, ms = divmod(ms, 1000)
    minutes, seconds = divmod(seconds, 60)
    return f"{minutes // 60:02}:{minutes % 60:02}:{seconds:02},{ms:03}"
