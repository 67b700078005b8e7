"""Compiled as in use, where conftest.py has made compiling quick and its programs slow."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import jax
import pytest

on_cpus = pytest.mark.skipif(
    os.environ["JAX_PLATFORMS"] != "cpu", reason="about several devices, or the memory, of a CPU"
)
AS_IN_USE = {"xla_backend_optimization_level": 3, "xla_llvm_disable_expensive_passes": False}
if "xla_cpu_use_fusion_emitters" in os.environ.get("XLA_FLAGS", ""):
    AS_IN_USE["xla_cpu_use_fusion_emitters"] = True
"""`compiler_options` of `jax.jit` for tests of what XLA makes of a program."""


@contextmanager
def optimised() -> Iterator[None]:
    """What is compiled inside runs quickly: for long trainings (fusions stay simple)."""
    quick = jax.config.values["jax_disable_most_optimizations"]
    jax.config.update("jax_disable_most_optimizations", False)
    try:
        yield
    finally:
        jax.config.update("jax_disable_most_optimizations", quick)
