"""Bars, losses and legend samples."""

import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from spotjax.pages import plots


def test_bars_and_losses_take_missing_values() -> None:
    bars = plots.bars_with_intervals(["macro", "micro"], {"a": [0.2, np.nan]}, [(0.1, 0.4), None])
    assert bars.count("whisker") == 1 and "0.100 to 0.400" in bars
    losses = plots.loss_curves({"x": np.array([1.0, np.nan, 1e-4]), "y": np.full(3, np.nan)}, "l")
    assert "nan" not in losses and losses.count('class="fold"') == 2
    assert ">0.001<" in losses  # logarithmic
    flat = plots.loss_curves({"x": np.zeros(2)}, "l")
    assert "nan" not in flat


def test_one_group_has_all_its_bars_inside_the_chart() -> None:
    series = {"a": [0.2], "b": [0.1], "chance": [0.05]}
    chart = ElementTree.fromstring(plots.bars_with_intervals(["micro"], series, [(0.1, 0.4)]))
    bars = [e for e in chart.iter("rect") if e.find("title") is not None]
    assert [bar.get("class") for bar in bars] == ["s0", "s1", "s2"]
    assert min(float(bar.get("x")) for bar in bars) > 30
    assert max(float(bar.get("x")) + float(bar.get("width")) for bar in bars) < 360


@pytest.mark.parametrize("kind", ["found", "missed", "hit", "false", "proposed", "gone", "curve",
                                  "level", "peak"])  # fmt: skip
def test_a_legend_sample_has_a_style(kind: str) -> None:
    sample = ElementTree.fromstring(plots.swatch(kind))
    assert sample[0].get("class") == kind
    assert re.search(rf"\.chart \.{kind}\b[^{{]*{{", plots.CSS)
