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
    """The update rule of a config, with the step size of the first epoch.

    `adamw` decays the leaves called `kernel` only: weights of dense and convolution layers, no
    biases, norms or position tables.
    """
    if train.optimizer == "adam":
        return optax.adam(train.learning_rate, train.beta1, train.beta2)
    if train.optimizer == "adamw":
        return optax.adamw(
            train.learning_rate,
            train.beta1,
            train.beta2,
            weight_decay=train.weight_decay,
            mask=decayed,
        )
    return optax.sgd(train.learning_rate, momentum=train.momentum or None)


def decayed(params: Any) -> Any:
    """Which leaves of `params` weight decay pulls on: those called `kernel`."""
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: getattr(path[-1], "key", None) == "kernel", params
    )


def make_mesh(devices: int = 0) -> Mesh:
    """A mesh with one axis, `fold`, over the first `devices` devices (0: all)."""
    chosen = jax.devices()[: devices or None]
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
    init = jax.jit(system.init)
    made = {}
    for number in dict.fromkeys(initialisations):
        key = jax.random.key(seed)
        variables = init(jax.random.fold_in(key, number) if number else key)
        state = State(variables, optimizer.init(variables["params"]), jnp.zeros((), jnp.int32))
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
    """`step(state, key, samples, index, arrays, rate) -> (state, loss)` of one fold.

    `samples` is the fold's table `[N, ...]`, `index` i32[B] into it (-1: padding), `rate` f32[]
    scales the update.
    """

    def step(
        state: State,
        key: jax.Array,
        samples: dict[str, jax.Array],
        index: jax.Array,
        arrays: dict[str, jax.Array],
        rate: jax.Array,
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
        updates = jax.tree.map(lambda update: rate * update, updates)
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
) -> jax.stages.Wrapped:
    """`epoch(states, keys, samples, order, arrays, rate) -> (states, losses)`, compiled once.

    `states` leaves `[F, ...]`, `keys` u32[F, 2], `samples` `[F, N, ...]`, `order` i32[F, S, B],
    `arrays` `[R, ...]` shared by all folds, `rate` f32[] the factor on this epoch's step size;
    losses f32[F, S], 0 after a fold's last step.  F must be a multiple of the mesh's devices.  A
    fold stops after its last step with a sample in it: in the common program its remaining steps
    leave the state as it is, bit by bit.
    """
    step = make_step(system, problem, optimizer)

    def one_fold(
        state: State,
        key_data: jax.Array,
        samples: dict[str, jax.Array],
        order: jax.Array,
        arrays: dict[str, jax.Array],
        rate: jax.Array,
    ) -> tuple[State, jax.Array]:
        key = jax.random.wrap_key_data(key_data)
        steps = jnp.sum(jnp.any(order >= 0, axis=1))

        def body(i: jax.Array, carry: tuple[State, jax.Array]) -> tuple[State, jax.Array]:
            state, losses = carry
            state, loss = step(state, key, samples, order[i], arrays, rate)
            return state, losses.at[i].set(loss)

        losses = jnp.zeros(order.shape[0], jnp.float32)
        return jax.lax.fori_loop(0, steps, body, (state, losses))

    return jax.jit(over_folds(one_fold, 4, mesh, fold_exec), donate_argnums=(0,))


def make_validate(
    system: System, problem: str, mesh: Mesh, fold_exec: str = "auto"
) -> jax.stages.Wrapped:
    """`validate(variables, keys, samples, order, arrays) -> f32[F, K]`: mean merits of each fold.

    Arguments as in `make_epoch`; `samples` are those of the folds' validation videos.  They
    carry the field `judged`, and what inputs draw for them follows from the fold's key alone:
    every validation sees the same.  A fold without
    validation samples has 0.
    """
    assert system.judge is not None
    judge = system.judge

    def one_fold(
        variables: Any, key_data: jax.Array, samples: Any, order: jax.Array, arrays: Any
    ) -> jax.Array:
        key = jax.random.wrap_key_data(key_data)

        def merits(index: jax.Array, number: jax.Array) -> tuple[jax.Array, jax.Array]:
            weight = (index >= 0).astype(jnp.float32)
            batch = {name: array[jnp.maximum(index, 0)] for name, array in samples.items()}
            batch["judged"] = weight
            mine = jax.random.fold_in(key, number)
            inputs = system.inputs(arrays, batch, mine, problem)
            outputs, _ = system.apply(variables, inputs, weight, False, mine)
            return weight @ judge(outputs, batch), weight.sum()

        def body(i: jax.Array, carry: tuple[jax.Array, jax.Array]) -> Any:
            return jax.tree.map(jnp.add, carry, merits(order[i], i))

        shapes = jax.eval_shape(merits, order[0], jnp.int32(0))
        zero = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
        total, count = jax.lax.fori_loop(0, len(order), body, zero)
        return total / jnp.maximum(count, 1)

    return jax.jit(over_folds(one_fold, 4, mesh, fold_exec))


def over_folds(
    work: Callable[..., Any], folded: int, mesh: Mesh, fold_exec: str
) -> Callable[..., Any]:
    """`work` of one fold, over the leading axis of its first `folded` arguments.

    The fold axis is shared out to the devices; on each, folds run side by side or one after
    another.  The further arguments are the same for all folds.
    """
    if fold_exec == "auto":
        fold_exec = "map" if mesh.devices.flat[0].platform == "cpu" else "vmap"

    def on_device(*arguments: Any) -> Any:
        mine, common = arguments[:folded], arguments[folded:]
        if fold_exec == "map":
            return jax.lax.map(lambda fold: work(*fold, *common), mine)
        return jax.vmap(lambda *fold: work(*fold, *common))(*mine)

    def spread(*arguments: Any) -> Any:
        common = len(arguments) - folded
        sharded = jax.shard_map(
            on_device,
            mesh=mesh,
            in_specs=(*[FOLD] * folded, *[COMMON] * common),
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
    """Place host arrays on the mesh: `FOLD` splits the first axis, `COMMON` copies."""
    return jax.device_put(tree, NamedSharding(mesh, spec))
