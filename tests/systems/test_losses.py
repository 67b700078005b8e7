import json
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import shared_file

from spotjax.systems import losses

KEY = jax.random.key(0)


def reference():
    return np.load(shared_file("goldens/spotformer_losses.npz"))


def assert_reference(golden, name, loss, values, scale=1.0):
    """Value and gradient of `loss` at `values` are the reference's to 1e-5."""
    value, gradient = jax.value_and_grad(loss)(jnp.asarray(values))
    np.testing.assert_allclose(value, golden[f"{name}/loss"], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(gradient, golden[f"{name}/grad"], rtol=1e-5, atol=1e-6 * scale)


@pytest.mark.parametrize(
    ("alpha", "gamma", "smoothing"), [(0.9, 1, 0.16), (0.8, 1, 0.16), (0.9, 2, 0.0), (0.5, 1, 0.0)]
)
def test_sigmoid_focal_of_the_reference(alpha, gamma, smoothing):
    golden = reference()
    targets = jnp.asarray(golden["focal/labels"])
    assert_reference(
        golden,
        f"focal/alpha{alpha}_gamma{gamma}_smooth{smoothing}",
        lambda x: losses.sigmoid_focal(x, targets, jnp.ones(64), alpha, gamma, smoothing),
        golden["focal/logits"],
    )


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("ce", {}),
        ("abpn_focal_smooth0.0", {"kind": "focal"}),
        ("abpn_focal_smooth0.06", {"kind": "focal", "smoothing": 0.06}),
    ],
)
def test_three_class_of_the_reference(name, options):
    golden = reference()
    targets = jnp.asarray(golden["tri/labels"])
    assert_reference(
        golden,
        f"tri/{name}",
        lambda x: losses.three_class(x, targets, jnp.ones(48), **options),
        golden["tri/logits"],
    )


@pytest.mark.parametrize("classes", ["mixed", "singleton", "one_class", "all_distinct"])
@pytest.mark.parametrize("scale", [0.2, 1.0, 4.0])
def test_supervised_contrastive_of_the_reference(scale, classes):
    golden = reference()
    labels = jnp.asarray(golden[f"supcon/labels_{classes}"])
    assert_reference(
        golden,
        f"supcon/scale{scale}_{classes}",
        jax.jit(lambda x: losses.supervised_contrastive(x, labels, jnp.ones(12))),
        golden[f"supcon/features_scale{scale}"],
        scale=10.0,
    )


def test_weighted_mean_by_hand():
    values = jnp.asarray([1.0, 3, 100])
    assert losses.weighted_mean(values, jnp.asarray([1.0, 1, 0])) == 2
    assert losses.weighted_mean(values, jnp.zeros(3)) == 0


def test_sigmoid_focal_by_hand():
    one = jnp.ones(1)
    p = 1 / (1 + np.exp(-0.4))
    found = losses.sigmoid_focal(0.4 * one, 0.8 * one, one, 0.9)
    np.testing.assert_allclose(found, -0.9 * (0.8 - p) * np.log(p + 1e-5), rtol=1e-5)
    found = losses.sigmoid_focal(0.4 * one, 0 * one, one, 0.9, 2.0, 0.16)
    np.testing.assert_allclose(found, -0.1 * (p - 0.16) ** 2 * np.log(1 - p + 1e-5), rtol=1e-5)


def test_three_class_by_hand():
    logits = jnp.log(jnp.asarray([[0.2, 0.3, 0.5]]))
    find = partial(losses.three_class, logits, weight=jnp.ones(1))
    np.testing.assert_allclose(find(jnp.asarray([1])), -np.log(0.3), rtol=1e-6)
    onset = find(jnp.asarray([0]), kind="focal", smoothing=0.1)
    np.testing.assert_allclose(onset, -0.45 * 0.8 * np.log(0.2), rtol=1e-6)
    none = find(jnp.asarray([2]), kind="focal", gamma=2.0, smoothing=0.1)
    np.testing.assert_allclose(none, -0.1 * 0.4**2 * np.log(0.5), rtol=1e-5)


def test_three_class_refuses_another_kind():
    with pytest.raises(ValueError, match="'mse' is neither"):
        losses.three_class(jnp.zeros((1, 3)), jnp.zeros(1, int), jnp.ones(1), kind="mse")


def test_supervised_contrastive_by_hand():
    z = jnp.asarray([[1.0, 0], [0, 1], [0, 1]])
    found = losses.supervised_contrastive(z, jnp.asarray([0, 1, 1]), jnp.ones(3), 1.0, 1.0)
    # samples 1 and 2 see each other at product 1, sample 0 at 0; sample 0 has no positive
    each = -np.log(1 / (1 + np.exp(-1)))
    np.testing.assert_allclose(found, 2 / 3 * each, rtol=1e-5)


def test_normalised_features_ignore_their_length():
    z, classes = jax.random.normal(KEY, (6, 4)), jnp.arange(6) % 2
    find = jax.jit(
        partial(losses.supervised_contrastive, classes=classes, weight=jnp.ones(6), normalise=True)
    )
    np.testing.assert_allclose(find(5 * z), find(z), rtol=1e-5)
    assert np.isfinite(jax.jit(jax.grad(find))(jnp.zeros((6, 4)))).all()


LOSSES = {
    "focal": (lambda x, y, w: losses.sigmoid_focal(x[:, 0], y / 2, w, 0.9, 1.0, 0.16)),
    "ce": losses.three_class,
    "three_focal": partial(losses.three_class, kind="focal", smoothing=0.06),
    "binary": lambda x, y, w: losses.weighted_binary(
        x, jax.nn.one_hot(y, 3), w, (0.9, 0.1, 0.0), 3.0
    ),
    "contrastive": losses.supervised_contrastive,
    "normalised": partial(losses.supervised_contrastive, normalise=True),
}
VALUES = {name: jax.jit(loss) for name, loss in LOSSES.items()}
SLOPES = {name: jax.jit(jax.value_and_grad(loss)) for name, loss in LOSSES.items()}


@pytest.mark.parametrize("name", LOSSES)
def test_padding_changes_neither_value_nor_gradient(name):
    loss = SLOPES[name]
    x, y = jax.random.normal(KEY, (7, 3)), jnp.asarray([0, 1, 2, 1, 0, 2, 1])
    value, gradient = loss(x, y, jnp.ones(7))
    padded = jnp.concatenate([x, 30 * jnp.ones((4, 3))])
    classes = jnp.concatenate([y, jnp.asarray([1, 1, 0, 2])])
    weight = jnp.concatenate([jnp.ones(7), jnp.zeros(4)])
    found, found_gradient = loss(padded, classes, weight)
    np.testing.assert_allclose(found, value, rtol=1e-6)
    np.testing.assert_allclose(found_gradient[:7], gradient, rtol=1e-5, atol=1e-7)
    np.testing.assert_array_equal(found_gradient[7:], 0)
    shuffle = jax.random.permutation(KEY, 11)
    moved, _ = loss(padded[shuffle], classes[shuffle], weight[shuffle])
    np.testing.assert_allclose(moved, value, rtol=1e-5)


@pytest.mark.parametrize("name", LOSSES)
def test_a_batch_of_padding_only_costs_nothing(name):
    x = jax.random.normal(KEY, (5, 3))
    value, gradient = SLOPES[name](x, jnp.arange(5) % 3, jnp.zeros(5))
    assert value == 0
    np.testing.assert_array_equal(gradient, 0)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("size", [0.0, 1.0, 1e3])
def test_gradients_are_finite(name, size):
    x = size * jnp.concatenate([jnp.eye(3), -jnp.eye(3)])
    for classes in (jnp.arange(6) % 3, jnp.zeros(6, int)):
        value, gradient = SLOPES[name](x, classes, jnp.ones(6))
        assert np.isfinite(value) and np.isfinite(gradient).all()


@pytest.mark.parametrize("name", LOSSES)
def test_folds_side_by_side_equal_one_after_another(name):
    x, y = jax.random.normal(KEY, (2, 6, 3)), jnp.arange(12).reshape(2, 6) % 3
    weight = jnp.asarray([[1.0] * 6, [1.0] * 3 + [0.0] * 3])
    together = jax.jit(jax.vmap(LOSSES[name]))(x, y, weight)
    alone = [VALUES[name](*fold) for fold in zip(x, y, weight, strict=True)]
    np.testing.assert_allclose(together, alone, rtol=1e-6)


def test_wrong_shapes_are_refused():
    ones = jnp.ones(4)
    with pytest.raises(AssertionError):
        losses.sigmoid_focal(ones, ones, jnp.ones(3), 0.9)
    with pytest.raises(AssertionError):
        losses.three_class(jnp.ones((4, 2)), ones, ones)
    with pytest.raises(AssertionError):
        losses.supervised_contrastive(jnp.ones((4, 3)), jnp.ones(5), jnp.ones(5))
    with pytest.raises(AssertionError):
        losses.supervised_contrastive(ones, ones, ones)


def test_class_weighted_by_hand_and_padding():
    logits = jnp.array([[1.0, 0.0, 0.0], [0.0, 2.0, 0.0], [0.0, 0.0, 3.0], [9.0, 0.0, 0.0]])
    targets, share = jnp.array([0, 0, 2, 1]), jnp.array([2.0, 2.0, 0.5, 7.0])
    log_p = [1 - np.log(np.e + 2), 0 - np.log(np.exp(2) + 2), 3 - np.log(np.exp(3) + 2)]
    expected = -(2 * log_p[0] + 2 * log_p[1] + 0.5 * log_p[2]) / 4.5
    weight = jnp.array([1.0, 1.0, 1.0, 0.0])
    np.testing.assert_allclose(
        losses.class_weighted(logits, targets, share, weight), expected, rtol=1e-6
    )
    gradient = jax.grad(losses.class_weighted)(logits, targets, share, weight)
    assert not np.any(gradient[3]) and np.any(gradient[0])
    value, gradient = jax.value_and_grad(losses.class_weighted)(logits, targets, 0 * share, weight)
    assert value == 0 and not np.any(gradient)
    with pytest.raises(AssertionError):
        losses.class_weighted(logits, targets[:2], share, weight)


@pytest.mark.parametrize(
    ("target", "logit", "expected"),
    [(1.0, 0.0, 3 * np.log(2)), (0.0, 0.0, np.log(2)), (0.0, 4.0, 4 + np.log1p(np.exp(-4)))],
)
def test_weighted_binary_by_hand(target, logit, expected):
    def loss(x):
        return losses.weighted_binary(
            x.reshape(1, 1), jnp.full((1, 1), target), jnp.ones(1), (1.0,), 3.0
        )

    value, slope = jax.value_and_grad(loss)(jnp.float32(logit))
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    assert (slope > 0) == (target == 0)  # a confident false positive must come down


def test_weighted_binary_of_the_reference():
    cases = json.loads(shared_file("goldens/mesnet_cnn3d.json").read_text())["wbce"]
    assert len(cases) == 2
    for case in cases:
        logit = np.log(case["s"] / (1 - case["s"]))
        found = losses.weighted_binary(
            jnp.full((1, 1), logit), jnp.full((1, 1), case["t"], jnp.float32), jnp.ones(1),
            (case["M"],), case["W"],
        )  # fmt: skip
        np.testing.assert_allclose(found, case["loss"], rtol=1e-6)


def test_weighted_binary_sums_over_targets_and_takes_the_mean_of_samples():
    logits = jnp.asarray([[0.0, 2.0], [-1.0, 0.5], [9.0, 9.0]])
    targets = jnp.asarray([[1.0, 0], [0, 1], [0, 0]])
    p = 1 / (1 + np.exp(-np.asarray(logits, np.float64)))
    first = -0.9 * 3 * np.log(p[0, 0]) - 0.1 * np.log(1 - p[0, 1])
    second = -0.9 * np.log(1 - p[1, 0]) - 0.1 * 3 * np.log(p[1, 1])
    found = losses.weighted_binary(logits, targets, jnp.asarray([1.0, 1, 0]), (0.9, 0.1), 3.0)
    np.testing.assert_allclose(found, (first + second) / 2, rtol=1e-6)


def test_weighted_binary_refuses_what_does_not_fit():
    two = jnp.zeros((4, 2))
    with pytest.raises(ValueError, match="3 importances for 2 targets"):
        losses.weighted_binary(two, two, jnp.ones(4), (1, 1, 1))
    one, four = two[:, 0], jnp.ones(4)
    for logits, targets, weight in (
        (two, two[:, :1], four),
        (two, two, four[:3]),
        (one, one, four),
    ):
        with pytest.raises(AssertionError):
            losses.weighted_binary(logits, targets, weight, (1, 1))
