"""CPU ms of one training step of SOFTNet: all folds together, one at a time, and Keras.

    python -m benchmarks.fold_training [--folds 2] [--samples 1200] [--rounds 5] [--devices 0]
        [--inference]

Random features of 16 bits (the time does not depend on them), batch 12, plain SGD.  A step of ours
is that of training: 12 rows are gathered by index, scaled, in `augmented` changed and scaled
again, then both passes and the update, all steps of all folds in one program.

  spotjax        all folds in one compiled program, features on the device (ours)
  augmented      the same with the flipped, blurred and noisy copies of micro-expressions
  plain          as spotjax with `formulation=plain`: `lax.conv` and maxima in the same loop
  fed            one fold at a time: a jitted step of `plain` fed batch by batch from the host
  Keras arrays   one fold at a time: the same network in Keras, `fit` on arrays in memory
  Keras          the same fed by a Python generator, as the authors' release does

Keras needs tensorflow.  The multiply-adds of a step are those of the layers as they stand in the
paper, forward and backward, whatever a formulation computes; they are compared with a product of
two 2048x2048 matrices in the same rounds.  One core each: `taskset -c 0 python -m ...`.

With --inference rows are scored as an evaluation does, 256 at a time; Keras gets them scaled.
"""

import os
import statistics
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks import common
from benchmarks.common import Run
from benchmarks.steps import training_epoch
from spotjax import train
from spotjax.config import Softnet, Train
from spotjax.data import plans
from spotjax.loso import scoring
from spotjax.systems import build, softnet

BATCH = 12
K = {"macro": 12, "micro": 4}
SIDE = 2048
"""Of the matrices whose product is the ceiling."""
FLOPS = 2 * BATCH * (2 * 25 * 42 * 42 * 16 + 3 * (784 * 400 + 400))
"""Of a step: a convolution forward and for its kernel, a dense layer forward and for both."""


def make_data(folds: int, samples: int) -> tuple[np.ndarray, list[plans.Fold]]:
    """Features f16[R, 42, 42, 3] and folds whose sizes differ by up to a tenth.

    A third of the samples are flipped, blurred or noisy copies, where copies are asked for.
    """
    rng = np.random.default_rng(0)
    rows = samples * 2
    features = rng.random((rows, 42, 42, 3), np.float32).astype(np.float16)
    members = []
    for number in range(folds):
        size = samples - number * samples // (10 * folds)
        copies = rng.integers(softnet.FLIP, softnet.NOISE + 1, size)
        table = {
            "row": rng.integers(0, rows, size).astype(np.int32),
            "label": rng.random(size).astype(np.float32),
            "augment": np.where(rng.random(size) < 1 / 3, copies, 0).astype(np.int32),
        }
        members.append(plans.Fold(number, f"s{number}", table))
    return features, members


def together(features: np.ndarray, members: list[plans.Fold], config: Softnet, devices: int) -> Run:
    """One epoch of all folds."""
    order = plans.epoch_order(members, 0, 0, 0, BATCH)
    arrays = {"flow_macro": features}
    system = build(config, K)
    return training_epoch(system, "macro", Train(), arrays, members, order, devices)[0]


def one_at_a_time(features: np.ndarray, members: list[plans.Fold]) -> Run:
    """The plain network, one jitted step per batch, batches made on the host."""
    system = build(Softnet(augment=(), formulation="plain"), K)
    optimizer = optax.sgd(Train().learning_rate)

    @jax.jit
    def step(variables: Any, opt_state: Any, images: Any, labels: Any) -> Any:
        def objective(params: Any) -> Any:
            weight = jnp.ones(labels.shape)
            outputs, _ = system.apply({"params": params}, images, weight, True, jax.random.key(0))
            return system.loss(outputs, {"label": labels}, weight)[0]

        grads = jax.grad(objective)(variables["params"])
        updates, opt_state = optimizer.update(grads, opt_state, variables["params"])
        return {"params": optax.apply_updates(variables["params"], updates)}, opt_state

    variables = system.init(jax.random.key(0))
    opt_state = optimizer.init(variables["params"])

    def run() -> None:
        for fold in members:
            state = (variables, opt_state)
            for images, labels in host_batches(features, fold):
                state = step(*state, images, labels)
            jax.block_until_ready(state)

    return run


def host_batches(features: np.ndarray, fold: plans.Fold) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Batches normalised in NumPy, as the release's generator does."""
    order = plans.epoch_order([fold], 0, 0, 0, BATCH)[0]
    for index in order:
        index = index[index >= 0]
        images = features[fold.samples["row"][index]].astype(np.float32)
        low = images.min(axis=(1, 2), keepdims=True)
        images = (images - low) / (images.max(axis=(1, 2), keepdims=True) - low)
        yield images, fold.samples["label"][index]


def keras_model() -> Any:
    """The same 314,817 parameters in Keras."""
    from tensorflow import keras

    inputs = [keras.Input((42, 42, 1)) for _ in range(3)]
    streams = []
    for image, filters in zip(inputs, (3, 5, 8), strict=True):
        y = keras.layers.Conv2D(filters, 5, padding="same", activation="relu")(image)
        streams.append(keras.layers.MaxPooling2D(3, 3)(y))
    y = keras.layers.MaxPooling2D(2, 2)(keras.layers.Concatenate()(streams))
    y = keras.layers.Dense(400, activation="relu")(keras.layers.Flatten()(y))
    model = keras.Model(inputs, keras.layers.Dense(1)(y))
    model.compile(loss="mse", optimizer=keras.optimizers.SGD(5e-4))
    assert model.count_params() == 314_817
    return model


def keras_in_memory(features: np.ndarray, members: list[plans.Fold]) -> Run:
    """`fit` on arrays."""
    model = keras_model()
    sets = []
    for fold in members:
        parts = list(host_batches(features, fold))
        images = np.concatenate([part[0] for part in parts])
        split = [images[..., channel : channel + 1] for channel in range(3)]
        sets.append((split, np.concatenate([part[1] for part in parts])))

    def run() -> None:
        for images, labels in sets:
            model.fit(images, labels, batch_size=BATCH, epochs=1, verbose=0)

    return run


def keras_generator(features: np.ndarray, members: list[plans.Fold]) -> Run:
    """`fit` on a generator that normalises each batch."""
    model = keras_model()

    def batches(fold: plans.Fold) -> Iterator[Any]:
        for images, labels in host_batches(features, fold):
            yield tuple(images[..., c : c + 1] for c in range(3)), labels

    def run() -> None:
        for fold in members:
            model.fit(batches(fold), epochs=1, verbose=0, shuffle=False)

    return run


def product() -> Callable[[], None]:
    """A product of two matrices, f32."""
    matrix = jnp.asarray(np.random.default_rng(0).random((SIDE, SIDE), np.float32))
    multiply = jax.jit(jnp.matmul)

    def run() -> None:
        multiply(matrix, matrix).block_until_ready()

    return run


def has_keras() -> bool:
    """Whether TensorFlow is there; a note if not."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        import tensorflow
    except ImportError:
        print("tensorflow is not installed: no Keras rows")
        return False
    tensorflow.get_logger().setLevel("ERROR")
    return True


def scored(features: np.ndarray, formulation: Literal["blocked", "plain"]) -> Run:
    """The scores of all rows."""
    system = build(Softnet(formulation=formulation), K)
    streams = {"flow_macro": features, "valid_macro": np.ones(len(features), np.uint8)}
    score = scoring.make_score(system, "macro", streams)
    variables = jax.jit(system.init)(jax.random.key(0))
    return partial(score, variables, {"row": np.arange(len(features), dtype=np.int32)})


def infer(options: Any, features: np.ndarray) -> None:
    """Compare scoring."""
    variants: dict[str, Run] = {
        "spotjax": scored(features, "blocked"),
        "plain": scored(features, "plain"),
    }
    if has_keras():
        model = keras_model()
        images = np.asarray(softnet.min_max(jnp.asarray(features)))
        parts = [images[..., channel : channel + 1] for channel in range(3)]
        variants["Keras"] = partial(model.predict, parts, batch_size=256, verbose=0)
    times = common.measure(variants, options.rounds, len(features))
    common.show("softnet_inference", times, "us a frame", "spotjax", options.json)


def main() -> None:
    """Command line."""
    parser = common.parser(__doc__, rounds=5)
    parser.add_argument("--folds", type=common.positive, default=2)
    parser.add_argument("--samples", type=common.positive, default=1200, help="of a fold")
    parser.add_argument("--devices", type=int, default=0, help="of ours; 0: all")
    parser.add_argument("--inference", action="store_true", help="scores, no training")
    options = parser.parse_args()
    train.set_up_jax(options.devices)

    features, members = make_data(options.folds, options.samples)
    if options.inference:
        infer(options, features)
        return
    configs = {
        "spotjax": Softnet(augment=()),
        "augmented": Softnet(augment=("macro",)),
        "plain": Softnet(augment=(), formulation="plain"),
    }
    variants: dict[str, Run] = {
        name: together(features, members, config, options.devices)
        for name, config in configs.items()
    }
    variants["fed"] = one_at_a_time(features, members)
    if has_keras():
        variants["Keras arrays"] = keras_in_memory(features, members)
        variants["Keras"] = keras_generator(features, members)
    work = dict.fromkeys(variants, float(sum(-(-fold.size // BATCH) for fold in members)))
    ceiling = f"product {SIDE}x{SIDE}"
    times = common.measure(variants | {ceiling: product()}, options.rounds, work | {ceiling: 1.0})

    ideal = [seconds * FLOPS / (2 * SIDE**3) for seconds in times.cpu.pop(ceiling)]
    times.wall.pop(ceiling)
    share = {name: f"{100 * common.ratio(ideal, v):.0f} %" for name, v in times.cpu.items()}
    speed = FLOPS / statistics.median(ideal) / 1e9
    common.show(
        "fold_training", times, "ms a step", "spotjax", options.json,
        columns={"of the ceiling": share},
        notes=[
            f"{options.folds} folds of about {options.samples} samples; {FLOPS / 1e6:.1f} MFLOP a "
            f"step, the ceiling is {speed:.0f} GFLOP/s (f32 product of {SIDE}x{SIDE} matrices)",
        ],
    )  # fmt: skip


if __name__ == "__main__":
    main()
