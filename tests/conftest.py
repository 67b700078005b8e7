"""Strict switches for every test."""

import os
from pathlib import Path

import jax
import pytest
from toy import toy_dataset

from spotjax.types import Dataset

jax.config.update("jax_platforms", os.environ.get("JAX_PLATFORMS", "cpu"))
if "device_count" not in os.environ.get("XLA_FLAGS", ""):
    jax.config.update("jax_num_cpu_devices", 2)
# tests compile the same programs again and again, in several processes
CACHE = Path(__file__).resolve().parents[1] / ".jax_cache"
jax.config.update("jax_compilation_cache_dir", str(CACHE))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)
jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(scope="session")
def toy() -> Dataset:
    """A data set of four subjects."""
    return toy_dataset()
