"""The project's commands in this process: a `python -m` of its own imports for 3 to 6 seconds."""

import contextlib
import importlib
import io
from typing import NamedTuple
from unittest import mock

from data_prep import __main__ as data_prep_command
from spotjax import train


class Done(NamedTuple):
    """What a command left, under subprocess's names."""

    returncode: int
    stdout: str
    stderr: str


def run(module: str, *words: object) -> Done:
    """`python -m MODULE WORDS`; a training makes its shards in this process too.

    JAX stays as the tests have set it up.  Worker processes of data_prep write past `stdout` and
    `stderr`.
    """
    place = f"{module}.__main__" if module == "data_prep" else module
    main = importlib.import_module(place).main
    out, err = io.StringIO(), io.StringIO()
    with (
        mock.patch.object(train, "set_up_jax", lambda *_: None),
        mock.patch.object(train, "make_shards", _make_shards),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            status = main([str(word) for word in words])
        except SystemExit as end:  # argparse
            status = int(end.code or 0)
    return Done(status, out.getvalue(), err.getvalue())


def _make_shards(config_file: str, overrides: list[str]) -> int:
    words = [f"--config.{override}" for override in overrides]
    return data_prep_command.main(["--config", config_file, *words])
