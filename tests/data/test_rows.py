"""Only the rows that samples read are taken, and the samples find them."""

import numpy as np
import pytest
from toy import toy_rgbd

from spotjax.config import Sfamnet, Spotformer, Train
from spotjax.data import plans, rows
from spotjax.data.plans import Fold
from spotjax.systems import build

STREAMS = {"x": np.arange(50) * 10, "event_x": np.arange(20) * 1000}


def fold(row, event=None):
    table = {"row": np.array(row, np.int32)}
    return Fold(0, "s", table | ({} if event is None else {"event": np.array(event, np.uint8)}))


def test_rows_by_hand():
    folds = [fold([7, 3, 3], [0, 0, 1]), fold([48, 5], [0, 1])]
    used = rows.used(folds, 1, 50)
    assert used.frames.tolist() == [3, 7, 48] and used.events.tolist() == [3, 5]
    taken = rows.take(STREAMS, ("x", "event_x"), used)
    assert taken["x"].tolist() == [30, 70, 480] and taken["event_x"].tolist() == [3000, 5000]
    first, second = rows.renumbered(folds, used)
    assert first.samples["row"].tolist() == [1, 0, 0] and second.samples["row"].tolist() == [2, 1]
    assert first.samples["row"].dtype == np.int32


def test_a_block_of_rows_stays_whole_and_ends_with_the_data():
    used = rows.used([fold([4, 47])], 4, 50)
    assert used.frames.tolist() == [4, 5, 6, 7, 47, 48, 49] and used.events.size == 0
    [moved] = rows.renumbered([fold([4, 47])], used)
    assert moved.samples["row"].tolist() == [0, 4]


@pytest.mark.parametrize("config", [Sfamnet(), Spotformer(width=16, head_width=4, mlp_width=16)])
def test_inputs_are_those_of_all_rows(config):
    data, system = toy_rgbd(), build(config, {})
    folds = plans.loso(system, data, "both", Train())
    names = system.streams("both")
    used = rows.used(folds, system.reach, len(data.streams[system.valid("both")]))
    taken = rows.take(data.streams, names, used)
    whole = {name: data.streams[name] for name in names}
    assert len(used.frames) < len(whole[names[0]])
    for before, after in zip(folds, rows.renumbered(folds, used), strict=True):
        given = [
            {k: v for k, v in f.samples.items() if k in ("row", "event", "there")}
            for f in (before, after)
        ]
        a, b = (
            system.inputs(arrays, samples, None, "both")
            for arrays, samples in zip((whole, taken), given, strict=True)
        )
        a, b = (x["clips"] if isinstance(x, dict) else x for x in (a, b))
        if system.name == "spotformer":  # past the end of the data nothing is there
            there = before.samples["there"].reshape(-1) > 0
            a, b = a[there], b[there]
        np.testing.assert_array_equal(a, b)
