"""The data sets that can be imitated: subjects, videos, names of folders and frames, the camera.

Which frame number an image gets is decided here too.  CAS(ME)^2 and SAMM-LV count from 1 without a
gap.  In CAS(ME)^3 a video begins at a number of its own and a few images are missing, though never
one that a label names: there, numbers are file names, not positions.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .synthetic_displays import FOUR_EMOTIONS, SEVEN_EMOTIONS, Repertoire
from .synthetic_face import Face, build_face
from .synthetic_motion import AT_30_FPS, AT_200_FPS, Motion, Pace, Script, plan_motion

IDENTITY, SESSION, MOTION, NOISE, NUMBERS, DEPTH, CODER = range(7)  # independent random streams

# CAS(ME)^2: subject folders in their order, and its clips: code, folder suffix, name.
CASME2_SUBJECTS = (
    "s15",
    "s16",
    *(f"s{n}" for n in range(19, 28)),
    *(f"s{n}" for n in range(29, 39)),
    "s40",
)
CASME2_CLIPS = (
    ("0101", "disgustingteeth", "disgust1"),
    ("0102", "eatingworms", "disgust2"),
    ("0401", "girlcrashing", "anger1"),
    ("0402", "beatingpregnantwoman", "anger2"),
    ("0502", "funnyerrors", "happy1"),
    ("0503", "unnyfarting", "happy2"),
    ("0505", "funnyinnovations", "happy3"),
    ("0507", "climbingthewall", "happy4"),
    ("0508", "funnydunkey", "happy5"),
)
# SAMM-LV: the 30 people of its table.
SAMM_LV_SUBJECTS = tuple(f"{n:03d}" for n in (*range(6, 27), 28, *range(30, 38)))
# CAS(ME)^3 part A: the 98 people with an annotation row.
CASME3_SUBJECTS = tuple(
    f"spNO.{n}"
    for n in (
        *range(1, 18), *range(39, 43), 77, *range(138, 141), *range(142, 164), *range(165, 191),
        *range(192, 199), *range(200, 205), *range(206, 219),
    )
)  # fmt: skip
FIRST_NUMBERS = {7: 284, 5: 236, 8: 96, 1: 45, 4: 30, 6: 26, 10: 15}
"""CAS(ME)^3: the number of a video's first image, and how many videos have it."""
WITH_GAPS = 0.4  # CAS(ME)^3: the share of videos with missing images


@dataclass(frozen=True)
class Layout:
    """One data set as far as a generator must know it."""

    title: str
    """As papers write it."""
    number: int
    """Goes into the random seeds, so that every data set has people of its own."""
    subjects: tuple[str, ...]
    """All there is room for, as the labels write them (SAMM-LV, CAS(ME)^3) or the folders."""
    moods: tuple[str, ...]
    """Of a subject's videos, in their order; as many as there is room for."""
    pace: Pace
    repertoire: Repertoire
    images: tuple[str, ...]
    """Of one frame: colour, grey or depth."""
    bytes_per_frame: int
    """A generous mean, for the check of free space."""
    workbooks: tuple[str, ...]
    folder: Callable[[int, int], str]
    """(subject, video), counted from 0, to the video's folder."""
    files: Callable[[int, int, int], tuple[str, ...]]
    """(subject, video, frame number) to the names of its `images` in that folder."""


def _casme2_folder(subject: int, video: int) -> str:
    code, suffix, _ = CASME2_CLIPS[video]
    folder = CASME2_SUBJECTS[subject]
    return f"rawpic/{folder}/{folder[1:]}_{code}{suffix}"


def _casme2_files(subject: int, video: int, number: int) -> tuple[str, ...]:
    return (f"img{number:03d}.jpg",)


def samm_lv_video(subject: int, video: int) -> str:
    """The name of a SAMM-LV video, such as 006_1."""
    return f"{SAMM_LV_SUBJECTS[subject]}_{video + 1}"


def _samm_lv_folder(subject: int, video: int) -> str:
    return f"SAMM_longvideos/{samm_lv_video(subject, video)}"


def _samm_lv_files(subject: int, video: int, number: int) -> tuple[str, ...]:
    return (f"{samm_lv_video(subject, video)}_{number:04d}.jpg",)


def casme3_video(video: int) -> str:
    """The letter of a CAS(ME)^3 video."""
    return "abcdefghijklm"[video]


def _casme3_folder(subject: int, video: int) -> str:
    return f"part_A/{CASME3_SUBJECTS[subject]}/{casme3_video(video)}"


def _casme3_files(subject: int, video: int, number: int) -> tuple[str, ...]:
    return (f"color/{number}.jpg", f"depth/{number}.png")


LAYOUTS = {
    "casme2": Layout(
        title="CAS(ME)^2",
        number=0,
        subjects=CASME2_SUBJECTS,
        moods=tuple(name.rstrip("0123456789") for _, _, name in CASME2_CLIPS),
        pace=AT_30_FPS,
        repertoire=FOUR_EMOTIONS,
        images=("colour",),
        bytes_per_frame=70_000,
        workbooks=("CAS(ME)^2code_final.xlsx",),
        folder=_casme2_folder,
        files=_casme2_files,
    ),
    "samm_lv": Layout(
        title="SAMM-LV",
        number=1,
        subjects=SAMM_LV_SUBJECTS,
        moods=("disgust", "happy", "anger", "happy", "disgust", "happy", "anger"),
        pace=AT_200_FPS,
        repertoire=FOUR_EMOTIONS,
        images=("grey",),
        bytes_per_frame=70_000,
        workbooks=("SAMM_LongVideos_V2_Release.xlsx",),
        folder=_samm_lv_folder,
        files=_samm_lv_files,
    ),
    "casme3": Layout(
        title="CAS(ME)^3",
        number=2,
        subjects=CASME3_SUBJECTS,
        moods=(
            *("disgust", "happy", "surprise", "fear", "sad", "anger", "others"),
            *("disgust", "surprise", "happy", "fear", "sad", "anger"),
        ),
        pace=AT_30_FPS,
        repertoire=SEVEN_EMOTIONS,
        images=("colour", "depth"),
        bytes_per_frame=250_000,
        workbooks=(
            "CAS(ME)3_part_A_v2.xlsx",
            "cas(me)3_part_A_ME_label_JpgIndex_v2.xlsx",
        ),
        folder=_casme3_folder,
        files=_casme3_files,
    ),
}  # fmt: skip


class Numbering(NamedTuple):
    """Which frames of a video become images, and their numbers."""

    first: int
    """The number of the video's first frame."""
    missing: frozenset[int]
    """Frames (from 0) without an image."""


@dataclass(frozen=True)
class VideoTask:
    """One video to render."""

    layout: str
    root: Path
    subject: int  # index from 0
    video: int  # index from 0
    seconds: float
    seed: int
    calm: bool = False

    @property
    def style(self) -> Layout:
        """The data set that it imitates."""
        return LAYOUTS[self.layout]

    @property
    def folder(self) -> str:
        """Where its frames go, relative to `root`."""
        return self.style.folder(self.subject, self.video)

    @property
    def frames(self) -> int:
        """Its length; CAS(ME)^3 then loses a few images."""
        return round(self.seconds * self.style.pace.fps)

    def files(self, number: int) -> tuple[str, ...]:
        """The image files of frame `number`, relative to `folder`."""
        return self.style.files(self.subject, self.video, number)

    def generator(self, stream: int) -> np.random.Generator:
        """Random numbers of (seed, subject, video, layout) and the stream, nothing else."""
        video = 0 if stream == IDENTITY else 1 + self.video
        words = [self.seed, self.subject, video, stream]
        if self.style.number:  # CAS(ME)^2 was there first, without a number
            words.append(self.style.number)
        return np.random.Generator(np.random.Philox(np.random.SeedSequence(words)))

    def motion(self) -> Motion:
        """What happens in the video: cheap, so labels never need a second look at the frames."""
        style = self.style
        script = Script(style.moods[self.video], style.repertoire, style.pace, self.calm)
        return plan_motion(self.generator(MOTION), self.frames, script, self.video == 0)

    def face(self) -> Face:
        """Who is seen in the video, and how."""
        return build_face(self.generator(IDENTITY), self.generator(SESSION))

    def numbering(self, motion: Motion) -> Numbering:
        """The image numbers; `motion` is this video's."""
        if self.layout != "casme3":
            return Numbering(1, frozenset())
        rng = self.generator(NUMBERS)
        weights = np.array([*FIRST_NUMBERS.values()], np.float64)
        first = int(rng.choice([*FIRST_NUMBERS], p=weights / weights.sum()))
        if rng.random() >= WITH_GAPS:
            return Numbering(first, frozenset())
        named = {
            frame - 1
            for event in motion.expressions
            for frame in (event.onset, event.apex, event.offset)
        } | {0, self.frames - 1}
        missing: set[int] = set()
        for length in rng.integers(1, 4, int(rng.integers(1, 4))):
            start = int(rng.integers(self.frames))
            missing.update(range(start, start + int(length)))
        return Numbering(first, frozenset(missing & set(range(self.frames)) - named))
