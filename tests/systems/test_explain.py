from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spotjax.systems import explain, sfamnet_net, softnet, spotformer_net

PIXELS = 42 * 42
SHAPE = sfamnet_net.Shape(chunk=2)
TINY = spotformer_net.Shape(
    window=5, width=8, heads=2, head_width=4, mlp_width=8, dropout=0.0, paddings=(0, 1)
)

maps = jax.jit(explain.maps)
softnet_maps = jax.jit(explain.softnet_maps)
softnet_evidence = jax.jit(explain.softnet_evidence)
sfamnet_maps = jax.jit(explain.sfamnet_maps, static_argnums=2)
sfamnet_evidence = jax.jit(explain.sfamnet_evidence, static_argnums=2)
attention = jax.jit(explain.spotformer_attention, static_argnums=2)
sfamnet_forward = jax.jit(sfamnet_net.apply, static_argnums=2)


@partial(jax.jit, static_argnums=0)
def softnet_forward(formulation, variables, images):
    return softnet.Network(formulation).apply(variables, images)


def random_images(count, channels=3, seed=1):
    return jax.random.uniform(jax.random.key(seed), (count, 42, 42, channels))


def invented(init, seed, bias=0.0):
    """Parameters of a network's form with numbers of ours (its own take long to compile)."""
    rng = np.random.default_rng(seed)

    def draw(path, leaf):
        value = rng.normal(size=leaf.shape)
        if path[-1].key in ("scale", "variance"):
            return np.float32(1 + 0.1 * np.abs(value))
        if leaf.ndim == 1:
            return np.float32(0.05 * value + bias)
        return np.float32(value / np.sqrt(np.prod(leaf.shape[:-1])))

    return jax.tree_util.tree_map_with_path(draw, jax.eval_shape(init))


def zeros(tree):
    return jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), tree)


# --- scaling --------------------------------------------------------------------------------------


def test_maps_of_hand_worked_evidence():
    evidence = np.zeros((1, 2, 2, 2), np.float32)
    evidence[0, ..., 0] = [[1, 2], [3, 5]]
    evidence[0, ..., 1] = [[-4, 1], [0, 0]]
    found = maps(evidence)
    np.testing.assert_allclose(found.streams[0, ..., 0], [[0, 0.25], [0.5, 1]])
    np.testing.assert_array_equal(found.streams[0, ..., 1], [[0, 1], [0, 0]])
    # together -3, 3, 3, 5: what one stream says against it counts before the ReLU
    np.testing.assert_allclose(found.joined[0], [[0, 0.6], [0.6, 1]])
    np.testing.assert_array_equal(found.strength, [[5, 1]])


@pytest.mark.parametrize("value", [0.0, -2.0, 3.0])
def test_what_is_the_same_everywhere_shows_no_place(value):
    noise = 1 + 1e-6 * np.random.default_rng(0).normal(size=(1, 6, 6, 2))
    found = maps(np.float32(value * noise))
    assert not np.any(found.streams) and not np.any(found.joined)
    np.testing.assert_allclose(found.strength, max(value, 0), rtol=1e-5)


def test_nan_stays_nan():
    evidence = np.ones((2, 4, 4, 1), np.float32)
    evidence[1, 0, 0] = np.nan
    found = maps(evidence)
    assert np.isfinite(found.joined[0]).all() and np.isnan(found.joined[1]).all()


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31), st.floats(1e-12, 1e12))
def test_maps_reach_from_nothing_to_one(seed, scale):
    evidence = np.random.default_rng(seed).normal(size=(3, 5, 5, 2)).astype(np.float32)
    found = maps(evidence * np.float32(scale))
    for each in (found.streams, np.asarray(found.joined)[..., None]):
        assert np.all(np.min(each, (1, 2)) == 0) and np.max(each) <= 1
        np.testing.assert_allclose(np.max(each, (1, 2)), 1, rtol=1e-6)
    np.testing.assert_allclose(found.joined, maps(evidence).joined, atol=1e-5)


# --- SOFTNet --------------------------------------------------------------------------------------


@cache
def softnet_variables(seed=0, bias=0.05):
    image = jnp.zeros((1, 42, 42, 3))
    return invented(lambda: softnet.Network().init(jax.random.key(0), image), seed, bias)


def softnet_by_hand(*, u=0.0, v=0.0, blocks=((1, 3),)):
    """Filter 0 of streams u and v passes its channel on; the score is u (v) times its maximum in
    each of the 7x7 `blocks`."""
    params = zeros(softnet_variables())["params"]
    kernel = params["dense1"]["kernel"].reshape(7, 7, 16, 400)
    for row, column in blocks:
        kernel[row, column, 0, 0] = kernel[row, column, 3, 1] = 1
    params["dense2"]["kernel"][:2, 0] = u, v
    for name in ("u", "v"):
        params[f"conv_{name}"]["kernel"][2, 2, 0, 0] = 1
    return {"params": params}


def one_pixel(channel, row, column, value=0.5):
    image = np.zeros((1, 42, 42, 3), np.float32)
    image[0, row, column, channel] = value
    return image


def test_softnet_the_pixel_that_matters_is_the_peak():
    image = one_pixel(0, 10, 20)  # in block (1, 3)
    variables = softnet_by_hand(u=2)
    np.testing.assert_allclose(softnet_forward("plain", variables, image), [1.0])
    found = softnet_maps(variables, image)
    expected = image[0, ..., 0] / 0.5
    np.testing.assert_array_equal(found.streams[0, ..., 0], expected)
    np.testing.assert_array_equal(found.joined[0], expected)
    assert not np.any(found.streams[0, ..., 1:])
    np.testing.assert_allclose(found.strength, [[2 / PIXELS * 0.5, 0, 0]], rtol=1e-6)


def test_softnet_a_pixel_that_lowers_the_score_is_not_shown():
    found = softnet_maps(softnet_by_hand(u=-2), one_pixel(0, 10, 20))
    assert not np.any(found.joined) and not np.any(found.streams) and not np.any(found.strength)


def test_softnet_streams_are_joined_by_their_weight():
    image = one_pixel(0, 10, 20) + one_pixel(1, 9, 19)
    found = softnet_maps(softnet_by_hand(u=1, v=4), image)
    np.testing.assert_allclose([found.joined[0, 10, 20], found.joined[0, 9, 19]], [0.25, 1])
    assert np.count_nonzero(found.joined) == 2
    np.testing.assert_allclose(found.strength[0, 1] / found.strength[0, 0], 4, rtol=1e-6)
    against = softnet_maps(softnet_by_hand(u=1, v=-4), image)
    np.testing.assert_array_equal(np.argwhere(against.joined[0]), [[10, 20]])


def test_softnet_a_filter_has_one_weight_for_all_pixels():
    """The mean over the map: two blocks that count weigh a pixel in a third as well."""
    image = one_pixel(0, 10, 20) + one_pixel(0, 40, 1, 0.25)
    found = softnet_maps(softnet_by_hand(u=1, blocks=((1, 3), (0, 0))), image)
    np.testing.assert_allclose([found.joined[0, 10, 20], found.joined[0, 40, 1]], [1, 0.5])
    np.testing.assert_allclose(found.strength[0, 0], 2 / PIXELS * 0.5, rtol=1e-6)


def test_softnet_a_face_without_motion_shows_nothing():
    found = softnet_maps(softnet_variables(bias=0.3), np.zeros((2, 42, 42, 3), np.float32))
    assert np.array_equal(found.streams, np.zeros((2, 42, 42, 3)))
    assert np.array_equal(found.joined, np.zeros((2, 42, 42)))


@pytest.mark.parametrize("formulation", ["plain", "blocked"])
def test_softnet_activations_lead_to_the_networks_score(formulation):
    images = random_images(3)
    activations = explain.softnet_activations(softnet_variables(), images)
    assert activations.shape == (3, 42, 42, 16) and activations.min() == 0
    found = explain.softnet_score(softnet_variables(), activations)
    expected = softnet_forward(formulation, softnet_variables(), images)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("formulation", ["plain", "blocked"])
def test_softnet_weights_are_either_formulations_gradients(formulation):
    """With all filters active a bias moves the whole map: its gradient is 1764 times the weight."""
    variables, image = softnet_variables(bias=2.0), random_images(1)
    network = softnet.Network(formulation)
    activations = np.asarray(explain.softnet_activations(variables, image))
    assert activations.min() > 0
    slope = jax.jit(jax.grad(lambda v: network.apply(v, image)[0]))(variables)["params"]
    expected = [
        np.einsum("bhwc,c->bhw", activations[..., first:last], slope[f"conv_{name}"]["bias"])
        for name, first, last in (("u", 0, 3), ("v", 3, 8), ("strain", 8, 16))
    ]
    found = softnet_evidence(variables, image)
    np.testing.assert_allclose(found * PIXELS, np.stack(expected, -1), rtol=1e-3, atol=1e-4)


def test_softnet_evidence_is_the_definitions():
    """A weight is the change of the score per change of one filter's whole map."""
    variables, images, step = softnet_variables(), random_images(2), 1e-6
    activations = np.asarray(explain.softnet_activations(variables, images), np.float64)
    first, second = (variables["params"][name] for name in ("dense1", "dense2"))

    def score(activations):
        pooled = activations.reshape(2, 7, 6, 7, 6, 16).max((2, 4)).reshape(2, -1)
        return np.maximum(pooled @ first["kernel"] + first["bias"], 0) @ second["kernel"][:, 0]

    moved = [score(activations + step * (np.arange(16) == k)) for k in range(16)]
    weights = (np.stack(moved, -1) - score(activations)[:, None]) / step / PIXELS
    each = activations * weights[:, None, None]
    expected = [each[..., s].sum(-1) for s in (slice(0, 3), slice(3, 8), slice(8, 16))]
    found = softnet_evidence(variables, images)
    scale = np.abs(found).max()
    np.testing.assert_allclose(found / scale, np.stack(expected, -1) / scale, atol=1e-4)


def test_softnet_folds_side_by_side_explain_their_mean():
    images = random_images(2)
    folds = [softnet_variables(seed) for seed in (0, 1)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *folds)
    together = jax.jit(jax.vmap(explain.softnet_evidence, (0, None)))
    evidence = together(stacked, images)
    alone = [softnet_evidence(fold, images) for fold in folds]
    np.testing.assert_allclose(evidence, np.stack(alone), rtol=1e-4, atol=1e-8)
    found = maps(evidence.mean(0))
    assert found.joined.shape == (2, 42, 42) and np.isfinite(found.joined).all()


@pytest.mark.parametrize("shape", [(2, 42, 42, 2), (42, 42, 3), (1, 3, 42, 42), (1, 128, 128, 3)])
def test_softnet_wrong_images_are_refused(shape):
    with pytest.raises(ValueError, match=r"SOFTNet's images have shape .*: expected \[B, 42, 42"):
        explain.softnet_maps(softnet_variables(), jnp.zeros(shape))
    with pytest.raises(ValueError, match=r"activations have shape .*: expected \[B, 42, 42, 16\]"):
        explain.softnet_score(softnet_variables(), jnp.zeros(shape))


# --- SFAMNet --------------------------------------------------------------------------------------


@cache
def sfamnet_variables(shape=SHAPE, seed=0):
    return invented(lambda: sfamnet_net.init(jax.random.key(0), shape), seed)


def sfamnet_by_hand(score=1.0, emotions=(0, 0, 0, 0, 0)):
    """Streams pass their component on in filter 0; heads sum up the pooled u and weigh the sum."""
    params = zeros(sfamnet_variables())["params"]
    for stream in params["trunk"].values():
        stream["shortcut"]["kernel"][0, 0, 0, 0] = 1
    for head, weights in (("spotting", [score]), ("recognition", emotions)):
        params[head]["conv"]["kernel"][2, 2, 0, 0] = 1
        params[head]["linear"]["kernel"][:49] = weights
    return {"params": params}


def test_sfamnet_the_pixel_that_matters_is_the_peak():
    image = one_pixel(0, 10, 30, 2.0)  # in two windows of the second pooling
    variables = sfamnet_by_hand()
    score = sfamnet_forward(variables, image, SHAPE).score
    np.testing.assert_allclose(score, 1 / (1 + np.exp(-4)), rtol=1e-6)
    found = sfamnet_maps(variables, image, SHAPE)
    expected = image[0, ..., 0] / 2
    np.testing.assert_array_equal(found.streams[0, ..., 0], expected)
    np.testing.assert_array_equal(found.joined[0], expected)
    assert not np.any(found.streams[0, ..., 1:])
    np.testing.assert_allclose(found.strength, [[49 / PIXELS * 2, 0, 0]], rtol=1e-6)


def test_sfamnet_every_emotion_has_its_own_map():
    image = np.repeat(one_pixel(0, 10, 30, 2.0), 3, 0)
    variables = sfamnet_by_hand(score=-1, emotions=(0, 1, -1, 3, 0))
    found = sfamnet_maps(variables, image, SHAPE, jnp.asarray([1, 2, 3]))
    assert found.joined[0, 10, 30] == found.joined[2, 10, 30] == 1
    assert not np.any(found.joined[1]) and not np.any(found.strength[1])
    np.testing.assert_allclose(found.strength[2, 0] / found.strength[0, 0], 3, rtol=1e-6)
    one = sfamnet_maps(variables, image, SHAPE, 3)
    np.testing.assert_allclose(one.strength, np.repeat(found.strength[2:], 3, 0), rtol=1e-6)
    assert not np.any(sfamnet_maps(variables, image, SHAPE).joined)


def test_sfamnet_negative_motion_that_is_rectified_away_is_not_shown():
    assert not np.any(sfamnet_maps(sfamnet_by_hand(), one_pixel(0, 10, 30, -2.0), SHAPE).joined)


@pytest.mark.parametrize(
    "shape",
    [SHAPE, SHAPE._replace(streams=("u", "w"), cbam=False), SHAPE._replace(joint=True, classes=7)],
    ids=["whole", "u and w, no attention", "joint, seven emotions"],
)
def test_sfamnet_activations_lead_to_the_networks_outputs(shape):
    variables = sfamnet_variables(shape)
    images = random_images(3, len(shape.streams)) - 0.5
    activations = explain.sfamnet_activations(variables, images, shape)
    assert activations.shape == (3, 42, 42, 3 * len(shape.trunk)) and activations.min() == 0
    found = explain.sfamnet_outputs(variables, activations, shape)
    for formulation in ("plain", "blocked"):
        shape = shape._replace(formulation=formulation)
        expected = sfamnet_forward(variables, images, shape)
        np.testing.assert_allclose(found.score, expected.score, rtol=0, atol=1e-6)
        np.testing.assert_allclose(found.logits, expected.logits, rtol=0, atol=1e-6)
    evidence = sfamnet_evidence(variables, images, shape)
    assert evidence.shape == (3, 42, 42, len(shape.trunk))
    assert np.isfinite(evidence).all() and np.any(evidence)


def test_sfamnet_evidence_is_the_definitions():
    variables, images, step = sfamnet_variables(), random_images(2) - 0.5, 1e-6
    found = np.asarray(sfamnet_evidence(variables, images, SHAPE, 2))
    activations = np.asarray(explain.sfamnet_activations(variables, images, SHAPE), np.float64)
    with jax.enable_x64(True):
        double = jax.tree.map(lambda leaf: leaf.astype(np.float64), variables)

        @partial(jax.jit)
        def logit(activations):
            return explain.sfamnet_outputs(double, activations, SHAPE).logits[:, 2]

        moved = [np.asarray(logit(activations + step * (np.arange(9) == k))) for k in range(9)]
        before = np.asarray(logit(activations))
    weights = (np.stack(moved, -1) - before[:, None]) / step / PIXELS
    expected = (activations * weights[:, None, None]).reshape(2, 42, 42, 3, 3).sum(-1)
    scale = np.abs(found).max()
    np.testing.assert_allclose(found / scale, expected / scale, atol=1e-4)


def test_sfamnet_folds_side_by_side():
    images = random_images(2) - 0.5
    folds = [sfamnet_variables(seed=seed) for seed in (0, 1)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *folds)
    one = partial(explain.sfamnet_evidence, shape=SHAPE, emotion=1)
    together = jax.jit(jax.vmap(one, (0, None)))(stacked, images)
    alone = [sfamnet_evidence(fold, images, SHAPE, 1) for fold in folds]
    np.testing.assert_allclose(together, np.stack(alone), rtol=1e-4, atol=1e-8)


def test_sfamnet_a_dead_fold_gives_nan():
    dead = jax.tree.map(lambda leaf: leaf * np.nan, sfamnet_variables())
    assert np.isnan(sfamnet_maps(dead, random_images(1), SHAPE).joined).all()


@pytest.mark.parametrize("emotion", [5, -1, [0, 1, 2], [0, 9]])
def test_sfamnet_unknown_emotions_are_refused(emotion):
    images = random_images(2)
    with pytest.raises(ValueError, match="emotion .*: a number from 0 to 4 or one per image"):
        explain.sfamnet_maps(sfamnet_variables(), images, SHAPE, jnp.asarray(emotion))


def test_sfamnet_an_unknown_emotion_inside_jit_gives_nan_for_its_image():
    found = sfamnet_maps(sfamnet_variables(), random_images(3), SHAPE, jnp.asarray([0, 5, -1]))
    np.testing.assert_array_equal(np.isnan(found.joined).any((1, 2)), [False, True, True])


def test_sfamnet_wrong_images_are_refused():
    with pytest.raises(ValueError, match=r"SFAMNet's images .*: expected \[B, 42, 42, 3\]"):
        explain.sfamnet_maps(sfamnet_variables(), jnp.zeros((1, 42, 42, 2)), SHAPE)
    with pytest.raises(ValueError, match=r"SFAMNet's activations .*: expected \[B, 42, 42, 9\]"):
        explain.sfamnet_outputs(sfamnet_variables(), jnp.zeros((1, 42, 42, 16)), SHAPE)
