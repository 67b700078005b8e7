"""Strict switches for every test, and small data sets that need no rendering."""

import os
from pathlib import Path

import jax
import numpy as np
import pytest

from spotjax.types import Dataset, Interval, Video

jax.config.update("jax_platforms", os.environ.get("JAX_PLATFORMS", "cpu"))
if "device_count" not in os.environ.get("XLA_FLAGS", ""):
    jax.config.update("jax_num_cpu_devices", 2)
# tests compile the same programs again and again, in several processes
CACHE = Path(__file__).resolve().parents[1] / ".jax_cache"
jax.config.update("jax_compilation_cache_dir", str(CACHE))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)
jax.config.update("jax_numpy_rank_promotion", "raise")

SHARED = Path(__file__).resolve().parents[1].parent / "shared"
K = {"macro": 12, "micro": 4}


def shared_file(name: str) -> Path:
    """A file of the reference material beside the project; skips the test without it."""
    path = SHARED / name
    if not path.exists():
        pytest.skip(f"the reference file {name} is not here")
    return path


def toy_dataset(subjects: int = 4, videos: int = 1, frames: int = 120, seed: int = 0) -> Dataset:
    """Features with a bright patch where a pair meets an expression; ragged over subjects."""
    rng = np.random.default_rng(seed)
    listed, streams, row = [], {}, 0
    for subject in range(subjects):
        for video in range(videos):
            length = frames + 10 * subject
            spans = [Interval(20, 28, 40, "macro"), Interval(70, 73, 76, "micro")]
            if subject != 1:
                spans.append(Interval(84, 90, 100, "macro"))
            listed.append(
                Video(
                    f"s{subject}",
                    f"v{video}",
                    30.0,
                    row,
                    length,
                    np.arange(1, length + 1, dtype=np.int32),
                    tuple(spans),
                )
            )
            for type, k in K.items():
                flow = rng.normal(0, 0.1, (length, 42, 42, 3))
                for span in spans:
                    if span.type == type:
                        flow[max(span.onset - k + 1, 0) : span.offset + 1, 10:20, 10:20] += 1
                valid = np.arange(length) < length - k
                flow[~valid] = 0
                parts = {"flow": flow.astype(np.float16), "valid": valid.astype(np.uint8)}
                parts["strain"] = flow.sum(axis=(1, 2, 3)).astype(np.float32)
                for name, array in parts.items():
                    streams.setdefault(f"{name}_{type}", []).append(array)
            streams.setdefault("face", []).append(np.ones(length, np.uint8))
            row += length
    joined = {name: np.concatenate(parts) for name, parts in streams.items()}
    manifest = {"quirks": [], "skipped": [], "k_source": "toy", "hash": "toy", "versions": {}}
    return Dataset("toy", tuple(listed), joined, K, manifest)


@pytest.fixture(scope="session")
def toy() -> Dataset:
    """A data set of four subjects."""
    return toy_dataset()
