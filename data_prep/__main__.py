"""Command line: `python -m data_prep --config configs/demo.py`."""

import os
import sys

from spotjax import cli
from spotjax.errors import UserError, command

from .readers import LAYOUTS
from .workers import end_with_process
from .write_shards import prepare

_DESCRIPTION = """\
Turn a data set of face videos into optical-flow features for training.

  python -m data_prep --config configs/demo.py
  python -m data_prep --config configs/demo.py --config.data.root=/data/CASME2 --config.data.jobs=8

What happens: the frames and the annotation below data.root are read (never written), the face is
found once per video, flow is computed between frames i and i+k, and one TFRecord shard per video is
written to data.shards, with manifest.json last; baselines.names may add features of training-free
methods in folders beside it.  python -m data_prep.check looks at a copy first.  Run the same
command again after an interruption: finished videos are kept.  A video that cannot be used is named
at the end, after all others are done; data.skip_bad_videos=true leaves such videos out.

layouts (data.layout), below data.root:
"""
_DESCRIPTION += "\n".join(f"  {name:<9} {layout.holds}" for name, layout in LAYOUTS.items())


@command
def main(argv: list[str]) -> int:
    """The command; exit status 0.  Raises UserError, which ends it with status 2 and one line."""
    parser = cli.parser(f"python -m {__package__}", _DESCRIPTION)
    parser.add_argument(
        "--config",
        metavar="FILE[:ARG]",
        help="config file, for example configs/demo.py, or a run's config.json",
    )
    options, overrides = cli.parse(parser, argv)
    if options.config is None:
        raise UserError("--config is missing: name a config file, for example configs/demo.py")
    if parent := os.environ.get("SPOTJAX_PARENT"):
        end_with_process(int(parent))
    prepare(cli.load_config(options.config, overrides))
    return 0


if __name__ == "__main__":
    sys.exit(main())
