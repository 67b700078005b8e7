from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, Mesh, PartitionSpec
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


# --- behaviour ------------------------------------------------------------------------------------


def random_clips(count, shape=TINY, seed=1):
    return jax.random.normal(jax.random.key(seed), (count, shape.window, shape.nodes, 2))


def objective(params, stats, clips, weight, key, shape):
    """A number that depends on all outputs of the weighted clips."""
    variables = {"params": params, "batch_stats": stats}
    outputs, after = net.apply(variables, clips, weight, True, key, shape)
    value = jnp.sum(weight * (jnp.sum(outputs.logits**2, 1) + jnp.sum(outputs.feature, 1)))
    return value, (outputs, after["batch_stats"])


gradients_of = jax.value_and_grad(objective, has_aux=True)
step = jax.jit(gradients_of, static_argnums=5)


def run(variables, clips, weight, key=KEY, shape=TINY):
    return step(variables["params"], variables["batch_stats"], clips, weight, key, shape)


def all_finite(tree):
    return all(np.isfinite(np.asarray(leaf)).all() for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize(
    ("variant", "pooling"),
    [
        ("simul_st", "flgp"),
        ("simul_st", "mean"),
        ("paral_st", "flgp"),
        ("paral_st_shared", "flgp"),
    ],
)
def test_every_variant_uses_all_of_its_parameters(variant, pooling):
    shape = STILL._replace(variant=variant, pooling=pooling)
    variables = new(shape)
    (_, (outputs, _)), gradients = run(variables, random_clips(8), jnp.ones(8), shape=shape)
    assert outputs.logits.shape == (8, 10) and outputs.feature.shape == (8, 8)
    assert all_finite(gradients)
    for path, leaf in jax.tree.leaves_with_path(gradients):
        assert np.any(leaf != 0), jax.tree_util.keystr(path)
    assert not np.any(gradients["embedding"]["frame"][-1])


def test_other_windows_parts_and_variants_have_the_same_outputs():
    for shape in (
        TINY._replace(window=25, paddings=(0, 1, 1, 1, 1), parts=(2, 2, 3, 1)),
        TINY._replace(variant="paral_st", pooling="mean"),
        TINY._replace(variant="paral_st_shared", pooling="mean"),
        TINY._replace(variant="seq_st", pooling="mean", window=9, paddings=(0, 0, 1, 1)),
    ):
        clips = jnp.zeros((3, shape.window, shape.nodes, 2))
        variables = jax.eval_shape(partial(net.init, shape=shape), KEY)
        outputs, _ = jax.eval_shape(
            partial(net.apply, train=True, key=KEY, shape=shape), variables, clips, jnp.ones(3)
        )
        assert outputs.logits.shape == (3, 10) and outputs.feature.shape == (3, 8)


def test_padding_is_exact():
    variables, clips = new(STILL), random_clips(8) * 3
    padded = clips.at[5:].multiply(50)
    weight = (jnp.arange(8) < 5).astype(jnp.float32)
    alone = run(variables, clips[:5], jnp.ones(5), shape=STILL)
    (loss, (outputs, stats)), gradients = run(variables, padded, weight, shape=STILL)
    np.testing.assert_allclose(loss, alone[0][0], rtol=1e-5)
    np.testing.assert_allclose(outputs.logits[:5], alone[0][1][0].logits, atol=1e-5)
    assert_trees_close(stats, alone[0][1][1], rtol=1e-5, atol=1e-6)
    assert_trees_close(gradients, alone[1], rtol=1e-4, atol=1e-4)


def test_a_batch_of_padding_only_changes_nothing():
    variables = new(STILL)
    (_, (outputs, stats)), gradients = run(variables, random_clips(8), jnp.zeros(8), shape=STILL)
    assert_trees_close(stats, variables["batch_stats"])
    assert all_finite(outputs)
    for leaf in jax.tree.leaves(gradients):
        np.testing.assert_array_equal(leaf, 0)


@pytest.mark.parametrize("scale", [1.0, 0.0], ids=["single", "motionless"])
def test_a_single_clip_is_finite(scale):
    weight = (jnp.arange(8) == 2).astype(jnp.float32)
    assert all_finite(run(new(TINY), scale * random_clips(8), weight))
    alone = forward(new(TINY), scale * random_clips(1), jnp.ones(1), True, KEY, TINY)
    assert all_finite(alone)


def test_folds_side_by_side_equal_one_after_another():
    keys = jax.random.split(KEY, 2)
    folds = [new(TINY, seed) for seed in (0, 1)]
    clips = jnp.stack([random_clips(8, seed=fold) for fold in (1, 2)])
    weight = jnp.asarray([[1.0] * 8, [1.0] * 4 + [0.0] * 4])
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *folds)
    mesh = Mesh(np.asarray(jax.devices()[:2]), ("fold",), axis_types=(AxisType.Auto,))

    def one(variables, clips, weight, key):
        return gradients_of(variables["params"], variables["batch_stats"], clips, weight, key, TINY)

    sharded = jax.shard_map(
        jax.vmap(one),
        mesh=mesh,
        in_specs=PartitionSpec("fold"),
        out_specs=PartitionSpec("fold"),
        check_vma=False,
    )
    together = jax.jit(sharded)(stacked, clips, weight, keys)
    for i, variables in enumerate(folds):
        alone = run(variables, clips[i], weight[i], keys[i])
        mine = jax.tree.map(lambda leaf, i=i: leaf[i], together)
        assert_trees_close(mine[0], alone[0], rtol=1e-6, atol=2e-6)
        largest = max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(alone[1]))
        assert_trees_close(mine[1], alone[1], rtol=0, atol=5e-6 * largest)


def test_dropout_follows_the_key_and_training_alone():
    variables, clips, weight = new(TINY), random_clips(8), jnp.ones(8)
    logits = [
        run(variables, clips, weight, jax.random.key(seed))[0][1][0].logits for seed in (1, 1, 2)
    ]
    np.testing.assert_array_equal(logits[0], logits[1])
    assert np.abs(logits[0] - logits[2]).max() > 0.01
    evaluated = [
        forward(variables, clips, weight, False, key, TINY)[0].logits for key in (None, KEY)
    ]
    np.testing.assert_array_equal(*evaluated)


def test_a_clip_is_scored_on_its_own():
    variables, clips = new(TINY), random_clips(8)
    together = forward(variables, clips, jnp.ones(8), False, None, TINY)[0].logits
    others = clips.at[1:].multiply(7)
    alone = forward(variables, others, jnp.zeros(8), False, None, TINY)[0].logits
    np.testing.assert_allclose(alone[0], together[0], atol=1e-6)


def test_the_order_of_nodes_within_a_part_does_not_matter():
    variables, clips = new(TINY), random_clips(8)

    def score(clips):
        return forward(variables, clips, jnp.ones(8), False, None, TINY)[0].logits

    inside, across = [2, 0, 1, 4, 3, 5, 9, 8, 6, 7], [3, 1, 2, 0, 4, 5, 6, 7, 8, 9]
    np.testing.assert_allclose(score(clips[:, :, inside]), score(clips), atol=1e-5)
    assert np.abs(score(clips[:, :, across]) - score(clips)).max() > 1e-3


@pytest.mark.parametrize("spatial", [True, False], ids=["nodes", "frames"])
def test_attention_mixes_one_axis_alone(spatial):
    layer = net.Attention(STILL, train=False, spatial=spatial)
    h = jax.random.normal(KEY, (2, 10, 5, 8))
    variables = layer.init(KEY, h, jnp.ones(2))
    changed = h.at[1, 7, 3].add(1)
    difference = layer.apply(variables, changed, jnp.ones(2)) - layer.apply(
        variables, h, jnp.ones(2)
    )
    reached = np.zeros((2, 10, 5), bool)
    reached[(1, slice(None), 3) if spatial else (1, 7)] = True
    np.testing.assert_array_equal(np.any(difference != 0, axis=-1), reached)


def test_half_precision_is_close_and_keeps_float32_state():
    variables, clips, shape = new(STILL), random_clips(8), STILL._replace(dtype="bfloat16")
    (_, (full, _)), _ = run(variables, clips, jnp.ones(8), shape=STILL)
    half, after = forward(variables, clips, jnp.ones(8), True, KEY, shape)
    assert {leaf.dtype for leaf in jax.tree.leaves((half, after))} == {jnp.dtype("float32")}
    difference = np.abs(half.logits - full.logits).max()
    assert 0 < difference < 0.03 * np.abs(full.logits).max()


def test_remat_keeps_less_and_computes_the_same():
    variables, clips, weight = new(TINY), random_clips(8), jnp.ones(8)
    remat = TINY._replace(remat=True)
    plain, again = (run(variables, clips, weight, shape=shape) for shape in (TINY, remat))
    assert_trees_close(again, plain, rtol=1e-5, atol=1e-5)

    def backward(params, shape):
        return jax.vjp(
            lambda p: objective(p, variables["batch_stats"], clips, weight, KEY, shape)[0], params
        )[1]

    def kept(shape):
        values = jax.eval_shape(partial(backward, shape=shape), variables["params"])
        return sum(leaf.size for leaf in jax.tree.leaves(values))

    assert kept(remat) < kept(TINY) / 2
