"""Bootstrap and permutation over subjects, by hand and as they must behave."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spotjax.counting import metrics, paired
from spotjax.counting.matching import Counts
from spotjax.counting.paired import compare

COUNTS = st.tuples(*[st.integers(0, 6)] * 4)


@st.composite
def two_methods(draw):
    """Two methods on the same 1 to 5 subjects, of 1 to 3 runs each."""
    subjects = draw(st.integers(1, 5))
    each = st.lists(COUNTS, min_size=subjects, max_size=subjects)
    runs = st.lists(each, min_size=1, max_size=3)
    return np.array(draw(runs)), np.array(draw(runs))


def of(*subjects):
    """One run: (tp, fp, fn) of each subject."""
    return np.array([[(*row, 0) for row in subjects]])


@given(COUNTS)
def test_f1_is_that_of_counts(row):
    assert float(paired.f1(np.array(row))) == pytest.approx(Counts(*row).f1)


def test_two_subjects_by_hand():
    # a: 2 tp of 2 truths on each, b: 1 tp of 2 on each; F1 1 and 2*2/(4+0+2) = 2/3
    found = compare(of((2, 0, 0), (2, 0, 0)), of((1, 0, 1), (1, 0, 1)))
    assert (found.first, found.second) == pytest.approx((1, 2 / 3))
    # whichever subjects are drawn, the two F1 are the same
    assert (found.low, found.high) == pytest.approx((1 / 3, 1 / 3))
    # exchanges: none and both give +-1/3; one of two gives 3 tp, 1 fn for either, 0
    assert found.p == 2 / 4 and found.exact


def test_the_interval_of_two_subjects_by_hand():
    # drawn: both first (F1 1), both second (0), or one each (2*1/(2+1) = 2/3)
    low, high = paired.bootstrap(of((1, 0, 0), (0, 0, 1)), 2000)
    assert (low, high) == (0, 1)
    times = np.array([[2, 0], [1, 1], [0, 2]])
    found = paired.resampled_f1(of((1, 0, 0), (0, 0, 1)), times)
    assert found.tolist() == pytest.approx([1, 2 / 3, 0])


def test_three_subjects_by_hand():
    a, b = of((1, 0, 0), (1, 0, 0), (0, 1, 1)), of((0, 0, 1), (0, 0, 1), (0, 1, 1))
    # the third is alike: F1 4/6 and 0.  Exchanging one of the others gives 1 tp, 1 fp, 2 fn (2/5)
    # for both, exchanging both -2/3: of eight exchanges four reach 2/3
    found = compare(a, b)
    assert found.difference == pytest.approx(2 / 3) and found.p == 0.5
    swaps, exact = paired.exchanges(3, 8, np.random.default_rng(0))
    assert exact and len({tuple(row) for row in swaps.tolist()}) == 8
    values = paired.exchanged(a, b, swaps).tolist()
    assert sorted(values) == pytest.approx([-2 / 3] * 2 + [0] * 4 + [2 / 3] * 2)


def test_seeds_are_averaged():
    # F1 1 and 0: their mean, not the F1 of all counts (2/3)
    two = np.concatenate([of((1, 0, 0)), of((0, 0, 1))])
    assert paired.mean_f1(two) == 0.5
    found = compare(two, of((0, 0, 1)))
    assert found.difference == 0.5 and found.p == 1.0  # one subject tells nothing


@given(two_methods())
@settings(deadline=None, max_examples=60)
def test_swapping_the_methods_negates(both):
    a, b = both
    one, other = compare(a, b, 300), compare(b, a, 300)
    assert one.difference == -other.difference
    assert (one.low, one.high) == pytest.approx((-other.high, -other.low))
    assert one.p == other.p and one.exact == other.exact


@given(two_methods())
@settings(deadline=None, max_examples=60)
def test_a_method_does_not_differ_from_itself(both):
    found = compare(both[0], both[0], 300)
    assert (found.difference, found.low, found.high, found.p) == (0, 0, 0, 1)


@given(two_methods(), st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=60)
def test_neither_the_order_of_subjects_nor_of_runs_matters(both, random):
    a, b = both
    order = list(range(a.shape[1]))
    random.shuffle(order)
    one, other = compare(a, b, 300), compare(a[::-1, order], b[:, order], 300)
    assert one.difference == pytest.approx(other.difference) and one.p == other.p
    assert 2 / 2 ** a.shape[1] <= one.p <= 1


def test_random_exchanges_come_near_to_all_of_them():
    rng = np.random.default_rng(3)
    a, b = rng.integers(0, 5, (2, 1, 10, 4))
    b[..., 0] += 1
    every, some = compare(a, b, 2**10), compare(a, b, 1023)
    assert every.exact and not some.exact
    assert some.p == pytest.approx(every.p, abs=0.05) and some.p >= 1 / 1024


def test_the_interval_is_that_of_the_report():
    rng = np.random.default_rng(1)
    table = rng.integers(0, 9, (7, 4))
    theirs = metrics.bootstrap_f1([Counts(*row) for row in table.tolist()], 500,
                                  np.random.default_rng(5))  # fmt: skip
    assert paired.bootstrap(table[None], 500, 5) == theirs


def test_how_often_subjects_are_drawn():
    times = paired.resamples(6, 40, np.random.default_rng(0))
    assert times.shape == (40, 6) and (times.sum(axis=1) == 6).all() and times.min() == 0


def test_holm():
    # in order 0.01 * 3, max(0.03, 0.02 * 2), max(0.04, 0.9 * 1)
    assert paired.holm([0.9, 0.01, 0.02]) == pytest.approx([0.9, 0.03, 0.04])
    assert paired.holm([0.6, 0.7]) == [1.0, 1.0] and paired.holm([]) == []


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        (np.zeros((1, 2, 4)), np.zeros((1, 3, 4)), "2 and 3 subjects cannot be paired"),
        (np.zeros((2, 4)), np.zeros((1, 2, 4)), r"counts are \[runs, subjects, 4\]"),
        (np.zeros((0, 2, 4)), np.zeros((1, 2, 4)), "none of them 0"),
        (np.zeros((1, 2, 3)), np.zeros((1, 2, 3)), "counts are"),
    ],
)
def test_wrong_tables_are_refused(a, b, message):
    with pytest.raises(ValueError, match=message):
        compare(a, b)
