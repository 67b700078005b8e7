"""The command that prints the papers' numbers, alone and beside runs."""

import csv
import json

import pytest

from spotjax import tables
from spotjax.papers import published


def run_folder(folder, **protocol):
    """A run directory as spotjax.evaluate leaves it, as far as the command reads it."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    row = {"tp": 30, "fp": 40, "fn": 50, "precision": 0.43, "recall": 0.375, "f1": 0.4, "ap": 0.1}
    rows = dict.fromkeys(("macro", "micro", "overall"), row)
    about = {
        **{"system": "softnet", "data_set": "casme2", "rule": "one_to_one", "videos": "all"},
        **{"epoch_choice": "last", "interval": "published", "flow": "tvl1", "seed": 7, "p": 0.55},
        "k": {"macro": 18, "micro": 6},
    }
    metrics = {
        "protocol": about | protocol,
        "results": rows,
        "baselines": {"strain_sum": dict.fromkeys(rows, {**row, "f1": 0.2})},
    }
    (folder / "metrics.json").write_text(json.dumps(metrics))
    return folder


def words(text):
    """The lines as words, so that a test does not depend on the width of columns."""
    return [line.split() for line in text.splitlines()]


def test_without_arguments_it_lists_every_table(capsys):
    assert tables.main([]) == 0
    out = capsys.readouterr().out
    for paper in published.papers().values():
        assert f"{paper.name}: {paper.title}" in out
        assert all(about in out for about in paper.tables.values())
    assert "1207 values" in out
    assert "python -m spotjax.tables --paper softnet --table 2" in out
    assert "4           F1 over the threshold parameter p" in out


def test_a_table_has_types_as_columns_and_counts(capsys):
    assert tables.main(["--paper", "softnet", "--table", "2", "--data-set", "casme2"]) == 0
    out = words(capsys.readouterr().out)
    assert " ".join(out[0]).endswith("CAS(ME)^2 (casme2)")
    assert out[1] == ["precision"] * 3 + ["recall"] * 3
    assert out[2] == ["macro", "micro", "overall"] * 2
    assert ["SOFTNet,", "p=0.55", "0.2410", "0.1173", "0.2022", "0.0168", "0.0112", "0.0140"] in out
    assert ["SOFTNet,", "p=0.55", "90/357/210", "20/264/37", "110/621/247"] in out


def test_misprints_are_marked_and_explained(capsys):
    argv = ["--paper", "softnet", "--table", "4", "--data-set", "casme2", "--variant", "p=0.45"]
    assert tables.main(argv) == 0
    out = capsys.readouterr().out
    assert ["SOFTNet,", "p=0.45", "0.2511", "0.1933!", "0.0853!"] in words(out)
    assert "! Micro and overall are swapped" in out
    assert "micro F1 0.0853; SOFTNet, p=0.45 overall F1 0.1933." in " ".join(out.split())


def test_counts_of_found_expressions_and_unknown_predictions(capsys):
    assert tables.main(["--paper", "mesnet", "--system", "MESNet-CPN", "--data-set", "casme2"]) == 0
    out = capsys.readouterr().out
    assert "22/2777/39 (18 found)" in out
    assert "78/?/25 (32 found)" in out


@pytest.mark.parametrize("paper", published.papers())
def test_every_value_of_a_paper_is_shown_once(paper, capsys):
    assert tables.main(["--paper", paper]) == 0
    out = capsys.readouterr().out
    chosen = published.find(paper=paper)
    assert out.count("!") >= sum(record.erratum is not None for record in chosen)
    assert all(len(line) <= 120 for line in out.splitlines())
    shown = out.split()
    for record in chosen:
        if not isinstance(record.value, tuple):
            number = f"{record.value:.{published.decimals(paper, record.metric)}f}"
            assert any(word.startswith(number) for word in shown), record


def test_settings_and_ranges(capsys):
    assert tables.main(["--paper", "cnn3d", "--table", "1", "--data-set", "samm_lv"]) == 0
    assert ["3D-CNN", "217", "37", "200..400", "25..75"] in words(capsys.readouterr().out)
    assert tables.main(["--paper", "cnn3d", "--table", "text"]) == 0
    assert words(capsys.readouterr().out)[1:3] == [
        ["W", "M_ME", "M_MaE", "J"],
        ["3D-CNN", "3", "0.9", "0.1", "0.5"],
    ]


def test_a_run_stands_beside_the_paper_of_its_system(tmp_path, capsys):
    folder = run_folder(tmp_path / "run")
    assert tables.main(["--run", str(folder), "--table", "2", "--metric", "F1"]) == 0
    out = capsys.readouterr().out
    assert f"{folder}: softnet on casme2\n" in out
    about = "rule one_to_one, videos all, epoch choice last, interval published, flow tvl1, seed 7"
    assert f"run: {about}, k macro 18 micro 6, p 0.55" in " ".join(out.split())
    assert "not comparable" not in out
    row = "softnet 2 SOFTNet p=0.55 macro F1 softnet 0.2410 0.4000 90/357/210 30/40/50"
    assert row.split() in words(out)


def test_baselines_of_a_run_stand_beside_their_rows(tmp_path, capsys):
    folder = run_folder(tmp_path / "run")
    assert tables.main(["--run", str(folder), "--table", "1", "--type", "overall"]) == 0
    row = "softnet 1 Ours w/o SOFTNet overall F1 strain_sum 0.1551 0.2000 30/40/50"
    assert row.split() in words(capsys.readouterr().out)


def test_a_run_beside_another_papers_comparison(tmp_path, capsys):
    folder = run_folder(tmp_path / "run", data_set="samm_lv")
    assert tables.main(["--run", str(folder), "--paper", "spotformer"]) == 0
    row = "spotformer I SOFTNet macro F1 softnet 0.2169 0.4000 30/40/50"
    assert row.split() in words(capsys.readouterr().out)


def test_rendered_data_is_shown_but_labelled(tmp_path, capsys):
    folder = run_folder(tmp_path / "run", data_set="synthetic_casme2")
    assert tables.main(["--run", str(folder), "--table", "2"]) == 0
    assert "synthetic_casme2 (rendered data: not comparable)" in capsys.readouterr().out


def test_several_runs_go_into_one_csv_and_json(tmp_path, capsys):
    first = run_folder(tmp_path / "a")
    second = run_folder(tmp_path / "b", data_set="synthetic_casme2", p=0.6)
    argv = ["--run", str(first), str(second), "--table", "2"]
    files = {name: tmp_path / f"out.{name}" for name in ("json", "csv")}
    argv += ["--json", str(files["json"]), "--csv", str(files["csv"])]
    assert tables.main(argv) == 0
    assert capsys.readouterr().out.count("run: rule") == 2
    rows = json.loads(files["json"].read_text())
    assert [row["comparable"] for row in rows] == [True] * 12 + [False] * 12
    macro = next(row for row in rows if (row["type"], row["metric"]) == ("macro", "F1"))
    assert (macro["value"], macro["run_value"], macro["tp"], macro["run_tp"]) == (
        0.241,
        0.4,
        90,
        30,
    )
    assert (macro["run"], macro["rule"], macro["k.macro"], macro["seed"]) == (
        *(str(first), "one_to_one", 18),
        7,
    )
    table = list(csv.DictReader(files["csv"].read_text().splitlines()))
    assert len(table) == 24 and table[12]["p"] == "0.6" and table[0]["run_by"] == "softnet"


def test_all_records_go_into_files(tmp_path, capsys):
    assert tables.main(["--json", str(tmp_path / "all.json")]) == 0
    rows = json.loads((tmp_path / "all.json").read_text())
    assert len(rows) == len(published.records())
    assert {"paper", "table", "value", "corrected", "erratum", "tp", "found"} <= rows[0].keys()
    capsys.readouterr()


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ("--paper sofnet", "no paper 'sofnet': did you mean 'softnet'?"),
        ("--paper softnet --table 9", "no table '9' in paper softnet: there is 1, 2, 3"),
        ("--metric F2", "no metric 'F2': did you mean 'F1'?"),
        ("--tabel 2", "unknown argument '--tabel': see --help"),
        ("--run {tmp}/none", "none: no run directory (config.json is missing): name"),
        ("--run {tmp}/trained", "trained: not evaluated yet (metrics.json is missing): run python"),
        ("--run {tmp}/broken", "metrics.json: not the results of a run: run python -m"),
        ("--run {tmp}/other", "system 'new' has no paper here (softnet, sfamnet, "),
        ("--run {tmp}/run --paper sfamnet", "rows of sfamnet hold no value for softnet"),
        ("--run {tmp}/run --table 9", "no table '9' in paper softnet"),
        ("--paper softnet --csv {tmp}/none/x.csv", "No such file or directory"),
    ],
)
def test_bad_input_is_one_line(argv, message, tmp_path, capsys):
    run_folder(tmp_path / "run")
    run_folder(tmp_path / "other", system="new")
    for name in ("trained", "broken"):
        run_folder(tmp_path / name)
    (tmp_path / "trained" / "metrics.json").unlink()
    (tmp_path / "broken" / "metrics.json").write_text('{"protocol": {}}')
    assert tables.main(argv.format(tmp=tmp_path).split()) == 2
    out, err = capsys.readouterr()
    assert out == "" and message in err and err.count("\n") == 1


@pytest.mark.parametrize("text", ["", "[]", "{", '{"protocol": {"system": 1, "data_set": 2}}'])
def test_other_files_are_not_results(text, tmp_path, capsys):
    folder = run_folder(tmp_path / "run")
    (folder / "metrics.json").write_text(text)
    assert tables.main(["--run", str(folder)]) == 2
    assert "not the results of a run" in capsys.readouterr().err


def test_help_teaches_with_examples_that_work(capsys):
    with pytest.raises(SystemExit) as end:
        tables.main(["--help"])
    assert end.value.code == 0
    out = capsys.readouterr().out
    lines = [line.split("spotjax.tables")[1] for line in out.splitlines() if "  python -m" in line]
    assert len(lines) > 4 and "mdmd: MDMD or Baseline MDMD [20]" in out
    for line in lines:
        if "--run" not in line and "--csv" not in line:
            assert tables.main(line.split()) == 0
