import json
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiling import AS_IN_USE
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax
from reference import shared_file
from scipy import ndimage, signal

from spotjax.errors import UserError
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


# --- parts ----------------------------------------------------------------------------------------


def whole(x):
    """`[n, n, C, H, W, B]` back to images `[B, C, nH, nW]`."""
    n, _, c, h, w, b = x.shape
    return np.asarray(x).transpose(5, 2, 3, 0, 4, 1).reshape(b, c, n * h, n * w)


def blocks(images, n):
    """Images `[B, C, H, W]` in blocks."""
    return net.in_blocks(jnp.asarray(images).transpose(1, 2, 3, 0), n)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_blocks_hold_neighbours(n):
    images = np.arange(2 * 3 * 12 * 6).reshape(2, 3, 12, 6)
    x = blocks(images, n)
    assert x.shape == (n, n, 3, 12 // n, 6 // n, 2)
    np.testing.assert_array_equal(x[n - 1, 0, 2, 1, 1], images[:, 2, 2 * n - 1, n])
    np.testing.assert_array_equal(whole(x), images)


@jax.jit
def convolved(x, kernel, weight):
    """The convolution, and the gradients of its sum with `weight`."""
    found, backward = jax.vjp(net.convolve, x, kernel)
    return found, *backward(weight)


@settings(max_examples=12, deadline=None)
@given(
    st.sampled_from([(1, 5), (2, 5), (3, 1), (3, 5), (3, 7)]),
    st.integers(1, 3),
    st.integers(1, 3),
    st.integers(0, 2**31),
)
def test_convolution_and_its_gradients(sizes, channels, features, seed):
    n, k = sizes
    rng = np.random.default_rng(seed)
    images = rng.normal(size=(2, channels, 2 * n, 3 * n)).astype(np.float32)
    kernel = rng.normal(size=(k, k, channels, features)).astype(np.float32)
    weight = rng.normal(size=(2, features, 2 * n, 3 * n)).astype(np.float32)
    found, x_gradient, kernel_gradient = convolved(
        blocks(images, n), jnp.asarray(kernel), blocks(weight, n)
    )
    expected = np.zeros_like(weight)
    to_images, to_kernel = np.zeros_like(images), np.zeros_like(kernel)
    same = partial(signal.correlate2d, mode="same")
    for b, c, d in np.ndindex(2, channels, features):
        expected[b, d] += same(images[b, c], kernel[:, :, c, d])
        to_images[b, c] += same(weight[b, d], kernel[::-1, ::-1, c, d])
        padded = np.pad(images[b, c], k // 2)
        to_kernel[:, :, c, d] += signal.correlate2d(padded, weight[b, d], mode="valid")
    np.testing.assert_allclose(whole(found), expected, atol=1e-4)
    np.testing.assert_allclose(whole(x_gradient), to_images, atol=1e-4)
    np.testing.assert_allclose(kernel_gradient, to_kernel, atol=1e-4)


@pytest.mark.parametrize("n", [1, 3])
def test_pooling_by_three(n):
    images = np.random.default_rng(0).normal(size=(2, 3, 42, 42)).astype(np.float32)
    expected = images.reshape(2, 3, 14, 3, 14, 3).max(axis=(3, 5))
    np.testing.assert_array_equal(net.pool(blocks(images, n)).transpose(3, 0, 1, 2), expected)


@pytest.mark.parametrize("n", [1, 2])
def test_overlapping_pooling(n):
    """Windows of 3 around each second pixel; outside is less than any value."""
    images = np.random.default_rng(0).normal(size=(2, 3, 14, 14)).astype(np.float32) - 5
    size = (1, 1, 3, 3)
    around = ndimage.maximum_filter(images, size, mode="constant", cval=-np.inf)
    found = net.pool_overlapping(blocks(images, n)).transpose(3, 0, 1, 2)
    np.testing.assert_array_equal(found, around[:, :, ::2, ::2])


@pytest.mark.parametrize("n", [1, 3])
def test_the_largest_pixel(n):
    images = np.random.default_rng(0).normal(size=(2, 3, 42, 42)).astype(np.float32)
    found, backward = jax.vjp(net.largest_pixel, blocks(images, n))
    np.testing.assert_array_equal(found.T, images.max(axis=(2, 3)))
    (slope,) = backward(jnp.asarray([[1.0, 2], [3, 4], [5, 6]]))
    expected = np.where(images == images.max(axis=(2, 3), keepdims=True), 1, 0)
    expected = expected * np.asarray([[1, 3, 5], [2, 4, 6]])[:, :, None, None]
    np.testing.assert_array_equal(whole(slope), expected)


def test_the_first_of_equal_values_gets_the_gradient():
    x = jnp.asarray([[3.0, 7, 0], [7, 7, 0], [7, 1, 0]])
    found, backward = jax.vjp(net.largest, x)
    np.testing.assert_array_equal(found, [7, 7, 0])
    (slope,) = backward(jnp.asarray([1.0, 2, 3]))
    np.testing.assert_array_equal(slope, [[0, 2, 3], [1, 0, 0], [0, 0, 0]])


@pytest.mark.parametrize("n", [1, 2])
def test_equal_values_in_overlapping_windows(n):
    """PyTorch's choice: the upper row, in it the left column, of those in the window."""
    image = np.zeros((1, 1, 14, 14), np.float32)
    image[0, 0, 3, 4] = image[0, 0, 4, 3] = 1  # of the window of output (2, 2)
    _, backward = jax.vjp(net.pool_overlapping, blocks(image, n))
    (slope,) = backward(jnp.zeros((1, 7, 7, 1)).at[0, 2, 2, 0].set(1))
    np.testing.assert_array_equal(np.argwhere(whole(slope)[0, 0]), [[3, 4]])


def computed(scale, x):
    """Values that XLA would rather compute again than keep."""
    return x * scale * jax.nn.sigmoid(x * 0.7 + scale) + jnp.sin(x) * 0.3


@pytest.mark.parametrize("loop", ["jit", "map", "fori_loop"])
@settings(max_examples=5, deadline=None)
@given(st.integers(0, 2**31))
def test_no_gradient_of_a_computed_maximum_is_lost(loop, seed):
    x = jax.random.normal(jax.random.key(seed), (9, 40, 16))
    one_more = jax.grad(lambda more, x: net.largest(computed(1.3, x) + more).sum())
    compiled = partial(jax.jit, compiler_options=AS_IN_USE)
    if loop == "jit":
        found = compiled(one_more)(0.0, x)
    elif loop == "map":
        found = compiled(partial(lax.map, partial(one_more, 0.0)))(x[None])[0]
    else:
        step = compiled(lambda x: lax.fori_loop(0, 1, lambda _, v: v * 0 + one_more(v, x), 0.0))
        found = step(x)
    np.testing.assert_allclose(found, 40 * 16)


# --- behaviour ------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunk", [1, 3, 4, 64])
def test_chunks_do_not_matter(chunk):
    variables, images = new(SMALL), random_images(4)
    found = forward(variables, images, SMALL._replace(chunk=chunk))
    expected = forward(variables, images, SMALL)
    np.testing.assert_allclose(found.score, expected.score, atol=1e-6)
    np.testing.assert_allclose(found.logits, expected.logits, atol=1e-6)


@pytest.mark.parametrize("formulation", FORMULATIONS)
def test_an_image_is_judged_on_its_own(formulation):
    shape = SMALL._replace(formulation=formulation)
    images = random_images(4)
    together = forward(new(shape), images, shape)
    others = forward(new(shape), images.at[1:].multiply(7), shape)
    np.testing.assert_allclose(others.score[0], together.score[0], atol=1e-6)
    np.testing.assert_allclose(others.logits[0], together.logits[0], atol=1e-6)
    assert np.abs(others.logits[1:] - together.logits[1:]).max() > 1e-3


def test_every_stream_sees_its_own_channel():
    images = random_images(2)
    whole = forward(new(SMALL), images, SMALL)
    for channel in range(3):
        changed = forward(new(SMALL), images.at[..., channel].multiply(2), SMALL)
        assert np.abs(changed.score - whole.score).max() > 1e-4
    shape = SMALL._replace(streams=("v",))
    trunk = {"v": new(SMALL)["params"]["trunk"]["v"]}
    params = {**new(shape)["params"], "trunk": trunk}
    alone = net.Stream(True).apply({"params": trunk["v"]}, blocks(images[..., 1][:, None], 3))
    both = net._trunk(params["trunk"], net._by_stream(images[..., 1:2], 3, shape), shape)
    np.testing.assert_allclose(both, alone, atol=1e-6)


@pytest.mark.parametrize("images", [(2, 42, 42, 2), (2, 42, 41, 3), (2, 3, 42, 42), (42, 42, 3)])
@pytest.mark.parametrize("formulation", FORMULATIONS)
def test_wrong_images_are_refused(images, formulation):
    shape = SMALL._replace(formulation=formulation)
    with pytest.raises(AssertionError, match="shape"):
        net.apply(new(SMALL), jnp.zeros(images), shape)


@pytest.mark.parametrize("streams", [(), ("v", "u"), ("u", "u"), ("depth",)])
def test_unknown_streams_are_refused(streams):
    with pytest.raises(UserError, match=r"system.streams=.*: some of u, v, w"):
        net.init(KEY, net.Shape(streams=streams))
