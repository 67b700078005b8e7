"""Features by a Ray cluster: the same shards, lost workers, errors.

All but the first tests are skipped where Ray is not installed.
"""

import dataclasses
import os
import signal
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from tiny_sets import contents, make_config, manifest, shards

from data_prep import workers
from data_prep.write_shards import prepare
from spotjax.config import Config
from spotjax.data import schema
from spotjax.errors import UserError


def on_ray(config: Config) -> Config:
    return dataclasses.replace(config, data=dataclasses.replace(config.data, runner="ray"))


def test_who_computes_is_no_part_of_what_is_computed() -> None:
    config = make_config(Path("x/set"), shards="")
    other = on_ray(config)
    assert schema.shards_folder(config) == schema.shards_folder(other)
    assert schema.read_settings(config) == schema.read_settings(other)
    k = {"macro": 6, "micro": 3}
    assert schema.extraction_digest(config, k) == schema.extraction_digest(other, k)


def test_without_ray_the_remedy_is_told(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"^--config\.data\.runner=ray: Ray is not installed: pip"):
        prepare(on_ray(make_config(tiny)))


@pytest.fixture(scope="module")
def ray() -> Iterator[None]:
    """A Ray of this machine with two CPUs."""
    if find_spec("ray") is None:
        pytest.skip("the extra [cluster] is not installed")
    import ray

    ray.init(num_cpus=2, log_to_driver=False, logging_level="ERROR", include_dashboard=False)
    yield
    ray.shutdown()


noisy = pytest.mark.filterwarnings("ignore")


@noisy
def test_the_same_shards(
    ray: None, tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    here = prepare(make_config(tiny, shards=str(tmp_path / "here")))
    capsys.readouterr()
    there = prepare(on_ray(make_config(tiny, shards=str(tmp_path / "there"))))
    assert [path.name for path in shards(there)] == [path.name for path in shards(here)]
    assert contents(there) == contents(here)
    assert manifest(there)["hash"] == manifest(here)["hash"]
    frames = sum(video["num_frames"] for video in manifest(here)["videos"])
    assert f"{frames}/{frames}" in capsys.readouterr().err  # the bar counts the same frames
    prepare(make_config(tiny, shards=str(there)))
    assert "nothing to do" in capsys.readouterr().out


@noisy
@pytest.mark.parametrize("jobs", [0, 1])
def test_a_lost_worker_is_replaced(ray: None, tmp_path: Path, jobs: int) -> None:
    def work(task: int, report: workers.Report) -> int:
        report(5)
        flag = tmp_path / f"{task}"
        if task == 1 and not flag.exists():
            flag.write_text("")
            os.kill(os.getpid(), signal.SIGKILL)
        report(5)
        return task * 10

    found: dict[int, int] = {}
    workers.run(
        work, range(4), jobs=jobs, frames=40, finished=found.__setitem__, quiet=True, runner="ray"
    )
    assert found == {0: 0, 1: 10, 2: 20, 3: 30} and (tmp_path / "1").exists()


@noisy
@pytest.mark.parametrize("error", [UserError("a.csv: bad"), OSError(28, "No space left", "x")])
def test_what_a_task_raises_is_raised_here(ray: None, error: Exception) -> None:
    def work(task: int, report: workers.Report) -> None:
        raise error

    with pytest.raises(type(error)) as caught:
        workers.run(
            work, [1, 2], jobs=0, frames=2, finished=lambda task, result: None, runner="ray"
        )
    assert str(caught.value) == str(error) and type(caught.value) is type(error)
