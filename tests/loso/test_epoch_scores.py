"""Curves kept in training and the epoch that each choice takes from them."""

import numpy as np
import pytest

from spotjax.counting.matching import Counts
from spotjax.errors import UserError
from spotjax.loso import epoch_scores
from spotjax.types import Video


def video(subject):
    return Video(subject, "v", 30.0, 0, 3, np.arange(3), ())


VIDEOS = {"a": [video("a")], "b": [video("b")]}


def keep(folder, values):
    """Epoch 1, 2, ...: a constant curve per fold and video; fold a also scores b's video."""
    for epoch, (a, b, a_on_b) in enumerate(values, start=1):
        curves = [
            {"a/v": np.full(3, a, np.float32), "b/v": np.full(3, a_on_b, np.float32)},
            {"b/v": np.full((3, 2), b, np.float32)},
        ]
        epoch_scores.save(folder, "both", epoch, ["a", "b"], curves)


def count(videos, curves):
    """F1 grows with the first value of the curve."""
    value = sum(int(curves["both"][v.id].flat[0]) for v in videos)
    return Counts(tp=value, fp=10 - value, fn=10 - value)


def test_each_fold_takes_its_own_best_epoch_the_earlier_of_equals(tmp_path):
    keep(tmp_path, [(1, 5, 0), (3, 5, 0), (3, 2, 0)])
    assert epoch_scores.epochs(tmp_path, ["both"]) == [1, 2, 3]
    assert epoch_scores.choose(tmp_path, ["both"], VIDEOS, count) == {"a": 2, "b": 1}


def test_validation_looks_at_other_videos(tmp_path):
    keep(tmp_path, [(9, 0, 1), (1, 0, 7)])
    assert epoch_scores.choose(tmp_path, ["both"], {"a": VIDEOS["b"]}, count) == {"a": 2}
    kept = epoch_scores.load(tmp_path, ["both"], 2)
    held_out = epoch_scores.of_fold(kept, "a", VIDEOS["a"])
    assert held_out["both"]["a/v"].tolist() == [1, 1, 1]
    assert epoch_scores.of_fold(kept, "b", VIDEOS["b"])["both"]["b/v"].shape == (3, 2)


def test_an_epoch_counts_only_if_every_problem_has_it(tmp_path):
    keep(tmp_path, [(1, 1, 1), (2, 2, 2)])
    epoch_scores.save(tmp_path, "other", 2, ["a"], [{"a/v": np.zeros(3, np.float32)}])
    assert epoch_scores.epochs(tmp_path, ["both", "other"]) == [2]


def test_without_kept_curves_it_says_what_to_do(tmp_path):
    with pytest.raises(UserError, match="has no curves of single epochs: train with --config.tra"):
        epoch_scores.choose(tmp_path, ["both"], VIDEOS, count)
