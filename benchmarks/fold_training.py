"""Seconds per fold-epoch of SOFTNet: all folds together, one at a time, and Keras.

    python benchmarks/fold_training.py [--folds 8] [--samples 1200] [--rounds 5] [--devices 0]

Random features (the time does not depend on them), batch 12, plain SGD, no augmentation.  Each
round runs every variant once, in turn, after a warm-up; medians over the rounds are printed with
the ratio to (a) of the same round.

  a  all folds in one compiled program, features on the device, batches gathered inside (ours)
  b  one fold at a time: a jitted step of the same network fed batch by batch from the host
  c  one fold at a time: the same network in Keras, `fit` on arrays in memory (needs tensorflow)
  d  as c, fed by a Python generator as the authors' release does
"""

import argparse
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from spotjax import folds as folds_lib
from spotjax import rundir, train
from spotjax.config import Softnet, Train
from spotjax.data import plans
from spotjax.systems import build

BATCH = 12


def make_data(folds: int, samples: int) -> tuple[np.ndarray, list[plans.Fold]]:
    """Features f16[R, 42, 42, 3] and folds whose sizes differ by up to a tenth."""
    rng = np.random.default_rng(0)
    rows = samples * 2
    features = rng.random((rows, 42, 42, 3), np.float32).astype(np.float16)
    members = []
    for number in range(folds):
        size = samples - number * samples // (10 * folds)
        table = {
            "row": rng.integers(0, rows, size).astype(np.int32),
            "label": rng.random(size).astype(np.float32),
            "augment": np.zeros(size, np.int32),
        }
        members.append(plans.Fold(number, f"s{number}", table))
    return features, members


def together(features: np.ndarray, members: list[plans.Fold], devices: int) -> Callable[[], None]:
    """(a): one epoch of all folds."""
    system = build(Softnet(augment=()), {"macro": 12, "micro": 4})
    mesh = folds_lib.make_mesh(devices)
    optimizer = folds_lib.make_optimizer(Train())
    epoch = folds_lib.make_epoch(system, "macro", optimizer, mesh)
    order = plans.epoch_order(members, 0, 0, 0, BATCH)
    tree = (
        jax.tree.map(np.asarray, folds_lib.init_state(system, optimizer, 0, [0] * len(members))),
        folds_lib.fold_keys(0, 0, [(fold.number, 0) for fold in members]),
        plans.stack([fold.samples for fold in members]),
        order,
    )
    count = folds_lib.padded_count(len(members), mesh)
    idle = np.full((count - len(members), *order.shape[1:]), -1, np.int32)
    padded = (*folds_lib.pad_folds(tree[:3], count), np.concatenate([order, idle]))
    states, keys, table, order = folds_lib.put(padded, mesh, folds_lib.FOLD)
    arrays = {"flow_macro": folds_lib.put(features, mesh, folds_lib.COMMON)}
    box = [states]

    def run() -> None:
        box[0], losses = epoch(box[0], keys, table, order, arrays, np.float32(1))
        jax.block_until_ready(losses)

    return run


def one_at_a_time(features: np.ndarray, members: list[plans.Fold]) -> Callable[[], None]:
    """(b): the plain network, one jitted step per batch, batches made on the host."""
    system = build(Softnet(augment=(), formulation="plain"), {"macro": 12, "micro": 4})
    optimizer = folds_lib.make_optimizer(Train())

    @jax.jit
    def step(variables: Any, opt_state: Any, images: Any, labels: Any) -> Any:
        def objective(params: Any) -> Any:
            weight = jnp.ones(labels.shape)
            outputs, _ = system.apply({"params": params}, images, weight, True, None)
            return system.loss(outputs, {"label": labels}, weight)[0]

        grads = jax.grad(objective)(variables["params"])
        updates, opt_state = optimizer.update(grads, opt_state, variables["params"])
        params = jax.tree.map(lambda p, u: p + u, variables["params"], updates)
        return {"params": params}, opt_state

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
    from tensorflow import keras  # type: ignore[import-not-found]

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


def keras_in_memory(features: np.ndarray, members: list[plans.Fold]) -> Callable[[], None]:
    """(c): `fit` on arrays."""
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


def keras_generator(features: np.ndarray, members: list[plans.Fold]) -> Callable[[], None]:
    """(d): `fit` on a generator that normalises each batch."""
    model = keras_model()

    def batches(fold: plans.Fold) -> Iterator[Any]:
        for images, labels in host_batches(features, fold):
            yield tuple(images[..., c : c + 1] for c in range(3)), labels

    def run() -> None:
        for fold in members:
            model.fit(batches(fold), epochs=1, verbose=0, shuffle=False)

    return run


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folds", type=int, default=8)
    parser.add_argument("--samples", type=int, default=1200, help="samples of a fold")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--devices", type=int, default=0, help="devices for (a); 0: all")
    parser.add_argument("--json", help="also write the figures to this file")
    options = parser.parse_args()
    train.set_up_jax(options.devices)

    features, members = make_data(options.folds, options.samples)
    variants = {
        "a: all folds together": together(features, members, options.devices),
        "b: one fold at a time, jitted step fed from the host": one_at_a_time(features, members),
    }
    try:
        import tensorflow
    except ImportError:
        print("tensorflow is not installed: no Keras columns")
    else:
        tensorflow.get_logger().setLevel("ERROR")
        variants["c: Keras, arrays in memory"] = keras_in_memory(features, members)
        variants["d: Keras, generator"] = keras_generator(features, members)

    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for round_number in range(options.rounds + 1):
        for name, run in variants.items():
            begin = time.perf_counter()
            run()
            if round_number:  # the first one compiles
                seconds[name].append((time.perf_counter() - begin) / options.folds)
    first = next(iter(variants))
    device = jax.devices()[0]
    print(
        f"{len(jax.devices())} x {device.device_kind} ({device.platform}), {platform.machine()}, "
        f"python {platform.python_version()}, {rundir.versions()}"
    )
    print(f"{options.folds} folds of about {options.samples} samples, {options.rounds} rounds")
    print(f"{'variant':<56}{'median s/fold-epoch':>20}{'min':>9}{'max':>9}{'x of a':>8}")
    for name, values in seconds.items():
        ratio = statistics.median(v / a for v, a in zip(values, seconds[first], strict=True))
        print(
            f"{name:<56}{statistics.median(values):>20.3f}{min(values):>9.3f}{max(values):>9.3f}"
            f"{ratio:>8.2f}"
        )
    if options.json:
        with open(options.json, "w") as file:
            json.dump({"seconds_per_fold_epoch": seconds, "argv": sys.argv[1:]}, file, indent=1)


if __name__ == "__main__":
    main()
