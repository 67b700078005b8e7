"""One clear line for bad input: what is wrong, where, and what to do about it."""

import errno
import functools
import os
import sys
from collections.abc import Callable


class UserError(Exception):
    """Bad input that the user can mend.  The message names the file, the field and the remedy."""


def one_line(error: BaseException) -> str:
    """The sentence a user reads for `error` (a UserError, or an OSError of the machine)."""
    if isinstance(error, OSError) and not isinstance(error, UserError):
        where = f": {error.filename}" if error.filename else ""
        if error.errno == errno.ENOSPC:
            return f"the disk is full{where}: free some space and run the same command again"
        return f"{error.strerror or error}{where}"
    return " ".join(str(error).split())


def command(main: Callable[[list[str]], int]) -> Callable[..., int]:
    """Wrap a command's `main(argv)`: bad input ends in one line on stderr and exit status 2.

    Ctrl-C ends with 130, a closed pipe with 141; what was written so far stays.  Programming
    errors keep their traceback: they are ours, not the user's.
    """

    @functools.wraps(main)
    def run(argv: list[str] | None = None) -> int:
        try:
            status = main(sys.argv[1:] if argv is None else argv)
            sys.stdout.flush()
            return status
        except BrokenPipeError:  # the reader, such as `head`, has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 141
        except (UserError, OSError) as error:
            print(f"error: {one_line(error)}", file=sys.stderr)
            return 2
        except KeyboardInterrupt:
            if "SPOTJAX_PARENT" not in os.environ:  # which tells it too
                print(
                    "interrupted: run the same command again to continue where it stopped",
                    file=sys.stderr,
                )
            return 130

    return run


def require_free_space(folder: os.PathLike[str] | str, needed: int, what: str) -> None:
    """Raise UserError if `folder`'s disk has fewer than `needed` bytes free for `what`."""
    stats = os.statvfs(folder)
    free = stats.f_bavail * stats.f_frsize
    if free < needed:
        raise UserError(
            f"{folder}: too little room for {what}: about {needed / 1e6:,.0f} MB are needed, "
            f"{free / 1e6:,.0f} MB are free: free some space or choose another folder"
        )
