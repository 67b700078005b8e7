"""What goes wrong in the middle of a training: one clear line, and nothing is lost."""

import os
import shutil
import subprocess

import jax
import numpy as np
import pytest
from toy import small_softnet, toy_dataset
from toy_shards import write_shards

from spotjax import train
from spotjax.config import Config, Softnet, Train
from spotjax.data import shards
from spotjax.errors import UserError, command
from spotjax.loso import checkpoints, runs

MICRO = Softnet(types=("micro",))
SYSTEM = small_softnet(types=("micro",))
EPOCHS = 4
CONFIG = Config(
    name="faults",
    system=MICRO,
    train=Train(
        epochs=EPOCHS, optimizer="adam", learning_rate=1e-3, folds=("s0", "s2"),
        residency="streamed", piece=5,
    ),
)  # fmt: skip
LONGER = 2
"""The epoch after which something happens."""


def work(workdir, data):
    """Train; the exit status, as of a command."""

    @command
    def main(argv):
        members = train.folds_of(CONFIG, data, SYSTEM)
        with train.owned([workdir]):
            train.train_runs([runs.Run(workdir, CONFIG, members)], data, SYSTEM)
        return 0

    return main([])


def same(one, other):
    found = [checkpoints.read_finished(workdir, "micro").variables for workdir in (one, other)]
    jax.tree.map(np.testing.assert_array_equal, *found)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    write_shards(folder, toy_dataset(3), ["flow_micro", "strain_micro", "valid_micro"])
    return folder


@pytest.fixture(scope="module")
def whole(tmp_path_factory, folder):
    """A run that nothing happened to."""
    workdir = tmp_path_factory.mktemp("whole")
    assert work(workdir, shards.load(folder)) == 0
    return workdir


@pytest.fixture
def during(monkeypatch):
    """Do something once, after the epoch `LONGER` is written."""

    def install(happen):
        kept, done = runs.Keeper.keep, []

        def keep(keeper, epoch, seconds):
            record = kept(keeper, epoch, seconds)
            if epoch.number + 1 == LONGER and not done:
                done.append(True)
                keeper.wait()
                happen()
            return record

        monkeypatch.setattr(runs.Keeper, "keep", keep)

    return install


def test_a_shard_goes_away_and_comes_back(tmp_path, folder, whole, during, capsys):
    shard = sorted(folder.glob("*.tfrecord-*"))[1]
    aside = tmp_path / "aside"
    data = shards.load(folder)
    during(lambda: os.replace(shard, aside))
    assert work(tmp_path / "run", data) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith(f"error: {shard}: this shard has gone since the run began")
    os.replace(aside, shard)
    assert work(tmp_path / "run", data) == 0
    assert f"{LONGER}/{EPOCHS}" in capsys.readouterr().err  # it went on from there
    same(tmp_path / "run", whole)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # Orbax's own
def test_the_disk_is_full_at_a_checkpoint(tmp_path, folder, whole, during, capfd):
    """On a real small disk, where this machine lets us have one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", str(disk)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no right to mount a small disk")
    try:
        filler = disk / "filler"

        def fill():
            with open(filler, "wb", buffering=0) as file:
                while True:
                    try:
                        file.write(bytes(4096))
                    except OSError:
                        return

        during(fill)
        assert work(disk / "run", shards.load(folder)) == 2
        error = capfd.readouterr().err.splitlines()[-1]
        assert error.startswith("error: the disk is full") and "same command again" in error
        filler.unlink()
        assert work(disk / "run", shards.load(folder)) == 0
        same(disk / "run", whole)
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_half_written_checkpoint_does_not_count(tmp_path, folder, whole, during):
    workdir = tmp_path / "run"

    def kill():
        raise KeyboardInterrupt

    during(kill)
    assert work(workdir, shards.load(folder)) == 130
    saved = workdir / "checkpoints" / "micro"
    half = saved / f"{LONGER + 1}.orbax-checkpoint-tmp"
    shutil.copytree(saved / str(LONGER), half)
    shutil.rmtree(half / "state")
    assert work(workdir, shards.load(folder)) == 0
    assert not half.exists()
    same(workdir, whole)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # Orbax's own
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_serves(
    tmp_path, folder, whole, during, capsys
):
    workdir = tmp_path / "run"

    def kill():
        raise KeyboardInterrupt

    during(kill)
    assert work(workdir, shards.load(folder)) == 130
    newest = workdir / "checkpoints" / "micro" / str(LONGER)
    for file in (newest / "state").rglob("*"):
        if file.is_file() and file.stat().st_size > 1000:
            os.truncate(file, file.stat().st_size // 2)
    assert work(workdir, shards.load(folder)) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert f"{newest}: cannot be restored" in error and "delete this folder" in error
    shutil.rmtree(newest)
    assert work(workdir, shards.load(folder)) == 0
    same(workdir, whole)


def test_another_process_in_the_same_run_is_refused(tmp_path, folder, capsys):
    with train.owned([tmp_path]):
        assert work(tmp_path, shards.load(folder)) == 2
    assert "another process is working here" in capsys.readouterr().err
    with pytest.raises(UserError), train.owned([tmp_path]), train.owned([tmp_path]):
        pass
