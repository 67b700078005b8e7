"""MESNet's networks: sizes, receptive fields, equal formulations, gradients."""

import json
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from reference import shared_file

from spotjax.decoding.clip_windows import CLIP, TOWERS, whole_windows, windows
from spotjax.systems import mesnet_net as net

SMALL = net.Shape(size=32)  # L = 256
KEY = jax.random.key(0)
FIRST = np.cumsum([0] + [CLIP - tower.span + 1 for tower in TOWERS])
"""Number of the first window of each tower."""


@cache
def new(shape=SMALL, pretraining=False):
    init = net.init_pretraining if pretraining else net.init
    return jax.jit(init, static_argnums=1)(KEY, shape)


def clips(count=2, steps=CLIP, size=32, seed=1):
    flow = jax.random.normal(jax.random.key(seed), (count, steps, size, size, 2))
    return {"flow": flow, "length": jnp.full(count, steps)}


def positive(tree):
    """`tree` with positive values, so that no ReLU is closed and nothing cancels out."""
    return jax.tree.map(lambda leaf: jnp.abs(leaf) + 0.01, tree)


def number_of(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def assert_close(found, expected, **tolerance):
    jax.tree.map(partial(np.testing.assert_allclose, **tolerance), found, expected)


forward = jax.jit(net.apply, static_argnums=(2, 4))
forward_pretraining = jax.jit(net.apply_pretraining, static_argnums=(2, 4))


# --- sizes ----------------------------------------------------------------------------------------


def made(size, init=net.init):
    return jax.eval_shape(partial(init, shape=net.Shape(size=size)), KEY)["params"]


def test_parameters_of_the_reference():
    expected = json.loads(shared_file("goldens/mesnet_cnn3d.json").read_text())["params"]
    for size in (227, 112, 64):
        assert number_of(made(size)) == expected[f"mesnet_{size}"]
    assert number_of(made(227, net.init_pretraining)) == expected["mesnet_pretrain_227"]


@pytest.mark.parametrize(
    ("size", "parts", "pretraining"),
    [
        (227, (24_456, 4_866_304, 101_898, 5_073_308), 5_596_362),
        (112, (24_456, 1_253_632, 101_898, 1_460_636), 1_983_690),
        (64, (24_456, 442_624, 101_898, 649_628), 1_172_682),
    ],
)
def test_parameters_of_every_part(size, parts, pretraining):
    params = made(size)
    names = ("spatial", "temporal", "cpn", "crn")
    assert tuple(number_of(params[name]) for name in names) == parts
    assert set(params) == set(names)
    before = made(size, net.init_pretraining)
    assert number_of(before) == pretraining and set(before) == {"spatial", "temporal", "head"}
    assert number_of(before["head"]) == 705_602
    for part in ("spatial", "temporal"):
        assert jax.tree.map(jnp.shape, before[part]) == jax.tree.map(jnp.shape, params[part])


@pytest.mark.parametrize(("size", "maps"), [(227, (113, 56, 28, 14)), (112, (56, 28, 14, 7))])
def test_every_layer_halves_its_map(size, maps):
    params = made(size)
    flow = jax.ShapeDtypeStruct((2, 5, size, size, 2), jnp.float32)
    x = jax.ShapeDtypeStruct((10, size, size, 2), jnp.float32)
    for number, (side, channels) in enumerate(zip(maps, net.CHANNELS, strict=True), start=1):
        layer = params["spatial"][f"conv{number}"]
        for formulation in ("blocked", "plain"):
            halved = jax.eval_shape(partial(net.pooled_conv, formulation=formulation), layer, x)
            assert halved.shape == (10, side, side, channels)
        x = halved
    features = jax.eval_shape(net.spatial, params["spatial"], flow)
    assert features.shape == (2, 5, net.width(size)) == (2, 5, 64 * maps[-1] ** 2)
    assert jax.eval_shape(net.temporal, params["temporal"], features).shape == (2, 5, 128)


def test_outputs_of_the_paper_size():
    shape = net.Shape(size=227)
    variables = jax.eval_shape(partial(net.init, shape=shape), KEY)
    given = jax.eval_shape(partial(clips, size=227))
    found = jax.eval_shape(partial(net.apply, train=True, key=KEY, shape=shape), variables, given)
    for value in found[:3]:
        assert (value.shape, value.dtype) == ((2, 470, 2), jnp.float32)
    assert found.penalty.shape == ()


# --- what a window sees (table II) ----------------------------------------------------------------


def test_every_window_of_the_cpn_sees_its_flows_and_no_others():
    variables = positive(new())["params"]
    conv1 = {"kernel": variables["temporal"]["conv1"]["kernel"][:, :4], "bias": jnp.zeros(128)}
    temporal = variables["temporal"] | {"conv1": conv1}

    def logits(share):
        features = jnp.ones((1, CLIP, 4)) * share[None, :, None]
        return net.proposals(variables["cpn"], net.temporal(temporal, features))[0, :, 0]

    seen = np.asarray(jax.jit(jax.jacfwd(logits))(jnp.ones(CLIP))) != 0
    number, first, last = np.arange(CLIP), *np.clip(whole_windows(), 0, CLIP - 1).T
    expected = (number >= first[:, None]) & (number <= last[:, None])
    np.testing.assert_array_equal(seen, expected)
    assert seen[FIRST[:-1] + 2].sum(axis=1).tolist() == [7, 9, 11, 13, 15]


@jax.jit
def influence(variables, given, window):
    """How the flow moves CPN's and CRN's first logit of a window of clip 0: two gradients."""

    def heads(flow):
        found = net.apply(variables, given | {"flow": flow}, False, KEY, SMALL)
        return found.proposal[0, window, 0], found.logits[0, window, 0]

    _, back = jax.vjp(heads, given["flow"])
    return back((1.0, 0.0))[0], back((0.0, 1.0))[0]


@pytest.mark.parametrize("window", [0, 300, 469], ids=["first", "inner", "last"])
def test_both_networks_see_the_flows_of_a_window_in_its_clip(window):
    given = clips(2)
    given["flow"] = jnp.abs(given["flow"])
    cpn, crn = map(np.asarray, influence(positive(new()), given, window))
    first, last = windows()[window]
    seen = [np.flatnonzero((gradient[0] != 0).any(axis=(1, 2, 3))) for gradient in (cpn, crn)]
    assert seen[0].tolist() == list(range(first, last + 1))
    assert (seen[1][0], seen[1][-1]) == (first, last)  # at 7 times between them
    assert not cpn[1].any() and not crn[1].any()  # nor another clip


def test_the_crn_sees_a_window_at_seven_times():
    features = jnp.arange(CLIP, dtype=jnp.float32)[None, :, None]
    times = np.asarray(net.interpolated(features))[0, :, :, 0]
    assert times.shape == (470, 7)
    inner = FIRST[2] + 2  # 0 .. 10
    np.testing.assert_allclose(times[inner], [0, 5 / 3, 10 / 3, 5, 20 / 3, 25 / 3, 10], rtol=1e-6)
    np.testing.assert_allclose(times[469], [87, 89, 91, 93, 95, 97, 99], rtol=1e-6)
    np.testing.assert_allclose(times[:, [0, -1]], windows(), rtol=1e-6)
    np.testing.assert_allclose(np.diff(times, n=2), 0, atol=4e-5)  # equally spaced


# --- equal formulations ---------------------------------------------------------------------------


@pytest.mark.parametrize("size", [32, 37])
def test_blocked_and_plain_convolutions_agree(size):
    params = new()["params"]["spatial"]
    flow = clips(1, 6, size)["flow"].at[:, 4:].set(0)  # and frames without any motion

    @partial(jax.jit, static_argnums=2)
    def both(params, flow, formulation):
        found, back = jax.vjp(partial(net.spatial, formulation=formulation), params, flow)
        return found, back(jax.random.normal(KEY, found.shape))

    blocked, plain = (both(params, flow, name) for name in ("blocked", "plain"))
    assert blocked[0].shape == (1, 6, net.width(size)) and np.any(blocked[0] > 0)
    assert_close(blocked[0], plain[0], atol=1e-5)
    for found, expected in zip(jax.tree.leaves(blocked[1]), jax.tree.leaves(plain[1]), strict=True):
        assert np.any(expected != 0)
        np.testing.assert_allclose(found, expected, atol=1e-5 * max(1, np.abs(expected).max()))


def test_a_pooled_convolution_by_hand():
    x = jnp.arange(36, dtype=jnp.float32).reshape(1, 6, 6, 1)
    kernel = jnp.zeros((3, 3, 1, 2)).at[0, 0, 0, 0].set(1).at[1, 1, 0, 1].set(-1)
    layer = {"kernel": kernel, "bias": jnp.array([0.5, 8.0])}
    for formulation in ("blocked", "plain"):
        found = np.asarray(net.pooled_conv(layer, x, formulation))[0]
        assert found.shape == (3, 3, 2)
        # the pixel up and to the left of the last of the four; 0 beyond the border
        assert found[..., 0].tolist() == [[0.5, 2.5, 4.5], [12.5, 14.5, 16.5], [24.5, 26.5, 28.5]]
        assert found[..., 1].tolist() == [[8, 6, 4], [0, 0, 0], [0, 0, 0]]  # 8 - the first of them


@pytest.mark.parametrize(
    ("taps", "dilation", "padding"), [(3, 1, 1), (3, 1, 0), (3, 3, 0), (1, 1, 0)]
)
def test_convolution_along_time(taps, dilation, padding):
    keys = jax.random.split(KEY, 3)
    x, kernel = jax.random.normal(keys[0], (2, 12, 5)), jax.random.normal(keys[1], (taps, 5, 4))
    layer = {"kernel": kernel, "bias": jax.random.normal(keys[2], (4,))}
    expected = lax.conv_general_dilated(
        x, kernel, (1,), [(padding, padding)], rhs_dilation=(dilation,),
        dimension_numbers=("NWC", "WIO", "NWC"), precision="highest",
    )  # fmt: skip
    found = net.time_conv(layer, x, dilation, padding)
    assert found.shape == (2, 12 + 2 * padding - (taps - 1) * dilation, 4)
    np.testing.assert_allclose(found, expected + layer["bias"][None, None], atol=1e-5)


def test_the_first_convolution_of_the_crn_commutes_with_the_interpolation():
    params = new()["params"]["crn"]
    features = jax.random.normal(KEY, (2, CLIP, net.width(32)))

    def quick(params, features):
        return net.regressions(params, features, False, KEY)

    def naive(params, features):
        at_times = net.interpolated(features).reshape(-1, net.STEPS, features.shape[-1])
        x = jax.nn.relu(net.time_conv(params["conv1"], at_times))
        return net.window_heads(params, x, len(features), False, KEY)

    @partial(jax.jit, static_argnums=0)
    def both(heads, params, features):
        found, back = jax.vjp(heads, params, features)
        return found, back(jax.tree.map(lambda x: jax.random.normal(KEY, x.shape), found))

    found, expected = (both(heads, params, features) for heads in (quick, naive))
    for value in found[0]:
        assert value.shape == (2, 470, 2) and np.std(value) > 0.05
    assert_close(found[0], expected[0], atol=1e-6)
    for mine, theirs in zip(jax.tree.leaves(found[1]), jax.tree.leaves(expected[1]), strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-5 * np.abs(theirs).max())


# --- inputs ---------------------------------------------------------------------------------------


def test_flow_is_standardised_and_ends_with_its_video():
    flow = jnp.full((2, 4, 2, 2, 2), 0.5, jnp.float16).at[0, 1, 0, 0].set(jnp.array([-9, 3]))
    found = net.standardised(flow, jnp.float32(0.25), jnp.array([4, 2]))
    assert found.dtype == jnp.float32 and found.shape == flow.shape
    assert found[0, 1, 0, 0].tolist() == [-8, 8]  # -36 and 12, clipped
    assert (np.asarray(found[0, 0]) == 2).all()
    assert np.asarray(found[1]).max(axis=(1, 2, 3)).tolist() == [2, 2, 0, 0]


def test_what_lies_beyond_the_end_does_not_matter():
    given = clips() | {"length": jnp.array([100, 60])}
    other = given | {"flow": given["flow"].at[1, 60:].multiply(-3)}
    found, same = (forward(new(), x, False, KEY, SMALL) for x in (given, other))
    jax.tree.map(np.testing.assert_array_equal, found, same)
    moved = given | {"flow": given["flow"].at[1, 59].multiply(-3)}
    assert np.any(forward(new(), moved, False, KEY, SMALL).proposal[1] != found.proposal[1])


def test_flow_is_seen_in_units_of_its_scale():
    variables, given = new(), clips()
    twice = given | {"flow": 2 * given["flow"]}
    scaled = variables | {"constants": {"scale": jnp.float32(2)}}
    found = forward(variables, given, False, KEY, SMALL)
    assert_close(forward(scaled, twice, False, KEY, SMALL)[:3], found[:3], atol=1e-6)


@pytest.mark.parametrize("change", ["side", "channels", "length"])
def test_a_wrong_shape_is_refused(change):
    given = clips(2, 16)
    given |= {
        "side": {"flow": jnp.zeros((2, 16, 33, 33, 2))},
        "channels": {"flow": jnp.zeros((2, 16, 32, 32, 3))},
        "length": {"length": jnp.full(3, 16)},
    }[change]
    for pretraining, apply in ((False, net.apply), (True, net.apply_pretraining)):
        with pytest.raises(AssertionError):
            jax.eval_shape(
                partial(apply, train=False, key=KEY, shape=SMALL), new(SMALL, pretraining), given
            )


# --- training -------------------------------------------------------------------------------------


def test_dropout_follows_the_key_and_is_the_crn_s_alone():
    variables, given = new(), clips()
    first, again, other = (
        forward(variables, given, True, jax.random.key(seed), SMALL) for seed in (1, 1, 2)
    )
    jax.tree.map(np.testing.assert_array_equal, first, again)
    np.testing.assert_array_equal(first.proposal, other.proposal)
    assert np.abs(first.logits - other.logits).max() > 0.01
    tested = [forward(variables, given, False, jax.random.key(seed), SMALL) for seed in (1, 2)]
    jax.tree.map(np.testing.assert_array_equal, *tested)
    assert np.abs(first.offsets - tested[0].offsets).max() > 0.01


def test_the_pretraining_head():
    variables, given = new(pretraining=True), clips(3, net.PRETRAIN_STEPS)
    logits, penalty = forward_pretraining(variables, given, False, KEY, SMALL)
    assert logits.shape == (3, 2) and penalty.shape == ()
    alone = jax.tree.map(lambda x: x[:1], given)
    np.testing.assert_allclose(
        forward_pretraining(variables, alone, False, KEY, SMALL)[0], logits[:1], atol=1e-6
    )
    trained = [
        forward_pretraining(variables, given, True, jax.random.key(seed), SMALL)[0]
        for seed in (1, 1, 2)
    ]
    np.testing.assert_array_equal(trained[0], trained[1])
    assert np.abs(trained[0] - trained[2]).max() > 0.01


def objective(params, variables, given, apply, shape):
    found = apply(variables | {"params": params}, given, True, KEY, shape)
    return sum(jnp.sum(jnp.square(value)) for value in found)


gradients = jax.jit(jax.grad(objective), static_argnums=(3, 4))


@pytest.mark.parametrize("case", ["main", "shared", "pretraining"])
def test_every_parameter_is_used_and_gradients_are_finite(case):
    shape = SMALL._replace(share=case == "shared")
    variables = new(shape, case == "pretraining")
    apply, steps = net.apply, CLIP
    if case == "pretraining":
        apply, steps = net.apply_pretraining, net.PRETRAIN_STEPS
    moving = clips(2, steps)
    still = moving | {"flow": jnp.zeros_like(moving["flow"])}
    for given, used in ((moving, True), (still, False)):
        found = gradients(variables["params"], variables, given, apply, shape)
        for path, leaf in jax.tree.leaves_with_path(found):
            assert np.isfinite(np.asarray(leaf)).all(), jax.tree_util.keystr(path)
            assert not used or np.any(np.asarray(leaf) != 0), jax.tree_util.keystr(path)


def test_a_shared_crn_has_the_weights_of_the_backbone():
    sharing = SMALL._replace(share=True)
    shared, apart = new(sharing), new()
    assert set(shared["params"]["crn"]) == {"dense1", "dense2", "logits", "offsets"}
    lost = number_of(apart["params"]["temporal"])
    assert number_of(apart["params"]) - number_of(shared["params"]) == lost
    given = clips()
    for shape, variables, same in ((SMALL, apart, True), (sharing, shared, False)):
        params = variables["params"]
        temporal = jax.tree.map(lambda x: x * 1.5, params["temporal"])
        moved = variables | {"params": params | {"temporal": temporal}}
        before, after = (forward(v, given, False, KEY, shape) for v in (variables, moved))
        assert np.any(before.proposal != after.proposal)
        assert np.array_equal(before.logits, after.logits) == same


def test_the_penalty_counts_every_weight_once():
    for variables in (new(), new(SMALL._replace(share=True)), new(pretraining=True)):
        params = variables["params"]
        expected = sum(
            np.sum(np.square(layer["kernel"], dtype=np.float64))
            for part in params.values()
            for name, layer in part.items()
            if name not in ("logits", "offsets")
        )
        assert float(net.penalty(params)) == pytest.approx(expected, rel=1e-5)
        slopes = jax.jit(jax.grad(net.penalty))(params)
        for path, slope in jax.tree.leaves_with_path(slopes):
            part, layer, leaf = (step.key for step in path)
            left_out = leaf == "bias" or layer in ("logits", "offsets")
            expected_slope = 0 if left_out else 2 * params[part][layer][leaf]
            np.testing.assert_allclose(slope, expected_slope, rtol=1e-6)
