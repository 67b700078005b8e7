"""Every system can be tested on another data set than the one it was trained on."""

import dataclasses

import numpy as np
import pytest
from toy import toy_clips, toy_dataset, toy_rgbd

from spotjax import unseen
from spotjax.config import (
    Config,
    Evaluate,
    Mesnet,
    MesnetFeatures,
    Sfamnet,
    SfamnetFeatures,
    Softnet,
    SoftnetFeatures,
    Spotformer,
    SpotformerFeatures,
    Train,
)
from spotjax.loso import checkpoints, rundir
from spotjax.loso import folds as folds_lib
from spotjax.systems import build

EVALUATION = Evaluate(bootstrap=0, chance_draws=2)


def config(features, system):
    return Config(name="home", features=features, system=system, evaluation=EVALUATION)


SYSTEMS = {
    "softnet": (config(SoftnetFeatures(), Softnet()), toy_dataset),
    "sfamnet": (config(SfamnetFeatures(), Sfamnet(flow="optical")), toy_rgbd),
    "spotformer": (
        config(SpotformerFeatures(), Spotformer(width=8, heads=2, head_width=4, mlp_width=8)),
        toy_dataset,
    ),
    "mesnet": (config(MesnetFeatures(size=32), Mesnet(size=32)), toy_clips),
}


def write_run(workdir, chosen, data, system):
    """Two folds with fresh parameters of their own, as if trained."""
    workdir.mkdir()
    rundir.open_run(workdir, chosen, "toy", workdir / "shards")
    optimizer = folds_lib.make_optimizer(Train())
    for problem in system.problems:
        state = folds_lib.init_state(system, optimizer, 0, [0, 1])
        with checkpoints.Checkpoints(workdir, problem) as store:
            store.save(1, state, {"epochs": 1, "of": 1, "subjects": ["s0", "s2"]})


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_run_scores_another_data_set(name, tmp_path):
    chosen, toy = SYSTEMS[name]
    home, away = toy(subjects=3), toy(subjects=2, seed=5)._replace(name="away")
    system = build(chosen.system, dict(home.k))
    workdir, out = tmp_path / "run", tmp_path / "out"
    write_run(workdir, chosen, home, system)
    out.mkdir()
    metrics = unseen.evaluate_unseen(workdir, out, chosen, chosen, home, away, "a test")
    about = metrics["protocol"]
    assert about["data_set"] == "away" and about["subjects"] == 2
    assert "mean of 2 folds trained on toy" in about["held_out"]
    found = np.load(out / "curves.npz")
    assert {file.split("/", 1)[1] for file in found.files} >= {v.id for v in away.videos}
    for type in system.types:
        truths = sum(i.type == type for v in away.videos for i in v.intervals)
        assert metrics["results"][type]["tp"] + metrics["results"][type]["fn"] == truths > 0
    assert (out / "report.html").exists() and (out / "intervals.csv").exists()


def test_k_is_that_of_the_other_data_set():
    saved = config(SoftnetFeatures(k_macro=18, k_micro=6, roi="two_eyes"), Softnet())
    other = config(SoftnetFeatures(k_macro=174, k_micro=36), Softnet(p=0.9))
    crossed = unseen.crossed(saved, dataclasses.replace(other, name="away"))
    assert (crossed.features.k_macro, crossed.features.k_micro) == (174, 36)
    assert crossed.features.roi == "two_eyes" and crossed.system.p == saved.system.p
