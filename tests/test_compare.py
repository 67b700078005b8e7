"""The comparison of runs: its numbers by hand, its command, its page."""

import csv
import re

import pytest
from invented import svgs
from made_runs import TRUTHS, VIDEOS, write_run

from spotjax import compare
from spotjax.counting import comparison, run_counts
from spotjax.errors import UserError
from spotjax.pages import compare_page

MISSING = TRUTHS[1:]
"""One macro-expression of s1 less."""
FALSE = (*TRUTHS, ("s2", "a", "micro", 70, 79), ("s3", "a", "micro", 40, 45))


def rows_of(folder):
    with open(folder / "comparison.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_two_runs(tmp_path, capsys):
    a, b = write_run(tmp_path / "a", FALSE), write_run(tmp_path / "b", MISSING, seed=1, iou=0.5)
    assert compare.main([str(a), str(b), "--apart", "--out", str(tmp_path / "o")]) == 0
    out = capsys.readouterr().out
    assert "invented: 3 subjects, 4 videos, rule one_to_one, IoU >= 0.5" in out
    assert "all exchanges of subjects (8, least p 0.25)" in out
    rows = rows_of(tmp_path / "o")
    assert [(r["kind"], r["type"]) for r in rows] == [
        (kind, type) for type in ("macro", "micro", "overall")
        for kind in ("method", "method", "difference")
    ]  # fmt: skip
    macro, micro = rows[2], rows[5]
    # macro: 3 of 3, and 2 of 3 without a false one (2*2/(2*2+1))
    assert float(rows[0]["f1"]) == 1 and float(rows[1]["f1"]) == pytest.approx(0.8)
    assert float(macro["f1"]) == pytest.approx(0.2)
    # only s1 differs: it is exchanged in half of the exchanges, and |difference| stays 0.2
    assert float(macro["p"]) == 1 and macro["p_exact"] == "True"
    assert rows[4]["tp"] == "3.0" and float(rows[3]["f1"]) == pytest.approx(6 / 8)
    assert float(micro["f1"]) == pytest.approx(-0.25)
    assert str(b) in out and "+0.2000" in out and "-0.2500" in out
    assert "p (Holm)" not in out


def test_a_run_does_not_differ_from_its_copy(tmp_path, capsys):
    folders = [str(write_run(tmp_path / name, FALSE)) for name in "ab"]
    assert compare.main([*folders, "--apart", "--out", str(tmp_path)]) == 0
    differences = [row for row in rows_of(tmp_path) if row["kind"] == "difference"]
    assert len(differences) == 3
    for row in differences:
        assert [float(row[key]) for key in ("f1", "low", "high", "p")] == [0, 0, 0, 1]
    assert compare.main([*folders, "--out", str(tmp_path)]) == 2
    assert "are of the same config and seed: give --apart" in capsys.readouterr().err


def test_seeds_of_one_configuration_are_one_method(tmp_path, capsys):
    found = {0: TRUTHS, 1: MISSING, 2: ()}
    seeds = [
        write_run(tmp_path / f"demo_seed={seed}", rows, overrides=(f"train.seed={seed}",))
        for seed, rows in found.items()
    ]
    other = write_run(tmp_path / "other", MISSING, overrides=("system.p=0.6",))
    runs = [str(folder) for folder in (seeds[0], other, *seeds[1:])]
    assert compare.main([*runs, "--out", str(tmp_path), "--draws=300"]) == 0
    first, second, difference = rows_of(tmp_path)[:3]
    assert first["first"] == f"{seeds[0]} and 2 more seeds" and first["runs"] == "3"
    # 1, 0.8, 0: mean 0.6, std of 0.4, 0.2, -0.6 over 2
    assert float(first["f1"]) == pytest.approx(0.6)
    assert float(first["f1_std"]) == pytest.approx((0.56 / 2) ** 0.5)
    assert (first["f1_min"], first["f1_max"]) == ("0.0", "1.0")
    assert float(difference["f1"]) == pytest.approx(-0.2) and second["runs"] == "1"
    out = capsys.readouterr().out
    assert "± 0.5292" in out
    assert compare.main([*[str(s) for s in seeds], "--out", str(tmp_path)]) == 0
    assert "all runs are seeds of one configuration" in capsys.readouterr().out
    assert {row["kind"] for row in rows_of(tmp_path)} == {"method"}


def test_several_pairs_are_corrected(tmp_path, capsys):
    runs = [str(write_run(tmp_path / name, found)) for name, found in
            (("a", TRUTHS), ("b", MISSING), ("c", ()))]  # fmt: skip
    assert compare.main([*runs, "--apart", "--out", str(tmp_path)]) == 0
    assert "p (Holm)" in capsys.readouterr().out
    pairs = [row for row in rows_of(tmp_path) if row["kind"] == "difference"][:3]
    assert [(row["first"][-1], row["second"][-1]) for row in pairs] == [
        ("a", "b"), ("a", "c"), ("b", "c"),
    ]  # fmt: skip
    p = [float(row["p"]) for row in pairs]
    assert [float(row["p_holm"]) for row in pairs] == [min(1, 3 * x) for x in p]


def test_a_system_of_one_type_is_compared_by_that(tmp_path, capsys):
    both = write_run(tmp_path / "a")
    micro = write_run(tmp_path / "b", FALSE[1:], "configs/mesnet_demo.py")
    assert compare.main([str(both), str(micro), "--out", str(tmp_path)]) == 0
    differences = [row["type"] for row in rows_of(tmp_path) if row["kind"] == "difference"]
    assert differences == ["micro"]
    told = f"macro: {micro} does not spot it and stands in no row of it"
    assert told in capsys.readouterr().out and told in (tmp_path / "comparison.html").read_text()


def test_another_rule_and_iou(tmp_path, capsys):
    short = [(s, v, t, a, a + (b - a) // 2) for s, v, t, a, b in TRUTHS]
    runs = [str(write_run(tmp_path / "a", short)), str(write_run(tmp_path / "b", TRUTHS))]
    words = [*runs, "--apart", "--out", str(tmp_path)]
    assert compare.main([*words, "--iou", "0.6"]) == 0
    assert rows_of(tmp_path)[0]["f1"] == "0.0"
    assert compare.main([*words, "--rule", "mesnet"]) == 0
    assert rows_of(tmp_path)[0]["rule"] == "mesnet" and float(rows_of(tmp_path)[0]["f1"]) == 1


def test_oracle_runs_are_told(tmp_path, capsys):
    runs = [write_run(tmp_path / "a"), write_run(tmp_path / "b", MISSING, epoch_choice="oracle")]
    assert compare.main([*map(str, runs), "--apart", "--out", str(tmp_path)]) == 0
    assert f"{runs[1]}: oracle, chosen on the test subjects" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "words", "why"),
    [
        ({"videos": VIDEOS[1:], "truths": TRUTHS[2:], "found": ()}, [],
         "b: did not score the video s1/a, which .*a did: compare runs on the same videos"),
        ({"iou": 0.4}, [], "were evaluated with iou 0.5 and 0.4: give --iou"),
        ({"rule": "softnet"}, [], "were evaluated with rule one_to_one and softnet: give --rule"),
        ({}, ["--rule", "x"], "--rule x: is none of one_to_one, "),
        ({}, ["--iou", "2"], "--iou 2: give a number above 0"),
        ({}, ["--draws", "5"], "--draws 5: give at least 100"),
    ],
)  # fmt: skip
def test_what_cannot_be_compared_is_refused(tmp_path, capsys, change, words, why):
    runs = [write_run(tmp_path / "a"), write_run(tmp_path / "b", **change)]
    assert compare.main([*map(str, runs), "--apart", "--out", str(tmp_path), *words]) == 2
    err = capsys.readouterr().err
    assert re.search(why, err) and err.count("\n") == 1
    assert not (tmp_path / "comparison.csv").exists()


def test_files_of_a_run_that_do_not_fit_have_a_remedy_of_the_run(tmp_path, capsys):
    runs = [write_run(tmp_path / name) for name in "ab"]
    table = runs[1] / "intervals.csv"
    table.write_text(table.read_text().replace("s1,a", "s1,nowhere"))
    assert compare.main([*map(str, runs), "--apart", "--out", str(tmp_path)]) == 2
    err = capsys.readouterr().err
    assert f"is not in {runs[1] / 'videos.csv'}: run python -m spotjax.evaluate" in err


def test_common_videos_are_compared(tmp_path, capsys):
    a = write_run(tmp_path / "a")
    b = write_run(tmp_path / "b", (), truths=TRUTHS[:3], videos=VIDEOS[:2])
    words = [str(a), str(b), "--apart", "--out", str(tmp_path)]
    assert compare.main([*words, "--common"]) == 0
    assert "2 subjects, 2 videos" in capsys.readouterr().out
    assert rows_of(tmp_path)[0]["tp"] == "2.0"
    assert compare.main([str(a), str(a), "--out", str(tmp_path)]) == 2
    assert f"error: {a}: is given twice" in capsys.readouterr().err


def test_no_such_method(tmp_path, capsys):
    run = write_run(tmp_path / "a")
    assert compare.main([str(run), f"{run}:mdmm", "--out", str(tmp_path)]) == 2
    assert "a:mdmm: no such training-free method: one of strain_sum, mdmd, lbp_chi2" in (
        capsys.readouterr().err
    )


def test_the_page(tmp_path):
    a = write_run(tmp_path / "a<b", TRUTHS)
    b = write_run(tmp_path / "b", MISSING, overrides=("train.seed=1",))
    c = write_run(tmp_path / "c", (), overrides=("system.p=0.4",))
    methods = comparison.grouped([run_counts.read(folder) for folder in (a, b, c)])
    found = comparison.compare(methods, comparison.Terms("one_to_one", 0.5, "all", 200))
    page = compare_page.render(found, ["about <this>"])
    assert "about &lt;this&gt;" in page and "a<b" not in page and "a&lt;b" in page
    charts = svgs(page)  # well-formed
    assert len(charts) == 6
    circles = [c.get("class") for c in charts[0].iter("circle")]
    assert circles == ["dot", "seed", "seed", "dot"]
    assert 'href="' not in page.replace('href="data:,"', "") and "nan" not in page


def test_wrong_groups_are_named(tmp_path):
    runs = [run_counts.read(write_run(tmp_path / name)) for name in "ab"]
    assert len(comparison.grouped(runs, apart=True)) == 2
    with pytest.raises(UserError, match="of the same config and seed"):
        comparison.grouped(runs)
