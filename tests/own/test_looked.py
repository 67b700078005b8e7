"""Maps and shares of what the network looked at."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from own_results import CONFIG, SFAMNET, SPOTFORMER, fitted

from spotjax.config import Cnn3d, Cnn3dFeatures, Config
from spotjax.own import looked
from spotjax.pages import overlay
from spotjax.systems import explain, sfamnet_net, softnet
from spotjax.types import Detection

MACRO, MICRO = Detection(2, 9, 20, "macro", 0.5), Detection(30, 33, 36, "micro", 0.4)
GREY = np.full((128, 128), 100, np.uint8)
STRIP = (
    ((slice(20, 62), slice(22, 106)), (slice(0, 21), slice(0, 42))),
    ((slice(85, 106), slice(43, 85)), (slice(21, 42), slice(0, 42))),
)


def flow(seed):
    return np.random.default_rng(seed).normal(size=(42, 42, 3)).astype(np.float16)


def test_softnets_map_is_that_of_the_mean_of_its_folds():
    made = fitted(folds=3)
    images = {d: flow(seed) for seed, d in enumerate((MACRO, MICRO))}
    looks = {
        d: looked.Look(d.type, {f"flow_{d.type}": image}, GREY, STRIP)
        for d, image in images.items()
    }
    found = looked.explained(made, looks)
    assert set(found) == {MACRO, MICRO}
    of_folds = jax.jit(jax.vmap(explain.softnet_evidence, (0, None)))
    for d, image in images.items():
        given = softnet.min_max(jnp.asarray(image, jnp.float32)[None])
        evidence = of_folds(made.variables[d.type], given)
        heat = np.asarray(explain.maps(evidence.mean(0)).joined[0])
        expected = overlay.overlay(GREY, overlay.on_face(heat, STRIP))
        assert np.abs(found[d].astype(int) - expected).max() <= 1
        assert (found[d] != 100).any() and (found[d][:20] == 100).all()


def test_more_detections_than_fit_into_a_chunk_keep_their_order():
    made = fitted()
    many = [MICRO._replace(score=i / 100) for i in range(looked.CHUNK + 3)]
    looks = {
        d: looked.Look("micro", {"flow_micro": flow(seed)}, GREY, STRIP)
        for seed, d in enumerate(many)
    }
    found = looked.explained(made, looks)
    for d in (many[0], many[-1]):
        (alone,) = looked.explained(made, {d: looks[d]}).values()
        assert np.array_equal(found[d], alone)
    assert not np.array_equal(found[many[0]], found[many[-1]])
    assert looked.explained(made, {}) == {}


def test_sfamnets_map_is_of_the_channels_that_it_sees():
    made = fitted(SFAMNET)
    image = flow(1)
    look = looked.Look("both", {"optical": image}, GREY, overlay.WHOLE_FACE)
    (found,) = looked.explained(made, {MACRO: look}).values()
    shape = sfamnet_net.Shape(streams=("u", "w"), classes=4)
    chosen = jnp.asarray(image[None][..., [0, 2]], jnp.float32)
    of_fold = jax.vmap(lambda v: explain.sfamnet_evidence(v, chosen, shape))
    evidence = jax.jit(of_fold)(made.variables["both"])
    heat = np.asarray(explain.maps(evidence.mean(0)).joined[0])
    expected = overlay.overlay(GREY, overlay.on_face(heat, overlay.WHOLE_FACE))
    assert np.abs(found.astype(int) - expected).max() <= 1


@pytest.mark.parametrize("variant", ["simul_st", "paral_st"])
def test_spotformers_shares_are_those_of_its_first_layers(variant):
    config = dataclasses.replace(
        SPOTFORMER, system=dataclasses.replace(SPOTFORMER.system, variant=variant)
    )
    made = fitted(config, folds=1)
    clip = np.random.default_rng(2).normal(size=(7, 10, 2)).astype(np.float16)
    look = looked.Look("both", {"swmro": clip}, GREY, overlay.WHOLE_FACE)
    (found,) = looked.explained(made, {MACRO: look}).values()
    assert isinstance(found, looked.Shares)
    assert found.frames.shape == (7,) and found.regions.shape == (10,)
    assert np.isclose(found.frames.sum(), 1) and np.isclose(found.regions.sum(), 1)
    attention = jax.jit(explain.spotformer_attention, static_argnums=2)(
        jax.tree.map(lambda leaf: leaf[0], made.variables["both"]),
        jnp.asarray(clip[None], jnp.float32),
        looked._spotformer_shape(config.system),
    )
    name = "temporal_0" if variant == "simul_st" else "temporal_0_size_0"
    assert np.allclose(found.frames, explain.received(attention.temporal[name])[0], atol=1e-5)
    middle = attention.spatial["spatial_0"][0, 3].mean((0, 1))
    assert np.allclose(found.regions, middle, atol=1e-5)


def test_the_row_that_was_scored_and_the_frames_behind_it():
    published, centred = fitted(), fitted(interval="centred")
    assert looked.row_before_apex(published, MACRO) == 0
    assert looked.row_before_apex(centred, MACRO) == 4  # k // 2
    assert looked.row_before_apex(centred, MICRO) == 1
    assert list(looked.rows_of(published, MACRO, 0, 8)) == [0, 8]
    assert list(looked.rows_of(published, MICRO, 0, 8)) == [0, 3]
    assert list(looked.rows_of(fitted(SFAMNET), MICRO, 0, 6)) == [0, 6]
    spotformer = fitted(SPOTFORMER, folds=1)
    assert list(looked.rows_of(spotformer, MICRO, 3, 3)) == [-3, -2, -1, 0, 1, 2, 3]
    assert looked.problem_of(published, MICRO) == "micro"
    assert looked.problem_of(spotformer, MICRO) == "both"


def test_what_can_be_explained():
    cnn3d = Config(name="own", features=Cnn3dFeatures(), system=Cnn3d())
    assert looked.can_explain(fitted(CONFIG))
    assert not looked.can_explain(fitted(cnn3d, folds=1))
