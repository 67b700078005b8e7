"""What `data_prep.check` looks at; nothing is printed or written here.

Each line is `ok`, `odd` (usable, but not as published or not as it should be) or `bad` (would stop
the extraction or the training).
"""

import hashlib
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from spotjax.config import EXPRESSION_TYPES, Config
from spotjax.data import schema
from spotjax.errors import UserError, one_line

from . import faces, features, kinds
from .published import FACTS, RELEASES, Facts
from .readers import RawDataset, RawVideo, rules
from .video import read_depth

NEAREST_MM = 100  # no depth camera measures nearer
FAR_INTO_A_FILE = 300  # frames: a video file is decoded from its start, so look near it


class Check(NamedTuple):
    """One line of the report."""

    status: str
    """ok, odd or bad."""
    subject: str
    """What was looked at, for example `macro`."""
    text: str
    found: Any = None
    expected: Any = None


def check_annotation(dataset: RawDataset) -> Iterator[Check]:
    """sha256 of the annotation files against known releases."""
    for file in dataset.annotation_files:
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        known = RELEASES.get(digest)
        if known:
            yield Check("ok", "annotation", f"{file.name} is {known}", digest)
        elif dataset.name in FACTS:
            text = f"{file.name} is no release known here: edited, or another version"
            yield Check("odd", "annotation", text, digest)
        else:
            yield Check("ok", "annotation", f"{file.name}, sha256 {digest[:16]}", digest)


def check_counts(config: Config, dataset: RawDataset) -> Iterator[Check]:
    """Subjects, videos, expressions, emotions, frames, frame rate and k."""
    facts = FACTS.get(dataset.name)
    intervals = [i for video in dataset.videos for i in video.intervals]
    usable = [video for video in dataset.videos if not video.problem]
    options = rules.resolved(config.data.annotation, config.data.layout)
    yield _count("subjects", len({v.subject for v in dataset.videos}), facts and facts.subjects)
    yield _count("videos", len(dataset.videos), facts and facts.videos)
    for kind in EXPRESSION_TYPES:
        expected = facts.rows[kind] if facts else None
        if facts and kind == "macro" and options.onset_zero == "drop":
            expected = facts.rows[kind] - facts.onset_zero
        yield _count(kind, sum(i.type == kind for i in intervals), expected)
    emotions = Counter(i.emotion for i in intervals if i.emotion)
    if emotions or (facts and facts.emotions):
        wanted = dict(facts.emotions) if facts and options.emotions == "four" else None
        yield _count("emotions", dict(sorted(emotions.items())), wanted)
    every = config.data.sample_every
    total = sum(v.num_frames for v in dataset.videos)
    published = facts.frames if facts and facts.frames and every == 1 else None
    yield _count("frames" if every == 1 else f"frames (1 in {every})", total, published, 0.01)
    rates = sorted({round(v.fps, 3) for v in usable})
    status = "ok" if len(rates) == 1 else "odd"
    low = (
        " (below 25 fps micro-expressions are hardly resolved)"
        if min(rates, default=25) < 25
        else ""
    )
    yield Check("odd" if low else status, "fps", ", ".join(f"{r:g}" for r in rates) + low, rates)
    yield from _check_folds(config, usable)
    yield from _check_k(config, dataset, facts)


def _count(name: str, found: Any, expected: Any, tolerance: float = 0.0) -> Check:
    """`found` beside the published value, if there is one."""
    if isinstance(found, dict):
        shown = ", ".join(f"{key} {value}" for key, value in found.items()) or "none"
        wanted = ", ".join(f"{key} {value}" for key, value in sorted((expected or {}).items()))
    else:
        shown, wanted = f"{found:,}", "" if expected is None else f"{expected:,}"
    if expected is None:
        return Check("ok", name, shown, found)
    near = not isinstance(found, dict) and abs(found - expected) <= tolerance * expected
    if found == expected or near:
        return Check("ok", name, f"{shown} (published {wanted})", found, expected)
    return Check("odd", name, f"{shown}, published are {wanted}", found, expected)


def _check_folds(config: Config, videos: Sequence[RawVideo]) -> Iterator[Check]:
    """Whether every leave-one-subject-out fold has something to learn from."""
    subjects = {video.subject for video in videos}
    if len(subjects) < 2:
        yield Check("bad", "folds", f"{len(subjects)} subject(s): leave-one-subject-out needs 2",
                    len(subjects), 2)  # fmt: skip
    # only a system that learns the types apart cannot do without one
    for kind in getattr(config.system, "types", ()):
        having = {v.subject for v in videos if any(i.type == kind for i in v.intervals)}
        if len(having) < 2 <= len(subjects):
            text = (
                f"{kind} is annotated for {len(having)} subject(s): a fold has none to learn from; "
                f"leave it out with --config.system.types, or annotate it for a second subject"
            )
            yield Check("bad", "folds", text, len(having), 2)


def _check_k(config: Config, dataset: RawDataset, facts: Facts | None) -> Iterator[Check]:
    for kind in EXPRESSION_TYPES:
        try:
            derived = features.half_length(dataset, kind, None)
        except UserError as error:
            yield Check("odd", f"k {kind}", one_line(error))
            continue
        published = facts.k.get(kind) if facts and config.data.sample_every == 1 else None
        own = getattr(config.features, f"k_{kind}", None)
        chosen = schema.sampled_k(own, config.data.sample_every) if own else None
        text = f"{derived} frames from the annotation"
        text += f", published {published}" if published else ""
        text += f", the config sets {chosen}" if chosen else ""
        same = {derived, published or derived, chosen or derived} == {derived}
        yield Check("ok" if same else "odd", f"k {kind}", text, derived, published)


def check_videos(dataset: RawDataset) -> Iterator[Check]:
    """Videos that cannot be used, videos without annotation, depth."""
    for video in dataset.videos:
        if video.problem:
            yield Check("bad", "video", video.problem, video.id)
    usable = [video for video in dataset.videos if not video.problem]
    lengths = [video.num_frames / video.fps for video in usable]
    if lengths:
        text = (
            f"{len(usable)} can be used, {min(lengths):.1f} to {max(lengths):.1f} s, mean "
            f"{np.mean(lengths):.1f} s"
        )
        yield Check("ok", "videos", text, len(usable), len(dataset.videos))
    plain = [video.id for video in usable if not video.intervals]
    yield Check("ok", "without annotation", some(plain), plain)
    with_depth = [video for video in usable if video.depth]
    if with_depth and len(with_depth) < len(usable):
        lacking = [video.id for video in usable if not video.depth]
        yield Check("odd", "depth", f"no depth images: {some(lacking)}", lacking)


def check_intervals(dataset: RawDataset) -> Iterator[Check]:
    """Intervals that overlap, last one frame, or do not fit their type; quirks of the readers."""
    overlaps: list[str] = []
    across: list[str] = []
    single: list[str] = []
    long_micro: list[str] = []
    for video in dataset.videos:
        ordered = sorted(video.intervals)
        for index, interval in enumerate(ordered):
            for other in ordered[index + 1 :]:
                if other.onset <= interval.offset:
                    (overlaps if other.type == interval.type else across).append(video.id)
            if interval.onset == interval.offset:
                single.append(video.id)
            seconds = (interval.offset - interval.onset + 1) / (video.fps or 30)
            if interval.type == "micro" and seconds > 0.55:
                long_micro.append(video.id)
    for name, places, text in (
        ("overlaps", overlaps, "pairs of one type overlap"),
        ("overlaps", across, "pairs of macro and micro overlap"),
        ("single frame", single, "intervals last one frame"),
        ("long micro", long_micro, "micro-expressions last longer than 0.5 s"),
    ):
        if places:
            text = f"{len(places)} {text}: {some(list(dict.fromkeys(places)))}"
            yield Check("odd", name, text, len(places), 0)
    for quirk in dataset.quirks:
        yield Check("odd", "quirk", quirk)


def sampled(videos: Sequence[RawVideo], count: int) -> list[tuple[RawVideo, int]]:
    """`count` (video, row) spread over the videos, the same in every run."""
    usable = [video for video in videos if not video.problem]
    if not usable:
        return []
    chosen = []
    for index in range(count):
        video = usable[index * len(usable) // count % len(usable)]
        length = video.num_frames if video.file is None else min(video.num_frames, FAR_INTO_A_FILE)
        chosen.append((video, int(index * 0.618034 % 1 * length)))
    return chosen


def _check_depth(
    config: Config, path: Path, size: tuple[int, ...], video_id: str
) -> Iterator[Check]:
    """One depth image; what cannot be used is bad only where the features read depth."""
    worst = "bad" if getattr(config.features, "scene", False) else "odd"
    try:
        depth = read_depth(path)
    except UserError as error:
        yield Check(worst, "depth", one_line(error), video_id)
        return
    if depth.shape != size:
        text = f"{path}: is {depth.shape[1]}x{depth.shape[0]} px, colour {size[1]}x{size[0]} px"
        yield Check(worst, "depth", text, video_id)
    elif not depth.any():
        yield Check("odd", "depth", f"{path}: nothing was measured in it", video_id)
    elif (middle := float(np.median(depth[depth > 0]))) < NEAREST_MM:
        text = f"{path}: half of its values are below {middle:g} mm: is it in mm?"
        yield Check("odd", "depth", text, video_id)


def check_images(config: Config, dataset: RawDataset, count: int) -> Iterator[Check]:
    """Whether sampled images decode, and whether the face backend finds a face in them."""
    sample = sampled(dataset.videos, count)
    if not sample:
        return
    ready = getattr(config.features, "alignment", "") == "ready"  # the images are faces
    try:
        if not ready:
            faces.check_backend(config.features.face)
    except UserError as error:
        yield Check("bad", "faces", one_line(error))
        return
    with_face, without, sizes = 0, [], Counter[tuple[int, ...]]()
    for video, row in tqdm(sample, desc="frames", unit="frame", disable=None, leave=False):
        try:
            frames = features.frames_of(video)
            image = frames[row]
            found = (
                image.any()
                if ready
                else faces.backend(config.features.face, video).find(image, row) is not None
            )
        except UserError as error:
            yield Check("bad", "image", one_line(error), video.id)
            continue
        sizes[image.shape] += 1
        if video.depth and (depth := video.depth[row]):
            yield from _check_depth(config, depth, image.shape, video.id)
        if found:
            with_face += 1
        else:
            without.append(f"{video.id} frame {video.frame_ids[row]}")
    looked = with_face + len(without)
    shown = ", ".join(f"{w}x{h} px" for h, w in sizes)
    yield Check("ok" if looked else "bad", "images", f"{looked} of {len(sample)} decoded, {shown}")
    by = "ready-made crops" if ready else config.features.face.backend
    text = f"found in {with_face} of {looked} sampled frames ({by})"
    if without:
        text += f"; none in {some(without)}"
    status = "ok" if not without else "odd" if with_face else "bad"
    yield Check(status, "faces", text, with_face, looked)


def check_disk(config: Config, dataset: RawDataset) -> Iterator[Check]:
    """Room for the features."""
    try:
        specs = [kinds.build(config, dataset, kind) for kind in schema.kinds(config)]
    except UserError as error:
        yield Check("bad", "features", one_line(error))
        return
    frames = sum(v.num_frames for v in dataset.videos if not v.problem)
    needed = frames * sum(spec.bytes_per_frame for spec in specs)
    folder = schema.shards_folder(config).absolute()
    there = next(place for place in (folder, *folder.parents) if place.exists())
    free = shutil.disk_usage(there).free
    text = f"features need {needed / 1e9:.2f} GB, {free / 1e9:.1f} GB are free at {there}"
    yield Check("ok" if free > needed else "bad", "disk", text, free, needed)


def some(items: Sequence[str]) -> str:
    """The first few of `items` and how many there are."""
    if not items:
        return "none"
    more = f", ... ({len(items)} in all)" if len(items) > 5 else ""
    return ", ".join(items[:5]) + more
