"""The loop that fills holes of a depth image, compiled."""

import numpy as np

from .compiled import compiled


@compiled
def fill(image: np.ndarray) -> int:
    """Give each pixel of `image` f32[h, w] that is not above 0 the median of its known neighbours.

    Pixels with most known ones of the eight come first, among these those that came so far first;
    what is filled counts as known.  The upper one of an even number's two middles is taken.
    Returns the number of pixels left, which is 0 unless all were unknown.
    """
    height, width = image.shape
    known = np.zeros((height, width), np.int8)
    queues = np.empty((9, height * width), np.int32)
    heads, tails = np.zeros(9, np.int64), np.zeros(9, np.int64)
    around = np.empty(8, np.float32)
    left = 0
    for y in range(height):
        for x in range(width):
            if not image[y, x] > 0:
                left += 1
                for row in range(max(y - 1, 0), min(y + 2, height)):
                    for column in range(max(x - 1, 0), min(x + 2, width)):
                        if image[row, column] > 0:
                            known[y, x] += 1
                count = known[y, x]
                queues[count, tails[count]] = y * width + x
                tails[count] += 1
    most = 8
    while most > 0:
        if heads[most] == tails[most]:
            most -= 1
            continue
        place = queues[most, heads[most]]
        heads[most] += 1
        y, x = place // width, place % width
        if known[y, x] != most or image[y, x] > 0:
            continue  # it has moved on to a fuller queue
        size = 0
        for row in range(max(y - 1, 0), min(y + 2, height)):
            for column in range(max(x - 1, 0), min(x + 2, width)):
                value = image[row, column]
                if value > 0:
                    at = size
                    while at > 0 and around[at - 1] > value:
                        around[at] = around[at - 1]
                        at -= 1
                    around[at] = value
                    size += 1
        image[y, x] = around[size // 2]
        left -= 1
        for row in range(max(y - 1, 0), min(y + 2, height)):
            for column in range(max(x - 1, 0), min(x + 2, width)):
                if not image[row, column] > 0:
                    known[row, column] += 1
                    count = known[row, column]
                    queues[count, tails[count]] = row * width + column
                    tails[count] += 1
                    most = max(most, int(count))
    return left
