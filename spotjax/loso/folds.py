"""All folds in one compiled program: pure functions over a leading fold axis.

A fold's training is a loop of steps over batches that are gathered by index from arrays already
on the device.  `make_epoch` maps that loop over the folds of a device, side by side (`vmap`, for
accelerators) or one after another (`map`, for CPUs, where each step then keeps its weights in
cache), and shards the fold axis over the devices of a mesh (`jit(shard_map(...))`, today's form
of pmap): no device needs another's data, so the program has no communication at all.

Nothing here knows a data set, a path or a held-out subject.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from spotjax.config import Train
from spotjax.types import System

FOLD = PartitionSpec("fold")
COMMON = PartitionSpec()


class State(NamedTuple):
    """What training changes; in a sweep every leaf has a leading fold axis."""

    variables: Any
    opt_state: Any
    step: jax.Array
    """i32[]: updates done, the last part of the key of all randomness."""


def make_optimizer(train: Train) -> optax.GradientTransformation:
    """The update rule of a config for a step size of 1; `make_step` multiplies by each fold's own.

    `adamw` decays the leaves called `kernel` only: weights of dense and convolution layers, no
    biases, norms or position tables.
    """
    if train.optimizer == "adam":
        return optax.adam(1.0, train.beta1, train.beta2)
    if train.optimizer == "adamw":
        return optax.adamw(
            1.0, train.beta1, train.beta2, weight_decay=train.weight_decay, mask=decayed
        )
    return optax.sgd(1.0, momentum=train.momentum or None)


def decayed(params: Any) -> Any:
    """Which leaves of `params` weight decay pulls on: those called `kernel`."""
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: getattr(path[-1], "key", None) == "kernel", params
    )


def make_mesh(devices: int = 0) -> Mesh:
    """A mesh with one axis, `fold`, over the first `devices` devices of each process (0: all)."""
    of_process: dict[int, list[jax.Device]] = {}
    for device in jax.devices():
        of_process.setdefault(device.process_index, []).append(device)
    chosen = [device for own in of_process.values() for device in own[: devices or None]]
    return Mesh(np.asarray(chosen), ("fold",), axis_types=(AxisType.Auto,))


def padded_count(folds: int, mesh: Mesh, chunk: int = 0) -> int:
    """Folds trained at a time: `chunk` (0: all), rounded up to a multiple of the devices."""
    count = min(folds, chunk) if chunk else folds
    return -(-count // mesh.size) * mesh.size


def init_state(
    system: System,
    optimizer: optax.GradientTransformation,
    seed: int,
    initialisations: Sequence[int],
) -> State:
    """Fresh states `[F, ...]` (host arrays); `initialisations` gives the number of each fold's.

    Number 0 is shared by all folds, as in SOFTNet's release.
    """
    init, begin = jax.jit(system.init), jax.jit(optimizer.init)
    made = {}
    for number in dict.fromkeys(initialisations):
        key = jax.random.key(seed)
        variables = init(jax.random.fold_in(key, number) if number else key)
        state = State(variables, begin(variables["params"]), jnp.zeros((), jnp.int32))
        made[number] = jax.tree.map(np.asarray, state)
    return jax.tree.map(lambda *leaves: np.stack(leaves), *(made[n] for n in initialisations))


def fold_keys(seed: int, problem: int, folds: Sequence[tuple[int, int]]) -> np.ndarray:
    """u32[F, 2]: the key data of each fold, from (seed, problem, fold index, initialisation)."""
    root = jax.random.fold_in(jax.random.key(seed), problem)
    keys = []
    for index, initialisation in folds:
        key = jax.random.fold_in(root, index)
        if initialisation:
            key = jax.random.fold_in(key, initialisation)
        keys.append(jax.random.key_data(key))
    return np.stack(keys)


def make_step(
    system: System, problem: str, optimizer: optax.GradientTransformation
) -> Callable[..., tuple[State, jax.Array]]:
    """`step(state, key, samples, index, arrays, size) -> (state, loss)` of one fold.

    `samples` is the fold's table `[N, ...]`, `index` i32[B] into it (-1: padding), `size` f32[2]
    the step size of the first epoch and the factor on it in this one.
    """

    def step(
        state: State,
        key: jax.Array,
        samples: dict[str, jax.Array],
        index: jax.Array,
        arrays: dict[str, jax.Array],
        size: jax.Array,
    ) -> tuple[State, jax.Array]:
        weight = (index >= 0).astype(jnp.float32)
        batch = {name: array[jnp.maximum(index, 0)] for name, array in samples.items()}
        input_key, apply_key = jax.random.split(jax.random.fold_in(key, state.step))
        inputs = system.inputs(arrays, batch, input_key, problem)

        def objective(params: Any) -> tuple[jax.Array, Any]:
            variables = {**state.variables, "params": params}
            outputs, variables = system.apply(variables, inputs, weight, True, apply_key)
            loss, _ = system.loss(outputs, batch, weight)
            return loss, variables

        params = state.variables["params"]
        (loss, variables), grads = jax.value_and_grad(objective, has_aux=True)(params)
        updates, opt_state = optimizer.update(grads, state.opt_state, params)
        updates = jax.tree.map(lambda update: size[1] * (size[0] * update), updates)
        if system.frozen is not None:
            updates = jax.tree.map(
                lambda update, still: jnp.zeros_like(update) if still else update,
                updates, system.frozen(params),
            )  # fmt: skip
        variables = {**variables, "params": optax.apply_updates(params, updates)}
        return State(variables, opt_state, state.step + 1), loss

    return step


def make_epoch(
    system: System,
    problem: str,
    optimizer: optax.GradientTransformation,
    mesh: Mesh,
    fold_exec: str = "auto",
    rows: PartitionSpec = COMMON,
) -> jax.stages.Wrapped:
    """`epoch(states, keys, samples, order, sizes, arrays) -> (states, losses)`, compiled once.

    `states` leaves `[F, ...]`, `keys` u32[F, 2], `samples` `[F, N, ...]`, `order` i32[F, S, B],
    `sizes` f32[F, 2] as in `make_step`; `arrays` `[R, ...]` are the rows of the streams: the same
    for all folds, or with `rows=FOLD` cut into one part for each device, in which its folds'
    samples count.  Losses f32[F, S], 0 after a fold's last step.  F must be a multiple of the
    mesh's devices.  A fold stops after its last step with a sample in it: in the common program
    its remaining steps leave the state as it is, bit by bit.
    """
    step = make_step(system, problem, optimizer)

    def one_fold(
        state: State,
        key_data: jax.Array,
        samples: dict[str, jax.Array],
        order: jax.Array,
        sizes: jax.Array,
        arrays: dict[str, jax.Array],
    ) -> tuple[State, jax.Array]:
        key = jax.random.wrap_key_data(key_data)
        steps = jnp.sum(jnp.any(order >= 0, axis=1))

        def body(i: jax.Array, carry: tuple[State, jax.Array]) -> tuple[State, jax.Array]:
            state, losses = carry
            state, loss = step(state, key, samples, order[i], arrays, sizes)
            return state, losses.at[i].set(loss)

        losses = jnp.zeros(order.shape[0], jnp.float32)
        return jax.lax.fori_loop(0, steps, body, (state, losses))

    return jax.jit(over_folds(one_fold, 5, mesh, fold_exec, rows), donate_argnums=(0,))


def make_validate(
    system: System,
    problem: str,
    mesh: Mesh,
    fold_exec: str = "auto",
    rows: PartitionSpec = COMMON,
) -> jax.stages.Wrapped:
    """`validate(variables, keys, samples, order, sums, arrays, first) -> sums`, added up.

    Arguments as in `make_epoch`; `samples` are those of the folds' validation videos.  They
    carry the field `judged`, and what inputs draw for them follows from the fold's key and the
    number of the batch alone, `first` i32[] for the first of `order`: every validation sees the
    same.  `sums` f32[F, K + 1] are the merits of all samples and their number, zero to begin with.
    """
    assert system.judge is not None
    judge = system.judge

    def one_fold(
        variables: Any,
        key_data: jax.Array,
        samples: Any,
        order: jax.Array,
        sums: jax.Array,
        arrays: Any,
        first: jax.Array,
    ) -> jax.Array:
        key = jax.random.wrap_key_data(key_data)

        def body(i: jax.Array, sums: jax.Array) -> jax.Array:
            weight = (order[i] >= 0).astype(jnp.float32)
            batch = {name: array[jnp.maximum(order[i], 0)] for name, array in samples.items()}
            batch["judged"] = weight
            mine = jax.random.fold_in(key, first + i)
            inputs = system.inputs(arrays, batch, mine, problem)
            outputs, _ = system.apply(variables, inputs, weight, False, mine)
            return sums + jnp.append(weight @ judge(outputs, batch), weight.sum())

        return jax.lax.fori_loop(0, len(order), body, sums)

    return jax.jit(over_folds(one_fold, 5, mesh, fold_exec, rows))


def over_folds(
    work: Callable[..., Any],
    folded: int,
    mesh: Mesh,
    fold_exec: str,
    rows: PartitionSpec = COMMON,
) -> Callable[..., Any]:
    """`work` of one fold, over the leading axis of its first `folded` arguments.

    The fold axis is shared out to the devices; on each, folds run side by side or one after
    another.  The next argument lies on the devices as `rows` says; the others are common to all.
    """
    if fold_exec == "auto":
        fold_exec = "map" if mesh.devices.flat[0].platform == "cpu" else "vmap"

    def on_device(*arguments: Any) -> Any:
        mine, common = arguments[:folded], arguments[folded:]
        if fold_exec == "map":
            return jax.lax.map(lambda fold: work(*fold, *common), mine)
        return jax.vmap(lambda *fold: work(*fold, *common))(*mine)

    def spread(*arguments: Any) -> Any:
        common = len(arguments) - folded - 1
        sharded = jax.shard_map(
            on_device,
            mesh=mesh,
            in_specs=(*[FOLD] * folded, rows, *[COMMON] * common),
            out_specs=FOLD,
            check_vma=False,
        )
        return sharded(*arguments)

    return spread


def pad_folds(tree: Any, count: int) -> Any:
    """Repeat the first fold of host arrays `[F, ...]` until there are `count` of them."""

    def pad(leaf: Any) -> np.ndarray:
        leaf = np.asarray(leaf)
        return np.concatenate([leaf, np.repeat(leaf[:1], count - len(leaf), axis=0)])

    return jax.tree.map(pad, tree)


def put(tree: Any, mesh: Mesh, spec: PartitionSpec) -> Any:
    """Place host arrays on the mesh: `FOLD` splits the first axis, `COMMON` copies.

    With several processes each has the whole arrays and places its devices' part.
    """
    sharding = NamedSharding(mesh, spec)
    if jax.process_count() == 1:
        return jax.device_put(tree, sharding)

    def placed(leaf: Any) -> jax.Array:
        array = np.asarray(leaf)
        return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])

    return jax.tree.map(placed, tree)


def fetch(tree: Any) -> Any:
    """Host arrays of what lies on the mesh, whole in every process."""
    if jax.process_count() > 1:
        return multihost_utils.process_allgather(tree, tiled=True)
    return jax.tree.map(np.asarray, tree)
