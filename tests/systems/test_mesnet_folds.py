"""What MESNet's folds train on: samples, constants, and the videos kept aside."""

import dataclasses

import numpy as np
import pytest
from toy import without_micro

from spotjax.config import Config, Mesnet, MesnetFeatures, Train
from spotjax.data import plans, splits
from spotjax.errors import UserError
from spotjax.loso import checkpoints, start
from spotjax.systems import build
from spotjax.types import Dataset, Interval, Video

CONFIG = Mesnet(size=32, clips_micro=1, clips_macro=0, clips_none=1)
SYSTEM = build(CONFIG, {})
STAGE = SYSTEM.before
TRAIN = Train(validation=0.3, validation_of="videos")


def loso(data, wanted=(), system=SYSTEM):
    return plans.loso(system, data, system.problems[0], TRAIN, wanted)


# --- samples --------------------------------------------------------------------------------------


def test_poisoned_labels_of_the_held_out_subject_change_nothing(clips):
    poisoned = clips._replace(
        videos=tuple(
            v._replace(intervals=(Interval(3, 5, 60, "micro"),)) if v.subject == "s2" else v
            for v in clips.videos
        )
    )
    for system in (SYSTEM, STAGE):
        [clean], [dirty] = (loso(data, ("s2",), system) for data in (clips, poisoned))
        assert clean.validation == dirty.validation and len(clean.validation) == 2
        for name, column in clean.samples.items():
            np.testing.assert_array_equal(column, dirty.samples[name])


def test_no_sample_reads_the_held_out_or_the_validation_videos(clips):
    for system in (SYSTEM, STAGE):
        for fold in loso(clips, system=system):
            aside = np.zeros(len(clips.streams["energy"]), bool)
            for video in clips.videos:
                if video.subject == fold.subject or video.id in fold.validation:
                    aside[video.rows] = True
            row, length = fold.samples["row"], fold.samples["length"]
            for first, count in zip(row, length, strict=True):
                mine = first if first.ndim else first + np.arange(count)
                assert not aside[mine].any()


def test_a_fold_of_subjects_without_micro_expressions_is_refused(clips):
    few = tuple(v if v.subject in ("s0", "s1") else without_micro(v) for v in clips.videos)
    free = dataclasses.replace(CONFIG, share_train=0.0, share_validation=0.0)
    some = loso(clips._replace(videos=few), ("s2",), build(free, {}))
    assert some[0].size > 0
    none = tuple(v if v.subject == "s2" else without_micro(v) for v in clips.videos)
    for system in (build(free, {}), build(free, {}).before):
        with pytest.raises(UserError, match="fold s2 has nothing to learn"):
            loso(clips._replace(videos=none), ("s2",), system)


def test_the_constant_is_measured_on_training_rows_alone(clips, tmp_path):
    valid = clips.streams["valid_both"] > 0
    scale = SYSTEM.constants(clips.streams, valid)["scale"]
    rms = np.sqrt(np.square(clips.streams["flow"].astype(np.float64)).mean())
    np.testing.assert_allclose(scale, rms, rtol=1e-5)
    assert SYSTEM.constants({"energy": np.zeros(4)}, np.ones(4, bool))["scale"] > 0  # no motion
    folds = loso(clips)

    def scales(data):
        config = Config(name="toy", features=MesnetFeatures(size=32), system=CONFIG, train=TRAIN)
        with checkpoints.Checkpoints(tmp_path, "both") as store:
            states, best = start.states(config, TRAIN, SYSTEM, "both", data, folds, store)
        assert best is None
        return states.variables["constants"]["scale"]

    found = scales(clips)
    assert found.shape == (4,) and len(set(found.tolist())) > 1
    first = folds[0]
    mine = [v for v in clips.videos if v.subject != "s0" and v.id not in first.validation]
    energy = clips.streams["energy"] * 100
    for video in mine:
        energy[video.rows] /= 100
    louder = scales(clips._replace(streams=clips.streams | {"energy": energy}))
    np.testing.assert_allclose(louder[0], found[0], rtol=1e-6)
    assert (louder[1:] > 2 * found[1:]).all()
    faces = np.zeros_like(clips.streams["valid_both"])
    for video in clips.videos:
        faces[video.first_row : video.first_row + 40] = 1
    streams = clips.streams | {"valid_both": faces}  # other rows are not measured
    expected = np.mean([clips.streams["energy"][v.rows][:40] for v in mine], dtype=np.float64)
    np.testing.assert_allclose(
        scales(clips._replace(streams=streams))[0], np.sqrt(expected), rtol=1e-5
    )


# --- which videos are kept aside (section IV-B) ---------------------------------------------------


def labelled(counts):
    """A data set without rows: by subject the micro-expressions of each of its videos."""
    videos = tuple(
        Video(subject, f"v{number}", 30.0, 0, 1, np.zeros(1),
              tuple(Interval(i, i, i, "micro") for i in range(count)))
        for subject, each in counts.items()
        for number, count in enumerate(each)
    )  # fmt: skip
    return Dataset("toy", videos, {}, {}, {})


def sizes(data, fold, aside):
    """Micro-expressions in training and in validation."""
    others = [v for v in data.videos if v.subject != fold]
    kept = [v for v in others if v.id not in aside]
    return tuple(
        sum(len(v.intervals) for v in part) for part in (kept, [v for v in others if v.id in aside])
    )


CASME2 = {"s15": (1, 0, 2, 0), "s27": (3, 2, 2, 2, 1, 1)} | {
    f"s{30 + i}": (2, 0, 1, 0) if i < 5 else (1, 1, 0) for i in range(19)
}
"""Like CAS(ME)^2: 57 micro-expressions, 11 of them of s27; the others' 46 are 37 and 9."""
PAPER = build(dataclasses.replace(CONFIG, least_train=37, least_validation=9), {})


def test_splits_hold_what_the_paper_asks_for():
    data = labelled(CASME2)
    assert sum(map(sum, CASME2.values())) == 57
    for fold in ("s15", "s27", "s30", "s48"):
        aside = splits.validation_videos(PAPER, data, fold, TRAIN)
        others = sum(v.subject != fold for v in data.videos)
        assert len(aside) == others - int(0.7 * others)
        train, validation = sizes(data, fold, aside)
        assert train >= 37 and validation >= 9 and train + validation == 57 - sum(CASME2[fold])
        assert splits.validation_videos(PAPER.before, data, fold, TRAIN) == aside  # both stages
        other = dataclasses.replace(TRAIN, seed=1)
        assert splits.validation_videos(PAPER, data, fold, other) != aside
        poisoned = data._replace(videos=tuple(
            v._replace(intervals=()) if v.subject == fold else v for v in data.videos
        ))  # fmt: skip
        assert splits.validation_videos(PAPER, poisoned, fold, TRAIN) == aside
    assert sizes(data, "s27", splits.validation_videos(PAPER, data, "s27", TRAIN)) == (37, 9)


def test_shares_of_what_a_fold_has():
    data = labelled({"s0": (3,), "s1": (5, 5, 0), "s2": (5, 5, 5)})
    by_id = {v.id: v for v in data.videos}
    one, two = ([by_id[f"s1/v{i}"] for i in some] for some in ((0, 1), (2,)))
    more = [v for v in data.videos if v.subject == "s2"]
    assert SYSTEM.accepts([*one, more[0], more[1]], [*two, more[2]]) == ""  # 20 and 5 of 25
    assert "at least 16 must be in training and 4 in validation" in SYSTEM.accepts(
        one, [*two, *more]
    )
    refused = SYSTEM.accepts([*one, *more], two)
    assert refused.endswith("the last try had 25 and 0") and "system.share_validation" in refused
    assert PAPER.accepts([*one, *more], two).startswith("of its 25 micro-expressions at least 37")


def test_a_split_that_cannot_be_names_the_fold_and_the_numbers():
    data = labelled(CASME2)
    strict = build(dataclasses.replace(CONFIG, least_train=40, least_validation=9), {})
    assert splits.validation_videos(strict, data, "s15", TRAIN)
    with pytest.raises(UserError, match=r"fold s27: none of 1000 splits.*its 46 .*40 must be"):
        splits.validation_videos(strict, data, "s27", TRAIN)
    with pytest.raises(UserError, match="train.validation=7 leaves nothing to train on"):
        splits.validation_videos(
            SYSTEM, labelled({"s0": (1,), "s1": (1,) * 7}), "s0",
            dataclasses.replace(TRAIN, validation=7),
        )  # fmt: skip
