"""A 5x5 median filter by comparisons, for images that lie in one row (`spotjax.flow`)."""

from collections.abc import Callable
from functools import reduce
from typing import TypeVar

import jax
import jax.numpy as jnp
from jax import Array, lax

T = TypeVar("T")


def median(images: Array, stride: int, size: int, turn: Array) -> Array:
    """Medians of 5x5 px of images that lie in one row, f32[N, size]: of the first px and so on.

    `images` f32[N, size + 4 stride + 4] or more holds row after row, `stride` px each; value i is
    the median of the window whose first px is i.  Only finite values.  `turn` see `stored`.

    Columns of 5 are sorted once for all windows that they lie in, then the rows of each window,
    which leaves both sorted.  Of the values beside the three middle diagonals 6 are then too small
    and 6 too large.  Of the 13 on them, 10 more can be told: the median is among the greatest of
    the diagonal before the long one, the median of the long one and the least of the one after.
    """
    strips = [images[:, n * stride : n * stride + size + 4] for n in range(5)]
    columns = stored(_sorted(strips), turn)
    rows = [_sorted([ranked[:, n : n + size] for n in range(5)]) for ranked in columns]
    before = reduce(_greater, [rows[n][3 - n] for n in range(4)])
    middle = _sorted([rows[n][4 - n] for n in range(5)])[2]
    after = reduce(_less, [rows[n + 1][4 - n] for n in range(4)])
    return _less(_greater(middle, _less(before, after)), _greater(before, after))


def _sorted(values: list[Array]) -> list[Array]:
    """Five arrays, exchanged value by value until they ascend."""
    known = list(values)
    for low, high in ((0, 1), (3, 4), (2, 4), (2, 3), (0, 3), (0, 2), (1, 4), (1, 3), (1, 2)):
        one, two = known[low], known[high]
        known[low], known[high] = _less(one, two), _greater(one, two)
    return known


def _less(one: Array, two: Array) -> Array:
    """`jnp.minimum` of finite values; that one also looks for nan, in four times the time."""
    return jnp.where(one < two, one, two)


def _greater(one: Array, two: Array) -> Array:
    """`jnp.maximum` of finite values."""
    return jnp.where(one > two, one, two)


def stored(values: T, turn: Array) -> T:
    """`values`, which XLA now computes once, not anew inside of everything that reads them.

    They pass a loop without a turn, but XLA cannot know: `turn` i32[] counts a loop from 0.
    """

    def never(loop: tuple[Array, T]) -> tuple[Array, T]:
        return loop[0] + 1, jax.tree.map(jnp.negative, loop[1])

    going: Callable[[tuple[Array, T]], Array] = lambda loop: loop[0] < 0  # noqa: E731
    return lax.while_loop(going, never, (turn, values))[1]
