"""The training-free methods on streams made by hand."""

import dataclasses

import numpy as np
import pytest

from spotjax.baselines import BASELINES, random_intervals
from spotjax.config import Config, LbpChi2
from spotjax.types import Dataset, Detection, Video

FRAMES = 300
CONFIG = Config(name="x")
FEATURE = {"mdmd": "mdmd", "lbp_chi2": "lbp_chi2", "strain_sum": "strain"}


def data_set(name: str, bumps: dict[str, tuple[int, int]], k: dict[str, int]) -> Dataset:
    """One video of 300 frames at 30 fps whose feature rises in one span per type."""
    video = Video("s1", "v", 30.0, 0, FRAMES, np.arange(1, FRAMES + 1), ())
    streams = {}
    for type, (first, last) in bumps.items():
        feature = np.zeros(FRAMES, np.float32)
        feature[first : last + 1] = 1.0
        streams[f"{FEATURE[name]}_{type}"] = feature
        streams[f"valid_{type}"] = np.ones(FRAMES, np.uint8)
    return Dataset("d", (video,), streams, k, {})


@pytest.mark.parametrize("name", ["mdmd", "lbp_chi2"])
def test_a_bump_becomes_an_interval_of_its_length(name: str) -> None:
    k = {"macro": 39, "micro": 12}
    dataset = data_set(name, {"macro": (100, 125), "micro": (200, 209)}, k)
    found = BASELINES[name](dataset, dataset.videos[0], ("macro", "micro"), CONFIG)
    assert [(d.onset, d.offset, d.type) for d in found] == [
        (100, 125, "macro"), (200, 209, "micro"),
    ]  # fmt: skip
    assert all(d.onset <= d.apex <= d.offset and d.score > 0 for d in found)
    only = BASELINES[name](dataset, dataset.videos[0], ("micro",), CONFIG)
    assert [d.type for d in only] == ["micro"]


@pytest.mark.parametrize("name", ["mdmd", "lbp_chi2"])
def test_lengths_separate_the_types(name: str) -> None:
    k = {"macro": 39, "micro": 12}
    dataset = data_set(name, {"macro": (100, 115), "micro": (200, 216)}, k)  # 16 and 17 frames
    assert BASELINES[name](dataset, dataset.videos[0], ("macro", "micro"), CONFIG) == []


def test_bins_of_megc2019() -> None:
    settings = LbpChi2(k_macro=5, k_micro=5, p=0.15, bin_frames=15, bin_hits=6)
    config = dataclasses.replace(
        CONFIG, baselines=dataclasses.replace(CONFIG.baselines, lbp_chi2=settings)
    )
    dataset = data_set("lbp_chi2", {"micro": (150, 158)}, {"micro": 5})
    found = BASELINES["lbp_chi2"](dataset, dataset.videos[0], ("micro",), config)
    assert [(d.onset, d.offset) for d in found] == [(150, 158)]


def test_strain_sum_is_decoded_as_softnets_score() -> None:
    dataset = data_set("strain_sum", {"macro": (100, 110)}, {"macro": 18})
    found = BASELINES["strain_sum"](dataset, dataset.videos[0], ("macro",), CONFIG)
    assert [(d.offset - d.onset, d.type) for d in found] == [(36, "macro")]
    moved = dataclasses.replace(
        CONFIG, system=dataclasses.replace(CONFIG.system, interval="centred")
    )
    later = BASELINES["strain_sum"](dataset, dataset.videos[0], ("macro",), moved)
    assert later[0].onset - found[0].onset == 9


def test_random_intervals_keep_number_and_length() -> None:
    given = [Detection(5, 8, 14, "macro", 1.0), Detection(0, 1, 2, "micro", 0.5)]
    rng = np.random.default_rng(0)
    for _ in range(50):
        placed = random_intervals(given, 20, rng)
        assert [d.offset - d.onset for d in placed] == [9, 2]
        assert [d.type for d in placed] == ["macro", "micro"]
        assert all(0 <= d.onset <= d.apex <= d.offset < 20 for d in placed)
