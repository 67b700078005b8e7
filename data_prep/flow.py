"""Optical flow between two grey face crops, three methods behind one signature.

TV-L1 with OpenCV-contrib's defaults is the paper's (tau .25, lambda .15, theta .3,
5 scales, 5 warps, 30 inner and 10 outer iterations, scale step .8, median 5).  Its result depends
on the OpenCV version (mean 0.01 px, a few border pixels up to 3 px), so the manifest keeps the
version.  Farneback and DIS are not in the paper; they take 1/100 of the time.

`config.features.flow.backend=jax` computes the same TV-L1 by `spotjax.flow` in a tenth of the time.
Nothing here imports JAX before a flow of that backend is made.
"""

import functools
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from spotjax import config as config_lib
from spotjax.errors import UserError

_LARGEST = 1e4  # px: no flow of a 128 px crop; float16, in which it is stored, ends at 65504
BATCH = 64
"""Pairs at a time on an accelerator."""
FlowMethod = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""(first u8[H, W], second u8[H, W]) -> f32[H, W, 2]: x, y displacement in px, first to second."""
PairsMethod = Callable[[Sequence[np.ndarray], Sequence[np.ndarray]], list[np.ndarray]]
"""The same of several pairs of one size."""


def tvl1() -> FlowMethod:
    """TV-L1 (Zach 2007) with OpenCV-contrib's defaults: 0.2-1 s per 128x128 pair.

    Raises UserError if OpenCV lacks its contrib modules.
    """
    if not hasattr(cv2, "optflow"):
        raise UserError(
            "config.features.flow.method: tvl1 needs OpenCV's contrib modules: pip install "
            "opencv-contrib-python-headless, or choose dis"
        )
    method: Any = cv2.optflow.DualTVL1OpticalFlow.create()
    return lambda first, second: method.calc(first, second, None)


def _jax() -> tuple[Any, Any]:
    """JAX and `spotjax.flow`, imported here alone.

    Where JAX is not loaded yet, as in data_prep's processes, it is set up for this one use unless
    the environment says otherwise: on the CPU, one thread a process, programs kept on disk.
    """
    if "jax" not in sys.modules:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "spotjax"
        os.environ.setdefault("JAX_PLATFORMS", "cpu")
        os.environ.setdefault("NPROC", "1")  # the size of XLA's thread pool
        os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(cache))
        os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")
    import jax

    from spotjax import flow

    return jax, flow


@functools.cache
def tvl1_jax() -> FlowMethod:
    """TV-L1 by `spotjax.flow`, 15-20 ms per 128x128 pair; compiled once per size of crop.

    With JAX_PLATFORMS=cuda (or tpu) and data.jobs=1 an accelerator computes it, SOFTNet's pairs in
    batches (`make_pairs`).
    """
    jax, flow = _jax()
    compiled = jax.jit(flow.tvl1)
    return lambda first, second: np.array(compiled(first, second))


def farneback() -> FlowMethod:
    """Farneback's polynomial expansion, 3 levels, window 15 px: 3 ms per 128x128 pair."""

    def method(first: np.ndarray, second: np.ndarray) -> np.ndarray:
        start = np.zeros((*first.shape, 2), np.float32)
        return cv2.calcOpticalFlowFarneback(first, second, start, 0.5, 3, 15, 3, 5, 1.2, 0)

    return method


def dis() -> FlowMethod:
    """DIS (Kroeger 2016), medium preset: 2 ms per 128x128 pair."""
    method: Any = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    return lambda first, second: method.calc(first, second, None)


def make_flow(config: config_lib.Flow) -> FlowMethod:
    """The method of `config.features.flow`.  It raises UserError for nan and beyond 1e4 px."""
    by_jax = config.backend == "jax"  # only tvl1: the config is checked
    tvl1_method = tvl1_jax if by_jax else tvl1
    method = {"tvl1": tvl1_method, "farneback": farneback, "dis": dis}[config.method]()
    return lambda first, second: _checked(config, method(first, second))


def make_pairs(config: config_lib.Flow) -> tuple[PairsMethod, int]:
    """The same for several pairs at once, and how many at a time pay: 1 but on accelerators.

    Fewer pairs than that are filled up, so that one compiled program serves them all.  Errors are
    those of `make_flow`.
    """
    if config.backend != "jax" or _on_cpu():
        method = make_flow(config)
        return lambda firsts, seconds: [
            method(first, second) for first, second in zip(firsts, seconds, strict=True)
        ], 1
    return partial(_batched, config, _tvl1_pairs()), BATCH


def _on_cpu() -> bool:
    return _jax()[0].default_backend() == "cpu"


@functools.cache
def _tvl1_pairs() -> Any:
    jax, flow = _jax()
    return jax.jit(flow.tvl1_pairs)


def _batched(
    config: config_lib.Flow, pairs: Any, firsts: Sequence[np.ndarray], seconds: Sequence[np.ndarray]
) -> list[np.ndarray]:
    """Flows by `pairs`, a function of u8[BATCH, H, W] twice."""
    idle = BATCH - len(firsts)
    stacks = (np.stack([*images, *[images[0]] * idle]) for images in (firsts, seconds))
    return [_checked(config, flow) for flow in np.asarray(pairs(*stacks))[: len(firsts)]]


def _checked(config: config_lib.Flow, flow: np.ndarray) -> np.ndarray:
    if not np.abs(flow).max() < _LARGEST:  # also catches nan
        raise UserError(
            f"{config.method} flow is not finite: choose another config.features.flow.method"
        )
    return flow
