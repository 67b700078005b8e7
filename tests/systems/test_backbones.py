"""The backbones of SOFTNet's table 3: counts, shapes, padding, gradients, folds, training."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toy import K

from spotjax import config as config_lib
from spotjax.config import Config, Softnet, Train
from spotjax.data import plans
from spotjax.loso import folds as folds_lib
from spotjax.loso import rundir, training
from spotjax.papers.published import find
from spotjax.systems import backbones, build

QUICKEST = "resnet18"  # to compile
# torchvision's numbers of weights with a layer of 1,000 classes, and its inputs
ARCHITECTURES = {
    "mobilenet_v2": (3_504_872, 1280),
    "resnet18": (11_689_512, 512),
    "resnet50": (25_557_032, 2048),
}
VGG16_CONVOLUTIONS = 14_714_688  # Keras without its top
ROWS = {"mobilenet_v2": "MobileNetV2", "vgg16": "VGG-16", "resnet50": "ResNet-50"}


def shapes(name, batch=1):
    network = backbones.Network(name)
    return jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((batch, 42, 42, 3)))


def count(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_trunk_has_the_published_number_of_weights(name):
    total, width = ARCHITECTURES[name]
    made = shapes(name)["params"]
    assert count(made["trunk"]) == total - 1000 * (width + 1)
    assert made["score"]["kernel"].shape == (2 * 2 * width, 1)


def test_vgg16_has_the_published_number_of_weights():
    made = shapes("vgg16")
    assert count(made["params"]["trunk"]) == VGG16_CONVOLUTIONS
    assert made["params"]["score"]["kernel"].shape == (512, 1)
    assert "batch_stats" not in made


@pytest.mark.parametrize("name", ROWS)
def test_all_numbers_together_are_those_of_table_3(name):
    """ResNet-50 is printed with the biases that Keras has before its 26,560 normed channels."""
    [printed] = find(paper="softnet", table="3", system=ROWS[name], metric="parameters_M")
    biases = 26_560 if name == "resnet50" else 0
    assert (count(shapes(name)) + biases) / 1e6 == pytest.approx(printed.value, abs=1.1e-4)


@pytest.mark.parametrize("name", [*ARCHITECTURES, "vgg16"])
def test_scores_are_one_for_each_image(name):
    network = backbones.Network(name)
    images, weight = jnp.zeros((5, 42, 42, 3)), jnp.ones(5)
    for train in (False, True):
        apply = partial(backbones.apply, network, train=train)
        variables = shapes(name)
        scores, new = jax.eval_shape(apply, variables, images, weight)
        assert scores.shape == (5,) and scores.dtype == jnp.float32
        assert jax.tree.map(lambda x: x.shape, new) == jax.tree.map(lambda x: x.shape, variables)
    with pytest.raises(AssertionError):
        jax.eval_shape(apply, variables, images[0], weight)


@pytest.mark.parametrize(
    ("size", "stride", "depthwise"),
    [
        (1, 1, False),
        (1, 2, False),
        (3, 1, True),
        (3, 2, True),
        (3, 1, False),
        (3, 2, False),
        (7, 2, False),
    ],
)
@pytest.mark.parametrize("side", [7, 8])
def test_other_ways_to_convolve_equal_lax_conv(size, stride, depthwise, side):
    rng = np.random.default_rng(side)
    x = rng.normal(size=(2, side, side, 6)).astype(np.float32)
    kernel = rng.normal(size=(size, size, 1 if depthwise else 6, 6)).astype(np.float32)
    expected = jax.lax.conv_general_dilated(
        x, kernel, (stride, stride), [(size // 2, size // 2)] * 2,
        dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=6 if depthwise else 1,
    )  # fmt: skip
    np.testing.assert_allclose(
        backbones.convolved(x, kernel, stride), expected, rtol=1e-5, atol=1e-5
    )


BLOCKS = {
    "bottleneck": backbones.Residual(((8, 1, 2), (8, 3, 1), (24, 1, 1)), True),
    "basic": backbones.Residual(((6, 3, 1), (6, 3, 1)), True),
    "inverted": backbones.InvertedResidual(6, 6, 1, True),
    "inverted, stride 2": backbones.InvertedResidual(8, 6, 2, True),
}


def step_of(block):
    """New statistics and the gradients of a training step, of the samples of weight 1."""

    def loss(params, rest, x, weight):
        y, new = block.apply({**rest, "params": params}, x, weight, mutable=["batch_stats"])
        return jnp.sum(weight.reshape(-1, 1, 1, 1) * y**2), new

    def one(variables, x, weight):
        rest = {"batch_stats": variables["batch_stats"]}
        return jax.grad(loss, has_aux=True)(variables["params"], rest, x, weight)

    return one


def close(tree, expected):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), tree, expected
    )


@pytest.mark.parametrize("name", BLOCKS)
def test_folds_and_padding_of_a_block(name):
    """Of a block: through 50 layers of batch norm rounding alone grows to a hundredth."""
    block, rng = BLOCKS[name], np.random.default_rng(0)
    x = rng.normal(size=(2, 5, 7, 7, 6)).astype(np.float32)
    weight = np.array([[1, 1, 1, 1, 0], [1, 1, 1, 0, 0]], np.float32)
    init = jax.jit(jax.vmap(block.init))
    variables = init(jax.random.split(jax.random.key(0)), x, weight)
    one = jax.jit(step_of(block))

    def fold(number, x=x, weight=weight):
        return one(jax.tree.map(lambda leaf: leaf[number], variables), x[number], weight[number])

    alone = [fold(0), fold(1)]
    beside = jax.jit(jax.vmap(step_of(block)))(variables, x, weight)
    close(beside, jax.tree.map(lambda *leaves: np.stack(leaves), *alone))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(alone))

    other = np.where(weight[..., None, None, None] > 0, x, 7)  # what padding holds is not seen
    close(fold(0, x=other), alone[0])
    slopes, new = fold(0, weight=0 * weight)  # nothing but padding
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(slopes))
    before = jax.tree.map(lambda leaf: leaf[0], variables["batch_stats"])
    jax.tree.map(np.testing.assert_array_equal, new["batch_stats"], before)


def test_it_trains_as_a_system(toy):
    system = build(Softnet(backbone=QUICKEST, types=("macro",)), K)
    train = Train(epochs=1, batch=8, learning_rate=1e-3, fold_exec="vmap")
    mesh = folds_lib.make_mesh(1)
    members = [
        fold._replace(samples={name: array[:6] for name, array in fold.samples.items()})
        for fold in plans.loso(system, toy, "macro", train, ("s0", "s1"))
    ]
    placed, arrays = training.place(system, "macro", toy.streams, members, mesh)
    [epoch] = list(training.train_folds(system, "macro", placed, arrays, train, mesh))
    variables = epoch.states.variables
    assert set(variables) == {"params", "batch_stats"}
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(variables))
    mean = variables["batch_stats"]["trunk"]["first"]["norm"]["mean"]
    assert mean.shape == (2, 64) and np.abs(mean[0] - mean[1]).max() > 1e-5


def test_runs_from_before_the_key_go_on():
    config = Config(name="old")
    values = config_lib.to_dict(config)
    assert values["system"].pop("backbone") == "shallow"
    old = config_lib.from_dict(values)
    assert old == config and rundir.first_difference(old, config) is None
    other = dataclasses.replace(config, system=Softnet(backbone="vgg16"))
    assert rundir.first_difference(old, other) == ("system.backbone", "shallow", "vgg16")
