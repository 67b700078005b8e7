import json
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiling import AS_IN_USE
from reference import shared_file
from toy import K

from spotjax.config import Softnet
from spotjax.systems import build, softnet, softnet_net

SHAPES = {
    "conv_u/kernel": (5, 5, 1, 3),
    "conv_u/bias": (3,),
    "conv_v/kernel": (5, 5, 1, 5),
    "conv_v/bias": (5,),
    "conv_s/kernel": (5, 5, 1, 8),
    "conv_s/bias": (8,),
    "dense1/kernel": (784, 400),
    "dense1/bias": (400,),
    "dense2/kernel": (400, 1),
    "dense2/bias": (1,),
}


def reference():
    """The reference's arrays, and its weights made again from their recipe."""
    golden = np.load(shared_file("goldens/softnet_forward_and_sgd.npz"))
    rng = np.random.default_rng(7)
    weights = {}
    for name in json.loads(str(golden["meta_json"]))["weight_names"]:
        shape = SHAPES[name]
        layer, kind = name.replace("conv_s", "conv_strain").split("/")
        value = rng.random(shape, dtype=np.float32)
        if kind == "kernel":
            fan_in = np.prod(shape[:-1])
            fan_out = shape[-1] * (shape[0] * shape[1] if len(shape) == 4 else 1)
            value = (value * 2 - 1) * np.float32(np.sqrt(6 / (fan_in + fan_out)))
        else:
            value = (value - 0.5) * 0.1
        weights.setdefault(layer, {})[kind] = value.astype(np.float32)
    return golden, weights


@pytest.mark.parametrize("formulation", ["plain", "blocked"])
def test_forward_and_three_sgd_steps_of_the_reference(formulation):
    golden, params = reference()
    network = softnet.Network(formulation)
    forward = jax.jit(network.apply)
    with jax.default_matmul_precision("highest"):
        scores = forward({"params": params}, golden["input"])
        np.testing.assert_allclose(scores, golden["forward/score"][:, 0], rtol=1e-5, atol=1e-5)

        @jax.jit
        @jax.value_and_grad
        def loss(params):
            predicted = network.apply({"params": params}, golden["input"][:12])
            return jnp.mean((predicted - golden["train/y"]) ** 2)

        for step in range(3):
            value, grads = loss(params)
            np.testing.assert_allclose(value, golden["train/losses"][step], rtol=1e-5)
            if step == 0:
                for name in ("conv_u", "conv_v", "conv_s"):
                    found = grads[name.replace("conv_s", "conv_strain")]["kernel"]
                    expected = golden[f"train/grad/{name}/kernel"]
                    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
            params = jax.tree.map(lambda p, g: p - 5e-4 * g, params, grads)
        scores = forward({"params": params}, golden["input"])
    expected = golden["train/score_after3"][:, 0]
    np.testing.assert_allclose(scores, expected, rtol=1e-5, atol=1e-5)


def test_parameter_count_is_the_papers():
    system = build(Softnet(), K)
    variables = jax.eval_shape(system.init, jax.random.key(0))
    assert sum(leaf.size for leaf in jax.tree.leaves(variables)) == 314_817


def of_both_formulations(images, **options):
    """What `plain` and `blocked` say of the images, and the gradients by parameters and images."""
    params = jax.jit(softnet.Network().init)(jax.random.key(0), images)["params"]

    @partial(jax.jit, static_argnums=2, **options)
    @partial(jax.value_and_grad, argnums=(0, 1))
    def total(params, images, formulation):
        scores = softnet.Network(formulation).apply({"params": params}, images)
        return jnp.mean((scores - jnp.arange(len(images)) / len(images)) ** 2)

    return [total(params, images, formulation) for formulation in ("plain", "blocked")]


def assert_equal(plain, blocked):
    for a, b in zip(jax.tree.leaves(plain), jax.tree.leaves(blocked), strict=True):
        assert np.isfinite(b).all()
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("count", [1, 12, 37])
def test_both_formulations_agree_in_value_and_gradient(count):
    assert_equal(*of_both_formulations(jax.random.uniform(jax.random.key(1), (count, 42, 42, 3))))


def test_both_formulations_agree_where_features_are_masked():
    """16-bit features of a face: half of each image is exactly zero, so outputs there are equal."""
    rng = np.random.default_rng(2)
    images = rng.random((12, 42, 42, 3)).astype(np.float16)
    images[:, 5:19, 3:40] = 0
    images[:4, :, 20:] = 0
    images[4:6] = 0
    assert_equal(*of_both_formulations(softnet.min_max(jnp.asarray(images))))


def test_both_formulations_agree_as_compiled_in_use():
    images = jax.random.uniform(jax.random.key(1), (12, 42, 42, 3))
    assert_equal(*of_both_formulations(images, compiler_options=AS_IN_USE))


def test_the_first_of_equal_outputs_counts():
    found = np.zeros((6, 6), np.float32)
    found[1, 4] = found[3, 2] = found[5, 5] = 7
    assert place_of(found) == (7, 6 * 1 + 4)
    assert place_of(np.zeros((6, 6))) == (0, 0)
    assert place_of(-np.arange(1.0, 37).reshape(6, 6)) == (-1, 0)
    assert place_of(np.arange(36.0).reshape(6, 6)) == (35, 35)


def place_of(cell):
    """The largest of one pooling cell f32[6, 6], and where it is, by both ways to search."""
    blocks = cell.reshape(3, 2, 3, 2).transpose(1, 3, 0, 2).reshape(4, 1, 9, 1)
    outputs = jnp.asarray(blocks, jnp.float32)
    (largest, place), at_once = (
        [float(x[0, 0]) for x in f(outputs)]
        for f in (jax.jit(softnet_net.largest_and_place), jax.jit(softnet_net.knockout))
    )
    assert [largest, place] == at_once
    return largest, place


def test_folds_side_by_side_equal_one_after_another():
    images = jax.random.uniform(jax.random.key(1), (2, 3, 42, 42, 3))
    keys = jax.random.split(jax.random.key(2))
    params = jax.jit(jax.vmap(softnet.Network().init))(keys, images)

    def slope(params, images):
        return jax.grad(lambda p: jnp.sum(softnet.Network().apply(p, images) ** 2))(params)

    together = jax.jit(jax.vmap(slope))(params, images)
    alone = jax.jit(slope)
    for fold in range(2):
        one = alone(jax.tree.map(lambda leaf, f=fold: leaf[f], params), images[fold])
        for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(together), strict=True):
            np.testing.assert_allclose(a, b[fold], rtol=1e-5, atol=1e-6)


def test_an_accelerator_gets_matrix_products_without_loops_or_convolutions():
    def step(params, images, kind, key):
        images = jax.vmap(softnet.augment)(images, kind, key)
        return jax.vmap(jax.grad(lambda p, x: softnet.Network().apply(p, x).sum()))(params, images)

    shape = jax.ShapeDtypeStruct
    keys = jax.eval_shape(partial(jax.random.split, num=4), jax.random.key(0))
    images = shape((4, 20, 42, 42, 3), jnp.float32)
    params = jax.eval_shape(jax.vmap(softnet.Network().init), keys, images)
    lowered = jax.jit(step).trace(params, images, shape((4, 20), jnp.int32), keys)
    for platform in ("cuda", "tpu", "cpu"):
        text = lowered.lower(lowering_platforms=(platform,)).as_text()
        assert "stablehlo.dot_general" in text and "stablehlo.convolution" not in text
        assert ("stablehlo.while" in text) is (platform == "cpu")


def test_wrong_image_shape_is_refused():
    with pytest.raises(AssertionError):
        softnet.Network().init(jax.random.key(0), jnp.zeros((2, 28, 28, 3)))


def test_min_max_scales_each_channel_and_keeps_constants_at_zero():
    images = jnp.stack([jnp.full((42, 42), 3.0), jnp.linspace(-1, 4, 42 * 42).reshape(42, 42)])
    found = softnet.min_max(images.transpose(1, 2, 0)[None])
    assert float(jnp.abs(found[..., 0]).max()) == 0
    assert float(found[..., 1].min()) == 0 and float(found[..., 1].max()) == 1
    slope = jax.jit(jax.grad(lambda x: softnet.min_max(x).sum()))(images[None, ..., None])
    assert np.isfinite(slope).all()


def test_min_max_of_the_reference():
    golden = np.load(shared_file("goldens/softnet_preprocess.npz"))
    for name in ("A_interior", "B_near_border", "C_low_right"):
        found = softnet.min_max(jnp.asarray(golden[f"resample/{name}/final42"]))
        np.testing.assert_allclose(found, golden[f"resample/{name}/normalized"], atol=1e-6)
    found = softnet.min_max(jnp.asarray(golden["normalize_constant/in"])[None])[0]
    np.testing.assert_allclose(found, golden["normalize_constant/out"], atol=1e-6)


def test_augmentation_touches_only_the_samples_that_ask_for_it():
    cv2 = pytest.importorskip("cv2")
    images = jax.random.uniform(jax.random.key(3), (4, 42, 42, 3))
    found = np.asarray(jax.jit(softnet.augment)(images, jnp.arange(4), jax.random.key(4)))
    np.testing.assert_array_equal(found[0], images[0])
    np.testing.assert_array_equal(found[1], np.asarray(images[1])[:, ::-1])
    expected = cv2.GaussianBlur(np.asarray(images[2]), (7, 7), 0)
    np.testing.assert_allclose(found[2], expected, atol=1e-5)
    noise = found[3] - np.asarray(images[3])
    assert 0.05 < noise.std() < 0.11 and found[3].min() >= 0 and found[3].max() <= 1


def test_augmentation_one_by_one_is_augmentation_of_all():
    images = jax.random.uniform(jax.random.key(3), (9, 42, 42, 3))
    kind, noise = jnp.arange(9) % 4, 0.1 * jax.random.normal(jax.random.key(4), (42, 42, 3))
    one, every = (
        jax.jit(f)(images, kind, noise) for f in (softnet.augment_one_by_one, softnet.augment_all)
    )
    np.testing.assert_allclose(one, every, atol=1e-6)


def test_loss_ignores_padding_and_an_empty_batch_has_neither_value_nor_gradient():
    system = build(Softnet(), K)
    outputs, labels = jnp.array([1.0, 5.0]), {"label": jnp.array([0.5, 0.0])}
    loss, _ = system.loss(outputs, labels, jnp.array([1.0, 0.0]))
    assert float(loss) == 0.25
    empty = jax.value_and_grad(lambda o: system.loss(o, labels, jnp.zeros(2))[0])(outputs)
    assert float(empty[0]) == 0 and float(jnp.abs(empty[1]).max()) == 0


def test_targets_cover_valid_rows_and_skip_videos_without_the_type(toy):
    system = build(Softnet(), K)
    video = toy.videos[1]
    valid = toy.streams["valid_macro"][video.rows] > 0
    table = system.targets(video, valid, "macro")
    assert table["row"].tolist() == list(range(video.first_row, video.first_row + valid.sum()))
    positive = table["row"][table["label"] > 0] - video.first_row
    assert positive.min() == 20 - 12 + 1 and positive.max() == 40
    silent = video._replace(intervals=())
    assert len(system.targets(silent, valid, "macro")["row"]) == 0


def test_selection_halves_negatives_and_copies_micro_positives(toy):
    system = build(Softnet(), K)
    table = {
        "row": np.arange(10, dtype=np.int32),
        "label": np.array([1, 1, 0, 0, 0, 0, 0, 0, 0, 0], np.float32),
        "augment": np.zeros(10, np.int32),
    }
    macro = system.select(table, np.random.default_rng(0), "macro")
    assert sorted(macro["row"])[:2] == [0, 1] and len(macro["row"]) == 2 + 4
    micro = system.select(table, np.random.default_rng(0), "micro")
    assert len(micro["row"]) == 2 * 4 + 4
    assert sorted(micro["augment"].tolist()) == [0] * 6 + [1, 1, 2, 2, 3, 3]
    assert (micro["label"][micro["augment"] > 0] == 1).all()
