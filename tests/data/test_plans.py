import numpy as np
import pytest
from toy import K, toy_dataset

from spotjax.config import Softnet, Train
from spotjax.data import plans
from spotjax.errors import UserError
from spotjax.systems import build

SYSTEM = build(Softnet(), K)


def test_a_fold_never_holds_a_sample_of_its_subject(toy):
    rows = {s: [v.rows for v in toy.videos if v.subject == s] for s in toy.subjects}
    for problem in SYSTEM.problems:
        for fold in plans.loso(SYSTEM, toy, problem, Train()):
            for own in rows[fold.subject]:
                used = fold.samples["row"]
                assert not ((used >= own.start) & (used < own.stop)).any()


def test_poisoned_labels_of_the_held_out_subject_change_nothing(toy):
    poisoned = toy._replace(
        videos=tuple(
            v._replace(intervals=(v.intervals[0]._replace(onset=0, offset=99),))
            if v.subject == "s2"
            else v
            for v in toy.videos
        )
    )
    for problem in SYSTEM.problems:
        pair = (plans.loso(SYSTEM, d, problem, Train(), ("s2",))[0] for d in (toy, poisoned))
        a, b = (fold.samples for fold in pair)
        for name in a:
            np.testing.assert_array_equal(a[name], b[name])


def test_a_fold_does_not_depend_on_its_company(toy):
    every = plans.loso(SYSTEM, toy, "micro", Train(seed=5))
    alone = plans.loso(SYSTEM, toy, "micro", Train(seed=5), wanted=("s3",))[0]
    np.testing.assert_array_equal(every[3].samples["row"], alone.samples["row"])
    together = plans.epoch_order(every, 1, 5, 2, batch=7)[3].ravel()
    single = plans.epoch_order([alone], 1, 5, 2, batch=7).ravel()
    np.testing.assert_array_equal(together[together >= 0], single[single >= 0])


def test_an_epoch_uses_each_sample_once_and_pads_at_the_end(toy):
    folds = plans.loso(SYSTEM, toy, "macro", Train())
    assert len({fold.size for fold in folds}) > 1
    order = plans.epoch_order(folds, 0, 0, 0, batch=7)
    for fold, mine in zip(folds, order, strict=True):
        flat = mine.ravel()
        assert sorted(flat[: fold.size]) == list(range(fold.size))
        assert (flat[fold.size :] == -1).all()


def test_reshuffling_and_the_released_fixed_order(toy):
    folds = plans.loso(SYSTEM, toy, "macro", Train())
    first, second = (plans.epoch_order(folds, 0, 0, epoch, 7) for epoch in (0, 1))
    assert (first != second).any()
    again = plans.epoch_order(folds, 0, 0, 1, 7, reshuffle=False)
    np.testing.assert_array_equal(first, again)


def test_stack_pads_to_the_longest(toy):
    folds = plans.loso(SYSTEM, toy, "macro", Train())
    table = plans.stack([fold.samples for fold in folds])
    assert table["row"].shape == (4, max(fold.size for fold in folds))
    for fold, row in zip(folds, table["label"], strict=True):
        np.testing.assert_array_equal(row[: fold.size], fold.samples["label"])


def test_impossible_folds_are_refused_by_name(toy):
    with pytest.raises(UserError, match="at least 2 subjects"):
        plans.loso(SYSTEM, toy_dataset(subjects=1), "macro", Train())
    with pytest.raises(UserError, match="no subject 's9'.*s0, s1"):
        plans.loso(SYSTEM, toy, "macro", Train(), ("s9",))
    only = toy._replace(
        videos=tuple(v if v.subject == "s0" else v._replace(intervals=()) for v in toy.videos)
    )
    with pytest.raises(UserError, match="fold s0 has nothing to learn macro"):
        plans.loso(SYSTEM, only, "macro", Train())


def test_validation_subjects_are_kept_out_of_training(toy):
    folds = plans.loso(SYSTEM, toy, "macro", Train(seed=3, validation=1))
    plain = {fold.subject: fold for fold in plans.loso(SYSTEM, toy, "macro", Train(seed=3))}
    rows = {s: {r for v in toy.videos if v.subject == s for r in range(v.rows.start, v.rows.stop)}
            for s in toy.subjects}  # fmt: skip
    for fold in folds:
        (aside,) = {name.split("/")[0] for name in fold.validation}
        assert fold.validation == tuple(v.id for v in toy.videos if v.subject == aside)
        assert aside != fold.subject and fold.size < plain[fold.subject].size
        used = set(fold.samples["row"].tolist())
        assert not used & rows[aside] and not used & rows[fold.subject]
        again = plans.loso(SYSTEM, toy, "macro", Train(seed=3, validation=1), (fold.subject,))[0]
        assert again.validation == fold.validation  # whichever folds run beside it
    with pytest.raises(UserError, match="train.validation=3 leaves nothing to train on"):
        plans.loso(SYSTEM, toy, "macro", Train(seed=3, validation=3))


def test_a_fold_stops_after_its_updates(toy):
    folds = plans.loso(SYSTEM, toy, "macro", Train())
    steps = [-(-fold.size // 7) for fold in folds]
    assert len(set(steps)) > 1
    updates = 2 * min(steps) + 1
    epochs = plans.num_epochs(folds, 7, 100, updates)
    assert epochs == 3 and plans.num_epochs(folds, 7, 2, updates) == 2
    assert plans.num_epochs(folds, 7, 100) == 100
    made = np.zeros(len(folds), int)
    for epoch in range(epochs):
        limited = plans.epoch_order(folds, 0, 0, epoch, 7, updates=updates)
        whole = plans.epoch_order(folds, 0, 0, epoch, 7)
        kept = (limited >= 0).any(axis=2)
        np.testing.assert_array_equal(limited[kept], whole[kept])
        made += kept.sum(axis=1)
    assert made.tolist() == [updates] * len(folds)


def test_events_without_features_are_no_samples(toy):
    table = {"row": np.array([5, 0, 1, 2]), "event": np.array([0, 1, 1, 1], np.uint8)}
    streams = {"valid_event_x": np.array([1, 0, 1], np.uint8)}
    kept = plans._present(table, toy._replace(streams=streams), "valid_x")
    assert kept["row"].tolist() == [5, 0, 2] and kept["event"].tolist() == [0, 1, 1]
    none = plans._present(
        table, toy._replace(streams={"valid_event_x": np.zeros(0, np.uint8)}), "valid_x"
    )
    assert none["row"].tolist() == [5]
