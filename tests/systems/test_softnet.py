import json
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import shared_file
from toy import K

from spotjax.config import Softnet
from spotjax.systems import build, softnet

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


def test_both_formulations_agree_in_value_and_gradient():
    images = jax.random.uniform(jax.random.key(1), (5, 42, 42, 3))
    params = jax.jit(softnet.Network().init)(jax.random.key(0), images)["params"]

    @partial(jax.jit, static_argnums=1)
    @jax.value_and_grad
    def total(params, formulation):
        return jnp.sum(softnet.Network(formulation).apply({"params": params}, images) ** 2)

    plain, blocked = (total(params, f) for f in ("plain", "blocked"))
    np.testing.assert_allclose(plain[0], blocked[0], rtol=1e-5)
    for a, b in zip(jax.tree.leaves(plain[1]), jax.tree.leaves(blocked[1]), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


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
