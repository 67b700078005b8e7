import json
import subprocess
import sys

import numpy as np
import pytest

from spotjax import files
from spotjax.config import Cnn3d, Config, Evaluate, Softnet, Train
from spotjax.config.base import keys_that_change
from spotjax.errors import UserError, command, one_line, require_free_space
from spotjax.loso import checkpoints, rundir

CONFIG = Config(name="x")


def test_a_run_goes_on_with_other_decoding_but_not_with_other_training(tmp_path):
    rundir.open_run(tmp_path, CONFIG, "h", tmp_path)
    free = Config(name="x", system=Softnet(p=0.6), evaluation=Evaluate(bootstrap=0))
    rundir.open_run(tmp_path, free, "h", tmp_path)
    assert rundir.load_run(tmp_path) == (free, "h", tmp_path)
    other = Config(name="x", train=Train(epochs=3))
    with pytest.raises(UserError, match=r"has train.epochs=10, the config wants 3.*--workdir"):
        rundir.open_run(tmp_path, other, "h", tmp_path)
    with pytest.raises(UserError, match="other features"):
        rundir.open_run(tmp_path, CONFIG, "another", tmp_path)


def test_what_a_system_marks_is_free_of_that_system_alone():
    cnn3d = rundir.free_keys(Config(name="x", system=Cnn3d()))
    assert {"system.cutoff", "system.k_micro", "data"} < set(cnn3d) and "system.p" not in cnn3d
    assert "system.skips_micro" not in cnn3d
    intervals = keys_that_change(Cnn3d, "intervals")
    assert "cutoff" in intervals and "k_micro" not in intervals
    assert keys_that_change(Cnn3d, "scores") == ("k_micro", "k_macro")


def test_no_run_and_damaged_run(tmp_path):
    with pytest.raises(UserError, match="no run directory"):
        rundir.load_run(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(UserError, match="config.json: not a run's config"):
        rundir.load_run(tmp_path)


def test_one_process_at_a_time(tmp_path):
    code = (
        "import sys; from pathlib import Path; from spotjax.files import locked\n"
        "with locked(Path(sys.argv[1]), 'wait'): print('in')"
    )
    with files.locked(tmp_path, "wait"):
        child = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True
        )
        assert "another process is working here" in child.stderr and not child.stdout
    child = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True
    )
    assert child.stdout == "in\n"


def test_log_forgets_epochs_that_are_done_again(tmp_path):
    log = rundir.Log(tmp_path)
    for epoch in (1, 2, 3):
        log.append({"problem": "macro", "epoch": epoch})
    log.append({"problem": "micro", "epoch": 1})
    with open(log.path, "a") as file:
        file.write('{"problem": "mic')
    log.restart("macro", 1)
    assert [(r["problem"], r["epoch"]) for r in log.read()] == [("macro", 1), ("micro", 1)]


def test_atomic_text_keeps_the_old_file_on_failure(tmp_path):
    path = tmp_path / "a.json"
    files.write_json(path, {"a": 1})
    with pytest.raises(UnicodeEncodeError):
        files.write_text(path, "\ud800")
    assert json.loads(path.read_text()) == {"a": 1}
    assert len(list(tmp_path.iterdir())) == 1


def test_checkpoints_keep_the_newest_and_restore(tmp_path):
    tree = {"w": np.arange(6, dtype=np.float32).reshape(2, 3)}
    with checkpoints.Checkpoints(tmp_path, "macro") as store:
        assert store.latest == 0
        with pytest.raises(UserError, match="no checkpoint"):
            store.restore()
        for epochs in (1, 2, 3):
            store.save(epochs, {"w": tree["w"] * epochs}, {"epochs": epochs})
        store.wait()
    with checkpoints.Checkpoints(tmp_path, "macro") as store:
        restored, meta, best = store.restore(tree)
        assert store.latest == 3 and meta == {"epochs": 3}
    np.testing.assert_array_equal(restored["w"], tree["w"] * 3)
    assert sorted(p.name for p in (tmp_path / "checkpoints" / "macro").iterdir()) == ["2", "3"]


def test_a_damaged_checkpoint_names_its_folder(tmp_path):
    with checkpoints.Checkpoints(tmp_path, "macro") as store:
        store.save(1, {"w": np.ones(3)}, {"epochs": 1})
        store.wait()
    for file in (tmp_path / "checkpoints" / "macro" / "1" / "state").rglob("*"):
        if file.is_file():
            file.write_bytes(b"")
    with (
        checkpoints.Checkpoints(tmp_path, "macro") as store,
        pytest.raises(UserError, match="macro/1: cannot be restored"),
    ):
        store.restore()


def test_commands_end_bad_input_in_one_line(capsys):
    @command
    def main(argv):
        raise UserError("a\nb") if argv else OSError(28, "No space left on device", "f")

    assert main(["x"]) == 2
    assert capsys.readouterr().err == "error: a b\n"
    assert main([]) == 2
    assert "the disk is full: f: free some space" in capsys.readouterr().err
    assert one_line(FileNotFoundError(2, "No such file", "g")) == "No such file: g"


def test_free_space(tmp_path):
    require_free_space(tmp_path, 1, "x")
    with pytest.raises(UserError, match="too little room for shards: about"):
        require_free_space(tmp_path, 10**18, "shards")


def test_a_full_disk_in_a_checkpoint_is_the_disks_fault(tmp_path, monkeypatch):
    with checkpoints.Checkpoints(tmp_path, "macro") as store:

        def full(*args, **kwargs):
            raise ValueError("RESOURCE_EXHAUSTED: ... No space left on device")

        monkeypatch.setattr(store._manager, "save", full)
        with pytest.raises(OSError, match="No space left.*macro"):
            store.save(1, {"w": np.ones(3)}, {})


def test_reading_makes_no_folder(tmp_path):
    with pytest.raises(UserError, match="checkpoints/macro: there is no checkpoint"):
        checkpoints.Checkpoints(tmp_path, "macro", read_only=True)
    assert not list(tmp_path.iterdir())
