"""What SpotFormer's network does with padding, folds, dropout, parts and half precision."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, Mesh, PartitionSpec
from test_spotformer_net import KEY, STILL, TINY, assert_trees_close, forward, new

from spotjax.systems import spotformer_net as net

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
