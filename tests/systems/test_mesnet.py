"""MESNet as a system: targets, losses, learning, scores; samples and network have other tests."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from spotjax.config import Mesnet, Train
from spotjax.data import plans
from spotjax.decoding import clip_labels, clip_proposals
from spotjax.decoding.clip_windows import CLIP, whole_windows, windows
from spotjax.loso import folds as folds_lib
from spotjax.loso import training
from spotjax.systems import build, mesnet
from spotjax.systems.mesnet_net import Outputs

CONFIG = Mesnet(size=32, clips_micro=1, clips_macro=0, clips_none=1)
SYSTEM = build(CONFIG, {})
STAGE = SYSTEM.before
TRAIN = Train(epochs=1, batch=2, learning_rate=1e-3, validation=0.3, validation_of="videos")
KEY = jax.random.key(0)


def loso(data, wanted=(), system=SYSTEM, train=TRAIN):
    return plans.loso(system, data, system.problems[0], train, wanted)


def run(data, wanted=(), system=SYSTEM, **changes):
    train = dataclasses.replace(TRAIN, **changes)
    mesh, (problem,) = folds_lib.make_mesh(1), system.problems
    members, arrays = training.place(
        system, problem, data.streams, loso(data, wanted, system, train), mesh
    )
    return list(training.train_folds(system, problem, members, arrays, train, mesh))


def leaves(tree, fold):
    return [np.asarray(leaf)[fold] for leaf in jax.tree.leaves(tree)]


# --- targets of windows (equations 8 to 10) -------------------------------------------------------


def test_window_targets_are_those_of_numpy():
    truths = np.array(
        [(a, a + length - 1) for length in range(5, 27) for a in range(-12, CLIP + 6, 3)]
    )
    table = np.full((len(truths), clip_labels.MOST, 2), clip_labels.NOWHERE, np.float32)
    table[:, 0] = truths
    table[::2, 1] = truths[::2] + 30  # another one farther on
    positive, offsets = map(np.asarray, jax.jit(mesnet.window_targets)(table))
    assert positive.shape == (len(table), 470) and offsets.shape == (len(table), 470, 2)
    held = 0
    for labels, found, truth in zip(positive, offsets, table, strict=True):
        np.testing.assert_array_equal(labels, clip_labels.positives(truth))
        assert not found[~labels].any()
        spans = windows()[labels]
        nearest = np.abs(truth[None] - spans[:, None]).sum(axis=2).argmin(axis=1)
        np.testing.assert_allclose(
            found[labels], clip_proposals.encode(spans, truth[nearest]), atol=1e-6
        )
        back = clip_proposals.regress(spans, found[labels].astype(float))
        ratio = 1 + found[labels] @ (1, -1)
        kept = (ratio >= clip_proposals.SHORTEST) & (ratio <= clip_proposals.LONGEST)
        np.testing.assert_allclose(back[kept], truth[nearest][kept], atol=1e-4)
        held += (~kept).sum()  # short expressions: see `regress`
    assert positive.sum() > 5000 and held < 0.1 * positive.sum()


def test_targets_of_two_expressions_by_hand():
    table = np.full((1, clip_labels.MOST, 2), clip_labels.NOWHERE, np.float32)
    table[0, :2] = (40, 52), (48, 60)
    positive, offsets = map(np.asarray, mesnet.window_targets(jnp.asarray(table)))
    number = {tuple(span): n for n, span in enumerate(windows().tolist())}
    for span, truth in (((40, 52), (40, 52)), ((42, 52), (40, 52)), ((49, 61), (48, 60))):
        assert positive[0, number[span]]
        expected = [(t - s) / 12 for t, s in zip(truth, span, strict=True)]
        np.testing.assert_allclose(offsets[0, number[span]], expected, rtol=1e-6)
    assert not positive[0, number[(44, 56)]]  # 9 of 17 rows of either


# --- loss (equations 11 and 12) -------------------------------------------------------------------

LENGTHS = np.array([100, 100, 60], np.int32)


def made_up(seed=0):
    """Outputs, chances, samples of three clips: 40..52 in the first and in the short last one."""
    rng = np.random.default_rng(seed)
    proposal, logits, offsets = rng.normal(0, 1, (3, 3, 470, 2)).astype(np.float32)
    truth = np.full((3, clip_labels.MOST, 2), clip_labels.NOWHERE, np.float32)
    truth[0, 0] = truth[2, 0] = 40, 52
    samples = {"truth": truth, "length": LENGTHS, "rho": np.full(3, 0.2, np.float32)}
    chance = rng.uniform(0, 1, (3, 470)).astype(np.float32)
    return Outputs(proposal, logits, offsets, np.float32(3)), chance, samples


@jax.jit
def terms_and_slopes(found, chance, samples, weight):
    """Terms of the loss, and the gradient of CPN's and of CRN's by the outputs."""

    def term(found, name):
        return SYSTEM.loss((found, chance), samples, weight)[1][name]

    slopes = {name: jax.grad(term)(found, name) for name in ("cpn", "crn")}
    total, terms = SYSTEM.loss((found, chance), samples, weight)
    return total, terms, slopes


def softmax(logits):
    odds = np.exp(logits.astype(np.float64))
    return odds / odds.sum(axis=-1, keepdims=True)


def naive_terms(found, chance, samples, weight):
    """Equations 11 and 12, window by window."""
    cpn, crn = [], []
    for clip, truth in enumerate(samples["truth"]):
        labels = clip_labels.positives(truth)
        p, q = softmax(found.proposal[clip]), softmax(found.logits[clip])
        for w, (first, last) in enumerate(windows()):
            beyond = whole_windows()[w, 1] > samples["length"][clip] + 1
            if not weight[clip] or beyond:
                continue
            own = 0 if labels[w] else 1
            if labels[w] or chance[clip, w] < samples["rho"][clip]:
                cpn.append(-np.log(p[w, own]))
            if p[w, 0] >= 0.5:
                ends = 0.0
                if labels[w]:
                    target = (40 - first) / 12, (52 - last) / 12
                    off = np.abs(found.offsets[clip, w] - target)
                    ends = np.where(off < 1, off**2 / 2, off - 0.5).sum()
                crn.append(-np.log(q[w, own]) + ends)
    return np.mean(cpn), np.mean(crn)


@pytest.mark.parametrize("weight", [(1, 1, 1), (1, 0, 1), (0, 1, 0)])
def test_loss_window_by_window(weight):
    found, chance, samples = made_up()
    total, terms, _ = terms_and_slopes(found, chance, samples, np.array(weight, np.float32))
    cpn, crn = naive_terms(found, chance, samples, weight)
    np.testing.assert_allclose(terms["cpn"], cpn, rtol=1e-5)
    np.testing.assert_allclose(terms["crn"], crn, rtol=1e-5)
    np.testing.assert_allclose(terms["l2"], 0.01 / 2 * 3, rtol=1e-6)
    np.testing.assert_allclose(total, cpn + crn + 0.015, rtol=1e-5)


def test_what_is_masked_changes_nothing():
    found, chance, samples = made_up()
    weight = np.array([1, 0, 1], np.float32)
    _, terms, slopes = terms_and_slopes(found, chance, samples, weight)
    positive = np.stack([clip_labels.positives(truth) for truth in samples["truth"]])
    usable = (whole_windows()[:, 1] <= LENGTHS[:, None] + 1) & (weight[:, None] > 0)
    assert usable.sum(axis=1).tolist() == [470, 0, 470 - 5 * 40]
    kept = usable & (positive | (chance < 0.2))
    proposed = usable & (softmax(found.proposal)[..., 0] >= 0.5)
    assert 100 < kept.sum() < 250 and 250 < proposed.sum() < 450
    assert (positive & proposed).any() and (positive & ~proposed).any()
    cpn, crn = slopes["cpn"], slopes["crn"]
    np.testing.assert_array_equal(np.any(cpn.proposal != 0, axis=-1), kept)
    assert not np.any(cpn.logits) and not np.any(cpn.offsets)
    # which windows train the CRN is not learnt from it
    assert not np.any(crn.proposal)
    np.testing.assert_array_equal(np.any(crn.logits != 0, axis=-1), proposed)
    np.testing.assert_array_equal(np.any(crn.offsets != 0, axis=-1), proposed & positive)
    other, _, _ = made_up(1)
    swapped = found._replace(
        proposal=np.where(
            (kept | proposed)[..., None], found.proposal, -np.abs(other.proposal) * (1, -1)
        ),
        logits=np.where(proposed[..., None], found.logits, other.logits),
        offsets=np.where((proposed & positive)[..., None], found.offsets, other.offsets),
    )
    for name in ("cpn", "crn"):
        np.testing.assert_allclose(
            terms_and_slopes(swapped, chance, samples, weight)[1][name], terms[name], rtol=1e-6
        )


def test_a_batch_of_padding_has_no_loss():
    found, chance, samples = made_up()
    _, terms, slopes = terms_and_slopes(found, chance, samples, np.zeros(3, np.float32))
    assert terms["cpn"] == terms["crn"] == 0
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(slopes))


def test_negatives_enter_by_chance():
    rho, arrays = 0.018, {"flow": jnp.zeros((CLIP, 4, 4, 2), jnp.float16)}
    samples = {"row": jnp.zeros(60, jnp.int32), "length": jnp.full(60, CLIP)}
    assert "chance" not in SYSTEM.inputs(arrays, samples, KEY, "both")  # scoring draws nothing
    samples["rho"] = jnp.full(60, rho)
    draws = [
        np.asarray(SYSTEM.inputs(arrays, samples, jax.random.key(seed), "both")["chance"])
        for seed in (1, 1, 2)
    ]
    np.testing.assert_array_equal(draws[0], draws[1])
    for chance in draws[1:]:
        assert chance.shape == (60, 470) and chance.min() >= 0 and chance.max() < 1
        share = (chance < rho).mean()  # of 28,200: standard deviation 0.0008
        assert abs(share - rho) < 0.004 and abs(chance.mean() - 0.5) < 0.01
    assert ((draws[0] < rho) & (draws[2] < rho)).mean() < 0.002  # anew at every step
