"""Varied decoding of saved scores; the scores here are made up, no network is needed."""

import csv
import json

import numpy as np
import pytest

from spotjax import cli, evaluate, results, vary
from spotjax import config as config_lib
from spotjax.config import (
    Cnn3d,
    Cnn3dFeatures,
    Config,
    Evaluate,
    Mesnet,
    MesnetFeatures,
    Softnet,
    Spotformer,
    SpotformerFeatures,
)  # fmt: skip
from spotjax.counting import evaluation
from spotjax.counting.matching import RULES
from spotjax.decoding import clip_windows
from spotjax.errors import UserError
from spotjax.loso import rundir
from spotjax.loso.curves import decode_video, write_curves
from spotjax.systems import build

TYPES = ("macro", "micro", "overall")


def scores_of(dataset, seed=0):
    """SOFTNet's scores: noise, and a bump at most expressions."""
    rng = np.random.default_rng(seed)
    curves = {"macro": {}, "micro": {}}
    for type, group in curves.items():
        for video in dataset.videos:
            curve = rng.uniform(0, 0.5, video.num_frames)
            for span in video.intervals:
                if span.type == type:
                    curve[span.onset : span.offset + 1] += rng.uniform(0, 1)
            group[video.id] = curve.astype(np.float32)
    return curves


@pytest.fixture
def made(toy, tmp_path, monkeypatch):
    """Makes an evaluated run of the toy set: its folder, config and scores."""
    monkeypatch.setattr(evaluate.shards, "load", lambda folder, config: toy)

    def make(config=None, curves=None):
        config = config or Config(name="toy")
        curves = curves or scores_of(toy)
        run = tmp_path / "run"
        run.mkdir()
        rundir.open_run(run, config, "toy", tmp_path / "shards")
        about = {"system": "softnet", "data_set": "toy", "epoch_choice": "last"}
        results = {"protocol": about, "results": {"overall": {"f1": 0.5}}}
        (run / "metrics.json").write_text(json.dumps(results))
        write_curves(run / "curves.npz", curves)
        return run

    return make


def run(folder, *words):
    assert vary.main(["--workdir", str(folder), *words]) == 0
    with open(folder / "vary.csv", newline="") as file:
        return list(csv.DictReader(file))


def refused(capsys, folder, *words):
    assert vary.main(["--workdir", str(folder), *words]) == 2
    text = capsys.readouterr().err
    assert text.count("\n") == 1
    return text


def counted(row, type):
    """TP, FP and FN of a line of the table."""
    return tuple(int(row[f"{type}_{name}"]) for name in ("tp", "fp", "fn"))


def test_values_are_varied_one_key_after_another(made, toy, capsys):
    folder = made()
    rows = run(folder, "--vary", "system.p=0.3,0.55,0.8", "--vary", "evaluation.iou=0.3,0.9")
    values = [(row["key"], row["value"], row["decoding"]) for row in rows]
    both = ("interval published", "interval centred")
    assert values == [
        (key, value, decoding)
        for key, listed in (
            ("system.p", ("0.3", "0.55", "0.8")),
            ("evaluation.iou", ("0.3", "0.9")),
        )
        for value in listed
        for decoding in both
    ]
    for row in rows:  # one key alone has the value, the other one is the run's
        p = float(row["value"]) if row["key"] == "system.p" else 0.55
        iou = float(row["value"]) if row["key"] == "evaluation.iou" else 0.5
        system = build(Softnet(p=p, interval=row["decoding"].split()[1]), dict(toy.k))
        found = {v.id: decode_video(system, toy, v, scores_of(toy))[0] for v in toy.videos}
        table = evaluation.counts(toy.videos, found, Evaluate(iou=iou))
        for type in TYPES:
            assert counted(row, type) == tuple(table[type][name] for name in ("tp", "fp", "fn"))
            for name in ("f1", "precision", "recall"):
                assert float(row[f"{type}_{name}"]) == table[type][name]
    assert len({counted(row, "overall") for row in rows}) >= 5
    assert set(rows[0]) == {"key", "value", "decoding", "rule"} | {
        f"{type}_{name}"
        for type in TYPES
        for name in ("f1", "precision", "recall", "tp", "fp", "fn")
    }
    out = capsys.readouterr().out
    assert "a value taken from this table is an oracle choice" in " ".join(out.lower().split())
    assert "chosen on the test subjects" in " ".join(out.split())
    assert f"table: {folder / 'vary.csv'}" in out


def test_the_runs_own_value_counts_as_its_evaluation_does(made, toy):
    config = Config(name="toy")
    rows = run(made(config), "--vary", "system.p=0.55", "--rule", "all")
    system, curves = build(config.system, dict(toy.k)), scores_of(toy)
    fixed = dict.fromkeys(toy.subjects, {})
    expected = results.variants(config, system, toy, toy.videos, curves, fixed, {})
    assert len(rows) == len(expected) == 2 * len(RULES)
    for row, other in zip(rows, expected, strict=True):
        assert (row["rule"], row["decoding"]) == (other["rule"], other["decoding"])
        for type in TYPES:
            for name, value in other["results"][type].items():
                assert float(row[f"{type}_{name}"]) == value


def test_the_printed_table(made, capsys):
    config = Config(name="toy", system=Softnet(types=("micro",)))
    rows = run(made(config), "--vary", "system.p=0.4,0.55")
    lines = capsys.readouterr().out.splitlines()
    at = lines.index("system.p, interval published, rule one_to_one")
    head, first, second = lines[at + 1 : at + 4]
    assert head.split() == ["micro", "F1", "prec.", "recall", "TP/FP/FN"]
    assert len(head) == len(first) == len(second)
    for line, row, name in ((first, rows[0], ["0.4"]), (second, rows[2], ["0.55", "*"])):
        ratios = [f"{float(row[f'micro_{name}']):.4f}" for name in ("f1", "precision", "recall")]
        assert line.split() == [*name, *ratios, "/".join(map(str, counted(row, "micro")))]
    assert "macro_f1" not in rows[0] and "overall_f1" not in rows[0]


def test_a_way_of_decoding_does_not_undo_the_varied_key(made):
    folder = made()
    rows = run(folder, "--vary", "system.interval=published,centred")
    assert [(row["value"], row["decoding"]) for row in rows] == [("published", ""), ("centred", "")]
    again = run(folder, "--vary", "system.p=0.55")
    for row, other in zip(rows, again, strict=True):
        assert other["decoding"] == f"interval {row['value']}"
        assert counted(row, "overall") == counted(other, "overall")
    assert counted(rows[0], "overall") != counted(rows[1], "overall")


def test_rules(made, capsys):
    folder = made()
    rules = [row["rule"] for row in run(folder, "--vary", "system.p=0.5", "--rule", "mesnet,abpn")]
    assert rules == ["mesnet", "abpn"] * 2
    varied = run(folder, "--vary", "evaluation.rule=abpn,megc2020")
    assert [(row["value"], row["rule"]) for row in varied][::2] == [
        ("abpn",) * 2,
        ("megc2020",) * 2,
    ]
    base = run(folder, "--vary", "system.p=0.5", "--config.evaluation.rule=sfamnet")
    assert {row["rule"] for row in base} == {"sfamnet"}
    words = "--vary", "evaluation.rule=abpn", "--rule", "abpn"
    assert "evaluation.rule is varied: leave out one" in refused(capsys, folder, *words)
    words = "--vary", "system.p=0.5", "--rule", "mesnt"
    assert "'mesnt' is no rule: did you mean 'mesnet'?" in refused(capsys, folder, *words)


def test_lists_and_rule_of_the_systems_paper(made, monkeypatch, capsys):
    folder = made()

    def without(config, k):
        return build(config, k)._replace(sweeps={})

    monkeypatch.setattr(vary, "build", without)
    assert "softnet has no lists of its own: give --vary" in refused(capsys, folder)

    def with_paper(config, k):
        system = build(config, k)
        sweeps = {"p": (0.4, 0.6), "evaluation.iou": (0.5,), "silent_proposal": (True, False)}
        return system._replace(sweeps=sweeps, about={**system.about, "paper_rule": "softnet"})

    monkeypatch.setattr(vary, "build", with_paper)
    rows = run(folder)
    found = list(dict.fromkeys((row["key"], row["value"]) for row in rows))
    assert found == [
        ("system.p", "0.4"), ("system.p", "0.6"), ("evaluation.iou", "0.5"),
        ("system.silent_proposal", "True"), ("system.silent_proposal", "False"),
    ]  # fmt: skip
    assert [row["rule"] for row in rows] == ["one_to_one", "softnet"] * 10


def test_the_tables_of_mesnets_paper(made, toy):
    rng = np.random.default_rng(2)
    curves = {
        v.id: np.concatenate(
            [rng.uniform(0.2, 0.9, (n, 470, 2)), rng.normal(0, 0.1, (n, 470, 2))], axis=2
        ).astype(np.float32)
        for v in toy.videos
        for n in [len(clip_windows.starts(v.num_frames))]
    }
    config = Config(name="toy", system=Mesnet(), features=MesnetFeatures())
    rows = run(made(config, {"both": curves}))
    keys = ["system.t_cpn", "system.t_crn", "system.t_nms", "evaluation.iou"]
    assert list(dict.fromkeys(row["key"] for row in rows)) == keys
    assert {row["rule"] for row in rows} == {"one_to_one", "mesnet"}
    assert {row["decoding"] for row in rows} == {"module crn", "module cpn"}
    assert "micro_f1" in rows[0] and "macro_f1" not in rows[0]
    spotted = {}
    for row in rows:
        if row["rule"] == "mesnet":
            tp, fp, _ = counted(row, "micro")
            spotted.setdefault((row["key"], row["decoding"]), []).append(tp + fp)
    for key in ("system.t_cpn", "system.t_crn"):
        fewer = -np.diff(spotted[key, "module crn"])
        assert (fewer >= 0).all() and fewer.sum() > 0
    assert len(set(spotted["system.t_crn", "module cpn"])) == 1  # CPN does not look at it
    assert len(set(spotted["evaluation.iou", "module crn"])) == 1
    # table VIII: 0.95 is as good as none, since no two windows of up to 15 frames overlap so much
    *_, before, last, none = spotted["system.t_nms", "module cpn"]
    assert before < last == none


def test_values_with_commas_and_values_given_twice(made, toy):
    rng = np.random.default_rng(1)
    curves = {"both": {v.id: rng.random((v.num_frames, 6), np.float32) for v in toy.videos}}
    config = Config(name="toy", system=Spotformer(keep=0), features=SpotformerFeatures())
    words = "--vary", "system.range_micro=(2,8),(1, 20),(2,8)", "--vary", "system.keep=5,0"
    rows = run(made(config, curves), *words)
    values = [(row["key"], row["value"], row["decoding"]) for row in rows]
    assert values == [
        ("system.range_micro", "(2,8)", "keep 0"), ("system.range_micro", "(1, 20)", "keep 0"),
        ("system.keep", "5", ""), ("system.keep", "0", ""),
    ]  # fmt: skip
    assert counted(rows[0], "micro") != counted(rows[1], "micro")
    assert counted(rows[0], "macro") == counted(rows[1], "macro")


def test_only_the_folds_of_the_run_are_counted(made, toy):
    config = Config(name="toy", train=config_lib.Train(folds=("s1",)))
    curves = {type: {"s1/v0": group["s1/v0"]} for type, group in scores_of(toy).items()}
    (row, _) = run(made(config, curves), "--vary", "system.p=0.3")
    (video,) = [v for v in toy.videos if v.subject == "s1"]
    tp, _, fn = counted(row, "overall")
    assert tp + fn == len(video.intervals)


def test_what_the_last_evaluation_chose_is_said(made, capsys):
    folder = made()
    words = "--vary", "system.p=0.5", "--config.evaluation.threshold_choice=oracle"
    assert "threshold_choice: changes neither" in refused(capsys, folder, *words)
    run(folder, "--vary", "system.p=0.5")
    out = " ".join(capsys.readouterr().out.split())
    assert "epoch choice last" in out and "threshold_choice" not in out
    metrics = json.loads((folder / "metrics.json").read_text())
    metrics["protocol"] |= {"epoch_choice": "oracle", "threshold_choice": "validation"}
    (folder / "metrics.json").write_text(json.dumps(metrics))
    run(folder, "--vary", "system.p=0.5")
    out = " ".join(capsys.readouterr().out.split())
    assert "epoch choice oracle" in out
    assert "not those that this evaluation chose (evaluation.threshold_choice=validation)" in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["system.p=2"], "--vary system.p: input should be less than or equal to 1, got 2"),
        (["system.q=0.5"], "--vary system.q: unknown key; did you mean --vary system.p?"),
        (["system.keep=1"], "--vary system.keep: unknown key; it belongs to another system"),
        (["system.p"], "--vary system.p: write KEY=V1,V2"),
        (["system.p="], "write KEY=V1,V2"),
        (["train.epochs=3,4"], "--vary train.epochs: would need training again"),
        (["system.negatives=half"], "--vary system.negatives: would need training again"),
        (["train.devices=2"], "--vary train.devices: changes neither how saved scores are decoded"),
        (["evaluation.epoch_choice=oracle"], "epoch_choice: changes neither"),
        (["system.p=0.5", "--config.evaluation.epoch_choice=oracle"], "leave it to spotjax.eval"),
        (["system.p=0.5", "--config.train.epochs=3"], "train.epochs=3 would need training again"),
    ],
)
def test_what_cannot_be_varied_is_refused_in_one_line(made, capsys, words, message):
    folder = made()
    assert message in refused(capsys, folder, "--vary", *words)
    assert not (folder / "vary.csv").exists()


def test_what_can_be_varied_is_listed(made, capsys):
    text = refused(capsys, made(), "--vary", "train.epochs=3")
    assert text.endswith(
        "of this run, system.smoothing, system.p, system.interval, system.silent_proposal, "
        "evaluation.iou, evaluation.rule, evaluation.videos can be varied\n"
    )


def test_a_key_that_would_change_the_scores_is_not_varied():
    config = Config(name="x", system=Cnn3d(), features=Cnn3dFeatures())
    with pytest.raises(UserError, match=r"k_micro: would need scoring again \(spotjax.evaluate\)"):
        vary.variation(config, "system.k_micro=4,6")
    assert list(vary.variation(config, "system.cutoff=0.5,1").configs) == ["0.5", "1"]


def test_a_run_without_its_scores_is_refused(made, toy, tmp_path, capsys, monkeypatch):
    words = "--vary", "system.p=0.5"
    assert "no run directory" in refused(capsys, tmp_path / "nowhere", *words)
    assert not (tmp_path / "nowhere").exists()
    folder = made()
    path = folder / "curves.npz"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert "curves.npz: cannot be read" in refused(capsys, folder, *words)
    fewer = {type: {"s0/v0": group["s0/v0"]} for type, group in scores_of(toy).items()}
    write_curves(path, fewer)
    assert "macro/s1/v0" in refused(capsys, folder, *words)
    path.unlink()
    text = refused(capsys, folder, *words)
    assert "is not there" in text and f"python -m spotjax.evaluate --workdir {folder}" in text
    other = toy._replace(manifest={**toy.manifest, "hash": "other"})
    monkeypatch.setattr(evaluate.shards, "load", lambda folder, config: other)
    assert "was trained on other features or labels" in refused(capsys, folder, *words)


def test_another_file_for_the_table(made, tmp_path):
    folder, out = made(), tmp_path / "here.csv"
    words = ["--workdir", str(folder), "--vary", "system.p=0.5", "--out", str(out)]
    assert vary.main(words) == 0
    assert out.read_text().startswith("key,value,decoding,rule,macro_f1")
    assert not (folder / "vary.csv").exists()


def test_a_list_of_values():
    assert cli.split_values("a, b,(1,2),[3,4],none,") == ["a", "b", "(1,2)", "[3,4]", "none"]
    assert cli.split_values("") == []
    with pytest.raises(UserError, match=r"--vary x: write KEY=V1"):
        vary.variation(Config(name="x"), "x")
