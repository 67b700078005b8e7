"""Loops over pixels as machine code (numba).

Import a module that uses it where its functions are called, not at the top: numba takes half a
second to import.
"""

from collections.abc import Callable
from typing import Any

import numba

_OPTIONS: dict[str, Any] = {
    "fastmath": {"reassoc", "nsz", "arcp", "contract"},
    "error_model": "numpy",
}
"""Arithmetic may be reordered, but infinities and nan keep their meaning."""


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` compiled at its first call for the types that it is called with.

    The result is kept beside the source file, else in the user's cache folder, else (both are
    read-only) only in this process.
    """
    # This package has two names, `data_prep` and `spotjax.data_prep`; what is kept refers to one
    # of them, and numba tells two files apart by the function's name only.
    function.__qualname__ = f"{function.__module__}.{function.__name__}"
    try:
        return numba.njit(cache=True, **_OPTIONS)(function)
    except RuntimeError:  # no folder that could be written
        return numba.njit(**_OPTIONS)(function)


def part(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same for a function that only compiled ones call, and with which it is kept."""
    return numba.njit(**_OPTIONS)(function)
