"""Thresholds of clip proposals, and the paper's numbers."""

import time

import numpy as np
import pytest
from test_clip_proposals import faces, golden, silent, window

from spotjax.counting import metrics
from spotjax.counting.matching import RULES, Counts, VideoResult
from spotjax.decoding import clip_proposals as cp
from spotjax.decoding.clip_proposals import Options
from spotjax.decoding.clip_windows import overlaps, starts, windows
from spotjax.decoding.intervals import as_array

# --- thresholds -----------------------------------------------------------------------------------


def labelled(frames, seed):
    """A video whose scores know something of its truths, and not all of it."""
    rng = np.random.default_rng(seed)
    truths = np.array([[first, first + 11] for first in range(10, frames - 20, 60)])
    scores = silent(frames)
    for clip, start in enumerate(starts(frames)):
        near = overlaps(start + windows(), truths).max(axis=1)
        noise = rng.normal(0, 0.12, (len(near), 2))
        scores[clip, :, :2] = np.clip(0.35 + 0.4 * near[:, None] + noise, 0, 1)
    scores[..., 2:] = rng.normal(0, 0.05, scores[..., 2:].shape)
    valid = rng.random(frames) > 0.002
    return scores, valid, truths


def f1_of(videos, options):
    results = []
    for scores, valid, truths in videos:
        found, _ = cp.spot(scores, valid, options)
        results.append(VideoResult(as_array(found), np.array([d.score for d in found]), truths))
    return metrics.count(results, "mesnet").f1


@pytest.mark.parametrize(
    "options",
    [
        Options(),
        Options(nms="simultaneous", t_nms=0.3),
        Options(t_nms=None, decode="proposal_length"),
        Options(module="cpn", t_crn=0.123),
    ],
)
def test_chosen_thresholds_are_the_best_of_all_pairs(options):
    videos = [labelled(250, seed) for seed in range(3)] + [labelled(80, 9)]
    cpn, crn = (0.5, 0.65, 0.6, 0.7), (0.7, 0.55, 0.6)  # not in order
    pairs = [(a, b) for a in cpn for b in (crn if options.module == "crn" else (0.123,))]
    found = {pair: f1_of(videos, options._replace(t_cpn=pair[0], t_crn=pair[1])) for pair in pairs}
    assert len(set(found.values())) > 2
    best = max(pair for pair in pairs if found[pair] == max(found.values()))
    chosen = cp.choose_thresholds(videos, options, cpn, crn)
    assert (chosen.t_cpn, chosen.t_crn) == best
    assert chosen._replace(t_cpn=0, t_crn=0) == options._replace(t_cpn=0, t_crn=0)
    if options == Options():
        assert cp.choose_thresholds(videos, cpn=cpn, crn=crn) == chosen


def test_of_equal_pairs_the_higher_thresholds_are_chosen():
    scores = silent(100)
    scores[0, window(40, 52), :2] = 0.7, 0.65
    video = scores, faces(100), np.array([[40, 52]])
    assert cp.choose_thresholds([video])[:2] == (0.68, 0.64)
    assert cp.choose_thresholds([video], Options(module="cpn"))[:2] == (0.68, 0.5)
    assert cp.choose_thresholds([video], cpn=(0.5,), crn=(0.4, 0.6, 0.5))[:2] == (0.5, 0.6)


def test_where_nothing_is_hit_the_thresholds_stay():
    scores = silent(100)
    scores[0, window(40, 52), :2] = 0.9
    options = Options(0.61, 0.43)
    for truths in (np.zeros((0, 2), np.int64), np.array([[70, 80]])):
        assert cp.choose_thresholds([(scores, faces(100), truths)], options) == options
    assert cp.choose_thresholds([], options) == options


def test_the_grids_of_table_7():
    assert (0.48, 0.5, 0.52, *np.arange(56, 81, 4) / 100) == cp.CPN_GRID
    assert (0.4, 0.44, 0.48, 0.5, 0.52, *np.arange(56, 81, 4) / 100) == cp.CRN_GRID


def test_choosing_thresholds_is_fast():
    videos = [labelled(2700, seed) for seed in range(5)]
    begin = time.process_time()
    cp.choose_thresholds(videos)
    assert time.process_time() - begin < 3  # 0.2 s alone on one core


# --- the paper's numbers --------------------------------------------------------------------------


def test_f1_of_the_printed_counts():
    for a, b, m, n, f1 in golden("metrics_abmn_f1"):
        counts = Counts(tp=b, fp=n - b, fn=m - a, surplus=a - b)
        assert counts.f1 == pytest.approx(f1, abs=1e-6)
        assert counts.recall == a / m and counts.precision == b / n


def test_the_rule_counts_both_sides():
    predictions = as_array([(0, 9), (1, 10), (50, 59), (100, 120)])
    truths = as_array([(0, 9), (100, 111), (109, 120), (200, 210)])
    rule = RULES["mesnet"]
    counts = rule.tally(rule.hits(VideoResult(predictions, np.zeros(4), truths), 0.5))
    assert (counts.found, counts.tp, counts.fp, counts.fn) == (3, 3, 1, 1)
