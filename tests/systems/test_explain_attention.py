"""What SpotFormer attends to."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_explain import TINY, attention, invented, zeros

from spotjax.systems import explain, spotformer_net

# --- SpotFormer -----------------------------------------------------------------------------------


@cache
def spotformer_variables(shape=TINY):
    return invented(lambda: spotformer_net.init(jax.random.key(0), shape), 0)


def random_clips(count, shape=TINY):
    return jax.random.normal(jax.random.key(3), (count, shape.window, shape.nodes, 2))


def test_spotformer_shares_of_every_block():
    found = attention(spotformer_variables(), random_clips(3), TINY)
    shapes = {name: share.shape for name, share in (found.spatial | found.temporal).items()}
    assert shapes == {
        "spatial_0": (3, 5, 2, 10, 10),
        "spatial_1": (3, 2, 2, 3, 3),
        "temporal_0": (3, 10, 2, 5, 5),
        "temporal_1": (3, 3, 2, 2, 2),
    }
    for share in (found.spatial | found.temporal).values():
        assert np.all(share >= 0) and share.dtype == jnp.float32
        np.testing.assert_allclose(share.sum(-1), 1, rtol=1e-5)
        np.testing.assert_allclose(explain.received(share).sum(-1), 1, rtol=1e-5)
    square = explain.by_head(found.temporal["temporal_0"])
    assert square.shape == (3, 2, 5, 5)
    np.testing.assert_allclose(square.sum(-1), 1, rtol=1e-5)


@pytest.mark.parametrize("variant", ["seq_st", "paral_st", "paral_st_shared"])
def test_spotformer_variants_have_their_own_blocks(variant):
    shape = TINY._replace(variant=variant)
    found = attention(spotformer_variables(shape), random_clips(1, shape), shape)
    names = {name for name in spotformer_variables(shape)["params"] if name[0] in "st"}
    assert set(found.spatial | found.temporal) == names
    for share in (found.spatial | found.temporal).values():
        np.testing.assert_allclose(share.sum(-1), 1, rtol=1e-5)


@pytest.mark.parametrize("spatial", [True, False], ids=["spatial", "temporal"])
def test_spotformer_shares_lead_to_the_layers_output(spatial):
    """The network's own attention layer, from its query, key and value to what it adds."""
    name = "spatial_0" if spatial else "temporal_0"
    variables, clips = spotformer_variables(), random_clips(2)
    capture = partial(
        spotformer_net.Network(TINY).apply,
        capture_intermediates=lambda module, _: module.name in ("value", "attention"),
        mutable=["intermediates"],
    )
    _, state = jax.jit(capture)(variables, clips, jnp.ones(2))
    layer = state["intermediates"][name]["attention"]
    value = np.asarray(layer["value"]["__call__"][0]).reshape(2, 10, 5, 2, 4)
    found = attention(variables, clips, TINY)
    share = (found.spatial | found.temporal)[name]
    ways = "nthvw,nwthd->nvthd" if spatial else "nvhts,nvshd->nvthd"
    mixed = np.einsum(ways, share, value).reshape(2, 10, 5, 8)
    out = variables["params"][name]["attention"]["out"]
    expected = mixed @ np.asarray(out["kernel"]) + np.asarray(out["bias"])
    np.testing.assert_allclose(layer["__call__"][0], expected, rtol=0, atol=1e-5)


def test_spotformer_attends_to_the_frame_that_its_key_names():
    """All frames ask for channel 0, which frame 3 alone has."""
    variables = zeros(spotformer_variables())
    for path, leaf in jax.tree.leaves_with_path(variables):
        leaf += path[-1].key in ("scale", "variance")
    params = variables["params"]
    params["embedding"]["frame"][3, 0] = 2
    params["embedding"]["frame"][:5, 1] = 1
    block = params["temporal_0"]["attention"]
    block["query"]["kernel"][1, 0] = 1  # head 0 alone
    block["key"]["kernel"][0, 0] = 1
    found = attention(variables, random_clips(1), TINY).temporal
    scale = (1 + 1e-5) ** -0.5  # of the batch norm
    high = np.exp(2 * scale**2 * 4**-0.5)
    expected = np.full(5, 1 / (high + 4))
    expected[3] = high / (high + 4)
    share = found["temporal_0"][0]
    np.testing.assert_allclose(share[:, 0], np.broadcast_to(expected, (10, 5, 5)), rtol=1e-5)
    np.testing.assert_allclose(share[:, 1], 1 / 5, rtol=1e-6)
    np.testing.assert_allclose(
        explain.received(found["temporal_0"])[0], (expected + 1 / 5) / 2, rtol=1e-5
    )


def test_spotformer_shares_in_half_precision_and_with_remat():
    """Both are ways to train; the shares are float32."""
    clips, half = random_clips(2), TINY._replace(dtype="bfloat16", remat=True)
    found = attention(spotformer_variables(), clips, half).spatial["spatial_0"]
    expected = attention(spotformer_variables(), clips, TINY).spatial["spatial_0"]
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, expected, atol=0.02)


def test_spotformer_wrong_clips_are_refused():
    with pytest.raises(ValueError, match=r"SpotFormer's clips .*: expected \[B, 5, 10, 2\]"):
        explain.spotformer_attention(spotformer_variables(), jnp.zeros((1, 10, 5, 2)), TINY)


def test_spotformer_frames_behind_each_coarser_frame():
    """17 -> 8 -> 3 -> 2: windows of three frames, two apart; one zero frame before 3 -> 2."""
    spans = explain.frame_spans(spotformer_net.Shape())
    assert [len(span) for span in spans] == [17, 8, 3, 2]
    assert spans[0][4].tolist() == [4, 4]
    assert spans[1].tolist() == [[2 * i, 2 * i + 2] for i in range(8)]
    assert spans[2].tolist() == [[0, 6], [4, 10], [8, 14]]
    assert spans[3].tolist() == [[0, 10], [4, 14]]
    tiny = explain.frame_spans(TINY)  # 5 -> 2
    assert [span.tolist() for span in tiny[1:]] == [[[0, 2], [2, 4]]]
