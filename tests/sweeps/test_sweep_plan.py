"""Which runs a sweep has and what they are called, worked out by hand."""

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spotjax import config as config_lib
from spotjax.cli import load_config
from spotjax.errors import UserError
from spotjax.sweeps import sweep_plan
from spotjax.sweeps.sweep_plan import parse_grid, parse_seeds, parse_task, plan

DEMO, SFAMNET = "configs/demo.py", "configs/sfamnet_demo.py"
PLAIN = "configs/softnet_folder.py"


def names(runs):
    return [run.name for run in runs]


# --- the options ----------------------------------------------------------------------------------


def test_a_grid_is_read_with_its_brackets():
    assert parse_grid(["train.learning_rate=1e-3,3e-4", "system.range_micro=(2,8),(2,10)"]) == {
        "train.learning_rate": ["1e-3", "3e-4"],
        "system.range_micro": ["(2,8)", "(2,10)"],
    }
    assert parse_grid([]) == {}


@pytest.mark.parametrize(
    ("texts", "why"),
    [
        (["system.p"], "write KEY=V1,V2"),
        (["system.p="], "write KEY=V1,V2"),
        (["system.p=0.5", "system.p=0.6"], "system.p is there already"),
        (["train.seed=0,1"], "write --seeds 0,1"),
        (["name=a,b"], "the name follows from the other keys"),
    ],
)
def test_a_grid_that_is_none_is_refused(texts, why):
    with pytest.raises(UserError, match=f"^--grid .*{why}"):
        parse_grid(texts)


def test_seeds_are_a_number_or_a_list():
    assert parse_seeds("") == []
    assert parse_seeds("3") == [0, 1, 2]
    assert parse_seeds("0, 3,7,3") == [0, 3, 7]
    assert parse_seeds("5,") == [5]
    for text in ("0", "-1", "a", "1.5", "1,b", ","):
        with pytest.raises(UserError, match=f"^--seeds {text}: write a number of seeds"):
            parse_seeds(text)


def test_a_task_is_one_of_n():
    assert parse_task("3/8") == (3, 8)
    for text in ("0/8", "9/8", "3", "a/b", "1/0"):
        with pytest.raises(UserError, match=f"^--task {text}: write I/N with I from 1 to N"):
            parse_task(text)


# --- the runs -------------------------------------------------------------------------------------


def test_the_full_product_in_the_order_of_the_arguments():
    grid = {"train.learning_rate": ["1e-3", "0.0003"], "system.p": ["0.5", "0.60"]}
    runs = plan([DEMO], [], grid, [0, 4], ["train.epochs=1"])
    # a name has the keys in the order of the config's sections, the values as the config has them
    assert names(runs) == [
        "demo_system.p=0.5_learning_rate=0.001_seed=0",
        "demo_system.p=0.5_learning_rate=0.001_seed=4",
        "demo_system.p=0.6_learning_rate=0.001_seed=0",
        "demo_system.p=0.6_learning_rate=0.001_seed=4",
        "demo_system.p=0.5_learning_rate=0.0003_seed=0",
        "demo_system.p=0.5_learning_rate=0.0003_seed=4",
        "demo_system.p=0.6_learning_rate=0.0003_seed=0",
        "demo_system.p=0.6_learning_rate=0.0003_seed=4",
    ]
    last = runs[-1]
    words = ("train.epochs=1", "train.learning_rate=0.0003", "system.p=0.60", "train.seed=4")
    assert last.overrides == words and last.config == load_config(DEMO, words)
    assert last.settings == {"train.learning_rate": 0.0003, "system.p": 0.6}
    assert last.configuration == "demo_system.p=0.6_learning_rate=0.0003"
    assert (last.file, last.preset) == (DEMO, "plain")


def test_presets_are_all_of_them_unless_something_else_is_varied():
    from spotjax.cli import presets

    known = list(presets(SFAMNET))
    runs = plan([SFAMNET], [], {}, [], [])
    assert [run.preset for run in runs] == ["plain", *known]
    assert names(runs)[:2] == ["sfamnet_demo", f"sfamnet_demo_{known[0]}"]
    assert [run.file for run in runs[:2]] == [SFAMNET, f"{SFAMNET}:{known[0]}"]
    assert names(plan([SFAMNET], [], {}, [0, 1], [])) == [
        "sfamnet_demo_seed=0",
        "sfamnet_demo_seed=1",
    ]
    chosen = plan([SFAMNET], ["optical", "plain"], {"train.batch": ["8"]}, [], [])
    assert names(chosen) == ["sfamnet_demo_optical_batch=8", "sfamnet_demo_batch=8"]


def test_several_files_are_several_systems():
    runs = plan([DEMO, "configs/cnn3d_demo.py", DEMO], [], {}, [1], [])
    assert names(runs) == ["demo_seed=1", "cnn3d_demo_seed=1"]
    assert names(plan([DEMO, "configs/cnn3d_demo.py"], ["plain"], {}, [], [])) == [
        "demo",
        "cnn3d_demo",
    ]


def test_a_runs_config_is_a_file_too(tmp_path):
    import json

    file = tmp_path / "config.json"
    file.write_text(json.dumps({"config": config_lib.to_dict(load_config(DEMO))}))
    assert names(plan([str(file)], [], {}, [2], [])) == ["demo_seed=2"]


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (dict(grid={"optim.lr": ["1"]}), r"--grid optim\.lr: unknown key; did you mean"),
        (dict(grid={"train.epochs": ["1", "x"]}), r"--grid train\.epochs: .*integer.*\"x\""),
        (dict(grid={"system.q": ["1"]}), r"--grid system\.q: unknown key"),
        (dict(files=["configs/demo.py:x"]), "name the file alone"),
        (dict(files=["configs/dmo.py"]), r"no such file; did you mean configs/demo\.py"),
        (dict(files=[PLAIN], wanted=["opticl"]), "no such preset; it has none"),
        (dict(wanted=["opticl"]), "no such preset; it has linear, step4"),
        (
            dict(files=[PLAIN]),
            "has no PRESETS, so there is nothing to sweep: give --grid or --seeds",
        ),
        (dict(seeds=[0], overrides=["train.seed=1"]), "--seeds: the seed is also given"),
        (
            dict(grid={"system.p": ["0.5"]}, overrides=["system.p=0.6"]),
            r"--grid system\.p: is also given as --config\.system\.p",
        ),
        (
            dict(files=[SFAMNET], overrides=["name=one"]),
            "two different runs would be called one: give the configs different names",
        ),
    ],
)
def test_what_cannot_be_run_is_refused(words, why):
    arguments = dict(files=[DEMO], wanted=[], grid={}, seeds=[], overrides=[]) | words
    if "wanted" in words:
        arguments["seeds"] = [0]
    with pytest.raises(UserError, match=why):
        plan(**arguments)


# --- names ----------------------------------------------------------------------------------------


def test_values_in_names():
    demo = load_config(DEMO)
    assert sweep_plan.name_of(demo, {"train.reshuffle": False}) == "demo_reshuffle=false"
    assert sweep_plan.name_of(demo, {"train.learning_rate": 1e-05}) == "demo_learning_rate=1e-05"
    assert sweep_plan.name_of(demo, {"pretrain": None}) == "demo_pretrain=none"
    assert sweep_plan.name_of(demo, {"train.folds": ["s15", "s16"]}) == "demo_folds=s15-s16"
    slashes = sweep_plan.name_of(demo, {"data.root": "/a b/c"})
    digest = config_lib.digest("/a b/c")[:6]
    assert slashes == f"demo_data.root=-a-b-c-{digest}"


@given(st.text(max_size=60), st.text(max_size=60))
def test_names_are_safe_and_different(first, second):
    demo = load_config(DEMO)
    one, other = (sweep_plan.name_of(demo, {"data.root": text}) for text in (first, second))
    assert (one == other) == (first == second)
    assert len(one) <= sweep_plan.LONGEST_NAME
    assert all(letter.isascii() and (letter.isalnum() or letter in "._=+-") for letter in one)


def test_a_long_name_is_cut_and_stays_different():
    demo = load_config(DEMO)
    keys = [f"evaluation.{key}" for key in ("bootstrap", "chance_draws", "iou", "rule", "videos")]
    values = dict.fromkeys(keys, "abcdefghijklmnopqrstuvwx")
    name = sweep_plan.name_of(demo, values)
    other = sweep_plan.name_of(demo, values | {"evaluation.bootstrap": "x"})
    assert len(name) == sweep_plan.LONGEST_NAME and name[:100] == other[:100] and name != other


# --- units ----------------------------------------------------------------------------------------


def by_rate(configs):
    """Stands in for spotjax.together: runs of one momentum share a program."""
    found = {}
    for index, config in enumerate(configs):
        found.setdefault(config.train.momentum, []).append(index)
    return list(found.values())


def test_groups_are_cut_into_equal_units():
    runs = plan([DEMO], [], {"train.momentum": ["0", "0.9"]}, range(5), [])
    assert [len(unit) for unit in sweep_plan.units(runs, 8, by_rate)] == [5, 5]
    units = sweep_plan.units(runs, 4, by_rate)
    assert [names(unit) for unit in units] == [
        names(runs[0:2]), names(runs[2:5]), names(runs[5:7]), names(runs[7:10]),
    ]  # fmt: skip
    assert [len(unit) for unit in sweep_plan.units(runs, 1, by_rate)] == [1] * 10
    mixed = plan([DEMO], [], {}, range(2), []) + runs[:1]
    assert len(sweep_plan.units(mixed[:1], 8, by_rate)) == 1


@given(st.integers(1, 9), st.integers(1, 30))
def test_every_run_is_in_one_unit(most, count):
    run = plan([DEMO], [], {}, [0], [])[0]
    runs = [run._replace(name=str(index)) for index in range(count)]
    units = sweep_plan.units(runs, most, lambda configs: [list(range(len(configs)))])
    assert sorted(int(r.name) for unit in units for r in unit) == list(range(count))
    sizes = [len(unit) for unit in units]
    assert max(sizes) <= most and max(sizes) - min(sizes) <= 1 and len(units) == -(-count // most)


def test_what_data_prep_makes_is_made_once():
    runs = plan([DEMO], [], {"train.batch": ["4", "8"]}, [0, 1], [])
    assert [names(same) for same in sweep_plan.data_sets(runs)] == [names(runs)]
    runs = plan([DEMO], [], {"data.sample_every": ["1", "2"]}, [0, 1], [])
    assert [len(same) for same in sweep_plan.data_sets(runs)] == [2, 2]


def test_runs_that_would_relabel_each_others_shards_are_refused_side_by_side():
    sweep_plan.refuse_shared_shards(plan([DEMO], [], {"data.sample_every": ["1", "2"]}, [], []))
    runs = plan([DEMO], [], {"data.annotation.onset_zero": ["drop", "keep"]}, [], [])
    with pytest.raises(UserError, match=r"differ in data\.annotation and share the shards shards"):
        sweep_plan.refuse_shared_shards(runs)


@pytest.mark.parametrize("module", ["sweep", "sweeps.sweep_plan", "sweeps.runners"])
def test_planning_needs_no_jax(module):
    code = f"import sys, spotjax.{module}; sys.exit('jax' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


def test_a_value_written_twice_is_one_run():
    runs = sweep_plan.plan(
        ["configs/demo.py"], [], {"train.learning_rate": ["1e-3", "0.001", "2e-3"]}, [], []
    )
    assert [run.settings["train.learning_rate"] for run in runs] == [0.001, 0.002]
