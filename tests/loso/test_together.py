"""Runs that share one program end as they would have ended alone."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from compiling import on_cpus
from test_validated_training import ONE_STEP, scripted
from toy import small_softnet, toy_clips

from spotjax import together, train
from spotjax.config import Baselines, Config, Evaluate, Softnet, Train
from spotjax.data import plans
from spotjax.errors import UserError
from spotjax.loso import checkpoints, rundir, runs

MICRO = Softnet(types=("micro",))
PLAIN = Config(
    name="plain",
    system=MICRO,
    train=Train(epochs=3, optimizer="adam", learning_rate=1e-3, folds=("s0", "s2")),
)


def changed(config=PLAIN, name="other", system=None, evaluation=None, **settings):
    return dataclasses.replace(
        config,
        name=name,
        train=dataclasses.replace(config.train, **settings),
        system=system or config.system,
        evaluation=evaluation or config.evaluation,
    )


SEVERAL = {
    "plain": PLAIN,
    "rate": changed(learning_rate=3e-3, decay=0.5, seed=1),
}


def run(folder, configs, data, system):
    """Train configs together, each in `folder/<its key>`."""
    members = []
    for name, config in configs.items():
        workdir = folder / name
        workdir.mkdir(parents=True, exist_ok=True)
        members.append(runs.Run(workdir, config, train.folds_of(config, data, system)))
    train.train_runs(members, data, system)


def ended(workdir, problem):
    """What a run has on disk: parameters, and its log without the time."""
    found = checkpoints.read_finished(workdir, problem)
    log = [{**line, "seconds": 0} for line in rundir.Log(workdir).read()]
    return found, [line for line in log if line["problem"] == problem]


def same(one, other):
    jax.tree.map(np.testing.assert_array_equal, one[0].variables, other[0].variables)
    assert one[0][1:] == other[0][1:] and one[1] == other[1]


@pytest.fixture(scope="module")
def alone(tmp_path_factory, toy):
    folder, system = tmp_path_factory.mktemp("alone"), small_softnet(types=("micro",))
    for name, config in SEVERAL.items():
        run(folder, {name: config}, toy, system)
    return folder


def test_seeds_and_step_sizes_together_are_those_alone(tmp_path, toy, alone):
    run(tmp_path, SEVERAL, toy, small_softnet(types=("micro",)))
    results = {name: ended(tmp_path / name, "micro") for name in SEVERAL}
    for name, result in results.items():
        same(result, ended(alone / name, "micro"))
    first = [jax.tree.leaves(result[0].variables)[-1] for result in results.values()]
    assert np.abs(first[0] - first[1]).max() > 1e-4


def test_interrupted_runs_go_on_from_where_each_was(tmp_path, toy, alone, monkeypatch):
    system, kept = small_softnet(types=("micro",)), runs.Keeper.keep

    def killed(keeper, epoch, seconds):
        if epoch.number == 1 and keeper.run.config.name == "other":
            raise KeyboardInterrupt
        return kept(keeper, epoch, seconds)

    monkeypatch.setattr(runs.Keeper, "keep", killed)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, SEVERAL, toy, system)
    monkeypatch.setattr(runs.Keeper, "keep", kept)
    latest = []
    for name in SEVERAL:
        with checkpoints.Checkpoints(tmp_path / name, "micro", read_only=True) as store:
            latest.append(store.latest)
    assert latest == [2, 1]
    run(tmp_path, SEVERAL, toy, system)
    run(tmp_path, SEVERAL, toy, system)  # nothing is left to do
    for name in SEVERAL:
        same(ended(tmp_path / name, "micro"), ended(alone / name, "micro"))


def test_judged_runs_stop_by_themselves(tmp_path):
    data, system = toy_clips(), scripted([0, 0.1, 0.5, 0.4, 0.9, 0.3, 0.2, 0.1, 0.1, 0.1, 0.1])
    judged = dataclasses.replace(ONE_STEP, patience=2, epochs=5, folds=("s0", "s2"))
    config = dataclasses.replace(PLAIN, train=judged)
    configs = {"1": config, "2": changed(config, learning_rate=2.0, seed=5)}
    run(tmp_path / "together", configs, data, system)
    for name in configs:
        run(tmp_path / "alone", {name: configs[name]}, data, system)
        same(*(ended(tmp_path / place / name, "both") for place in ("together", "alone")))
    lengths = [len(rundir.Log(tmp_path / "together" / name).read()) for name in configs]
    assert lengths == [5, 4]  # the second is best after two updates of 2, and waits twice


def test_which_runs_may_share_a_program():
    configs = [
        PLAIN,
        changed(seed=1),
        changed(batch=13),
        changed(learning_rate=0.1, decay=0.3),
        changed(evaluation=Evaluate(rule="softnet"), system=Softnet(types=("micro",), p=0.7)),
        changed(system=Softnet(types=("micro",), negatives="half_release")),
        changed(batch=13, seed=2),
        changed(fold_exec="vmap"),
        dataclasses.replace(PLAIN, baselines=Baselines(names=())),
        dataclasses.replace(PLAIN, data=dataclasses.replace(PLAIN.data, root="elsewhere")),
    ]
    assert together.groups(configs) == [[0, 1, 3, 4, 8], [2, 6], [5], [7], [9]]
    assert together.groups([]) == []


BAD = {
    "no file": (None, "no such file"),
    "no JSON": ("{", "is no plan of runs"),
    "no runs": ({"runs": []}, "lists no run"),
    "a key missing": ({"runs": [{"config": "a.py", "workdir": "a"}]}, "KeyError: 'overrides'"),
    "twice": (
        {"runs": [{"config": "a.py", "overrides": [], "workdir": "a"}] * 2},
        "two runs have the same workdir",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_plan_is_refused_in_one_line(tmp_path, case):
    content, message = BAD[case]
    path = tmp_path / "plan.json"
    if content is not None:
        path.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(UserError, match=f"plan.json: .*{message}"):
        together.read_plan(path)


@on_cpus
def test_runs_of_different_programs_are_refused(tmp_path, capsys):
    def entry(name, *overrides):
        return {
            "config": "configs/demo.py",
            "overrides": overrides,
            "workdir": str(tmp_path / name),
        }

    path = tmp_path / "plan.json"
    path.write_text(json.dumps({"runs": [entry("a"), entry("b", "train.batch=7")]}))
    assert together.main([str(path)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "cannot share a program" in error and "train.seed" in error
    assert not (tmp_path / "a").exists()


def test_a_member_names_the_command_that_trains_it_alone(tmp_path):
    member = together.Member("configs/demo.py", ("train.seed=1",), tmp_path)
    assert member.line == (
        "python -m spotjax.train --config configs/demo.py --config.train.seed=1 "
        f"--workdir {tmp_path}"
    )


def test_folds_know_their_own_settings(toy):
    system = small_softnet(types=("micro",))
    folds = plans.loso(system, toy, "micro", PLAIN.train)
    own = SEVERAL["rate"].train
    theirs = [fold._replace(own=own) for fold in folds]
    given = (0, 99, 0, 12)  # the common seed does not count
    np.testing.assert_array_equal(
        plans.epoch_order(theirs, *given), plans.epoch_order(folds, 0, own.seed, 0, 12)
    )
