"""Whether two methods differ on the same subjects: bootstrap and permutation (NumPy only).

Subjects are the units, as in leave-one-subject-out: a person's videos go together.  A method is a
table of counts i64[N, S, 4]: tp, fp, fn, surplus (`matching.Counts`) of each of its N runs (seeds)
on each of S subjects.  Its F1 is the mean over the runs of each run's F1, which is made of the sums
over the subjects.

* **Interval** (paired bootstrap, Efron and Tibshirani 1993, section 13.3): S subjects are drawn
  with replacement, the same for both methods; 2.5 and 97.5 percent of the differences.
* **p** (paired permutation test): if the methods were alike, their counts could be exchanged
  within any subject.  p is the share of such exchanges whose difference is at least as large,
  on either side: of all 2^S of them where these are few, else of random ones with the observed
  one added (Phipson and Smyth 2010).

With few subjects both say little: of S subjects no p is below 2 / 2^S.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

FIELDS = 4
"""tp, fp, fn, surplus."""
DRAWS = 10_000
"""Resamplings, and most exchanges."""
ROUNDING = 1e-12
"""Differences that are nearer to each other are equal."""


class Comparison(NamedTuple):
    """Two methods on the same subjects."""

    first: float
    """F1."""
    second: float
    low: float
    """Ends of the 95 % interval of `difference`."""
    high: float
    p: float
    """Two-sided."""
    exact: bool
    """Whether p is of all exchanges."""

    @property
    def difference(self) -> float:
        """First minus second."""
        return self.first - self.second


def f1(counts: np.ndarray) -> np.ndarray:
    """F1 f64[...] of counts i64[..., 4], as `matching.Counts.f1`: 0 without a true positive.

    >>> f1(np.array([[3, 2, 1, 0], [0, 0, 0, 0]])).round(4).tolist()
    [0.6667, 0.0]
    """
    tp, fp, fn, surplus = np.moveaxis(np.asarray(counts), -1, 0)
    found = tp + surplus
    total = found * (tp + fp) + tp * (found + fn)
    return np.where(total != 0, 2 * tp * found / np.where(total == 0, 1, total), 0.0)


def mean_f1(counts: np.ndarray) -> float:
    """Mean over the runs of the F1 over all subjects; `counts` i64[N, S, 4], else ValueError."""
    return float(f1(_table(counts).sum(axis=1)).mean())


def resamples(subjects: int, draws: int, rng: np.random.Generator) -> np.ndarray:
    """How often each subject is in each resample: i64[draws, subjects], rows sum to `subjects`.

    The draws are those of `metrics.bootstrap_f1` from an equal `rng`.
    """
    chosen = rng.integers(0, subjects, (draws, subjects))
    places = chosen + subjects * np.arange(draws)[:, None]
    return np.bincount(places.ravel(), minlength=draws * subjects).reshape(draws, subjects)


def resampled_f1(counts: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Mean F1 f64[draws] of `counts` i64[N, S, 4], subjects as often as `times` i64[draws, S].

    Raises ValueError for `counts` of another shape.
    """
    return f1(np.einsum("ds,nsk->ndk", times, _table(counts))).mean(axis=0)


def interval(values: np.ndarray) -> tuple[float, float]:
    """The 2.5 and 97.5 percent quantiles of `values` f64[n]."""
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)


def bootstrap(counts: np.ndarray, draws: int = DRAWS, seed: int = 0) -> tuple[float, float]:
    """95 % interval of the F1 of one method, `counts` i64[N, S, 4], over its subjects.

    Raises ValueError for another shape.
    """
    table = _table(counts)
    times = resamples(table.shape[1], draws, np.random.default_rng(seed))
    return interval(resampled_f1(table, times))


def compare(first: np.ndarray, second: np.ndarray, draws: int = DRAWS, seed: int = 0) -> Comparison:
    """Compare `first` i64[N, S, 4] and `second` i64[M, S, 4], the same subjects in one order.

    N and M may differ: every run of one is exchanged with every run of the other.  Raises
    ValueError for other shapes, no run, no subject, other numbers of subjects.
    """
    a, b = _table(first), _table(second)
    if a.shape[1] != b.shape[1]:
        raise ValueError(f"{a.shape[1]} and {b.shape[1]} subjects cannot be paired")
    times = resamples(a.shape[1], draws, np.random.default_rng(seed))
    low, high = interval(resampled_f1(a, times) - resampled_f1(b, times))
    swaps, exact = exchanges(a.shape[1], draws, np.random.default_rng(seed))
    found = np.abs(exchanged(a, b, swaps))
    one, other = mean_f1(a), mean_f1(b)
    reached = int((found >= abs(one - other) - ROUNDING).sum())
    p = reached / len(swaps) if exact else (reached + 1) / (len(swaps) + 1)
    return Comparison(one, other, low, high, p, exact)


def exchanges(subjects: int, draws: int, rng: np.random.Generator) -> tuple[np.ndarray, bool]:
    """Which subjects are exchanged, bool[P, subjects], and whether these are all possibilities.

    All 2^subjects if they are at most `draws`, else `draws` random ones.
    """
    if 2**subjects <= draws:
        return np.arange(2**subjects)[:, None] >> np.arange(subjects) & 1 > 0, True
    return rng.random((draws, subjects)) < 0.5, False


def exchanged(first: np.ndarray, second: np.ndarray, swaps: np.ndarray) -> np.ndarray:
    """Differences of F1 f64[P] once the subjects of each row of `swaps` bool[P, S] are exchanged.

    The mean over all pairs of a run i64[S, 4] of `first` and one of `second`.
    """
    total = np.zeros(len(swaps))
    for one in first:
        for other in second:
            moved = swaps.astype(np.int64) @ (other - one)
            total += f1(one.sum(axis=0) + moved) - f1(other.sum(axis=0) - moved)
    return total / (len(first) * len(second))


def holm(values: Sequence[float]) -> list[float]:
    """p values of several comparisons, corrected for their number (Holm 1979).

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    order = sorted(range(len(values)), key=lambda index: values[index])
    corrected, least = [0.0] * len(values), 0.0
    for rank, index in enumerate(order):
        least = max(least, min(1.0, (len(values) - rank) * values[index]))
        corrected[index] = least
    return corrected


def _table(counts: np.ndarray) -> np.ndarray:
    """`counts` as i64[N, S, 4].  Raises ValueError."""
    table = np.asarray(counts, np.int64)
    if table.ndim != 3 or table.shape[2] != FIELDS or 0 in table.shape:
        raise ValueError(f"counts are [runs, subjects, {FIELDS}], none of them 0: {table.shape}")
    return table
