"""What the network looked at where something was found: one picture or bar chart of each (JAX).

The features of the row of an apex are made anew by the extraction that made them for the scores,
with the face of its stretch.  Grad-CAM (SOFTNet, SFAMNet) is drawn on the face crop, attention
(SpotFormer) is kept as shares.  Of several folds the evidence, or the shares, are averaged.
"""

from collections.abc import Mapping
from functools import partial
from operator import itemgetter
from typing import Any, NamedTuple

import jax
import numpy as np

from spotjax.config import Sfamnet, Softnet, Spotformer
from spotjax.counting import recognition
from spotjax.own.scorer import Fitted
from spotjax.pages import overlay
from spotjax.systems import explain, sfamnet, sfamnet_net, spotformer_net
from spotjax.types import Detection

CHUNK = 16
"""Images explained at once."""


class Shares(NamedTuple):
    """Attention of SpotFormer in its first layers; each sums to 1."""

    frames: Any
    """f32[W]: how much each frame of the clip around the apex is attended to."""
    regions: Any
    """f32[10]: how much each region is attended to at the apex; `charts.REGIONS`."""


class Look(NamedTuple):
    """What is needed to explain one detection."""

    problem: str
    streams: Mapping[str, np.ndarray]
    """The features of its row, `dtype[*shape]` each."""
    grey: np.ndarray
    """u8[128, 128]: the face in the frame of the row."""
    parts: overlay.Parts
    """Where the network's image lies on it."""


def can_explain(fitted: Fitted) -> bool:
    """Whether there are pictures for this system."""
    system = fitted.config.system
    if isinstance(system, Softnet):
        return system.backbone == "shallow"
    return isinstance(system, Sfamnet | Spotformer)


def problem_of(fitted: Fitted, detection: Detection) -> str:
    """The network that found it."""
    problems = fitted.system.problems
    return detection.type if detection.type in problems else problems[0]


def row_before_apex(fitted: Fitted, detection: Detection) -> int:
    """Rows from the row whose features gave the score to the apex.

    SOFTNet's `interval` centred moves the apex to the middle of a pair of frames.
    """
    system = fitted.config.system
    if not isinstance(system, Softnet):
        return 0
    interval = fitted.options.get("interval", system.interval)
    return fitted.k[detection.type] // 2 if interval == "centred" else 0


def rows_of(fitted: Fitted, detection: Detection, before: int, after: int) -> range:
    """Rows, from that of the apex on, whose frames its features are made of.

    A pair of frames for SOFTNet and SFAMNet, all of the clip for SpotFormer; `before` and `after`
    are what the features look at (`own_video.context`).
    """
    if isinstance(fitted.config.system, Spotformer):
        return range(-before, after + 1)
    apart = fitted.k[detection.type] if isinstance(fitted.config.system, Softnet) else after
    return range(0, apart + 1, apart)


def explained(
    fitted: Fitted, looks: Mapping[Detection, Look]
) -> dict[Detection, np.ndarray | Shares]:
    """RGB u8[128, 128, 3] with the map over the face, or the shares of attention.

    A map without positive evidence leaves the face grey.
    """
    found: dict[Detection, np.ndarray | Shares] = {}
    for problem in dict.fromkeys(look.problem for look in looks.values()):
        mine = {d: look for d, look in looks.items() if look.problem == problem}
        results = _averaged(fitted, problem, list(mine.values()))
        for (detection, look), result in zip(mine.items(), results, strict=True):
            if isinstance(result, Shares):
                found[detection] = result
            else:
                heat = overlay.on_face(result, look.parts, len(look.grey))
                found[detection] = overlay.overlay(look.grey, heat)
    return found


def _averaged(fitted: Fitted, problem: str, looks: list[Look]) -> list[np.ndarray | Shares]:
    """The maps f32[42, 42] or the shares of some looks, of all folds together."""
    variables = fitted.variables[problem]
    folds, names = len(jax.tree.leaves(variables)[0]), list(looks[0].streams)
    work = jax.jit(partial(_evidence, fitted, problem))
    of_fold = [jax.tree.map(itemgetter(fold), variables) for fold in range(folds)]
    chunks: list[Any] = []
    for start in range(0, len(looks), CHUNK):
        some = looks[start : start + CHUNK]
        filled = some + some[:1] * (CHUNK - len(some))
        arrays = {name: np.stack([look.streams[name] for look in filled]) for name in names}
        each = [work(fold, arrays) for fold in of_fold]
        chunks.append(jax.tree.map(lambda *leaves: np.mean(leaves, axis=0), *each))
    joined = jax.tree.map(lambda *leaves: np.concatenate(leaves)[: len(looks)], *chunks)
    if isinstance(joined, Shares):
        return [Shares(*pair) for pair in zip(*joined, strict=True)]
    return list(np.asarray(explain.maps(joined).joined))


def _evidence(fitted: Fitted, problem: str, variables: Any, arrays: Any) -> Any:
    """Evidence f32[N, 42, 42, S] or `Shares` of one fold, f32[N, W] and f32[N, 10]."""
    config = fitted.config.system
    samples = {"row": np.arange(CHUNK, dtype=np.int32)}
    inputs = fitted.system.inputs(arrays, samples, jax.random.key(0), problem)
    if isinstance(config, Softnet):
        return explain.softnet_evidence(variables, inputs)
    if isinstance(config, Sfamnet):
        return explain.sfamnet_evidence(variables, inputs, _sfamnet_shape(config))
    assert isinstance(config, Spotformer)
    shape = _spotformer_shape(config)
    attention = explain.spotformer_attention(variables, inputs["clips"], shape)
    temporal = next(x for x in attention.temporal.values() if x.shape[-1] == shape.window)
    spatial = next(x for x in attention.spatial.values() if x.shape[-1] == shape.nodes)
    middle = spatial.shape[1] // 2
    return Shares(explain.received(temporal), explain.received(spatial[:, middle : middle + 1]))


def _sfamnet_shape(config: Sfamnet) -> sfamnet_net.Shape:
    classes = recognition.CLASSES[sfamnet.NUM_CLASSES[config.classes]]
    return sfamnet_net.Shape(
        streams=config.streams,
        classes=len(classes),
        joint=config.joint,
        cbam=config.cbam,
        formulation=config.formulation,
    )


def _spotformer_shape(config: Spotformer) -> spotformer_net.Shape:
    names = set(spotformer_net.Shape._fields) & set(type(config).__dataclass_fields__)
    return spotformer_net.Shape(**{name: getattr(config, name) for name in names})
