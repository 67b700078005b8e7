"""The figures of a run: what is drawn, by hand, and the command on invented runs."""

import re
import xml.etree.ElementTree as ElementTree

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from made_runs import TRUTHS, write_run

from spotjax import figures, files
from spotjax.counting import metrics
from spotjax.counting.matching import VideoResult
from spotjax.pages import figure_data, figure_scores, png, svg_file
from spotjax.pages.figure_scores import best_overlaps, precision_recall
from spotjax.pages.svg import svg

SPACE = "{http://www.w3.org/2000/svg}"
LOG = [
    {"problem": "macro", "epoch": 1, "seconds": 1.0, "loss": {"s1": 2.0, "s2": 1.0}},
    {"problem": "macro", "epoch": 2, "seconds": 1.0, "loss": {"s1": 1.0, "s2": None},
     "validation": {"s1": [-0.5, 3.0], "s2": [-0.6, 2.0]}},
    {"problem": "micro", "epoch": 1, "seconds": 1.0, "loss": {"s1": 4.0}},
]  # fmt: skip
FOUND = (*TRUTHS[:4], ("s1", "a", "macro", 60, 70))


def result(predictions, scores, truths):
    def pairs(rows):
        return np.asarray(rows, np.int64).reshape(-1, 2)

    return VideoResult(pairs(predictions), np.asarray(scores, float), pairs(truths))


ONE = result([(0, 9), (20, 29), (50, 59)], [0.9, 0.7, 0.8], [(0, 9), (22, 31), (80, 89)])
OTHER = result([(0, 9)], [0.85], [])


# --- results --------------------------------------------------------------------------------------


def test_precision_and_recall_by_hand():
    # by score: 0.9 hit, 0.85 false (the other video), 0.8 false, 0.7 hit (8 of 12 frames shared)
    recall, precision = precision_recall([ONE, OTHER], 0.5)
    assert recall.tolist() == pytest.approx([1 / 3, 1 / 3, 1 / 3, 2 / 3])
    assert precision.tolist() == pytest.approx([1, 1 / 2, 1 / 3, 2 / 4])
    recall, precision = precision_recall([ONE, OTHER], 0.7)
    assert recall[-1] == pytest.approx(1 / 3) and precision[-1] == 0.25
    assert [len(values) for values in precision_recall([], 0.5)] == [0, 0]
    assert precision_recall([OTHER], 0.5)[0].tolist() == [0]  # no truth at all


SPANS = st.lists(st.tuples(st.integers(0, 40), st.integers(1, 15)), max_size=6)


@given(st.lists(st.tuples(SPANS, SPANS), min_size=1, max_size=3))
@settings(deadline=None, max_examples=60)
def test_the_curve_ends_with_the_result(videos):
    rng = np.random.default_rng(0)
    results = [
        result([(a, a + n) for a, n in p], rng.random(len(p)), [(a, a + n) for a, n in t])
        for p, t in videos
    ]
    recall, precision = precision_recall(results, 0.5)
    counts = metrics.count(results)
    assert len(recall) == counts.tp + counts.fp
    if len(recall):
        assert recall[-1] == pytest.approx(counts.recall)
        assert precision[-1] == pytest.approx(counts.precision)
    assert (np.diff(recall) >= 0).all()


def test_overlaps_by_hand():
    best, counted = best_overlaps([ONE, OTHER], "one_to_one", 0.5)
    assert best.tolist() == pytest.approx([1, 8 / 12, 0, 0])
    assert counted.tolist() == [True, True, False, False]
    chart = ElementTree.fromstring(figure_scores.overlap_chart({"macro": (best, counted)}, 0.5))
    bars = [(e.get("class"), e[0].text) for e in chart.iter("rect") if len(e)]
    assert bars == [
        ("s2", "IoU 0.00 to 0.05: 2 not counted"),
        ("s0", "IoU 0.65 to 0.70: 1 true positives"),
        ("s0", "IoU 0.95 to 1.00: 1 true positives"),
    ]


def test_a_subject_without_anything_has_no_bar():
    row = {"tp": 1, "fp": 1, "fn": 0, "f1": 2 / 3}
    nothing = dict.fromkeys(row, 0)
    subjects = {"s<1": {"macro": row, "micro": row}, "s2": {"macro": row, "micro": nothing}}
    text = figure_scores.subjects_chart(subjects, ("macro", "micro"))
    chart = ElementTree.fromstring(text)
    tips = [e[0].text for e in chart.iter("rect") if len(e)]
    assert len(tips) == 3 and tips[0] == "s<1, macro: F1 0.667, TP / FP / FN 1 / 1 / 0"


def test_curves_of_a_log():
    loss = figure_data.curves_of(LOG, "loss")
    assert list(loss) == ["macro", "micro"]
    np.testing.assert_array_equal(loss["macro"]["s2"], [1.0, np.nan])
    assert loss["micro"]["s1"].tolist() == [4.0]
    merits = figure_data.curves_of(LOG, "validation")
    np.testing.assert_array_equal(merits["macro"]["s1"], [np.nan, -0.5])
    assert list(merits) == ["macro"]


# --- files ----------------------------------------------------------------------------------------


@given(arrays.arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9), st.just(3))))
def test_a_png_is_read_back_by_others(image):
    read = cv2.imdecode(np.frombuffer(png.encode(image), np.uint8), cv2.IMREAD_COLOR)
    assert (read[..., ::-1] == image).all()


@pytest.mark.parametrize(
    "image", [np.zeros((2, 2, 3)), np.zeros((2, 2), np.uint8), np.zeros((0, 2, 3), np.uint8)]
)
def test_other_images_are_refused(image):
    with pytest.raises(ValueError, match=r"an image is u8\[H, W, 3\], not"):
        png.encode(image)


def test_a_chart_alone():
    text = svg_file.standalone(svg(20, 10, "a & b", ["<path d='M0 0'/>"]), ".x { fill: red; }")
    chart = ElementTree.fromstring(text)
    assert (chart.tag, chart.get("width"), chart.get("viewBox")) == (
        f"{SPACE}svg", "20", "0 0 20 10",
    )  # fmt: skip
    assert chart.get("aria-label") == "a & b" and ".x { fill: red; }" in chart[0].text
    for wrong in ("<svg/>", text, svg(1, 1, "a", [svg(1, 1, "b", [])])):
        with pytest.raises(ValueError, match="not one chart"):
            svg_file.standalone(wrong)


# --- the command ----------------------------------------------------------------------------------


def test_figures_of_a_run_without_its_data(tmp_path, capsys):
    run = write_run(tmp_path / "run", FOUND, log=LOG, epochs=2)
    assert figures.main([str(run)]) == 0
    out = capsys.readouterr().out
    folder = run / "figures"
    names = {path.stem for path in folder.glob("*.svg")}
    assert names == {"precision_recall", "iou", "subjects", "loss_macro", "loss_micro",
                     "validation_macro"}  # fmt: skip
    for path in folder.glob("*.svg"):
        ElementTree.parse(path)
    assert "left out: confusion matrices: softnet recognises no emotions" in out
    assert "left out: pca: only SpotFormer has a contrastive loss, softnet has none" in out
    # the shards of an invented run are not there
    assert "left out: gradcam: s/manifest.json: not there" in out
    assert "left out: timelines: s/manifest.json: not there" in out
    page = (folder / "index.html").read_text()
    sources = re.findall(r'<img src="([^"]+)"', page)
    assert {source.removesuffix(".svg") for source in sources} == names
    assert "scores of the last epoch of each fold (2)" in page and "http" not in page
    assert "Left out" in page


def test_some_figures(tmp_path, capsys):
    run = write_run(tmp_path / "run", FOUND, "configs/mesnet_demo.py", log=LOG)
    argv = [str(run), "--out", str(tmp_path / "o")]
    assert figures.main([*argv, "--only", "training"]) == 0
    assert {p.name for p in (tmp_path / "o").iterdir()} == {
        "index.html", "loss_macro.svg", "loss_micro.svg", "validation_macro.svg",
    }  # fmt: skip
    assert "left out" not in capsys.readouterr().out
    assert figures.main([*argv, "--only", "gradcam,scores"]) == 2  # asked for by name
    assert "mesnet has no maps of its input" in capsys.readouterr().out
    (tmp_path / "o" / "index.html").unlink()
    assert figures.main([*argv, "--only", "gradcam"]) == 2  # nothing is drawn: there is no page
    assert "page:" not in capsys.readouterr().out
    assert not (tmp_path / "o" / "index.html").exists()
    assert figures.main([*argv, "--only", "trainings"]) == 2
    assert "--only trainings: is none of scores, training, gradcam" in capsys.readouterr().err
    (run / "log.jsonl").unlink()
    assert figures.main([*argv, "--only", "training"]) == 2
    assert "log.jsonl: has no epochs: train the run again" in capsys.readouterr().out
    (tmp_path / "file").touch()
    assert figures.main([str(run), "--out", str(tmp_path / "file")]) == 2
    assert f"--out {tmp_path / 'file'}: is a file" in capsys.readouterr().err
    assert figures.main([str(tmp_path)]) == 2
    assert "no run directory" in capsys.readouterr().err


def test_confusion_matrices_of_a_system_with_emotions(tmp_path):
    run = write_run(tmp_path / "run", FOUND, "configs/benchmark/sfamnet.py")
    source = figure_data.read(run)
    table = [[3, 0, 1], [1, 2, 0]]
    recognised = {
        "rule": "one_to_one", "classes": ["negative", "positive", "neutral"], "samples": 7,
        "ground_truth": {"confusion": table},
        "analysis": {"one_to_one": {"confusion": table, "analysed": 7}},
    }  # fmt: skip
    values = {**source.metrics, "recognition": recognised}
    files.write_json(run / "metrics.json", values)
    found, left_out = figures.collected(figure_data.read(run), ["scores"])
    assert [f.name for f in found][-2:] == ["confusion_annotated", "confusion_spotted"]
    assert not left_out and found[-1].text.startswith("7 of them, each by the fold that never saw")


@pytest.mark.parametrize(
    ("about", "words"),
    [
        ({"epochs": 3}, "the last epoch of each fold (3)"),
        ({"epoch_choice": "validation", "chosen_epochs": {"s1": 2, "s2": 4}},
         "the epoch of each fold that its validation liked best (s1 2, s2 4)"),
        ({"epoch_choice": "oracle"}, "ORACLE, the epoch of each fold that is best on its own test"),
    ],
)  # fmt: skip
def test_which_epochs_are_told(tmp_path, about, words):
    source = figure_data.read(write_run(tmp_path / "run", **about))
    assert figure_data.epochs_of(source).startswith(words)
    assert figure_data.parameters_of(source, {}) == "parameters of the last epoch (3)"
    best = figure_data.parameters_of(source, {"s1": 2})
    assert best == "parameters of each fold's best validated epoch (s1 2)"
