"""Killed, crowded out or out of disk: nothing finished is lost, one clear line."""

import errno
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from tiny_sets import (
    REPOSITORY,
    command,
    config_file,
    make_config,
    make_set,
    manifest,
    run_module,
    shards,
)

from data_prep import shard_file, write_shards
from data_prep.__main__ import main
from data_prep.write_shards import prepare
from spotjax import files
from spotjax.errors import UserError


def test_a_killed_run_goes_on_where_it_stopped(tmp_path: Path) -> None:
    root = make_set(
        tmp_path / "set", tuple((s, c, 60) for s in ("s15", "s16") for c in ("0101", "0401"))
    )
    words = ["--config", config_file(root, tmp_path), "--config.data.jobs=2"]
    process = subprocess.Popen(
        command(*words), cwd=REPOSITORY, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    folder = tmp_path / "shards"
    while not shards(folder) and process.poll() is None:
        time.sleep(0.005)
    workers = [int(pid) for pid in _children(process.pid)]
    process.send_signal(signal.SIGKILL)
    process.wait()
    finished = {path: path.stat().st_mtime_ns for path in shards(folder)}
    assert 1 <= len(finished) < 4 and not (folder / "manifest.json").exists()
    (folder / "casme2-train.tfrecord-00003-of-00004.tmp123").write_bytes(b"half")
    assert workers
    deadline = time.monotonic() + 10
    while any(_alive(pid) for pid in workers) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not any(_alive(pid) for pid in workers)  # they end with their parent

    prepare(make_config(root))
    assert {path: path.stat().st_mtime_ns for path in finished} == finished
    assert len(manifest(folder)["videos"]) == 4 and not list(folder.glob("*.tmp*"))


def _children(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def _alive(pid: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


def test_a_killed_worker_ends_in_one_line(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(write_shards, "make_shard", kill_this_process)
    with pytest.raises(UserError, match=r"worker process was killed.*fewer jobs than 2"):
        prepare(make_config(tiny, jobs=2))


def kill_this_process(task: object, report: object) -> str:
    os.kill(os.getpid(), signal.SIGKILL)
    return ""


def test_a_second_writer_is_refused_at_once(tiny: Path, tmp_path: Path) -> None:
    folder = tmp_path / "shards"
    folder.mkdir()
    with files.locked(folder, "wait"):
        second = run_module("--config", config_file(tiny, tmp_path))
    assert second.returncode == 2
    assert second.stderr.count("\n") == 1 and "another process is working here" in second.stderr


@pytest.mark.usefixtures("quick_flow")
def test_a_full_disk_ends_in_one_line_and_keeps_what_is_done(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write, calls = shard_file.write_records, []

    def second_fails(path: Path, payloads: object) -> int:
        calls.append(path)
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(path, payloads)  # type: ignore[arg-type]

    monkeypatch.setattr(shard_file, "write_records", second_fails)
    assert main(["--config", str(config_file(tiny, tmp_path))]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: the disk is full: ") and "run the same command again" in error
    assert len(shards(tmp_path / "shards")) == 1
    monkeypatch.undo()
    assert main(["--config", str(config_file(tiny, tmp_path))]) == 0


def test_too_little_space_is_seen_before_the_start(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "statvfs", lambda path: type("S", (), {"f_bavail": 9, "f_frsize": 9}))
    with pytest.raises(UserError, match=r"for the features of 154 frames: about .* MB"):
        prepare(make_config(tiny))
