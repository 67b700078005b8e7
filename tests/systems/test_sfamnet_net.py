import json
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from reference import shared_file

from spotjax.parameters import released
from spotjax.systems import sfamnet_net as net

FORMULATIONS = ("plain", "blocked")
SMALL = net.Shape(chunk=2)
KEY = jax.random.key(0)
forward = jax.jit(net.apply, static_argnums=2)


@cache
def new(shape, seed=0):
    return jax.jit(net.init, static_argnums=1)(jax.random.key(seed), shape)


def random_images(count, channels=3, seed=1):
    return jax.random.normal(jax.random.key(seed), (count, 42, 42, channels))


def objective(params, images, shape):
    """A number that depends on all outputs, each sample in its own way."""
    outputs = net.apply({"params": params}, images, shape)
    share = jnp.linspace(1, 2, len(images))
    emotion = jax.nn.log_softmax(outputs.logits)[:, 1]
    return jnp.sum(share * (jnp.square(outputs.score - 0.3) - 0.1 * emotion))


gradients = jax.jit(jax.grad(objective), static_argnums=2)


def assert_trees_close(found, expected, relative):
    """Leaves equal within a share of the largest value of the leaf."""
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for (path, a), b in zip(
        jax.tree.leaves_with_path(found), jax.tree.leaves(expected), strict=True
    ):
        tolerance = relative * float(np.abs(b).max()) + 1e-9
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance, err_msg=jax.tree_util.keystr(path))


# --- the reference --------------------------------------------------------------------------------


@cache
def golden():
    with np.load(shared_file("goldens/sfamnet_forward.npz")) as file:
        return {name: file[name] for name in file.files}


def golden_params(outputs):
    """The reference's weights, drawn as its description says."""
    about = json.loads(str(golden()["meta_json"]))[f"c{outputs}"]
    rng = np.random.default_rng(70 + outputs)
    state = {}
    for name, shape in about["names_shapes_in_draw_order"]:
        fan = np.prod(shape[1:]) if len(shape) > 1 else 8
        draw = rng.random(shape, np.float32) * 2 - 1
        state[name] = draw * np.float32(1 / np.sqrt(fan))
    return released.sfamnet(state)


@pytest.mark.parametrize("formulation", FORMULATIONS)
@pytest.mark.parametrize("outputs", [5, 8])
def test_outputs_of_the_reference(outputs, formulation):
    shape = net.Shape(classes=outputs - 1, formulation=formulation)
    found = forward({"params": golden_params(outputs)}, golden()["input"], shape)
    expected = golden()[f"c{outputs}/score"][:, 0]
    np.testing.assert_allclose(found.score, expected, atol=1e-5)
    np.testing.assert_allclose(found.logits, golden()[f"c{outputs}/emotion_logits"], atol=1e-5)


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("outputs", [5, 8])
def test_streams_of_the_reference_before_pooling(outputs, n):
    trunk = golden_params(outputs)["trunk"]
    for number, name in enumerate("uvw"):
        images = jnp.asarray(golden()["input"])[:2, None, :, :, number]
        x = net.in_blocks(images.transpose(1, 2, 3, 0), n)
        y = net.Stream(True).apply({"params": trunk[name]}, x, method="before_pool")
        found = y.transpose(5, 3, 0, 4, 1, 2).reshape(2, 42, 42, 3)
        expected = golden()[f"c{outputs}/stream{number + 1}/block"]
        np.testing.assert_allclose(jax.nn.relu(found), expected, atol=1e-5)


# --- parameters -----------------------------------------------------------------------------------


def size(shape):
    variables = jax.eval_shape(partial(net.init, shape=shape), KEY)
    return sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))


def test_parameter_count_of_the_release():
    assert size(net.Shape()) == 7_207
    assert size(net.Shape(classes=7)) == 8_386


def test_parameter_count_of_the_ablations():
    stream, gates, heads = 411, 10 + 98, 393 + 5 * 393
    assert size(net.Shape(cbam=False)) == 7_207 - 3 * gates
    assert size(net.Shape(streams=("w",))) == stream + 2 * (3 * 8 * 25 + 8) + heads
    assert size(net.Shape(streams=("u", "v"))) == 2 * stream + 2 * (6 * 8 * 25 + 8) + heads
    joint = 3 * 75 + 225 + gates + 3 * 3
    assert size(net.Shape(joint=True)) == joint + 2 * (3 * 8 * 25 + 8) + heads


def test_trunk_and_heads_stand_apart():
    params = new(net.Shape())["params"]
    assert set(params) == {"trunk", "spotting", "recognition"}
    assert list(params["trunk"]) == ["u", "v", "w"]
    assert params["recognition"]["linear"]["kernel"].shape == (392, 5)
    names = {path[-1].key for path, _ in jax.tree.leaves_with_path(params)}
    assert names == {"kernel", "bias"}


def test_initialisation_is_pytorchs():
    params = new(net.Shape())["params"]
    stream, head = params["trunk"]["v"], params["spotting"]
    for leaf, fan_in in (
        (stream["conv1"]["kernel"], 25),
        (stream["conv2"]["kernel"], 75),
        (stream["spatial_gate"]["conv"]["kernel"], 98),
        (head["conv"]["kernel"], 225),
        (head["linear"]["kernel"], 392),
    ):
        bound = fan_in**-0.5
        assert 0.9 * bound < float(jnp.abs(leaf).max()) <= bound
    assert 0 < float(jnp.abs(head["conv"]["bias"]).max()) <= 1 / 15
    assert float(jnp.abs(stream["channel_gate"]["second"]["bias"]).max()) > 0
    different = [params["trunk"][name]["conv2"]["kernel"] for name in "uvw"]
    assert not np.array_equal(different[0], different[1])
    assert not np.array_equal(different[1], different[2])


# --- both formulations ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "count"),
    [
        (SMALL, 5),
        (SMALL._replace(classes=7, cbam=False), 2),
        (SMALL._replace(streams=("v",)), 3),
        (SMALL._replace(streams=("u", "w"), chunk=16), 3),
        (SMALL._replace(joint=True), 3),
    ],
    ids=["whole", "no attention", "v alone", "u and w", "joint"],
)
def test_both_formulations_agree(shape, count):
    variables, images = new(shape), random_images(count, len(shape.streams))
    plain = shape._replace(formulation="plain")
    found, expected = (forward(variables, images, s) for s in (shape, plain))
    assert found.score.shape == (count,) and found.logits.shape == (count, shape.classes + 1)
    np.testing.assert_allclose(found.score, expected.score, atol=1e-5)
    np.testing.assert_allclose(found.logits, expected.logits, atol=1e-5)
    found, expected = (gradients(variables["params"], images, s) for s in (shape, plain))
    assert_trees_close(found, expected, 1e-5)


def test_both_formulations_learn_the_same_in_a_loop_over_folds():
    """As training runs them: steps in a loop, folds in turn, one program."""
    folds = [new(SMALL, seed)["params"] for seed in (0, 1)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *folds)
    images = jnp.stack([random_images(4, seed=seed) for seed in (3, 4)])

    def train(shape):
        def fold(one):
            def step(_, params):
                slope = jax.grad(objective)(params, one[1], shape)
                return jax.tree.map(lambda p, g: p - 0.5 * g, params, slope)

            return lax.fori_loop(0, 3, step, one[0])

        return jax.jit(partial(lax.map, fold))((stacked, images))

    found, expected = train(SMALL), train(SMALL._replace(formulation="plain"))
    moved = jax.tree.map(lambda a, b: a - b, found, stacked)
    assert_trees_close(moved, jax.tree.map(lambda a, b: a - b, expected, stacked), 5e-5)
    for leaf in jax.tree.leaves(moved["spotting"]):
        assert np.abs(leaf).max() > 1e-2


@pytest.mark.parametrize("formulation", FORMULATIONS)
def test_folds_side_by_side_equal_one_after_another(formulation):
    shape = SMALL._replace(formulation=formulation)
    folds = [new(shape, seed)["params"] for seed in (0, 1)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *folds)
    images = jnp.stack([random_images(3, seed=seed) for seed in (3, 4)])
    together = jax.jit(jax.vmap(jax.grad(partial(objective, shape=shape))))(stacked, images)
    for i, params in enumerate(folds):
        mine = jax.tree.map(lambda leaf, i=i: leaf[i], together)
        assert_trees_close(mine, gradients(params, images[i], shape), 1e-5)


@pytest.mark.parametrize("formulation", FORMULATIONS)
def test_gradients_are_the_slope(formulation):
    """Central differences in double precision, along the gradient and two random directions."""
    shape = SMALL._replace(formulation=formulation)
    single = jax.tree.map(np.asarray, (new(SMALL)["params"], random_images(2)))
    with jax.enable_x64(True):
        params, images = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), single)
        value = jax.jit(lambda p: objective(p, images, shape))
        slope = jax.jit(jax.grad(lambda p: objective(p, images, shape)))(params)
        rng = np.random.default_rng(0)
        random = [jax.tree.map(lambda p: rng.normal(size=p.shape), params) for _ in range(2)]
        for direction in (slope, *random):
            there, back = (
                jax.tree.map(lambda p, d, s=sign: p + s * 1e-7 * d, params, direction)
                for sign in (1, -1)
            )
            found = (value(there) - value(back)) / 2e-7
            pairs = zip(jax.tree.leaves(slope), jax.tree.leaves(direction), strict=True)
            expected = sum(float(jnp.sum(a * b)) for a, b in pairs)
            np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("formulation", FORMULATIONS)
@pytest.mark.parametrize("scale", [0.0, 1e-6, 100.0], ids=["silent", "tiny", "large"])
def test_gradients_are_finite(scale, formulation):
    shape = SMALL._replace(formulation=formulation)
    found = gradients(new(shape)["params"], scale * random_images(3), shape)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(found))
    assert np.abs(found["recognition"]["linear"]["bias"]).max() > 0
