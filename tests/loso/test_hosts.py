"""One training over two real processes; the same parameters as in one, and in one again."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from toy import small_softnet, toy_dataset

from spotjax import train
from spotjax.config import Config, Softnet, SoftnetFeatures, Train
from spotjax.data import plans
from spotjax.errors import UserError
from spotjax.loso import checkpoints, hosts, runs

ROOT = Path(__file__).parents[2]
EPOCHS = 4
SYSTEM = small_softnet(types=("micro",))
CONFIG = Config(
    name="two",
    features=SoftnetFeatures(),
    system=Softnet(types=("micro",)),
    train=Train(epochs=EPOCHS, optimizer="adam", learning_rate=1e-3),
)


def work(workdir):
    """What spotjax.train does, with features that need no data_prep."""
    toy = toy_dataset(subjects=3)
    folds = {"micro": plans.loso(SYSTEM, toy, "micro", CONFIG.train)}
    with train.owned([workdir]):
        train.train_runs([runs.Run(workdir, CONFIG, folds)], toy, SYSTEM)
        hosts.wait()


def fail():
    raise UserError("no such folder")


def vanish():
    """This process is killed after it has trained two epochs."""
    kept = runs.Keeper.keep

    def keep(keeper, epoch, seconds):
        if epoch.number == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return kept(keeper, epoch, seconds)

    runs.Keeper.keep = keep


CHILD = """
import sys
from pathlib import Path
sys.path[:0] = ["tests", "tests/loso"]
from spotjax import train
from spotjax.loso import hosts
from spotjax.errors import UserError, command as main
train.set_up_jax(1, "auto")
import jax
from test_hosts import fail, vanish, work
assert hosts.count() == 2 and len(jax.devices()) == 2 and len(jax.local_devices()) == 1
assert hosts.by_first(lambda: [1, hosts.first()]) == [1, True]
try:
    hosts.by_first(fail)
except UserError as error:
    print("told:", error)
if sys.argv[2] == str(jax.process_index()):
    vanish()
main(lambda argv: work(Path(sys.argv[1])))()
"""


def start_pair(workdir, lost=-1):
    """Two processes of one training; the process of rank `lost` is killed in its middle."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    common = {"JAX_COORDINATOR_ADDRESS": f"localhost:{port}", "JAX_NUM_PROCESSES": "2"}
    return [
        subprocess.Popen(
            [sys.executable, "-c", CHILD, str(workdir), str(lost)],
            env={**os.environ, **common, "JAX_PROCESS_ID": str(rank), "PYTHONPATH": "."},
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]


def ended(pair):
    """What both printed; they must end well."""
    outputs = [process.communicate(timeout=240) for process in pair]
    for process, (_, errors) in zip(pair, outputs, strict=True):
        assert process.returncode == 0, errors[-3000:]
    return outputs


def parameters(workdir):
    finished = checkpoints.read_finished(workdir, "micro")
    assert finished.subjects == ["s0", "s1", "s2"]
    return jax.tree.leaves(finished.variables)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("alone")
    work(workdir)
    return parameters(workdir)


def test_two_processes_train_what_one_trains(tmp_path, alone):
    outputs = ended(start_pair(tmp_path))
    for out, _ in outputs:
        assert "told: no such folder" in out
    assert "3 folds, 4 at a time over 2 device(s)" in outputs[0][1]
    assert "train micro" not in outputs[1][1]  # one bar for all
    for one, two in zip(alone, parameters(tmp_path), strict=True):
        np.testing.assert_array_equal(one, two)
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == EPOCHS


def test_one_of_two_is_lost_and_the_run_goes_on_in_one(tmp_path, alone):
    pair = start_pair(tmp_path, lost=1)
    pair[1].communicate(timeout=240)
    assert pair[1].returncode == -signal.SIGKILL
    _, errors = pair[0].communicate(timeout=60)
    assert pair[0].returncode == 2 and "Traceback" not in errors
    assert "error: another process of this training has ended" in errors
    log = (tmp_path / "log.jsonl").read_text().splitlines()
    assert 1 <= json.loads(log[-1])["epoch"] < EPOCHS
    work(tmp_path)
    for one, two in zip(alone, parameters(tmp_path), strict=True):
        np.testing.assert_array_equal(one, two)


LAUNCHERS = {
    "nothing": ({}, False),
    "one SLURM task": ({"SLURM_NTASKS": "1", "SLURM_STEP_NODELIST": "a1"}, False),
    "two SLURM tasks": ({"SLURM_NTASKS": "2", "SLURM_STEP_NODELIST": "a[1-2]"}, True),
    "a batch script of two SLURM tasks": ({"SLURM_NTASKS": "2", "SLURM_PROCID": "0"}, False),
    "Open MPI": ({"OMPI_COMM_WORLD_SIZE": "4"}, True),
    "by hand": ({"JAX_COORDINATOR_ADDRESS": "a:1", "JAX_NUM_PROCESSES": "2"}, True),
    "a TPU slice": ({"TPU_WORKER_HOSTNAMES": "a,b"}, True),
    "a single TPU host": ({"TPU_WORKER_HOSTNAMES": "localhost"}, False),
}


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_the_environment_tells_of_other_processes(monkeypatch, launcher):
    variables, several = LAUNCHERS[launcher]
    for name in (*hosts.SEVERAL, *hosts.NAMED, "SLURM_STEP_NODELIST", "TPU_WORKER_HOSTNAMES"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert hosts.announced() is several


def numbers(address):
    """Which process this is, where the port is what is missing."""
    return {} if ":" in address else {"JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": "1"}


@pytest.mark.parametrize("address", ["localhost:1", "localhost"])
def test_processes_that_are_not_found_end_in_one_line(tmp_path, address):
    line = [sys.executable, "-m", "spotjax.train", "--config", "configs/demo.py"]
    found = subprocess.run(
        [*line, "--workdir", str(tmp_path / "run"), "--config.train.distributed=on"],
        env={**os.environ, "JAX_COORDINATOR_ADDRESS": address} | numbers(address),
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert found.returncode == 2 and not (tmp_path / "run").exists()
    waiting, error = found.stderr.splitlines()
    assert waiting.startswith("waiting for the other processes")
    assert "the other processes are not found" in error
    assert "JAX_NUM_PROCESSES" in found.stderr and "train.distributed=off" in found.stderr


def test_a_process_alone_asks_nobody(monkeypatch):
    monkeypatch.setattr(hosts.multihost_utils, "broadcast_one_to_all", fail)
    hosts.wait()
    assert hosts.by_first(lambda: 3) == 3 and hosts.first() and hosts.count() == 1
    assert hosts.same({"a": 1}) == {"a": 1}
    with pytest.raises(UserError, match="no such folder"):
        hosts.by_first(fail)
