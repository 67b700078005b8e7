import re
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import shared_file

from spotjax.errors import UserError
from spotjax.parameters import released, released_files
from spotjax.systems import sfamnet_net as net
from spotjax.systems import softnet

SUBJECTS = ("1", "150")
CLASSES = (4, 7)
BATCH_NORM = {
    "c1.0.bn1.weight": np.ones(3, np.float32),
    "c3.0.cbam.SpatialGate.spatial.bn.running_var": np.ones(1, np.float32),
    "c2.0.bn2.num_batches_tracked": np.asarray(0),
}


@cache
def state(classes, subject):
    return released_files.read_torch(
        shared_file(f"weights/sfamnet/{classes}emo_subject_{subject}.pkl")
    )


def made_up(classes=4):
    """A state dict of the release's form with numbers of ours."""
    rng = np.random.default_rng(classes)
    return {
        name: rng.normal(scale=0.1, size=shape).astype(np.float32)
        for name, (_, shape) in released.sfamnet_tensors(classes).items()
    }


def size(params):
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def run(params, images, classes=4, formulation="blocked"):
    shape = net.Shape(classes=classes, formulation=formulation)
    return jax.jit(net.apply, static_argnums=2)({"params": params}, images, shape)


# --- the release's files --------------------------------------------------------------------------


@pytest.mark.parametrize("subject", SUBJECTS)
@pytest.mark.parametrize(("classes", "count"), [(4, 7_207), (7, 8_386)])
def test_a_good_fold_gives_finite_outputs(classes, count, subject):
    assert released.non_finite(state(classes, subject)) == []
    params = released.sfamnet(state(classes, subject))
    assert size(params) == count
    images = jax.random.normal(jax.random.key(0), (4, 42, 42, 3))
    outputs = run(params, images.at[0].set(0), classes)
    assert outputs.logits.shape == (4, classes + 1)
    assert np.isfinite(outputs.score).all() and np.isfinite(outputs.logits).all()
    assert 0.18 < outputs.score[0] < 0.26  # no motion; .217 in the mean of the released folds


def test_a_silent_face_is_seldom_neutral_for_the_release():
    """The recognition head learnt without neutral samples (their weight was 0)."""
    for subject in SUBJECTS:
        outputs = run(released.sfamnet(state(4, subject)), np.zeros((1, 42, 42, 3), np.float32))
        share = np.asarray(jax.nn.softmax(outputs.logits[0]))
        np.testing.assert_allclose(share, [0.22, 0.25, 0.23, 0.21, 0.10], atol=0.03)


@pytest.mark.parametrize(("classes", "dead"), [(4, 7_207), (7, 5_242)])
def test_a_dead_fold_is_told(classes, dead):
    """With seven emotions the recognition layer alone was still finite."""
    names = released.non_finite(state(classes, "3"))
    used = released.sfamnet_tensors(classes)
    alive = set() if classes == 4 else {"fc_recog.weight", "fc_recog.bias"}
    assert set(names) == set(used) - alive
    assert sum(state(classes, "3")[name].size for name in names) == dead
    outputs = run(released.sfamnet(state(classes, "3")), np.zeros((1, 42, 42, 3)), classes)
    assert np.isnan(outputs.score).all()


@pytest.mark.parametrize("subject", SUBJECTS)
def test_seven_emotions_were_fine_tuned_with_trunk_and_spotting_frozen(subject):
    four, seven = (released.sfamnet(state(classes, subject)) for classes in CLASSES)
    for part in ("trunk", "spotting"):
        for a, b in zip(jax.tree.leaves(four[part]), jax.tree.leaves(seven[part]), strict=True):
            np.testing.assert_array_equal(a, b)
    kernels = [params["recognition"]["conv"]["kernel"] for params in (four, seven)]
    assert kernels[0].shape == kernels[1].shape and (kernels[0] != kernels[1]).mean() > 0.99


# --- names and shapes -----------------------------------------------------------------------------


@pytest.mark.parametrize("classes", CLASSES)
def test_the_tree_is_the_networks(classes):
    params = released.sfamnet(made_up(classes))
    new = jax.eval_shape(lambda: net.init(jax.random.key(0), net.Shape(classes=classes)))["params"]
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), params) == jax.tree.map(
        lambda leaf: (leaf.shape, leaf.dtype), new
    )


def test_every_weight_finds_its_place():
    given = made_up()
    params = released.sfamnet(given)
    kernel = params["trunk"]["v"]["conv2"]["kernel"]
    assert kernel[4, 1, 2, 0] == given["c2.0.conv2.weight"][0, 2, 4, 1]
    gate = params["trunk"]["w"]["spatial_gate"]["conv"]["kernel"]
    assert gate[6, 0, 1, 0] == given["c3.0.cbam.SpatialGate.spatial.conv.weight"][0, 1, 6, 0]
    second = params["trunk"]["u"]["channel_gate"]["second"]
    assert second["kernel"][0, 2] == given["c1.0.cbam.ChannelGate.mlp.3.weight"][2, 0]
    assert second["bias"][1] == given["c1.0.cbam.ChannelGate.mlp.3.bias"][1]
    assert (
        params["trunk"]["u"]["shortcut"]["kernel"][0, 0, 0, 1]
        == given["c1.0.downsample.0.weight"][1].item()
    )
    assert params["spotting"]["conv"]["bias"][7] == given["conv1.bias"][7]
    assert params["recognition"]["conv"]["kernel"][0, 3, 8, 2] == given["conv2.weight"][2, 8, 0, 3]
    assert params["recognition"]["linear"]["kernel"][391, 4] == given["fc_recog.weight"][4, 391]
    assert params["spotting"]["linear"]["kernel"][5, 0] == given["fc_spot.weight"][0, 5]


def test_batch_norms_are_left_out():
    with_norms, without = (released.sfamnet(made_up() | extra) for extra in (BATCH_NORM, {}))
    assert size(with_norms) == size(without) == 7_207


@pytest.mark.parametrize("name", ["c2.0.conv1.weight", "fc_spot.bias", "fc_recog.bias"])
def test_a_missing_tensor_is_refused(name):
    given = made_up()
    del given[name]
    with pytest.raises(UserError, match=rf"tensor {name} is missing"):
        released.sfamnet(given)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("c1.0.conv2.weight", (3, 3, 3, 3)),
        ("c3.0.cbam.ChannelGate.mlp.1.weight", (3, 3)),
        ("fc_spot.weight", (392,)),
        ("fc_recog.weight", (8, 392)),  # of seven emotions, the biases of four
    ],
)
def test_a_wrong_shape_is_refused(name, shape):
    given = made_up() | {name: np.zeros(shape, np.float32)}
    with pytest.raises(UserError, match=re.escape(f"tensor {name} has shape {shape}")):
        released.sfamnet(given)


@pytest.mark.parametrize("name", ["c4.0.conv1.weight", "c1.0.bn3.weight", "conv3.bias"])
def test_an_unknown_tensor_is_refused(name):
    with pytest.raises(UserError, match=rf"no tensor {name}"):
        released.sfamnet(made_up() | {name: np.zeros(3)})


def test_every_tensor_with_a_bad_value_is_named():
    given = made_up() | BATCH_NORM
    assert released.non_finite(given) == []
    given["conv2.bias"][3] = np.nan
    given["fc_spot.weight"][0, 7] = np.inf
    assert sorted(released.non_finite(given)) == ["conv2.bias", "fc_spot.weight"]


# --- SOFTNet --------------------------------------------------------------------------------------


def keras_tensors(first=0):
    """Tensors of the release's names and shapes; Keras counts the layers of a session."""
    rng = np.random.default_rng(5)
    found = {}
    layers = [("conv2d", shape) for shape in list(released.SOFTNET_LAYERS)[:3]]
    layers += [("dense", shape) for shape in list(released.SOFTNET_LAYERS)[3:]]
    for number, (kind, shape) in enumerate(layers):
        count = first + (number if kind == "conv2d" else number - 3)
        name = kind if not count else f"{kind}_{count}"
        found[f"{name}/{name}/kernel:0"] = rng.normal(size=shape).astype(np.float32)
        found[f"{name}/{name}/bias:0"] = rng.normal(size=shape[-1:]).astype(np.float32)
    return found


@pytest.mark.parametrize("first", [0, 6])
def test_softnets_tree_is_the_networks(first):
    given = keras_tensors(first)
    params = released.softnet(given)
    new = jax.eval_shape(softnet.Network().init, jax.random.key(0), np.zeros((1, 42, 42, 3)))
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), params) == jax.tree.map(
        lambda leaf: (leaf.shape, leaf.dtype), new["params"]
    )
    kernels = {"conv_u": "conv2d", "conv_v": "conv2d_1", "conv_strain": "conv2d_2"}
    kernels |= {"dense1": "dense", "dense2": "dense_1"}
    if not first:
        for ours, theirs in kernels.items():
            for part in ("kernel", "bias"):
                expected = given[f"{theirs}/{theirs}/{part}:0"]
                np.testing.assert_array_equal(params[ours][part], expected)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"dense/dense/bias:0": None}, "tensor dense/dense/bias is missing"),
        ({"dense/dense/kernel:0": None}, "tensor dense/dense/kernel is missing"),
        (
            {"conv2d_1/conv2d_1/kernel:0": None, "conv2d_1/conv2d_1/bias:0": None},
            r"kernel of \(5, 5, 1, 5\) \(conv_v\) is missing",
        ),
        ({"conv2d/conv2d/kernel:0": np.zeros((5, 5, 1, 4))}, r"\(5, 5, 1, 4\): SOFTNet has no"),
        (
            {"conv2d/conv2d/kernel:0": np.zeros((5, 5, 1, 5)), "conv2d/conv2d/bias:0": np.ones(5)},
            r"\(5, 5, 1, 5\): SOFTNet has one",
        ),
        ({"dense/dense/bias:0": np.zeros(40)}, r"bias has shape \(40,\): SOFTNet's is \(400,\)"),
        ({"norm/norm/gamma:0": np.zeros(3)}, "has no tensor norm/norm/gamma:0"),
    ],
)
def test_other_tensors_are_not_softnets(changes, words):
    given = {name: t for name, t in (keras_tensors() | changes).items() if t is not None}
    with pytest.raises(UserError, match=words):
        released.softnet(given)


# --- PyTorch --------------------------------------------------------------------------------------


@pytest.mark.parametrize("formulation", ["plain", "blocked"])
@pytest.mark.parametrize("source", ["made up", "released"])
@pytest.mark.parametrize("classes", CLASSES)
def test_outputs_and_gradients_of_pytorch(classes, source, formulation):
    torch = pytest.importorskip("torch")
    from benchmarks.sfamnet_step import torch_outputs

    given = made_up(classes) if source == "made up" else state(classes, "150")
    tensors = {
        name: torch.tensor(given[name], requires_grad=True)
        for name in released.sfamnet_tensors(classes)
    }
    images = np.random.default_rng(0).normal(0, 0.1, (3, 42, 42, 3)).astype(np.float32)
    score, logits = torch_outputs(tensors, torch.from_numpy(images).permute(0, 3, 1, 2))
    params = jax.tree.map(jnp.asarray, released.sfamnet(given))
    found = run(params, images, classes, formulation)
    np.testing.assert_allclose(found.score, score.detach(), atol=1e-5)
    np.testing.assert_allclose(found.logits, logits.detach(), atol=1e-5)

    def total(params):
        outputs = run(params, images, classes, formulation)
        cross = jax.nn.logsumexp(outputs.logits, axis=1)
        return jnp.square(outputs.score).sum() + cross.sum()

    (score.square().sum() + torch.logsumexp(logits, 1).sum()).backward()
    expected = released.sfamnet({name: t.grad.numpy() for name, t in tensors.items()})
    slope = jax.grad(total)(params)
    for a, b in zip(jax.tree.leaves(slope), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5 * np.abs(b).max() + 1e-8)
