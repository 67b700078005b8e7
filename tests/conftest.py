"""Strict switches for every test."""

import gc
import os
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# tests compile the same programs again and again, in several processes
os.environ.setdefault(
    "JAX_COMPILATION_CACHE_DIR", str(Path(__file__).resolve().parents[1] / ".jax_cache")
)
# and what they compile hardly runs: a quarter of the time to compile, steps of 4 to 7 times as long
if os.environ["JAX_PLATFORMS"] == "cpu" and "JAX_DISABLE_MOST_OPTIMIZATIONS" not in os.environ:
    os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"
    if version("jaxlib").startswith("0.10."):  # XLA ends where it does not know a flag
        flags = os.environ.get("XLA_FLAGS", ""), "--xla_cpu_use_fusion_emitters=false"
        os.environ["XLA_FLAGS"] = " ".join(flags).strip()
if os.environ["JAX_PLATFORMS"] != "cpu":  # products of 32 bits, sums always in the same order
    os.environ.setdefault("JAX_DEFAULT_MATMUL_PRECISION", "highest")
    flags = os.environ.get("XLA_FLAGS", ""), "--xla_gpu_deterministic_ops=true"
    os.environ["XLA_FLAGS"] = " ".join(flags).strip()

import jax
import pytest
from toy import toy_clips, toy_dataset

from spotjax.loso import scoring
from spotjax.types import Dataset

if "device_count" not in os.environ.get("XLA_FLAGS", ""):
    jax.config.update("jax_num_cpu_devices", 2)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)
jax.config.update("jax_numpy_rank_promotion", "raise")
scoring.CHUNK = 32  # the videos of tests are short, and what is scored at a time is filled up


def pytest_configure(config: pytest.Config) -> None:
    """Modules start in the order of the collection, not those with most tests first."""
    config.option.loadscopereorder = False


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whole runs come first: at the end one process would wait minutes for another."""
    items.sort(key=lambda item: not item.path.stem.endswith(("_run", "_end_to_end")))


def pytest_collection_finish() -> None:
    """The collector need not look again and again at what lives to the end: a tenth of the time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 50)


@pytest.fixture(scope="session")
def toy() -> Dataset:
    """A data set of four subjects."""
    return toy_dataset()


@pytest.fixture(scope="session")
def clips() -> Dataset:
    """A data set of four subjects with MESNet's streams."""
    return toy_clips()


@pytest.fixture(autouse=True, scope="module")
def forget_programs() -> Iterator[None]:
    """What a module has compiled ends with it: all of them together would take gigabytes."""
    yield
    jax.clear_caches()
    gc.collect()
