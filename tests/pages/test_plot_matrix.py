import re
from xml.etree import ElementTree

import numpy as np
import pytest

from spotjax.pages.plot_matrix import confusion_matrix

CLASSES = ("glad", "sad & <mad>", "neutral")


def test_counts_shares_and_frames():
    chart = confusion_matrix(np.array([[3, 1, 0], [0, 0, 0]]), CLASSES, "confusion")
    root = ElementTree.fromstring(chart)
    cells = [e for e in root.iter() if e.get("class") == "cell"]
    assert len(cells) == 6 and len([e for e in root.iter() if e.get("class") == "right"]) == 2
    tips = [e.find("title").text for e in cells]
    assert tips[1] == "1 of 4 glad recognised as sad & <mad>"
    opacity = [float(cell.get("fill-opacity")) for cell in cells]
    assert opacity[0] > opacity[1] > opacity[2] == opacity[3]  # no sample: as pale as none
    texts = [e.text for e in root.iter() if e.tag.endswith("text")]
    assert texts.count("75%") == 1 and "n 4" in texts and "n 0" in texts
    assert not re.search(r"NaN|nan|inf", chart)


def test_a_table_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="has not the classes"):
        confusion_matrix(np.zeros((2, 2), int), CLASSES, "x")
