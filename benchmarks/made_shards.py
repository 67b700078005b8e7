"""Shards of SOFTNet features as large as a data set's, from random numbers: only time counts.

Subjects, videos, frames and expressions are as many as asked for; an expression brightens a patch
of the flow between its frames, so that a training has something to learn.
"""

from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from spotjax import config as config_lib
from spotjax import files
from spotjax.config import Config
from spotjax.data import schema
from spotjax.data.schema import Stream
from spotjax.data.tfrecord import write_records
from spotjax.loso import rundir

STREAMS = {
    f"{name}_{type}": Stream(shape, dtype)
    for type in ("macro", "micro")
    for name, shape, dtype in (
        ("flow", (42, 42, 3), "float16"),
        ("strain", (), "float32"),
        ("valid", (), "uint8"),
    )
}
POOL = 500
"""Different images; rows are drawn from them, since making new ones would take longest."""


def make(
    folder: Path,
    config: Config,
    subjects: int = 22,
    videos: int = 98,
    frames: int = 254_094,
    macro: int = 300,
    micro: int = 57,
) -> None:
    """Write shards and manifest to `folder` for `config`, unless they are there.

    The defaults are CAS(ME)^2's numbers.
    """
    if (folder / schema.MANIFEST).exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    pool = rng.random((POOL, 42, 42, 3), np.float32).astype(np.float16) / 4
    features, k = schema.features_dict(STREAMS), {"macro": 18, "micro": 6}
    lengths = np.diff(np.linspace(0, frames, videos + 1).astype(int))
    entries: list[dict[str, Any]] = []
    for number, length in enumerate(tqdm(lengths.tolist(), unit="video", desc="shards")):
        spans = _spans(rng, number, videos, length, {"macro": macro, "micro": micro}, k)
        path = folder / schema.shard_name("made", number, videos)
        subject = f"s{number * subjects // videos + 1}"
        record = _records(features, rng, pool, subject, f"v{number}", length, spans, k)
        write_records(path, record)
        entries.append(
            {
                "subject": subject,
                "name": f"v{number}",
                "fps": 30.0,
                "num_frames": length,
                "intervals": spans,
                "shard": path.name,
                "bytes": path.stat().st_size,
            }
        )
    settings = schema.feature_settings(config)
    manifest = {
        "schema": schema.SCHEMA_VERSION,
        "dataset": "made",
        "data": schema.read_settings(config),
        "types": ["macro", "micro"],
        "emotions": [],
        "streams": {n: {"shape": list(s.shape), "dtype": s.dtype} for n, s in STREAMS.items()},
        "events": {},
        "k": k,
        "k_source": "made",
        "features": settings,
        "features_hash": config_lib.digest(settings),
        "hash": config_lib.digest([subjects, videos, frames, macro, micro]),
        "versions": rundir.versions(),
        "quirks": ["made by a benchmark from random numbers"],
        "skipped": [],
        "annotation_sha256": "",
        "videos": entries,
    }
    files.write_json(folder / schema.MANIFEST, manifest)


def _spans(
    rng: np.random.Generator,
    number: int,
    videos: int,
    length: int,
    counts: dict[str, int],
    k: dict[str, int],
) -> list[dict[str, Any]]:
    """A video's share of the expressions, twice k long, none over another."""
    kinds = [
        type
        for type, count in counts.items()
        for _ in range(count * (number + 1) // videos - count * number // videos)
    ]
    if not kinds:
        return []
    room = length // len(kinds)
    spans = []
    for place, type in enumerate(kinds):
        onset = place * room + int(rng.integers(0, max(1, room - 2 * k[type])))
        spans.append(
            {
                "onset": onset,
                "apex": onset + k[type],
                "offset": min(onset + 2 * k[type], length - 1),
                "type": type,
                "emotion": "",
            }
        )
    return spans


def _records(
    features: Any,
    rng: np.random.Generator,
    pool: np.ndarray,
    subject: str,
    name: str,
    length: int,
    spans: list[dict[str, Any]],
    k: dict[str, int],
) -> Any:
    """The serialized records of a video."""
    for start in range(0, length, schema.RECORD_FRAMES):
        frames = np.arange(start, min(start + schema.RECORD_FRAMES, length))
        rows: dict[str, np.ndarray] = {}
        for type in k:
            flow = pool[rng.integers(0, len(pool), len(frames))]
            for span in spans:
                inside = (frames > span["onset"] - k[type]) & (frames <= span["offset"])
                if span["type"] == type:
                    flow[inside, 10:20, 10:20] += 0.5
            rows[f"flow_{type}"] = flow
            rows[f"strain_{type}"] = flow[..., 2].mean(axis=(1, 2)).astype(np.float32)
            rows[f"valid_{type}"] = (frames < length - k[type]).astype(np.uint8)
        yield features.serialize_example(
            {
                "dataset": "made",
                "subject": subject,
                "video": name,
                "fps": np.float32(30),
                "start": start,
                "num_frames": length,
                "frame_ids": frames.astype(np.int32) + 1,
                "face": np.ones(len(frames), np.uint8),
                "crop": np.array([0, 0, 128, 128], np.int32),
                "intervals": np.zeros((0, 5), np.int32),
                **rows,
            }
        )
