"""Which benchmarks `python -m benchmarks` runs, and which ratios they are about."""

from typing import NamedTuple


class Line(NamedTuple):
    """A ratio that a benchmark is for: the time of `other` by the time of `ours`."""

    label: str
    ours: str
    other: str
    goal: float | None = None
    clock: str = "cpu"
    """Whether CPU time or wall time is compared."""


class Stage(NamedTuple):
    """One process: a module of benchmarks with its arguments."""

    name: str
    module: str
    lines: tuple[Line, ...] | None = ()
    """None: every variant is compared with the benchmark's reference."""
    about: str = ""
    """Which formulations there are and which is the default, for the results' page."""
    arguments: str = ""
    quick: str = ""
    """Further arguments of a short run, which shows that all works but measures little."""
    cores: int = 1
    needs: str = ""
    """The package without which rows are missing."""
    seconds: float = 30.0
    """Roughly how long it takes, for the estimate of what is left."""


STAGES = (
    Stage(
        "fold_training", "fold_training",
        (
            Line("SOFTNet training, Keras with the release's generator", "spotjax", "Keras", 6),
            Line("SOFTNet training, Keras with arrays in memory", "spotjax", "Keras arrays", 4),
            Line("SOFTNet training, the layers as Flax has them", "spotjax", "plain", 12),
            Line("SOFTNet training, one fold at a time, fed by the host", "spotjax", "fed"),
        ),
        "`formulation=blocked` is the default everywhere, `plain` the tested reference. On CPUs "
        "folds run one after the other, filters too when the largest output is looked for, and "
        "each sample is augmented alone; on accelerators folds run side by side, a convolution is "
        "one batched matrix product for all folds, and nothing of a step is a loop.",
        quick="--folds 1 --samples 120", needs="tensorflow", seconds=90,
    ),
    Stage(
        "softnet_inference", "fold_training",
        (Line("SOFTNet scores, Keras", "spotjax", "Keras"),
         Line("SOFTNet scores, the layers as Flax has them", "spotjax", "plain")),
        "", "--inference", "--samples 200", needs="tensorflow", seconds=20,
    ),
    Stage(
        "sfamnet_step", "sfamnet_step",
        (Line("SFAMNet training step, PyTorch", "blocked", "PyTorch", 2.5),
         Line("SFAMNet training step, plain", "blocked", "plain")),
        "`blocked` is the default everywhere: 16 samples at a time on CPUs, all on accelerators.",
        "--torch-threads 1 --batch 256", "--batch 32", needs="torch", seconds=40,
    ),
    Stage(
        "sfamnet_inference", "sfamnet_step",
        (Line("SFAMNet outputs, PyTorch", "blocked", "PyTorch", 2.5),),
        "", "--inference --torch-threads 1 --batch 256", "--batch 32", needs="torch", seconds=30,
    ),
    Stage(
        "spotformer_step", "spotformer_step",
        (Line("SpotFormer training step, PyTorch", "float32", "PyTorch", 1.1),),
        "One formulation, with separate query, key and value products; hidden values of 16 bits "
        "(`dtype=bfloat16`) and blocks computed again (`remat`) save memory and are meant for "
        "accelerators.",
        "--torch-threads 1 --variants float32 --clips 128 --steps 2",
        "--clips 16 --width 32", needs="torch", seconds=75,
    ),
    Stage(
        "spotformer_inference", "spotformer_step",
        (Line("SpotFormer outputs, PyTorch", "float32", "PyTorch", 1.35),),
        "", "--inference --torch-threads 1 --variants float32 --clips 256",
        "--clips 16 --width 32", needs="torch", seconds=20,
    ),
    Stage(
        "mesnet_step", "mesnet_step",
        (Line("MESNet training step, plain", "blocked", "plain"),),
        "`blocked` is the default everywhere.", "--rounds 3 --steps 1", "--size 48", seconds=75,
    ),
    Stage(
        "cnn3d_step", "cnn3d_step",
        (Line("3D-CNN training step, plain", "shift", "conv"),
         Line("3D-CNN training step, PyTorch", "shift", "PyTorch")),
        "`shift` is the default everywhere: 2 samples at a time on CPUs, all on accelerators.",
        "--torch-threads 1", "--batch 2", needs="torch",
        seconds=120,
    ),
    Stage(
        "flow", "flow",
        (Line("TV-L1 flow at 128 px, OpenCV", "jax tvl1", "opencv tvl1", 8),),
        "`backend=opencv` is the default, as in the papers; `backend=jax` is the same procedure on "
        "every backend, one pair at a time on CPUs.",
        "--rounds 3", "--people 1", seconds=60,
    ),
    Stage(
        "swmro", "swmro",
        (Line("SpotFormer's features, 16 bare flows of the whole face", "regions", "16 flows", 3.5),
         Line("SpotFormer's features, all of the whole face", "regions", "face")),
        "`crops=regions` is the default; it takes the whole face where a region moves far.",
        "--rounds 3", "--rows 1 --subjects 1", seconds=90,
    ),
    Stage(
        "scene_flow", "scene_flow",
        (Line("RGB-D scene flow, the same in NumPy", "default", "numpy"),
         Line("RGB-D scene flow, the released demo's effort", "default", "released")),
        "", "", "--people 1", seconds=60,
    ),
    Stage(
        "reading", "reading",
        (Line("Rows of shards in order, tf.data", "in order, ours", "in order, tf.data"),
         Line("Rows of shards shuffled, tf.data", "shuffled, ours", "shuffled, tf.data")),
        quick="--videos 1 --frames 300", needs="tensorflow", seconds=90,
    ),
    Stage("scoring", "scoring", (), "", "", "--videos 100 --predictions 500 --truths 50",
          seconds=15),
    Stage(
        "own_video", "own_video",
        (Line("One's own video of 30 fps, real time", "the command", "real time", 1, "wall"),),
        "SOFTNet with both k, DIS flow.", "", "--minutes 0.1", cores=2, seconds=90,
    ),
    Stage(
        "compile", "compile",
        (Line("Compiling at the first start, at the second", "second start", "first start", 20),),
        "", "--rounds 1", "--systems softnet", seconds=100,
    ),
)  # fmt: skip
