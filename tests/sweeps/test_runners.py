"""Units of work that are killed, fail, go on: small programs stand in for trainings.

The test with a lost Ray node trains for real; it is skipped where Ray is not installed.
"""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from spotjax.errors import UserError
from spotjax.sweeps import runners
from spotjax.sweeps.runners import Unit

ROOT = Path(__file__).parents[2]
JOB = '''"""Counts to 6 in a file, as a training does its epochs; what else happens is in `argv`."""
import os, pathlib, signal, sys, time
name, *how = sys.argv[1:]
file = pathlib.Path(name)
done = file.read_text().splitlines() if file.exists() else []
print(f"begins at {len(done)}", flush=True)
for step in range(len(done), 6):
    with open(file, "a") as out:
        print(step, file=out)
    if "kill" in how or ("kill-once" in how and not done and step == 3):
        os.kill(os.getpid(), signal.SIGKILL)
    if "fail" in how and step == 2:
        print("bar 10%\\rerror: a.csv: no column x: add it\\nerror: second", file=sys.stderr)
        sys.exit(2)
    if "raise" in how:
        raise ValueError("a bug")
    if "wait" in how:
        time.sleep(60)
'''


@pytest.fixture
def unit(tmp_path, monkeypatch):
    """Makes units of JOB by name and what happens to them."""
    (tmp_path / "job_of_test.py").write_text(JOB)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{ROOT}")

    def make(name, *how, runs=1):
        words = ("job_of_test", str(tmp_path / f"{name}.txt"), *how)
        return Unit(name, words, tmp_path / name / "train.log", runs)

    return make


def counted(unit):
    return [int(line) for line in Path(unit.words[1]).read_text().split()]


def begins(unit):
    """Where each attempt began, from the log."""
    return [int(text) for text in re.findall(r"begins at (\d+)", unit.log.read_text())]


# --- one unit -------------------------------------------------------------------------------------


def test_a_unit_that_is_killed_goes_on(unit):
    one = unit("once", "kill-once")
    assert runners.attempts(one) == ""
    assert counted(one) == list(range(6)) and begins(one) == [0, 4]
    log = one.log.read_text()
    assert log.count("--- ended with status -9") == 1 and log.count("ended with status 0") == 1
    assert "attempt 2 of 3: python -m job_of_test " in log


def test_a_unit_that_is_always_killed_is_given_up(unit):
    one = unit("always", "kill")
    why = runners.attempts(one)
    assert why == f"killed by SIGKILL, 3 times: perhaps for lack of memory (log: {one.log})"
    assert begins(one) == [0, 1, 2]


@pytest.mark.parametrize(
    ("how", "why"), [("fail", "a.csv: no column x: add it"), ("raise", "ValueError: a bug")]
)
def test_the_first_error_is_told_and_not_tried_again(unit, how, why):
    one = unit("bad", how)
    assert runners.attempts(one) == f"{why} (log: {one.log})"
    assert len(begins(one)) == 1


def test_an_error_of_an_earlier_attempt_is_not_told_again(unit):
    one = unit("bad", "fail")
    runners.attempts(one)
    assert runners.attempts(one._replace(words=(*one.words[:2], "raise"))).startswith("ValueError")


def test_a_unit_that_cannot_be_started_is_told(unit, tmp_path):
    (tmp_path / "taken").write_text("")
    assert "taken" in runners.attempts(unit("x")._replace(log=tmp_path / "taken" / "train.log"))


def test_the_module_runs_as_the_program(tmp_path, monkeypatch):
    (tmp_path / "shows.py").write_text(
        "import sys\nprint(__name__, sys.argv[1:], sys.modules['__main__'].__spec__.name)\n"
    )
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{ROOT}")
    one = Unit("shows", ("shows", "--config.a=b c"), tmp_path / "log")
    assert runners.attempts(one) == ""
    assert "__main__ ['--config.a=b c'] shows\n" in one.log.read_text()


# --- the local runner -----------------------------------------------------------------------------


def test_a_failure_stops_no_other(unit, capsys):
    units = [unit("good"), unit("bad", "fail"), unit("late", "kill-once", runs=3)]
    failed = runners.run_local(units, jobs=2)
    assert failed == {"bad": f"a.csv: no column x: add it (log: {units[1].log})"}
    assert counted(units[0]) == counted(units[2]) == list(range(6))
    err = capsys.readouterr().err
    assert "5/5" in err and f"failed: bad (log: {units[1].log})" in err


def test_ctrl_c_ends_the_programs_and_they_go_on_later(unit, tmp_path):
    script = (
        "import signal\nimport sys\nfrom pathlib import Path\n"
        "from spotjax.sweeps import runners\nfrom spotjax.errors import command\n"
        # what is started in the background ignores Ctrl-C
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        f"units = [runners.Unit(n, ('job_of_test', f'{tmp_path}/{{n}}.txt', 'wait'), "
        f"Path('{tmp_path}') / n / 'train.log') for n in ('a', 'b', 'c')]\n"
        "main = command(lambda argv: len(runners.run_local(units, 2)))\nsys.exit(main([]))\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script], cwd=ROOT, stderr=subprocess.PIPE, text=True
    )
    a, b, c = (unit(name, "wait") for name in "abc")
    wait_for(lambda: all(Path(one.words[1]).exists() for one in (a, b)))
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "interrupted: run the same command again to continue where it stopped" in err
    assert "KeyboardInterrupt" in a.log.read_text() and not c.log.exists()
    assert runners.attempts(a._replace(words=a.words[:2])) == ""
    assert counted(a) == list(range(6)) and begins(a) == [0, 1]


def test_a_killed_sweep_leaves_no_program_behind(unit, tmp_path):
    one = unit("orphan", "wait")
    code = (
        "from pathlib import Path; from spotjax.sweeps import runners; "
        f"runners.attempts(runners.Unit('x', {one.words!r}, Path({str(one.log)!r})))"
    )
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT)
    wait_for(lambda: Path(one.words[1]).exists())
    (child,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    process.kill()
    process.wait()
    wait_for(lambda: not Path(f"/proc/{child}").exists())


def wait_for(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


# --- Ray ------------------------------------------------------------------------------------------


def test_without_ray_the_remedy_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"--runner ray: Ray is not installed: pip install 'spot"):
        runners.run_ray([Unit("x", ("x",), Path("x"))])


def test_what_a_task_takes_of_a_node():
    def node(alive=True, **resources):
        return {"Alive": alive, "Resources": resources}

    nodes = [node(CPU=0), node(CPU=16.0), node(CPU=8.0), node(False, CPU=2.0)]
    assert runners._cpus_of(nodes, gpus=0) == 8
    assert runners._cpus_of(nodes, gpus=1) == runners._cpus_of([], gpus=0) == 1


@pytest.fixture
def cluster(monkeypatch):
    """A Ray cluster of two nodes with a CPU each; `.second` is the one that can be lost."""
    if find_spec("ray") is None:
        pytest.skip("the extra [cluster] is not installed")
    import ray
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    made.second = made.add_node(num_cpus=1)
    ray.init(address=made.address, log_to_driver=False, logging_level="ERROR")
    yield made
    ray.shutdown()
    made.shutdown()


ray_is_noisy = pytest.mark.filterwarnings("ignore")


@ray_is_noisy
def test_ray_runs_the_same_units(unit, cluster):
    units = [unit("good"), unit("bad", "fail"), unit("once", "kill-once")]
    assert runners.run_ray(units) == {"bad": f"a.csv: no column x: add it (log: {units[1].log})"}
    assert counted(units[0]) == counted(units[2]) == list(range(6))
    assert begins(units[2]) == [0, 4]


@ray_is_noisy
def test_a_lost_node_loses_nothing(cluster, tmp_path, monkeypatch):
    from spotjax import sweep

    words = tiny_sweep(tmp_path, monkeypatch)
    assert sweep.main([*words, "--out", str(tmp_path / "local")]) == 0
    out = tmp_path / "ray"
    runs = [out / f"tiny_seed={seed}" for seed in (0, 1)]

    def lose_a_node():
        wait_for(lambda: all(len(epochs(run)) >= 4 for run in runs), 240)
        cluster.remove_node(cluster.second, allow_graceful=False)

    loser = threading.Thread(target=lose_a_node)
    loser.start()
    assert sweep.main([*words, "--runner", "ray", "--out", str(out)]) == 0
    loser.join()
    begun = [re.findall(r"attempt 1 of 3", (run / "train.log").read_text()) for run in runs]
    assert sorted(map(len, begun)) == [1, 2]
    again = (runs[0 if len(begun[0]) == 2 else 1] / "train.log").read_text().rpartition("attempt")
    first = re.search(r"train macro: +\d+%\|[^|]*\| (\d+)/12 ", again[2])
    assert first is not None and int(first[1]) >= 3  # it goes on, it does not begin anew
    for run in runs:
        local = tmp_path / "local" / run.name
        assert epochs(run) == epochs(local) == [(p, e) for p in TYPES for e in range(1, 13)]
        with np.load(run / "curves.npz") as mine, np.load(local / "curves.npz") as other:
            assert mine.files == other.files
            assert all(mine[name].tobytes() == other[name].tobytes() for name in mine.files)
        mine, other = (json.loads((folder / "metrics.json").read_text()) for folder in (run, local))
        assert mine["results"] == other["results"]


TYPES = ("macro", "micro")


def epochs(run):
    """(problem, epoch) of every line of a run's log."""
    file = run / "log.jsonl"
    lines = file.read_text().splitlines() if file.exists() else []
    try:
        return [(line["problem"], line["epoch"]) for line in map(json.loads, lines)]
    except ValueError:  # it is being written
        return []


def tiny_sweep(folder, monkeypatch):
    """Words of a sweep of two seeds over three tiny videos, each a program of its own."""
    monkeypatch.syspath_prepend(str(ROOT / "tests/data_prep"))
    import tiny_sets

    rows = [
        (subject, f"disgust1_{number}", *frames, "4", "negative", kind, "disgust")
        for subject in (1, 2, 3)
        for number, frames, kind in (
            (1, (11, 15, 23), "macro-expression"),
            (2, (31, 33, 36), "micro-expression"),
        )
    ]
    videos = (("s15", "0101", 60), ("s16", "0101", 50), ("s19", "0101", 55))
    tiny_sets.make_set(folder / "set", videos, rows)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    assert os.getcwd() == str(ROOT)
    return [
        *("--config", str(tiny_sets.config_file(folder / "set", folder))),
        *("--seeds", "2", "--together", "1"),
        *("--config.train.epochs=12", "--config.train.devices=1"),
        *("--config.evaluation.bootstrap=0", "--config.evaluation.chance_draws=2"),
    ]
