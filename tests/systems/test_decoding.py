"""What systems with the one problem `both` share in decoding."""

from typing import NamedTuple

import numpy as np
import pytest

from spotjax.systems.decoding import Decoding, labelled


class Options(NamedTuple):
    height: float
    nms: float | None = 0.5


def spot(scores, valid, options):
    return [float(scores.sum()), int(valid.sum()), options], {}


DECODING = Decoding(spot, Options, {"height": 0.7, "nms": None})
CURVES = {"both": np.array([1.0, 2.0]), "both_events": np.zeros(1)}
VALID = {"both": np.array([True, False])}


def test_options_are_the_configs_unless_overridden():
    assert DECODING.chosen({}) == Options(0.7, None)
    assert DECODING.chosen({"nms": 0.2, "module": "crn"}) == Options(0.7, 0.2)
    assert DECODING.decode(CURVES, VALID, height=0.1)[0] == [3.0, 1, Options(0.1, None)]
    assert DECODING.keys == {"height": 0.7, "nms": None}


def test_labels_go_with_their_video():
    found = labelled([CURVES, {"both": np.ones(3)}], [VALID, VALID], ["a", "b"], str.upper)
    assert [labels for _, _, labels in found] == ["A", "B"]
    assert found[0][0] is CURVES["both"] and found[1][0].tolist() == [1, 1, 1]
    with pytest.raises(ValueError, match="argument 2"):
        labelled([CURVES], [VALID, VALID], ["a"], str.upper)
