"""The papers' tables from runs: recipes for every printed row, what is run, what is shown.

Trainings, which have their own tests, are stood in for by runs with invented scores.  One table is
made for real, of a tiny rendered set.
"""

import csv
import json
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import commands
import numpy as np
import pytest
from toy import toy_clips, toy_crops, toy_dataset, toy_rgbd

from spotjax import config as config_lib
from spotjax import evaluate, reproduce, train
from spotjax.cli import load_config
from spotjax.counting import evaluation
from spotjax.decoding import clip_windows
from spotjax.errors import UserError
from spotjax.loso import epoch_scores, rundir
from spotjax.loso.curves import decode_video, write_curves
from spotjax.papers import published, reproduced
from spotjax.papers.recipes import NOT_HERE, RECIPES
from spotjax.papers.reproduce_plan import How, Recipe, data_roots, how_of, places
from spotjax.sweeps import runners
from spotjax.systems import build
from spotjax.types import Detection

TOYS = {
    "softnet": toy_dataset,
    "spotformer": toy_dataset,
    "sfamnet": toy_rgbd,
    "mesnet": toy_clips,
    "cnn3d": toy_crops,
}


@cache
def toys():
    return {name: make() for name, make in TOYS.items()}


def bumps(rng, video, types=("macro", "micro")):
    """f32[T]: noise, higher at most expressions."""
    curve = rng.uniform(0, 0.5, video.num_frames)
    for span in video.intervals:
        if span.type in types:
            curve[span.onset : span.offset + 1] += rng.uniform(0, 1)
    return curve.astype(np.float32)


def scores_of(config, dataset, seed=0):
    """Invented scores of a whole run, by problem and video."""
    rng, name = np.random.default_rng(seed), config.system.name
    videos = dataset.videos
    if name == "softnet":
        return {t: {v.id: bumps(rng, v, (t,)) for v in videos} for t in config.system.types}
    if name == "mesnet":
        return {
            "both": {
                v.id: np.concatenate(
                    [rng.uniform(0.2, 0.9, (n, 470, 2)), rng.normal(0, 0.1, (n, 470, 2))], axis=2
                ).astype(np.float32)
                for v in videos
                for n in [len(clip_windows.starts(v.num_frames))]
            }
        }
    if name == "sfamnet":
        width = 6 if config.system.classes == "four" else 9
        rest = {v.id: rng.random((v.num_frames, width - 1), np.float32) for v in videos}
        return {
            "both": {v.id: np.column_stack([bumps(rng, v), rest[v.id]]) for v in videos},
            "both_events": {
                v.id: rng.random((len(v.intervals), width), np.float32) for v in videos
            },
        }
    width = {"cnn3d": 2, "spotformer": 6}[name]
    return {"both": {v.id: rng.random((v.num_frames, width), np.float32) for v in videos}}


class Stand:
    """Stands in for trainings: writes run directories, and keeps what was to be done."""

    def __init__(self):
        self.units, self.prepared, self.toys = [], [], toys()

    def prepare(self, file, overrides):
        self.prepared.append((file, list(overrides)))
        return 0

    def run_local(self, units, jobs):
        for unit in units:
            self.units.append(unit)
            module, *words = unit.words
            if module == "spotjax.together":
                for run in json.loads(Path(words[0]).read_text())["runs"]:
                    self.train(run["config"], run["overrides"], Path(run["workdir"]))
                continue
            overrides = [w.removeprefix("--config.") for w in words if w.startswith("--config.")]
            options = dict(zip(words[::2], words[1::2], strict=False))
            if module == "spotjax.unseen":
                self.unseen(options["--workdir"], options["--config"], overrides, options["--out"])
            else:
                self.train(options["--config"], overrides, Path(options["--workdir"]))
        return {}

    def train(self, file, overrides, folder):
        config = load_config(file, overrides)
        if config.train.start:
            assert (Path(config.train.start) / "metrics.json").exists()
        data = self.toys[config.system.name]
        folder.mkdir(parents=True, exist_ok=True)
        rundir.open_run(folder, config, "toy", folder / "shards")
        curves = scores_of(config, data, config.train.seed)
        write_curves(folder / "curves.npz", curves)
        for epoch in range(1, 3 if config.train.score_every else 1):
            other = scores_of(config, data, 100 * epoch)
            for problem, group in other.items():
                each = [{v.id: group[v.id] for v in data.videos if v.subject == s}
                        for s in data.subjects]  # fmt: skip
                epoch_scores.save(folder, problem, epoch, data.subjects, each)
        about = {"system": config.system.name, "data_set": "toy",
                 "config": config_lib.to_dict(config)}  # fmt: skip
        results = {"protocol": about, "results": {"overall": {"f1": 0.5}}}
        (folder / "metrics.json").write_text(json.dumps(results))

    def unseen(self, workdir, file, overrides, out):
        from spotjax.unseen import crossed

        folder, saved = Path(out), rundir.load_run(Path(workdir))[0]
        folder.mkdir(parents=True, exist_ok=True)
        values = {"config": config_lib.to_dict(crossed(saved, load_config(file, overrides)))}
        (folder / "config.json").write_text(json.dumps(values))
        row = {"tp": 3, "fp": 2, "fn": 1, "ap": 0.5}
        results = {
            "protocol": {"k": {}},
            "results": dict.fromkeys(("macro", "micro", "overall"), row),
        }
        (folder / "metrics.json").write_text(json.dumps(results))


@pytest.fixture
def stand(monkeypatch):
    made = Stand()
    monkeypatch.setattr(runners, "run_local", made.run_local)
    monkeypatch.setattr(train, "make_shards", made.prepare)
    monkeypatch.setattr(
        evaluate.shards, "load", lambda folder, config, kind="": made.toys[config.system.name]
    )
    monkeypatch.setattr(reproduced, "inference_seconds", lambda system: 0.25)

    def baselines(workdir, config, dataset, system, folder):
        return dict.fromkeys(config.baselines.names, dataset)

    def spotted(name, source, config, videos, types):
        """Right at p = 0.19 alone."""
        right = getattr(config.baselines, name).p == 0.19
        return {
            v.id: [
                Detection(*span[:4], 1.0) for span in v.intervals if right and span.type in types
            ]
            for v in videos
        }

    monkeypatch.setattr(reproduced, "baseline_sets", baselines)
    monkeypatch.setattr(reproduced, "spot_baseline", spotted)
    return made


def reproduced_rows(out, paper, *words):
    """The rows of the CSV of a command."""
    assert reproduce.main(["--paper", paper, *words, "--out", str(out)]) == 0
    [table] = out.glob("*.csv")
    with open(table, newline="") as file:
        rows = list(csv.DictReader(file))
    table.unlink()
    return rows


# --- recipes --------------------------------------------------------------------------------------


def test_every_printed_row_has_a_recipe_or_a_reason():
    for paper, about in published.papers().items():
        here, not_here = RECIPES.get(paper, {}), NOT_HERE.get(paper, {})
        assert set(here) | set(not_here) == set(about.tables) and not set(here) & set(not_here)
        assert all(not_here.values())
        for table, recipe in here.items():
            for record in published.find(paper=paper, table=table):
                how_of(recipe, record)  # KeyError, if there is none
            for file in (recipe.demo, *recipe.sets.values()):
                assert Path(file).is_file()


def test_values_of_a_variant_are_put_in():
    [record, *_] = published.find(paper="mesnet", table="VII", system="MESNet-CPN")
    how = how_of(RECIPES["mesnet"]["VII"], record)
    assert how.decoding == ("system.module=cpn", "system.t_cpn=0.48", "system.t_crn=0.40")
    [record, *_] = published.find(paper="mesnet", table="VIII", variant="T_nms=N/A")
    assert how_of(RECIPES["mesnet"]["VIII"], record).decoding[1] == "system.t_nms=none"
    with pytest.raises(KeyError, match=r"mesnet, table VIII: no recipe for MESNet-CPN"):
        how_of(Recipe({}, "", {"other": How()}), record)


@pytest.mark.parametrize("paper", RECIPES)
def test_all_tables_of_a_paper_run_to_their_end(paper, stand, tmp_path, capsys):
    rows = reproduced_rows(tmp_path, paper)
    names = [unit.name for unit in stand.units]
    assert len(set(names)) == len(names)  # tables share their runs
    for table, recipe in RECIPES[paper].items():
        mine = [row for row in rows if row["table"] == table]
        ways = 2 if recipe.protocol else 1
        records = published.find(paper=paper, table=table)
        own_rows = len(recipe.own) * 3
        assert len(mine) == ways * (len(records) + own_rows)
        for row in mine:
            assert row["comparable"] == "False" and row["own_data_set"] == "synthetic"
            assert bool(row["own_value"]) != bool(row["remark"]), row
        reasons = {row["remark"] for row in mine}
        allowed = {how.why_not for how in recipe.rows.values()} | {""}
        assert reasons <= allowed, reasons - allowed
        values = {(row["system"], row["variant"]): row["value"] for row in mine if row["value"]}
        for record in records:
            assert (record.system, record.variant or "") in values
    out = capsys.readouterr().out
    assert "on RENDERED faces" in out
    [page] = tmp_path.glob("*.html")
    assert "Not comparable" in page.read_text()


def test_nothing_is_run_twice(stand, tmp_path):
    rows = reproduced_rows(tmp_path, "sfamnet")
    done = len(stand.units)
    assert done == 22
    assert reproduced_rows(tmp_path, "sfamnet") == rows and len(stand.units) == done


def test_values_are_those_of_the_saved_scores(stand, tmp_path):
    """SOFTNet's table 4: another p each, in the paper's way and in ours."""
    rows = reproduced_rows(tmp_path, "softnet", "--table", "4")
    assert [unit.name for unit in stand.units] == ["demo_seed=0"]
    toy, config = stand.toys["softnet"], load_config("configs/demo.py")
    curves = scores_of(config, toy)
    ways = {
        "ours": config_lib.Evaluate(),
        "paper's way": config_lib.Evaluate(videos="annotated_only", rule="softnet"),
    }
    for p in ("0.05", "0.55", "0.95"):
        system = build(config_lib.Softnet(p=float(p), interval="centred"), dict(toy.k))
        found = {v.id: decode_video(system, toy, v, curves)[0] for v in toy.videos}
        for way, options in ways.items():
            table = evaluation.counts(toy.videos, found, options)
            mine = [r for r in rows if (r["variant"], r["way"]) == (f"p={p}", way)]
            assert len(mine) == 6  # three types, of two printed data sets
            for row in mine:
                expected = table[row["type"]]
                assert float(row["own_value"]) == pytest.approx(expected["f1"])
                counts = [float(row[f"own_{name}"]) for name in ("tp", "fp", "fn")]
                assert counts == [expected[name] for name in ("tp", "fp", "fn")]
    assert len({row["own_value"] for row in rows}) > 5


def test_without_the_network_the_strain_is_decoded_with_each_p(stand, tmp_path):
    noise = np.random.default_rng(0).random(sum(v.num_frames for v in toys()["softnet"].videos))
    noisy = {f"strain_{type}": noise.astype(np.float32) for type in ("macro", "micro")}
    toy = toys()["softnet"]
    stand.toys = stand.toys | {"softnet": toy._replace(streams=dict(toy.streams) | noisy)}
    rows = reproduced_rows(tmp_path, "softnet", "--table", "5")
    assert stand.prepared[-1] == (
        "configs/demo.py", ["train.seed=0", "baselines.names=strain_sum"]
    )  # fmt: skip
    toy, config = stand.toys["softnet"], load_config("configs/demo.py")
    free = evaluate.spot_baseline("strain_sum", toy, config, toy.videos, ("macro", "micro"))
    table = evaluation.counts(toy.videos, free, config.evaluation)  # with the paper's p, 0.5
    [row] = [
        row for row in rows
        if (row["variant"], row["type"], row["way"], row["data_set"])
        == ("p=0.50", "overall", "ours", "casme2")
    ]  # fmt: skip
    assert float(row["own_value"]) == pytest.approx(table["overall"]["f1"])
    assert len({row["own_value"] for row in rows}) > 3


def test_parameters_and_times_of_the_backbones(stand, tmp_path, capsys):
    rows = reproduced_rows(tmp_path, "softnet", "--table", "3")
    assert len(stand.units) == 5
    assert {unit.name for unit in stand.units} >= {"demo_vgg16_system.types=macro_seed=0"}
    found = {(r["system"], r["metric"]): float(r["own_value"]) for r in rows if r["way"] == "ours"}
    assert found["SOFTNet", "parameters_M"] == 0.314817
    assert found["MobileNetV2", "parameters_M"] == 2.263105
    frames = np.mean([v.num_frames for v in stand.toys["softnet"].videos])
    assert found["VGG-16", "inference_time_s"] == pytest.approx(0.25 * frames)


def test_the_time_of_the_network_is_measured():
    system = build(config_lib.Softnet(), {"macro": 12, "micro": 4})
    assert 0 < reproduced.inference_seconds(system) < 1


def test_seven_classes_start_from_the_runs_with_four(stand, tmp_path):
    rows = reproduced_rows(tmp_path, "sfamnet", "--table", "5", "--seeds", "2")
    names = [unit.name for unit in stand.units]
    first = [i for i, name in enumerate(names) if "seven" not in name]
    assert max(first) < len(first)  # all of the first stage come first
    assert sum(unit.runs for unit in stand.units) == 2 * 6
    config, _, _ = rundir.load_run(tmp_path / "sfamnet_demo_scene_system.classes=seven_seed=1")
    assert config.train.start == str(tmp_path / "sfamnet_demo_scene_seed=1")
    assert config.system.fine_tune and config.system.flow == "scene"
    metrics = {row["metric"]: row for row in rows if row["variant"] == "SW"}
    assert metrics["7-class UF1"]["own_runs"] == metrics["4-class UF1"]["own_runs"] == "2"
    assert metrics["7-class UF1"]["own_value"] != metrics["4-class UF1"]["own_value"]
    assert float(metrics["F1"]["own_std"]) > 0


def test_oracles_are_marked_wherever_they_stand(stand, tmp_path, capsys):
    rows = reproduced_rows(tmp_path, "spotformer", "--table", "VII")
    assert {row["oracle"] for row in rows if row["way"] == "paper's way"} == {"True"}
    assert {row["oracle"] for row in rows if row["way"] == "ours"} == {"False"}
    values = {way: [r["own_value"] for r in rows if r["way"] == way] for way in ("ours",
              "paper's way")}  # fmt: skip
    assert values["ours"] != values["paper's way"]
    out = capsys.readouterr().out
    assert "paper's way (oracle)" in out
    assert "epoch choice oracle" in out and "oracle: chosen on the test subjects" in out
    rows = reproduced_rows(tmp_path, "mesnet", "--table", "X")
    marked = {row["variant"] for row in rows if row["oracle"] == "True"}
    assert marked == {"high F1"}
    best = {
        row["own_value"]
        for row in rows
        if (row["system"], row["variant"], row["metric"]) == ("MDMD", "high F1", "F1")
    }
    assert best == {"1.0"}  # at p = 0.19, which the baseline stands in with
    out = capsys.readouterr().out
    assert "\n[2] oracle: chosen on the test subjects, no result\n" in out
    rows_of = ("MESNet-", "MDMD", "LBP-")
    lines = [x for x in out.splitlines() if "high F1 " in x and x.startswith(rows_of)]
    assert len(lines) == 12 and all(line.endswith("oracle [2]") for line in lines)


def test_another_data_set_is_scored_by_the_run(stand, tmp_path, capsys):
    more = ("--config.data.synthetic.videos=1", "--config.data.shards=x")
    rows = reproduced_rows(tmp_path, "cnn3d", "--table", "3", *more)
    unit = stand.units[-1]
    assert unit.words == (
        "spotjax.unseen", "--workdir", str(tmp_path / "cnn3d_demo_seed=0"), "--config",
        "configs/cnn3d_demo.py", "--out", str(tmp_path / "cnn3d_demo_seed=0/on_unseen"),
        "--config.data.synthetic.root=data/demo_calm_unseen", "--config.data.synthetic.seed=1",
        "--config.data.synthetic.seconds=20", "--config.data.synthetic.videos=1",
    )  # fmt: skip
    mine = [row for row in rows if row["system"].startswith("3D-CNN, another")]
    assert [float(row["own_value"]) for row in mine] == [pytest.approx(2 / 3)] * 3
    assert "MEGC 2022 gives its test videos" in capsys.readouterr().out
    reproduced_rows(tmp_path, "cnn3d", "--table", "3", *more)
    assert len(stand.units) == 2  # neither is run again


def test_licensed_sets_stand_each_by_itself(stand, tmp_path, capsys):
    for name in ("CASME_SQ", "SAMMLV"):
        (tmp_path / "sets" / name).mkdir(parents=True)
    rows = reproduced_rows(
        tmp_path / "out", "spotformer", "--table", "IV", "--data", str(tmp_path / "sets")
    )
    assert {row["own_data_set"] for row in rows} == {"samm_lv", "casme2", "both"}
    assert {row["comparable"] for row in rows} == {"True"}
    assert f"--config.data.root={tmp_path / 'sets/SAMMLV'}" in stand.units[0].words
    assert "RENDERED" not in capsys.readouterr().out
    mine = [
        row for row in rows
        if (row["variant"], row["type"], row["way"]) == ("Simul-ST", "overall", "ours")
    ]  # fmt: skip
    one, two, both = (float(row["own_tp"]) for row in mine)
    assert [row["own_data_set"] for row in mine] == ["samm_lv", "casme2", "both"]
    assert both == one + two
    only = reproduced_rows(
        tmp_path / "one", "softnet", "--table", "2", "--data", f"casme2={tmp_path}"
    )
    assert {row["own_data_set"] for row in only} == {"casme2"}
    assert "- samm_lv: no data: give --data samm_lv=FOLDER" in capsys.readouterr().out


def test_what_fails_is_told_in_its_line(stand, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(
        runners, "run_local", lambda units, jobs: {unit.name: "no memory" for unit in units}
    )
    argv = ["--paper", "softnet", "--table", "2", "--out", str(tmp_path)]
    assert reproduce.main(argv) == 2
    both = capsys.readouterr()
    assert both.err == "error: demo_seed=0: no memory\n"
    assert "demo_seed=0: no memory" in both.out
    assert reproduce.main([*argv, "--only", "table"]) == 0
    assert "demo_seed=0: not trained yet" in capsys.readouterr().out


def test_a_dry_run_and_the_overview_run_nothing(stand, tmp_path, capsys):
    argv = ["--paper", "sfamnet", "--table", "8", "--out", str(tmp_path), "--dry-run"]
    assert reproduce.main(argv) == 0
    out = capsys.readouterr().out
    assert "4 runs, 4 to do" in out and "starts from" in out and "cost of a training" in out
    assert reproduce.main([]) == 0
    out = capsys.readouterr().out
    assert not stand.units and not stand.prepared and not list(tmp_path.iterdir())
    for paper, recipes in RECIPES.items():
        assert f"{paper}: " in out and all(f"\n  {table} " in out for table in recipes)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--table", "4"], "--paper is missing"),
        (["--paper", "sofnet"], "--paper sofnet: there is softnet"),
        (["--paper", "megc2020"], "is not reproduced here: python -m spotjax.score"),
        (["--paper", "mesnet", "--table", "3"], "--table 3: is not reproduced here: the authors'"),
        (["--paper", "softnet", "--table", "9"], "no table '9' in paper softnet"),
        (["--paper", "softnet", "--data", "nowhere"], "--data nowhere: nowhere is no folder"),
        (["--paper", "softnet", "--data", ""], "--data: is empty: give the folder"),
        (["--paper", "softnet", "--data", "casme=."], "write one of casme2, samm_lv, casme3"),
        (["--paper", "sfamnet", "--data", "tests"], "casme3: no data (tests/CASME3 is not there)"),
        (["--paper", "softnet", "--seeds", "x"], "--seeds x"),
        (["--paper", "softnet", "--jobs", "0"], "--jobs 0"),
        (
            ["--paper", "sfamnet", "--table", "8", "--config.system.flow=optical"],
            "--grid system.flow: is also given",
        ),
    ],
)
def test_what_cannot_be_run_is_refused(words, why, stand, capsys):
    assert reproduce.main(words) == 2
    err = capsys.readouterr().err
    assert why in err and err.count("\n") == 1
    assert not stand.units


def test_a_folder_is_given_once():
    with pytest.raises(UserError, match="is given twice"):
        data_roots(["casme2=tests", "casme2=configs"])
    assert data_roots(["tests", "casme2=configs"]) == {"": "tests", "casme2": "configs"}
    found, notes = places("softnet", "3", RECIPES["softnet"]["3"], {"casme2": "configs"})
    assert [place.name for place in found] == ["casme2"] and not notes
    assert found[0].overrides == ("data.root=configs",)


def test_a_reading_that_needs_training_is_refused(stand, tmp_path):
    stand.train("configs/demo.py", ["train.seed=0"], tmp_path / "run")
    reading = reproduced.Reading(("system.pseudo_label=linear",))
    with pytest.raises(ValueError, match=r"system.pseudo_label is not decoding"):
        reproduced.read_run(tmp_path / "run", [reading])


@pytest.mark.skipif(
    not (find_spec("dlib") and find_spec("face_recognition_models")),
    reason="the extra [landmarks] is not installed",
)
def test_a_table_of_a_tiny_rendered_set(tmp_path, monkeypatch, capsys):
    """Features, trainings, scores and the table, but for the processes."""
    overrides = [
        f"data.synthetic.root={tmp_path / 'videos'}", f"data.shards={tmp_path / 'shards'}",
        "data.jobs=1",
        "data.synthetic.subjects=3", "data.synthetic.videos=1", "data.synthetic.seconds=6",
        "train.epochs=1", "train.updates=2", "train.devices=1",
        "evaluation.bootstrap=0", "evaluation.chance_draws=2",
    ]  # fmt: skip

    def in_process(units, jobs):
        failed = {}
        for unit in units:
            done = commands.run(*unit.words)
            if done.returncode:
                failed[unit.name] = done.stderr
        return failed

    monkeypatch.setattr(runners, "run_local", in_process)
    words = ["--paper", "softnet", "--table", "4", "--out", tmp_path / "out",
             *(f"--config.{word}" for word in overrides)]  # fmt: skip
    done = commands.run("spotjax.reproduce", *words)
    assert done.returncode == 0, done.stderr
    assert "RENDERED" in done.stdout
    with open(tmp_path / "out/softnet_4_synthetic.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert all(row["own_value"] for row in rows)
    results = json.loads((tmp_path / "out/demo_seed=0/metrics.json").read_text())["results"]
    for row in rows:
        if (row["variant"], row["way"]) == ("p=0.55", "ours"):
            expected = results[row["type"]]
            counts = [float(row[f"own_{name}"]) for name in ("tp", "fp", "fn")]
            assert counts == [expected[name] for name in ("tp", "fp", "fn")]
    again = commands.run("spotjax.reproduce", *words)
    assert again.returncode == 0 and done.stdout.endswith(
        again.stdout
    )  # data_prep is not run again
