from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from reference import shared_file

from spotjax.errors import UserError
from spotjax.systems import losses
from spotjax.systems import spotformer_net as net

D32 = net.Shape(width=32, head_width=8, mlp_width=32, dropout=0.0)
TINY = net.Shape(window=5, width=8, heads=2, head_width=4, mlp_width=8, paddings=(0, 1))
STILL = TINY._replace(dropout=0.0)
KEY = jax.random.key(0)
BLOCKS = {
    "spatial_0": ("gattn1", "gff1"),
    "spatial_1": ("gattn2", "gff2"),
    **{f"temporal_{i}": (f"layers.{i}.0", f"layers.{i}.1") for i in range(4)},
}
LEAVES = {"weight": "scale", "bias": "bias", "running_mean": "mean", "running_var": "variance"}
forward = jax.jit(net.apply, static_argnums=(3, 5))


@cache
def new(shape, seed=0):
    make = jax.jit(net.init, static_argnums=1)
    return make(jax.random.key(seed), shape)


# --- the reference --------------------------------------------------------------------------------


def reference_names():
    """Where the reference's layers stand in our tree."""
    names = {
        "temporal_pos_embedding": ("embedding", "frame"),
        "spatial_pos_embedding": ("embedding", "part"),
        "to_patch_embedding": ("embedding", "linear"),
        "norm": ("embedding", "norm"),
        "mlp_head": ("head",),
    }
    for ours, (attention, mlp) in BLOCKS.items():
        names |= {
            f"transformer.{attention}.norm": (ours, "attention", "norm"),
            f"transformer.{attention}.to_qkv": (ours, "attention", "qkv"),
            f"transformer.{attention}.to_out.0": (ours, "attention", "out"),
            f"transformer.{mlp}.norm": (ours, "mlp", "norm"),
            f"transformer.{mlp}.net.0": (ours, "mlp", "first"),
            f"transformer.{mlp}.net2.0": (ours, "mlp", "second"),
        }
    for i in (0, 1):
        names[f"transformer.gdown{i + 1}.norm"] = (f"pool_{i}", "norm")
    for i in range(4):
        down = f"transformer.temporal_downsample_layers.{i}.0"
        names |= {f"{down}.norm": (f"down_{i}", "norm"), f"{down}.downCNN": (f"down_{i}",)}
    return names


def put(tree, path, value):
    for key in path[:-1]:
        tree = tree.setdefault(key, {})
    tree[path[-1]] = value


def from_torch(arrays):
    """Our variables of the reference's arrays (its linear weights are transposed, qkv packed)."""
    names, tree = reference_names(), {"params": {}, "batch_stats": {}}
    for name, value in arrays.items():
        if name in names:
            put(tree["params"], names[name], value.reshape(value.shape[-2:]))
            continue
        layer, leaf = name.rsplit(".", 1)
        *start, last = path = names[layer]
        if leaf.startswith("running"):
            put(tree["batch_stats"], (*path, LEAVES[leaf]), value)
        elif last == "qkv":
            for part, kernel in zip(("query", "key", "value"), np.split(value, 3), strict=True):
                put(tree["params"], (*start, part, "kernel"), kernel.T)
        elif value.ndim > 1:
            put(tree["params"], (*path, "kernel"), value.transpose())
        else:
            put(tree["params"], (*path, LEAVES[leaf]), value)
    return tree


@cache
def golden():
    with np.load(shared_file("goldens/spotformer_d32.npz")) as file:
        return {name.removeprefix("d32/"): file[name] for name in file.files}


def golden_tree(prefix):
    return from_torch(
        {n.removeprefix(prefix): a for n, a in golden().items() if n.startswith(prefix)}
    )


def golden_clips():
    return jnp.asarray(golden()["input_nctv"].transpose(0, 2, 3, 1))


def total_loss(outputs, weight):
    """The reference's sum of seven terms, with its weights for SAMM-LV."""
    labels = {
        name.removeprefix("train/labels/"): jnp.asarray(value)
        for name, value in golden().items()
        if name.startswith("train/labels/")
    }
    columns = outputs.logits.T
    focal = partial(losses.sigmoid_focal, weight=weight, gamma=1.0, smoothing=0.16)
    terms = {
        "micro_apex": 1.8 * focal(columns[6], labels["mi_apex"], alpha=0.9),
        "macro_apex": 0.55 * focal(columns[7], labels["ma_apex"], alpha=0.9),
        "micro_action": 0.1 * focal(columns[8], labels["mi_act"], alpha=0.8),
        "macro_action": 0.055 * focal(columns[9], labels["ma_act"], alpha=0.8),
        "micro_start_end": losses.three_class(columns[:3].T, labels["mi_se"], weight),
        "macro_start_end": 0.55 * losses.three_class(columns[3:6].T, labels["ma_se"], weight),
        "supcon": 0.005 * losses.supervised_contrastive(outputs.feature, labels["cls"], weight),
    }
    return sum(terms.values())


@jax.jit
def loss_and_gradients(variables, clips):
    weight = jnp.ones(len(clips))

    def objective(params):
        outputs, after = net.apply({**variables, "params": params}, clips, weight, True, KEY, D32)
        return total_loss(outputs, weight), after

    return jax.value_and_grad(objective, has_aux=True)(variables["params"])


def assert_trees_close(found, expected, **tolerance):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for (path, a), b in zip(
        jax.tree.leaves_with_path(found), jax.tree.leaves(expected), strict=True
    ):
        np.testing.assert_allclose(a, b, **tolerance, err_msg=jax.tree_util.keystr(path))


def test_outputs_of_the_reference():
    variables = golden_tree("weights/")
    outputs, after = forward(variables, golden_clips(), jnp.ones(32), False, None, D32)
    np.testing.assert_allclose(outputs.logits, golden()["eval/logits"], atol=1e-5)
    np.testing.assert_allclose(outputs.feature, golden()["eval/feature"], atol=1e-5)
    assert_trees_close(after, variables)


def test_intermediate_values_of_the_reference():
    work = partial(net.Network(D32).apply, capture_intermediates=True, mutable=["intermediates"])
    _, state = jax.jit(work)(golden_tree("weights/"), golden_clips()[:4], jnp.ones(4))

    def value(*path):
        node = state["intermediates"]
        for key in path:
            node = node[key]
        return np.asarray(node["__call__"][0])

    order = {
        "03_gattn1_ntvc": ("spatial_0", "attention"),
        "04_gff1_ntvc": ("spatial_0", "mlp"),
        "05_tattn0_nvtc": ("temporal_0", "attention"),
        "06_tff0_nvtc": ("temporal_0", "mlp"),
        "07_flgp1_nvtc": ("pool_0",),
        "08_tdown0_nvtc": ("down_0",),
        "09_gattn2_ntvc": ("spatial_1", "attention"),
        "10_gff2_ntvc": ("spatial_1", "mlp"),
        "11_tattn1_nvtc": ("temporal_1", "attention"),
        "12_tff1_nvtc": ("temporal_1", "mlp"),
        "13_flgp2_nvtc": ("pool_1",),
        "14_tdown1_nvtc": ("down_1",),
        "15_tattn2_nvtc": ("temporal_2", "attention"),
        "16_tff2_nvtc": ("temporal_2", "mlp"),
        "17_tdown2_nvtc": ("down_2",),
        "18_tattn3_nvtc": ("temporal_3", "attention"),
        "19_tff3_nvtc": ("temporal_3", "mlp"),
        "20_tdown3_nvtc": ("down_3",),
    }
    for name, path in order.items():
        found, expected = value(*path), golden()[f"eval/inter/{name}"]
        if name.endswith("ntvc"):
            found = found.swapaxes(1, 2)
        np.testing.assert_allclose(found, expected, atol=1e-5, err_msg=name)
    embedding = {
        "00_to_patch_embedding": value("embedding", "linear").reshape(4, 170, 32),
        "01_embed_bn_ncl": value("embedding", "norm").reshape(4, 170, 32).swapaxes(1, 2),
        "02_embed_out_ntvc": value("embedding").swapaxes(1, 2).reshape(68, 10, 32),
    }
    for name, found in embedding.items():
        expected = golden()[f"eval/inter/{name}"]
        np.testing.assert_allclose(found, expected, atol=1e-5, err_msg=name)


def test_training_outputs_of_the_reference():
    outputs, after = forward(golden_tree("weights/"), golden_clips(), jnp.ones(32), True, KEY, D32)
    np.testing.assert_allclose(outputs.logits, golden()["train/logits"], atol=1e-5)
    np.testing.assert_allclose(outputs.feature, golden()["train/feature"], atol=1e-5)
    expected = golden_tree("train/bn_after/")["batch_stats"]
    assert_trees_close(after["batch_stats"], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("variant", ["seq_st", "simul_ts"])
def test_variants_of_the_reference(variant):
    shape = D32._replace(variant=variant)
    outputs, _ = forward(golden_tree("weights/"), golden_clips(), jnp.ones(32), True, KEY, shape)
    expected = golden()[f"variants/{variant}/train_logits"]
    np.testing.assert_allclose(outputs.logits, expected, atol=1e-5)
    expected = golden()[f"variants/{variant}/train_feature"]
    np.testing.assert_allclose(outputs.feature, expected, atol=1e-5)


def test_gradients_and_steps_of_the_reference():
    variables, clips = golden_tree("weights/"), golden_clips()
    expected = golden_tree("train/grad/")["params"]

    def decayed(params):
        return jax.tree.map_with_path(lambda path, _: path[-1].key == "kernel", params)

    optimizer = optax.adamw(2e-4, b1=0.7, b2=0.9, weight_decay=0.1, mask=decayed)
    state = optimizer.init(variables["params"])
    found = []
    for step in range(4):
        (loss, after), gradients = loss_and_gradients(variables, clips)
        found.append(loss)
        updates, state = optimizer.update(gradients, state, variables["params"])
        variables = {**after, "params": optax.apply_updates(variables["params"], updates)}
        if step == 0:
            assert_trees_close(gradients, expected, rtol=1e-4, atol=2e-6)
            # a bias that batch norm takes off again has a gradient of rounding noise, of which
            # Adam's first step keeps the sign alone
            stepped = golden_tree("train/after_step/")["params"]
            for a, b, gradient in zip(
                *map(jax.tree.leaves, (variables["params"], stepped, expected)), strict=True
            ):
                noise = np.abs(gradient) < 1e-5
                np.testing.assert_allclose(a[~noise], b[~noise], rtol=1e-5, atol=1e-6)
                np.testing.assert_allclose(a[noise], b[noise], atol=5e-4)
    np.testing.assert_allclose(found[0], golden()["train/loss/total"], rtol=1e-5)
    np.testing.assert_allclose(found[1:], golden()["train/loss_trace_after_steps_1_2_3"], rtol=1e-4)


# --- shapes and numbers ---------------------------------------------------------------------------


def size(shape):
    variables = jax.eval_shape(partial(net.init, shape=shape), KEY)
    return sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))


@pytest.mark.parametrize("variant", ["simul_st", "seq_st", "simul_ts", "paral_st_shared"])
def test_parameter_count_of_the_release(variant):
    assert size(net.Shape(variant=variant)) == 3_168_778


def test_parallel_graphs_add_their_own_layers():
    block, down, norm, conv = 395_008, 197_120, 512, 256 * 256
    extra = 8 * block + 6 * down + 8 * (norm + conv)
    assert size(net.Shape(variant="paral_st")) == 3_168_778 + extra


def test_initialisation_is_pytorchs():
    params = new(net.Shape())["params"]
    kernel = params["temporal_0"]["attention"]["query"]["kernel"]
    assert kernel.shape == (256, 256) and 0.0624 < float(jnp.abs(kernel).max()) <= 1 / 16
    bias = params["temporal_0"]["mlp"]["first"]["bias"]
    assert 0.06 < float(jnp.abs(bias).max()) <= 1 / 16
    down = params["down_0"]["kernel"]
    bound = 1 / np.sqrt(3 * 256)
    assert 0.999 * bound < float(jnp.abs(down).max()) <= bound
    assert abs(float(params["embedding"]["frame"].std()) - 1) < 0.05


@pytest.mark.parametrize("window", [7, 9, 11, 13, 15, 17, 19, 21])
def test_the_released_paddings_end_at_one_frame(window):
    assert net.frames(net.Shape(window=window))[-1] == 1


def test_the_frames_of_the_paper():
    assert net.frames(net.Shape()) == (17, 8, 3, 2, 1)
    assert net.frames(net.Shape(window=25, paddings=(0, 1, 1, 1, 1))) == (25, 12, 6, 3, 2, 1)


@pytest.mark.parametrize(
    "shape",
    [net.Shape(window=25), net.Shape(window=5), net.Shape(window=3, paddings=(0,))],
)
def test_a_window_that_does_not_end_at_one_frame_is_refused(shape):
    with pytest.raises(UserError, match=rf"window {shape.window} with paddings"):
        net.init(KEY, shape)


@pytest.mark.parametrize("clips", [(4, 6, 10, 2), (4, 5, 9, 2), (4, 10, 5, 2), (5, 10, 2)])
def test_wrong_clips_are_refused(clips):
    with pytest.raises(AssertionError, match="shape"):
        net.Network(TINY).init(KEY, jnp.zeros(clips), jnp.ones(clips[0]))


def test_a_wrong_weight_is_refused():
    with pytest.raises(AssertionError, match="shape"):
        net.Network(TINY).init(KEY, jnp.zeros((4, 5, 10, 2)), jnp.ones(3))


def test_pooling_gives_the_gradient_to_the_first_maximum():
    h = jnp.asarray([3.0, 7, 7, 1, 2, 0, 5, 5, 4, 5]).reshape(1, 10, 1, 1)
    found, backward = jax.vjp(lambda h: net.largest_of((3, 3, 4), h), h)
    np.testing.assert_array_equal(found[0, :, 0, 0], [7, 2, 5])
    (gradient,) = backward(jnp.asarray([10.0, 20, 30]).reshape(1, 3, 1, 1))
    np.testing.assert_array_equal(gradient.ravel(), [0, 10, 0, 0, 20, 0, 30, 0, 0, 0])
